import os

import numpy as np
import pytest
import soundfile

from coat.data.manifest import AudioRef
from coat.errors import CoatError
from coat.features.audio_index import SoundIndex

RATE = 16_000


@pytest.fixture
def files(tmp_path):
    rng = np.random.default_rng(0)
    for index in range(4):
        soundfile.write(tmp_path / f"{index}.wav", rng.normal(0, 0.1, RATE + 800 * index).astype(np.float32), RATE)
    return [AudioRef(tmp_path / f"{index}.wav") for index in range(4)]


@pytest.fixture
def decoded(monkeypatch):
    """What was decoded, by name."""
    found = []
    real = AudioRef.load

    def load(self, max_seconds=None):
        found.append(self.path.name)
        return real(self, max_seconds)

    monkeypatch.setattr(AudioRef, "load", load)
    return found


def test_what_is_known_is_not_decoded_again(tmp_path, files, decoded):
    index = SoundIndex(tmp_path / "sounds.sqlite")
    sounds = index.listen(files)
    assert [sound.seconds for sound in sounds] == [pytest.approx(1 + 0.05 * i) for i in range(4)]
    assert sounds[0].key == files[0].load().content_key
    decoded.clear()
    assert SoundIndex(tmp_path / "sounds.sqlite").listen(files) == sounds
    assert decoded == []


def test_a_file_that_changed_is_heard_anew(tmp_path, files, decoded):
    index = SoundIndex(tmp_path / "sounds.sqlite")
    before = index.listen(files)
    soundfile.write(files[2].path, np.zeros(RATE, dtype=np.float32) + 0.1, RATE)
    os.utime(files[2].path, ns=(1, 1))
    decoded.clear()
    after = index.listen(files)
    assert decoded == ["2.wav"]
    assert [a == b for a, b in zip(before, after, strict=True)] == [True, True, False, True]


def test_the_same_sound_under_two_names_has_one_key(tmp_path, files):
    (tmp_path / "copy.wav").write_bytes(files[0].path.read_bytes())
    first, second = SoundIndex(tmp_path / "sounds.sqlite").listen([files[0], AudioRef(tmp_path / "copy.wav")])
    assert first.key == second.key


def test_stretches_of_a_file_are_sounds_of_their_own(tmp_path, files):
    parts = [AudioRef(files[0].path, 0.0, 0.5), AudioRef(files[0].path, 0.5, None), files[0]]
    assert len({sound.key for sound in SoundIndex(tmp_path / "sounds.sqlite").listen(parts)}) == 3


def test_everything_unusable_is_named_and_the_rest_is_kept(tmp_path, files, decoded):
    (tmp_path / "text.wav").write_text("no sound")
    bad = [AudioRef(tmp_path / "text.wav"), AudioRef(tmp_path / "gone.wav")]
    index = SoundIndex(tmp_path / "sounds.sqlite")
    with pytest.raises(CoatError, match=r"2 files(.|\n)*text.wav(.|\n)*gone.wav"):
        index.listen([*files, *bad])
    decoded.clear()
    index.listen(files)
    assert decoded == []


def test_what_is_too_long_is_refused_though_it_is_known(tmp_path, files):
    index = SoundIndex(tmp_path / "sounds.sqlite")
    index.listen(files)
    with pytest.raises(CoatError, match=r"3 files(.|\n)*hears at most 1 s"):
        index.listen(files, max_seconds=1.0)
