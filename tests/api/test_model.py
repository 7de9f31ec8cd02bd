"""Load, chat, think, save: the class that users see."""

import numpy as np
import pytest
import torch
from transformers.utils.generic import ModelOutput

from coat import CoatError, CoatModel, CoatTrainer
from coat.backbones import load_backbone
from coat.config.thinking import ThinkingConfig
from coat.hub import locate
from coat.testing.checkpoints import random_backbone
from coat.testing.clips import noise
from tests.training.test_run import recipe

QUESTION = "What note is this?"
TONE = (0.3 * np.sin(2 * np.pi * 440 * np.arange(24_000) / 16_000), 16_000)


@pytest.fixture(scope="module")
def model():
    return CoatModel.from_pretrained("miniature", heads=True)


@pytest.fixture(scope="module")
def trained(tiny_path, manifest, tmp_path_factory):
    run = tmp_path_factory.mktemp("run") / "run"
    CoatTrainer(recipe(tiny_path, manifest), run).train()
    return run


def test_a_stream_holds_the_answer(model):
    said = model.chat(TONE, "What note is this?", max_new_tokens=16)
    pieces = list(model.chat(TONE, "What note is this?", max_new_tokens=16, stream=True))
    assert "".join(pieces).strip() == said
    assert said


def test_what_fails_while_streaming_is_raised_where_it_is_read(model):
    stream = model.chat(TONE, "What note is this?", stream=True, temperature=0.5, no_such_option=1)
    with pytest.raises(ValueError, match="no_such_option"):
        list(stream)


def test_a_batch_of_conversations_answers_as_each_does_alone(model):
    asked = [
        [
            {
                "role": "user",
                "content": [{"type": "audio", "audio": TONE}, {"type": "text", "text": "What note is this?"}],
            }
        ],
        [{"role": "user", "content": "Say something."}],
    ]
    together = model.generate(asked, max_new_tokens=8)
    assert together == [model.generate([each], max_new_tokens=8)[0] for each in asked]
    assert together[0] == model.chat(TONE, "What note is this?", max_new_tokens=8)
    plain = model.generate(asked[:1], max_new_tokens=8, thinking=ThinkingConfig(enabled=False))
    assert isinstance(plain[0], str)


def test_thoughts_have_times_and_predictions(model):
    thought = model.think(TONE)
    assert isinstance(thought, ModelOutput)
    count = thought.think_hidden.shape[0]
    audio_spec = model.model.backbone.audio_spec
    assert count == model.model.backbone.num_audio_tokens(24_000)
    torch.testing.assert_close(
        thought.times, audio_spec.first_token_seconds + torch.arange(count) / audio_spec.token_rate
    )
    assert thought.predictions
    assert all(len(rows) == count for rows in thought.predictions.values())


def test_times_of_fewer_think_tokens_are_those_of_what_they_stand_for(backbone):
    from coat.thinking.model import ThinkingModel

    thought = CoatModel(ThinkingModel(backbone, ThinkingConfig(stride=4))).think(noise(1.0))
    audio_spec = backbone.audio_spec
    tokens = backbone.num_audio_tokens(16_000)
    starts = range(0, tokens, 4)
    middles = [np.mean(range(start, min(start + 4, tokens))) for start in starts]
    expected = [audio_spec.first_token_seconds + middle / audio_spec.token_rate for middle in middles]
    assert thought.times.tolist() == pytest.approx(expected)


def test_thinking_takes_one_clip_and_a_block(model, tiny_path):
    with pytest.raises(CoatError, match="one clip, not 2"):
        model.think([noise(1.0), noise(1.0)])
    with pytest.raises(CoatError, match="no thinking block"):
        CoatModel.from_pretrained(tiny_path).think(noise(1.0))


def test_a_run_is_saved_whole_and_as_an_adapter_that_goes_on_its_base(trained, tiny_path, tmp_path):
    model = CoatModel.from_pretrained(trained)
    said = model.chat(noise(1.0), "What is said?", max_new_tokens=8)
    whole = model.save_pretrained(tmp_path / "whole")
    assert CoatModel.from_pretrained(whole).chat(noise(1.0), "What is said?", max_new_tokens=8) == said
    adapter = model.save_pretrained(tmp_path / "adapter", adapter_only=True)
    ways = [
        CoatModel.from_pretrained(adapter),
        CoatModel.from_pretrained(tiny_path, adapter=adapter),
        CoatModel.from_pretrained(tiny_path, adapter=trained),
    ]
    for way in ways:
        assert way.thinking.enabled
        assert way.chat(noise(1.0), "What is said?", max_new_tokens=8) == said
    again = ways[2].save_pretrained(tmp_path / "again")
    assert CoatModel.from_pretrained(again).chat(noise(1.0), "What is said?", max_new_tokens=8) == said
    with pytest.raises(CoatError, match="checkpoint already"):
        CoatModel.from_pretrained(whole).save_pretrained(tmp_path / "more")


def test_an_adapter_goes_on_its_own_family_alone(trained, tmp_path):
    random_backbone("audio_flamingo3", tmp_path / "other")
    with pytest.raises(CoatError, match="was trained on qwen2_audio"):
        CoatModel.from_pretrained(tmp_path / "other", adapter=trained)
    with pytest.raises(CoatError, match="has an adapter in it already"):
        CoatModel.from_pretrained(trained, adapter=trained)


def test_a_plain_checkpoint_is_no_adapter(tiny_path):
    assert load_backbone("qwen2_audio", str(tiny_path))
    with pytest.raises(CoatError, match="no adapter"):
        CoatModel.from_pretrained(tiny_path, adapter=tiny_path)


def test_it_is_evaluated_as_the_command_evaluates_it(manifest, tmp_path):
    from coat.evaluation.results import leading_scores

    model = CoatModel.from_pretrained("miniature")
    scores = model.evaluate([manifest], tmp_path / "eval", max_new_tokens=4)
    assert scores["transcription"].leading.items == 10
    assert leading_scores(tmp_path / "eval")["transcription"] == scores["transcription"].leading
    again = model.evaluate([manifest], tmp_path / "eval", max_new_tokens=4)
    assert again == scores
    with pytest.raises(CoatError, match="another model"):
        CoatModel.from_pretrained(locate("miniature")).evaluate([manifest], tmp_path / "eval", max_new_tokens=4)


@pytest.fixture(scope="module")
def piano():
    """Four single notes of the small world's test split, by fluidsynth, and their names."""
    import shutil

    if shutil.which("fluidsynth") is None:
        pytest.skip("fluidsynth plays them")
    from coat.experts.basic_pitch import NOTE_NAMES
    from coat.synthetic.corpus import _draw

    drawn = [(fact, wave) for fact, wave, _ in _draw(0, "test", "music", 0, 8) if "pitch_class" in fact]
    return [(wave.astype(np.float32), NOTE_NAMES[fact["notes"][0] - 21]) for fact, wave in drawn[:4]]


def test_think_states_tell_which_note_is_when(piano):
    """The miniature's own: trained once, so the answers are what they are."""
    model = CoatModel.from_pretrained("miniature", heads=True)
    right = 0
    for wave, name in piano:
        events = model.events((wave, 16_000))
        assert all(0 <= event.start < event.end <= len(wave) / 16_000 + 0.04 for event in events)
        longest = max(events, key=lambda event: event.confidence * (event.end - event.start), default=None)
        right += longest is not None and (longest.label, longest.expert) == (name, "basic_pitch")
    assert right >= 2


def test_events_take_a_run_with_heads():
    with pytest.raises(CoatError, match="read by the heads"):
        CoatModel.from_pretrained("miniature").events(np.zeros(16_000, np.float32) + 0.1)
