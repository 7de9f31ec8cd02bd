import json

import numpy as np
import pytest
import soundfile
import soxr

from coat.data.contamination import RATE, find_overlaps, fingerprint
from coat.data.manifest import AudioRef
from coat.testing.clips import assistant, user
from tests.cli.command import coat


def music(seed, seconds=4.0, rate=44_100):
    """Notes of many pitches in some noise: what corpora hold."""
    rng = np.random.default_rng(seed)
    time = np.arange(round(seconds * rate)) / rate
    wave = 0.02 * rng.normal(size=len(time))
    for start in np.arange(0, seconds, 0.25):
        on = (time >= start) & (time < start + 0.3)
        for pitch in rng.uniform(200, 1800, 2):
            wave += 0.15 * on * np.sin(2 * np.pi * pitch * time) * np.exp(-4 * (time - start).clip(0))
    return wave.astype(np.float32)


@pytest.fixture
def sets(tmp_path):
    """Training clips, and a benchmark that holds some of them: at another rate, as MP3, louder, cut out, noisy."""
    (tmp_path / "train").mkdir()
    (tmp_path / "bench").mkdir()
    for seed in range(8):
        soundfile.write(tmp_path / "train" / f"{seed}.wav", music(seed), 44_100)
    changed = {
        "rate": (soxr.resample(music(0), 44_100, 16_000), 16_000, "wav"),
        "mp3": (music(1), 44_100, "mp3"),
        "loud": ((3 * music(2)).clip(-1, 1), 44_100, "flac"),
        "cut": (music(3)[44_100 : 3 * 44_100], 44_100, "wav"),
        "noisy": (music(4) + 0.01 * np.random.default_rng(0).normal(size=4 * 44_100).astype(np.float32), 44_100, "wav"),
        "other": (music(99), 44_100, "wav"),
        "silent": (np.zeros(44_100, dtype=np.float32), 44_100, "wav"),
    }
    for name, (wave, rate, form) in changed.items():
        soundfile.write(tmp_path / "bench" / f"{name}.{form}", wave, rate)
    train = [AudioRef(path) for path in sorted((tmp_path / "train").iterdir())]
    return train, [AudioRef(path) for path in sorted((tmp_path / "bench").iterdir())]


def test_shared_sounds_are_found_however_they_were_encoded(sets):
    found = find_overlaps(*sets)
    pairs = {(overlap.ref.path.stem, overlap.other.path.stem) for overlap in found}
    assert pairs == {("0", "rate"), ("1", "mp3"), ("2", "loud"), ("3", "cut"), ("4", "noisy")}
    seconds = {overlap.other.path.stem: overlap.seconds for overlap in found}
    assert seconds["cut"] < 2.0 < seconds["mp3"]


def test_what_cannot_be_read_is_in_none(sets, tmp_path):
    (tmp_path / "text.wav").write_text("no sound")
    assert len(find_overlaps([*sets[0], AudioRef(tmp_path / "text.wav")], sets[1])) == 5


def test_short_and_silent_clips_have_nothing_to_tell():
    assert len(fingerprint(np.zeros(100, np.float32)).bits) == 0
    assert not fingerprint(np.zeros(RATE, np.float32)).telling.any()


def test_rows_are_left_out_on_request(sets, tmp_path):
    for name, refs in zip(("train", "bench"), sets, strict=True):
        rows = [
            {"id": f"{name}-{ref.path.stem}", "audios": [str(ref.path)], "messages": [user("<audio>?"), assistant("x")]}
            for ref in refs
        ]
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    result = coat(
        "data", "overlap", "train.jsonl", "bench.jsonl", "--out", "kept.jsonl", "--workers", "1", cwd=tmp_path
    )
    assert result.returncode == 0, result.stderr
    assert "5 of 8 rows" in result.stdout
    kept = [json.loads(line)["id"] for line in (tmp_path / "kept.jsonl").read_text().splitlines()]
    assert kept == ["train-5", "train-6", "train-7"]
