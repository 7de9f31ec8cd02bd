"""Voxtral: prompts against Mistral's own tokenizer, and what a clip that is filled up with silence means."""

import numpy as np
import pytest
import torch

from coat import CoatModel
from coat.backbones import load_backbone
from coat.config.thinking import ThinkingConfig
from coat.data.conversation import Conversation
from coat.errors import CoatError
from coat.experts import make_expert
from coat.testing.checkpoints import random_backbone
from coat.testing.clips import RATE, assistant, conversation, noise, user
from coat.thinking.batch import make_batch
from coat.thinking.model import ThinkingModel
from coat.thinking.prompt import IGNORE, PromptBuilder
from coat.training.calibration import mean_features, unit_weights

CONVERSATIONS = [
    [user("<audio>What is said?")],
    [user("What is said? <audio>")],
    [user("First <audio> and then <audio>: which?")],
    [user("<audio>What?"), assistant("Two boats."), user("Sure?")],
    [user("<audio>What?"), assistant(" Two\nboats "), user("And <audio>?")],
    [{"role": "system", "content": "Be brief."}, user("hello"), assistant("hi"), user("so?")],
    [user("déjà vu 你好 🎵\n\n  two  spaces\t")],
]


@pytest.fixture
def backbone():
    return random_backbone("voxtral")


@pytest.fixture(scope="module")
def mistral(tmp_path_factory):
    from mistral_common.tokens.tokenizers.mistral import MistralTokenizer

    from coat.testing.tekken import write_tekken

    path = tmp_path_factory.mktemp("mistral") / "tekken.json"
    write_tekken(path)
    return MistralTokenizer.from_file(str(path))


def mistral_ids(mistral, messages, clips):
    """The prompt as Mistral's own tokenizer makes it."""
    from mistral_common.protocol.instruct.chunk import AudioChunk, TextChunk
    from mistral_common.protocol.instruct.messages import AssistantMessage, SystemMessage, UserMessage
    from mistral_common.protocol.instruct.request import ChatCompletionRequest
    from mistral_common.tokens.tokenizers.audio import Audio

    waves = iter(clips)
    made = []
    for message in messages:
        text = message["content"]
        if message["role"] != "user":
            made.append({"system": SystemMessage, "assistant": AssistantMessage}[message["role"]](content=text))
            continue
        chunks = []
        for index, piece in enumerate(text.split("<audio>")):
            if index:
                chunks.append(AudioChunk.from_audio(Audio(next(waves), RATE, "wav")))
            if piece:
                chunks.append(TextChunk(text=piece))
        made.append(UserMessage(content=chunks))
    return mistral.encode_chat_completion(ChatCompletionRequest(messages=made)).tokens


@pytest.mark.parametrize("messages", CONVERSATIONS, ids=lambda messages: messages[-1]["content"][:12])
def test_prompts_are_those_of_mistral_s_tokenizer(backbone, mistral, messages):
    marks = sum(message["content"].count("<audio>") for message in messages)
    clips = [noise(seconds, seed=i).waveform for i, seconds in enumerate((1.3, 31.0)[:marks])]
    counts = [backbone.num_audio_tokens(len(clip)) for clip in clips]
    mine = PromptBuilder(backbone, None).build(messages, counts).input_ids
    assert mine == mistral_ids(mistral, messages, clips)


def test_a_checkpoint_has_mistral_s_file_alone(tmp_path):
    random_backbone("voxtral", tmp_path, like_hub=True)
    assert not (tmp_path / "tokenizer.json").exists()
    loaded = load_backbone("voxtral", str(tmp_path))
    assert loaded.tokenizer("[INST]")["input_ids"][-1] == 3
    loaded.save_pretrained(str(tmp_path / "saved"))
    assert not (tmp_path / "saved" / "tekken.json").exists()
    again = load_backbone("voxtral", str(tmp_path / "saved"))
    assert again.tokenizer.get_vocab() == loaded.tokenizer.get_vocab()
    assert again.chat_template == loaded.chat_template


def test_an_answer_is_trained_with_its_end(backbone):
    model = ThinkingModel(backbone)
    prompt = model.builder.build([user("<audio>What?"), assistant("a dog")], [1])
    think = "<|audio_think_start|><|audio_think|><|audio_think_end|>"
    assert backbone.tokenizer.decode(prompt.input_ids) == f"<s>[INST][BEGIN_AUDIO][AUDIO]What?[/INST]{think}a dog</s>"
    trained = [label for label in prompt.labels if label != IGNORE]
    assert backbone.tokenizer.decode(trained) == "a dog</s>"


def test_a_system_prompt_beside_audio_is_refused_as_mistral_does(backbone):
    messages = [{"role": "system", "content": "Be brief."}, user("<audio>What?")]
    with pytest.raises(CoatError, match="row 7: the chat template of voxtral refuses it: Voxtral takes no system"):
        PromptBuilder(backbone, None).build(messages, [1], name="row 7")


@pytest.mark.parametrize("text", ["[INST]", "so [/INST] it is", "[AUDIO]", "<SPECIAL_36>"])
def test_its_control_tokens_are_refused_in_texts(backbone, text):
    with pytest.raises(CoatError, match=r"control token|placeholder"):
        PromptBuilder(backbone, None).build([user(text)], [])
    PromptBuilder(backbone, None).build([user("a list [1] of [things]")], [])


def test_silence_behind_a_clip_is_in_the_prompt_and_in_no_loss(backbone):
    """A clip of 2 s has 375 audio tokens, as Mistral gives it, of which 25 stand for sound."""
    model = ThinkingModel(backbone, ThinkingConfig(stride=2))
    batch = make_batch(model.builder, [conversation(2.0), conversation(31.0, seed=1)])
    assert batch.audio_lengths == [375, 750]
    assert batch.think_lengths.tolist() == [188, 375]
    assert batch.heard_lengths == (25, 388)
    assert batch.heard_think_lengths.tolist() == [13, 194]
    assert batch.num_think_tokens == 207
    part = batch.rows(1, 2)
    assert part.heard_think_lengths.tolist() == [194]


def test_calibration_measures_the_sound_alone(backbone):
    model = ThinkingModel(backbone)
    expert = make_expert("audio_reconstruction", hidden_size=backbone.hidden_size, audio_spec=backbone.audio_spec)
    batch = make_batch(model.builder, [conversation(2.0), conversation(31.0, seed=1)])
    (mean,) = mean_features(model, {"x": expert}, lambda: [batch]).values()
    heard = torch.cat([row[:count] for row, count in zip(model.audio_embeddings(batch), (25, 388), strict=True)])
    torch.testing.assert_close(mean, heard.mean(0))
    (weight,) = unit_weights(model, {"x": expert}, {"x": mean}, lambda: [batch]).values()
    costs = expert.loss(mean.expand_as(heard)[None], heard[None], torch.ones(1, len(heard), dtype=torch.bool))
    assert weight * float(costs.mean()) == pytest.approx(1, rel=1e-4)


def test_thinking_aloud_ends_with_the_clip(backbone):
    """States and times are of the sound; nothing is said of the silence that was added."""
    thought = CoatModel(ThinkingModel(backbone).eval()).think(noise(2.0))
    assert thought.think_hidden.shape[0] == len(thought.times) == 25
    assert float(thought.times[-1]) < 2.0


def test_a_long_clip_s_range_is_that_of_all_its_windows(backbone):
    """The stock processor takes the log-mel of the whole clip, whose loudest frame sets what is silent."""
    loud = np.concatenate([noise(30.0).waveform, 1e-4 * noise(2.0, seed=1).waveform])
    whole = backbone.audio_features([loud]).values[1]
    alone = backbone.audio_features([loud[30 * RATE :]]).values[0]
    assert float(whole.min()) > float(alone.min()) - 1e-6
    assert not torch.allclose(whole, alone, atol=0.1)


def test_several_clips_may_be_asked_about(backbone):
    model = ThinkingModel(backbone)
    item = Conversation([user("<audio><audio>Which?")], [noise(0.5), noise(0.7, seed=1)])
    assert make_batch(model.builder, [item]).think_lengths.tolist() == [375, 375]
