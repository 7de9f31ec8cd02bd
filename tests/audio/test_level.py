"""Channels, level and offset: the same rules wherever a clip comes in."""

import numpy as np
import pytest
import soundfile

from coat.audio import AudioError, Clip, check_clip, load_audio
from coat.audio.downmix import to_mono
from coat.audio.limits import problem_of, too_long

RATE = 16_000


def level(waveform):
    return float(np.sqrt(np.square(waveform).mean()))


def noise(seed=0):
    return np.random.default_rng(seed).normal(0, 0.1, RATE).astype(np.float32)


def test_a_voice_in_one_of_six_channels_keeps_its_level():
    six = np.zeros((6, RATE), np.float32)
    six[2] = noise()
    np.testing.assert_allclose(to_mono(six, "film"), noise(), atol=1e-7)
    six += 1e-5 * np.stack([noise(seed) for seed in range(1, 7)])  # dither in the others
    assert level(to_mono(six, "film")) == pytest.approx(level(noise()), rel=0.01)


def test_one_dead_channel_of_two_costs_nothing():
    np.testing.assert_array_equal(to_mono(np.stack([noise(), np.zeros(RATE, np.float32)]), "x"), noise())


def test_live_channels_are_averaged():
    left, right = noise(1), noise(2)
    np.testing.assert_array_equal(to_mono(np.stack([left, right]), "x"), np.stack([left, right]).mean(axis=0))


def test_silence_stays_silence():
    assert not to_mono(np.zeros((2, RATE), np.float32), "x").any()


def test_channels_that_cancel_are_refused_and_one_can_be_named(tmp_path):
    soundfile.write(tmp_path / "a.wav", np.stack([noise(), -noise()], axis=1), RATE, subtype="FLOAT")
    with pytest.raises(AudioError, match="cancel each other") as caught:
        load_audio(tmp_path / "a.wav")
    assert caught.value.kind == "channels"
    assert '"channel": 0' in caught.value.remedy
    np.testing.assert_array_equal(load_audio(tmp_path / "a.wav", channel=1).waveform, -noise())
    with pytest.raises(AudioError, match="has 2 channel"):
        load_audio(tmp_path / "a.wav", channel=2)


@pytest.mark.parametrize(
    ("wave", "kind"),
    [
        (noise() * 265_080, "over full scale"),
        (noise() + 0.5, "offset"),
        (np.full(RATE, np.inf, np.float32), "not finite"),
        (noise()[:800], "too short"),
        (np.tile(noise(), 4), "too long"),
    ],
)
def test_what_no_model_should_hear(wave, kind):
    with pytest.raises(AudioError) as caught:
        check_clip(Clip(wave.astype(np.float32), RATE, "the clip"), max_seconds=3)
    assert caught.value.kind == kind
    assert caught.value.problem.startswith("the clip ")
    assert caught.value.remedy


def test_a_master_that_clips_a_little_passes():
    assert problem_of(noise() * 20, RATE) is None
    assert problem_of(noise() + 0.1, RATE) is None


def test_the_longest_clip_is_judged_to_the_sample():
    assert not too_long(30.0, 30.0)
    assert not too_long(480_000 / 16_000, 30.0)
    assert too_long(480_001 / 16_000, 30.0)
    assert too_long(1_323_001 / 44_100, 30.0)
    assert not too_long(1e9, None)
