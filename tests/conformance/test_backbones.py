"""What every registered backbone must do. A new family is tested by being registered, with a tiny maker."""

import numpy as np
import pytest
import torch

from coat.backbones import REGISTRY, backbone_class, load_backbone
from coat.errors import CoatError
from coat.miniature.backbone import random_qwen2_audio
from coat.thinking.batch import make_batch
from coat.thinking.model import CoatModel
from tests.conftest import RATE, conversation, noise

pytestmark = pytest.mark.conformance

TINY = {"qwen2_audio": random_qwen2_audio}
LENGTHS = (0.2, 1.3, 7.77, 29.99, 30.0)


@pytest.fixture(scope="module", params=sorted(REGISTRY))
def loaded(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp(request.param)
    TINY[request.param](folder)
    return load_backbone(request.param, str(folder))


@pytest.mark.parametrize("seconds", LENGTHS)
def test_placeholders_embeddings_and_formula_agree(loaded, seconds):
    clip = noise(seconds)
    features = loaded.audio_features([clip.waveform])
    count = loaded.num_audio_tokens(len(clip.waveform))
    embeddings = loaded.audio_embeddings(features)
    assert features.num_audio_tokens.tolist() == [count] == [len(embeddings[0])]
    batch = make_batch(CoatModel(loaded).builder, [conversation(seconds)])
    assert int((batch.input_ids == loaded.audio_token_id).sum()) == count


def test_embeddings_equal_those_of_the_stock_model(loaded):
    """The tower runs over true lengths here and over 30 s there."""
    clips = [noise(seconds, seed=i) for i, seconds in enumerate(LENGTHS)]
    mine = loaded.audio_embeddings(loaded.audio_features([clip.waveform for clip in clips]))
    for clip, embedding in zip(clips, mine, strict=True):
        torch.testing.assert_close(embedding, stock_embeddings(loaded, clip), atol=1e-5, rtol=1e-5)


def stock_embeddings(backbone, clip):
    text = backbone.render([{"role": "user", "content": [{"type": "audio", "audio": "x"}]}], add_generation_prompt=True)
    inputs = backbone.processor(text=text, audio=[clip.waveform], sampling_rate=RATE, return_tensors="pt")
    heard = {}
    hook = backbone.language_model.register_forward_pre_hook(
        lambda module, args, kwargs: heard.update(kwargs), with_kwargs=True
    )
    with torch.no_grad():
        backbone.model(**inputs)
    hook.remove()
    return heard["inputs_embeds"][inputs["input_ids"] == backbone.audio_token_id]


def test_the_stock_processor_makes_the_same_ids(loaded):
    """Prompt ids without the block are what the family's own processor gives."""
    clip = noise(1.3)
    messages = [
        {"role": "user", "content": [{"type": "audio", "audio": "x"}, {"type": "text", "text": "What is said?"}]}
    ]
    text = loaded.processor.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
    stock = loaded.processor(text=text, audio=[clip.waveform], sampling_rate=RATE, return_tensors="pt")["input_ids"]
    from coat.thinking.processor import PromptBuilder

    prompt = PromptBuilder(loaded, None).build(
        [{"role": "user", "content": "<audio>What is said?"}], [loaded.num_audio_tokens(len(clip.waveform))]
    )
    assert prompt.input_ids == stock[0].tolist()


def test_several_clips_in_a_batch_equal_each_alone(loaded):
    waves = [noise(s, seed=i).waveform for i, s in enumerate((0.3, 2.0, 1.1))]
    together = loaded.audio_embeddings(loaded.audio_features(waves))
    for wave, embedding in zip(waves, together, strict=True):
        alone = loaded.audio_embeddings(loaded.audio_features([wave]))[0]
        torch.testing.assert_close(embedding, alone, atol=1e-5, rtol=1e-5)


def test_token_times_are_where_the_sound_is(loaded):
    """A click moves the embeddings of the tokens around it most."""
    hearing = loaded.hearing
    quiet = np.random.default_rng(0).normal(0, 1e-3, 3 * RATE).astype(np.float32)
    for second in (0.5, 1.52, 2.4):
        clicked = quiet.copy()
        clicked[round(second * RATE)] = 1.0
        values = [loaded.audio_features([wave]).values[0] for wave in (quiet, clicked)]
        frame = float((values[1] - values[0]).clamp(min=0).sum(0).argmax())
        token = (frame / 100 - hearing.first_token_seconds) * hearing.token_rate
        assert abs(token - (second - hearing.first_token_seconds) * hearing.token_rate) < 0.5


def test_lora_stays_in_the_language_model(loaded):
    tower = {id(p) for p in loaded.audio_tower.parameters()}
    names = [n for n, m in loaded.model.named_modules() if isinstance(m, torch.nn.Linear)]
    import re

    matched = [name for name in names if re.fullmatch(loaded.lora_targets, name)]
    assert matched
    for name in matched:
        assert id(loaded.model.get_submodule(name).weight) not in tower


def test_saving_and_loading_gives_the_same_logits(loaded, tmp_path):
    loaded.save_pretrained(str(tmp_path))
    again = load_backbone(loaded.family, str(tmp_path))
    item = conversation(0.7)
    outputs = [CoatModel(b).eval()(make_batch(CoatModel(b).builder, [item])) for b in (loaded, again)]
    torch.testing.assert_close(outputs[0].response_logits, outputs[1].response_logits)


def test_unknown_families_are_named():
    with pytest.raises(CoatError, match="Did you mean 'qwen2_audio'"):
        backbone_class("qwen2_adio")
