import numpy as np
import pytest
import torch

from coat.errors import CoatError
from coat.experts.opensmile import DESCRIPTORS, OpenSmile

pytest.importorskip("opensmile")
RATE = 16_000


def voice(hertz, seconds=1.0):
    """A buzz of a pitch."""
    time = np.arange(round(seconds * RATE)) / RATE
    return sum(np.sin(2 * np.pi * hertz * k * time) / k for k in range(1, 9)).astype(np.float32) * 0.1


@pytest.fixture(scope="module")
def expert():
    return OpenSmile().freeze()


def test_descriptors_are_the_package_s(expert):
    """Scaled, in its own order, of a clip with 20 ms of silence around it."""
    smile = expert._smile[0]
    clip = voice(220.0)
    theirs = smile.process_signal(np.pad(clip, 320), RATE)
    assert list(theirs.columns) == list(DESCRIPTORS)
    made, frames = expert.features(torch.from_numpy(clip)[None], torch.tensor([RATE]))
    assert int(frames[0]) == len(theirs)
    back = made[0] * expert.deviation + expert.mean
    np.testing.assert_allclose(back.numpy(), theirs.to_numpy(), atol=2e-3, rtol=1e-5)


@pytest.mark.parametrize(("hertz", "semitones"), [(110.0, 24.0), (220.0, 36.0), (330.0, 43.02)])
def test_a_pitch_is_read_in_semitones(expert, hertz, semitones):
    place = list(DESCRIPTORS).index("F0semitoneFrom27.5Hz_sma3nz")
    made, _ = expert.features(torch.from_numpy(voice(hertz))[None], torch.tensor([RATE]))
    heard = made[0, 20:60, place] * expert.deviation[place] + expert.mean[place]
    assert float(heard.median()) == pytest.approx(semitones, abs=0.1)
    picture = expert.visualise(made[0])
    assert picture.labels[place] == "F0semitoneFrom27.5Hz"


def test_without_the_package_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "opensmile", None)
    with pytest.raises(CoatError, match="not installed") as caught:
        OpenSmile()
    assert "coat-audio[opensmile]" in caught.value.remedy
