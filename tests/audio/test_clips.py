import numpy as np
import pytest
import soundfile

from coat.audio import Clip, check_clip, load_audio
from coat.errors import CoatError


def write(path, samples, rate=16_000):
    soundfile.write(path, samples, rate)
    return path


def test_stereo_becomes_mono_at_its_own_rate(tmp_path):
    left, right = np.full(8000, 0.5), np.full(8000, -0.25)
    clip = load_audio(write(tmp_path / "a.wav", np.stack([left, right], 1), 44_100))
    assert clip.sampling_rate == 44_100
    np.testing.assert_allclose(clip.waveform, 0.125, atol=1e-4)


def test_resampling_keeps_a_tone():
    time = np.arange(44_100) / 44_100
    clip = Clip(np.sin(2 * np.pi * 440 * time).astype(np.float32), 44_100)
    at16 = clip.at(16_000)
    assert len(at16) == 16_000
    assert np.abs(np.fft.rfft(at16)).argmax() == 440
    assert clip.at(44_100) is clip.waveform


def test_a_stretch_of_a_file(tmp_path):
    path = write(tmp_path / "a.wav", np.linspace(-0.5, 0.5, 16_000))
    clip = load_audio(path, start=0.25, end=0.75)
    assert clip.seconds == 0.5
    assert abs(clip.waveform[0] + 0.25) < 1e-3


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda d: d / "none.wav", "no audio file"),
        (lambda d: (d / "a.txt").write_text("hello") and d / "a.txt", "cannot be read as audio"),
        (lambda d: write(d / "short.wav", np.zeros(160)), "lasts 10 ms"),
        (lambda d: write(d / "empty.wav", np.zeros(0)), "lasts 0 ms"),
        (lambda d: write(d / "long.wav", np.zeros(50_000)), "hears at most 3 s"),
    ],
)
def test_bad_files_say_what_to_do(tmp_path, make, message):
    with pytest.raises(CoatError, match=message) as caught:
        load_audio(make(tmp_path), max_seconds=3.0)
    assert caught.value.remedy


def test_nan_is_refused():
    with pytest.raises(CoatError, match="NaN"):
        check_clip(Clip(np.full(16_000, np.nan, np.float32), 16_000))


def test_the_same_sound_has_the_same_key_whatever_its_name():
    wave = np.random.default_rng(0).normal(size=1000).astype(np.float32)
    assert Clip(wave, 16_000, "a").content_key == Clip(wave.copy(), 16_000, "b").content_key
    assert Clip(wave, 16_000).content_key != Clip(wave, 8_000).content_key
