"""The block in the processor: what every family's wrapped processor must give."""

import numpy as np
import pytest
import torch

import coat
from coat.config.thinking import PLACEMENTS, ThinkingConfig
from coat.testing.clips import RATE, assistant, conversation, noise, user
from coat.testing.conformance.stock import AUDIO, stock_inputs
from coat.thinking.batch import make_batch
from coat.thinking.model import ThinkingModel

pytestmark = pytest.mark.conformance


def turn(clips, text="What is said?"):
    content = [{"type": "audio", "audio": clip.waveform} for clip in clips] + [{"type": "text", "text": text}]
    return {"role": "user", "content": content}


def encode(processor, *conversations, **kwargs):
    return processor.apply_chat_template(
        list(conversations), add_generation_prompt=True, tokenize=True, return_dict=True,
        processor_kwargs={"return_tensors": "pt", **kwargs},
    )  # fmt: skip


@pytest.mark.parametrize("placement", PLACEMENTS)
@pytest.mark.parametrize("stride", [1, 3])
def test_its_ids_are_the_prompt_builder_s(loaded, placement, stride):
    model = ThinkingModel(loaded, ThinkingConfig(placement=placement, stride=stride))
    processor = model.processor()
    for seconds in (0.2, 1.33337):
        clip = noise(seconds)
        ids = encode(processor, [turn([clip])])["input_ids"][0].tolist()
        count = loaded.num_audio_tokens(len(clip.waveform))
        assert ids == model.builder.build([user("<audio>What is said?")], [count]).input_ids


def test_a_stride_may_be_asked_for(loaded):
    model = ThinkingModel(loaded)
    clip = noise(1.33337)
    counts = [loaded.num_audio_tokens(len(clip.waveform))]
    for stride in (1, 2, 5):
        ids = encode(model.processor(), [turn([clip])], audio_think_stride=stride)["input_ids"][0].tolist()
        assert ids == model.builder.at(stride).build([user("<audio>What is said?")], counts).input_ids
    with pytest.raises(ValueError, match="no thinking block"):
        encode(ThinkingModel(loaded, ThinkingConfig(enabled=False)).processor(), [turn([clip])], audio_think_stride=2)


def test_several_clips_and_turns(loaded):
    if loaded.max_clips is not None:
        pytest.skip("takes one clip")
    model = ThinkingModel(loaded)
    clips = [noise(s, seed=i) for i, s in enumerate((1.168875, 1.640875, 0.5))]  # no whole frames
    ids = encode(model.processor(), [turn(clips[:2]), assistant("boats"), turn(clips[2:], "And here?")])["input_ids"]
    counts = [loaded.num_audio_tokens(len(clip.waveform)) for clip in clips]
    messages = [user("<audio><audio>What is said?"), assistant("boats"), user("<audio>And here?")]
    assert ids[0].tolist() == model.builder.build(messages, counts).input_ids


@pytest.mark.parametrize("thinking", [ThinkingConfig(), ThinkingConfig(positions="audio", stride=2)], ids=str)
def test_a_batch_is_padded_left_and_answers_as_the_library_does(loaded, thinking):
    """Stock generate on the processor's output, against our own generation."""
    from coat.generation import generate

    model = ThinkingModel(loaded, thinking).eval()
    items = [conversation(1.168875, answer=None), conversation(1.7, answer=None, seed=2)]  # no whole frames
    inputs = encode(model.processor(), *[[turn(item.clips)] for item in items])
    expected = make_batch(model.builder, items, padding_side="left")
    assert inputs["input_ids"].tolist() == expected.input_ids.tolist()
    assert inputs["attention_mask"].tolist() == expected.attention_mask.tolist()
    if thinking.positions == "audio":
        assert inputs["position_ids"].tolist() == expected.position_ids.tolist()
    else:
        assert "position_ids" not in inputs
    with torch.inference_mode():
        logits = loaded.model(**inputs).logits[:, -1]
    torch.testing.assert_close(logits, loaded.logits(model.prefill_states(expected)[0][:, -1]), atol=1e-4, rtol=1e-4)
    tokenizer = loaded.tokenizer
    new = loaded.model.generate(
        **inputs, max_new_tokens=8, do_sample=False, suppress_tokens=list(model.tokens.ids),
        eos_token_id=tokenizer.convert_tokens_to_ids(loaded.end_of_turn), pad_token_id=tokenizer.pad_token_id,
    )[:, inputs["input_ids"].shape[1] :]  # fmt: skip
    answers = [text.strip() for text in tokenizer.batch_decode(new, skip_special_tokens=True)]
    assert answers == generate(model, items, max_new_tokens=8)


def test_without_the_block_it_is_the_stock_processor(loaded):
    clip = noise(1.33337)
    mine = encode(ThinkingModel(loaded).processor(), [turn([clip])], audio_think=False)
    stock = stock_inputs(loaded, [clip])
    assert mine["input_ids"].tolist() == stock["input_ids"].tolist()
    features, other = mine["input_features"], stock["input_features"]
    torch.testing.assert_close(features, other[..., : features.shape[-1]])
    for name in set(stock) & {"feature_attention_mask", "input_features_mask"}:
        assert mine[name].sum() == stock[name].sum()
    assert set(mine) == set(stock)


def test_it_is_saved_and_loaded_by_auto_processor(loaded, tmp_path):
    from transformers import AutoProcessor

    model = ThinkingModel(loaded, ThinkingConfig(placement="before_assistant", stride=2))
    processor = model.processor()
    processor.save_pretrained(tmp_path)
    loaded.model.config.save_pretrained(tmp_path)
    again = AutoProcessor.from_pretrained(tmp_path)
    assert type(again) is coat.CoatProcessor
    conversation_ = [turn([noise(0.7)])]
    assert encode(again, conversation_)["input_ids"].tolist() == encode(processor, conversation_)["input_ids"].tolist()


def test_text_only_prompts_pass(loaded):
    model = ThinkingModel(loaded)
    inputs = encode(model.processor(), [user("hello")])
    assert inputs["input_ids"][0].tolist() == model.builder.build([user("hello")], []).input_ids


@pytest.mark.parametrize(
    ("clip", "text", "message"),
    [
        (np.zeros(800, np.float32), "What?", "at least 100 ms"),
        (np.full(16_000, np.nan, np.float32), "What?", "NaN"),
        (np.zeros(16_000 * 2401, np.int8), "What?", "hears at most"),
        (np.zeros(16_000, np.float32), "What? <|audio_think|>", "think tokens"),
        (np.zeros(16_000, np.float32), "<|audio_think_start|><|audio_think|><|audio_think_end|>", "think tokens"),
    ],
)
def test_what_it_refuses(loaded, clip, text, message):
    content = [{"type": "audio", "audio": clip}, {"type": "text", "text": text}]
    for think in (True, False):
        with pytest.raises(ValueError, match=message):
            encode(ThinkingModel(loaded).processor(), [{"role": "user", "content": content}], audio_think=think)


def test_a_prompt_without_an_assistant_turn_is_refused(loaded):
    if loaded.render([user("a")], add_generation_prompt=True) == loaded.render(
        [user("a")], add_generation_prompt=False
    ):
        pytest.skip("has no header of an answer")
    with pytest.raises(ValueError, match="add the generation prompt"):
        ThinkingModel(loaded).processor().apply_chat_template(
            [turn([noise(0.5)])], tokenize=True, return_dict=True, processor_kwargs={"return_tensors": "pt"}
        )


def test_files_are_decoded(loaded, tmp_path):
    import soundfile

    soundfile.write(tmp_path / "clip.wav", noise(0.7).waveform, RATE)
    content = [{**AUDIO, "audio": str(tmp_path / "clip.wav")}, {"type": "text", "text": "What?"}]
    ids = encode(ThinkingModel(loaded).processor(), [{"role": "user", "content": content}])["input_ids"]
    assert int((ids == loaded.audio_token_id).sum()) == loaded.num_audio_tokens(round(0.7 * RATE))
