"""The paper's probe targets, out of files as their owners lay them out."""

import numpy as np
import pytest

from coat.audio import Clip
from coat.data.manifest import read_manifest
from coat.errors import CoatError
from coat.evaluation.sources import open_manifest_tasks
from coat.experts.basic_pitch import BasicPitch
from coat.files import read_jsonl
from coat.probing.labels import dominant_pitch, family_of, write_labels
from coat.probing.models import Target, read_clips
from tests.data.corpora import iemocap_files


def test_emotions_by_speaker(tmp_path):
    iemocap_files(tmp_path / "files")
    path, counts = write_labels("iemocap", str(tmp_path / "files"), tmp_path / "out")
    assert counts == {"emotion": 6, "speaker": 6}
    clips = read_clips(path, Target("emotion", "speaker", "emotion"))
    assert clips.labels == (["neutral", "happy", "angry"],) * 2
    assert clips.groups == (["Ses01F"] * 3, ["Ses05F"] * 3)
    assert all(clip.is_file() for side in clips.paths for clip in side)
    rows = read_manifest(path.parent / "test.jsonl")
    assert [row.answer for row in rows] == clips.labels[1], "only the fifth session is asked"
    assert [each.task.name for each in open_manifest_tasks(path.parent / "test.jsonl")] == ["emotion"]


def test_instruments_and_pitches_of_a_benchmark(tmp_path):
    path, counts = write_labels("muchomusic", "sample", tmp_path)
    rows = read_jsonl(path)
    assert counts == {"family": 1, "pitch": len(rows)}
    (asked,) = read_jsonl(tmp_path / "test.jsonl")
    assert asked["choices"][1] in ("trumpet", "B. trumpet")
    assert [row.get("family") for row in rows] == [None, "wind"]
    (opened,) = open_manifest_tasks(tmp_path / "test.jsonl")
    assert not opened.bad
    assert opened.items[0].right == 1


@pytest.mark.parametrize(
    ("answer", "family"),
    [
        ("Acoustic guitar", "guitar"), ("a grand PIANO", "keyboard"), ("violins", "strings"), ("Drums", "percussion"),
        ("piano and drums", None), ("a theremin", None), ("Pianissimo", None),
    ],
)  # fmt: skip
def test_families_by_name(answer, family):
    assert family_of(answer) == family


@pytest.mark.parametrize(("hertz", "note"), [(440.0, "A"), (261.63, "C"), (369.99, "F sharp"), (1661.2, "G sharp")])
def test_the_dominant_pitch_of_a_tone(hertz, note):
    time = np.arange(2 * 22_050) / 22_050
    wave = sum(np.sin(2 * np.pi * hertz * k * time) / k for k in (1, 2, 3)).astype(np.float32)
    assert dominant_pitch(BasicPitch().freeze(), Clip(0.2 * wave, 22_050)) == note


def test_unknown_sources_are_named(tmp_path):
    with pytest.raises(CoatError, match="iemocap, muchomusic"):
        write_labels("nsynth", "", tmp_path)
