import dataclasses

import numpy as np
import pytest
import soundfile

from coat.audio import load_audio
from coat.data.manifest import read_manifest
from coat.errors import CoatError
from coat.files import read_jsonl
from coat.synthetic import world
from coat.synthetic.corpus import KINDS, CorpusSize, build_corpus
from tests.synthetic.conftest import SIZE


@pytest.fixture(scope="module")
def facts(corpus):
    return read_jsonl(corpus / "clips.jsonl")


def test_the_same_seed_makes_the_same_bytes(corpus, tmp_path):
    again = build_corpus(tmp_path / "again", seed=5, size=SIZE, workers=1)
    files = sorted(path.relative_to(corpus) for path in corpus.rglob("*") if path.is_file())
    assert len(files) > sum(dataclasses.astuple(SIZE))
    assert files == sorted(path.relative_to(again) for path in again.rglob("*") if path.is_file())
    assert [p for p in files if (corpus / p).read_bytes() != (again / p).read_bytes()] == []


def test_clips_of_a_larger_corpus_begin_with_those_of_a_smaller_one(corpus, tmp_path):
    """A clip follows from seed, split, kind and index alone, so workers and sizes change nothing else."""
    larger = build_corpus(tmp_path / "larger", seed=5, size=CorpusSize(train=90, dev=24, test=60), workers=2)
    for path in (corpus / "clips").glob("test-*"):
        assert path.read_bytes() == (larger / "clips" / path.name).read_bytes(), path.name


def test_another_seed_or_size_in_the_same_folder_is_refused(corpus):
    with pytest.raises(CoatError, match="another seed"):
        build_corpus(corpus, seed=6, size=SIZE)


def test_every_clip_is_two_to_four_seconds_of_sound(corpus, facts):
    assert len(facts) == sum(dataclasses.astuple(SIZE))
    for fact in facts:
        info = soundfile.info(corpus / fact["audio"])
        assert info.samplerate == world.SAMPLING_RATE
        assert world.MIN_SECONDS <= info.duration <= world.MAX_SECONDS
        waveform = load_audio(corpus / fact["audio"]).waveform
        assert 0.001 < float(np.sqrt((waveform**2).mean())) < 0.7, fact["id"]
        assert float(np.abs(waveform).max()) <= 1.0


def test_no_split_shares_what_it_is_tested_on(facts):
    """Voices, instrument programs, event styles and sentences belong to one split each."""
    for key in ("voice", "program", "style", "text"):
        seen = {
            split: {str(fact[key]) for fact in facts if fact["split"] == split and key in fact}
            for split in world.SPLITS
        }
        assert all(seen.values()), key
        for one in world.SPLITS:
            for other in world.SPLITS:
                assert one == other or not seen[one] & seen[other], (key, seen[one] & seen[other])


def test_the_worlds_own_lists_do_not_overlap():
    variants = {split: {voice.partition("+")[2] for voice in voices} for split, voices in world.VOICES.items()}
    for family in world.PROGRAMS.values():
        assert len({program for programs in family.values() for program in programs}) == sum(map(len, family.values()))
    for one in world.SPLITS:
        for other in world.SPLITS:
            assert one == other or not variants[one] & variants[other]


def test_the_world_is_as_large_as_it_should_be():
    assert sum(dataclasses.astuple(CorpusSize())) >= 6000
    assert sum(map(len, world.VOICES.values())) >= 8
    assert len(world.MOODS) == 4
    assert len(world.PROGRAMS) == 7
    assert len(world.PITCH_CLASSES) == 12
    assert len(world.EVENTS) >= 10


def test_every_kind_and_task_group_is_there(corpus, facts):
    assert {fact["kind"] for fact in facts} == set(KINDS)
    for split in world.SPLITS:
        rows = read_manifest(corpus / f"{split}.jsonl")
        groups = {"asr", "audio_qa", "captioning", "multiple_choice", "music", "instruction", "text"}
        assert {row.group for row in rows} == groups
        for row in rows:
            if row.choices:
                assert row.choices["ABCD".index(row.answer)]
