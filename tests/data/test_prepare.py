"""Data sets of the hub as others store sound: no two records meet, and no sound is left behind."""

import io

import datasets
import numpy as np
import pytest
import soundfile

from coat.data.manifest import read_manifest
from coat.data.sources.anything import Anything
from coat.data.sources.prepare import prepare_corpus
from coat.errors import CoatError

RATE = 16_000


def wave(index, seconds=0.5):
    return np.random.default_rng(index).normal(0, 0.1, round(seconds * RATE)).astype(np.float32)


def wav(index):
    buffer = io.BytesIO()
    soundfile.write(buffer, wave(index), RATE, format="WAV", subtype="FLOAT")
    return buffer.getvalue()


def prepare(tmp_path, records, **options):
    return prepare_corpus(Anything("hub:me/mine", **options), tmp_path / "out", lambda skip: records[skip:])


def sounds(made):
    return [row.audios[0].load().waveform for row in read_manifest(made.manifest)]


@pytest.mark.parametrize(
    "ids",
    [
        ["a:b c", "a b:c", "a_b_c", "a/b?c"],
        ["same", "same", "same", "same-00000001"],
        ["A", "a", "á", "."],
        ["x" * 300, "x" * 299 + "y", "..", "-"],
    ],
)
def test_no_two_records_share_a_file(tmp_path, ids):
    made = prepare(tmp_path, [{"id": name, "audio": {"bytes": wav(i)}, "text": f"{i}"} for i, name in enumerate(ids)])
    assert made.rows == 4
    rows = read_manifest(made.manifest)
    assert len({str(row.audios[0].path).lower() for row in rows}) == len({row.id for row in rows}) == 4
    for index, found in enumerate(sounds(made)):
        np.testing.assert_array_equal(found, wave(index))


def test_names_stay_unique_over_a_stop(tmp_path, monkeypatch):
    monkeypatch.setattr("coat.data.sources.prepare.SAVE_EVERY", 2)
    records = [{"id": "same", "audio": {"bytes": wav(i)}, "text": f"{i}"} for i in range(5)]

    def breaking(skip):
        yield from records[skip:3]
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        prepare_corpus(Anything("hub:me/mine"), tmp_path / "out", breaking)
    made = prepare(tmp_path, records)
    assert made.rows == 5
    for index, found in enumerate(sounds(made)):
        np.testing.assert_array_equal(found, wave(index))


def test_what_is_there_is_what_was_asked_for(tmp_path):
    """A manifest of fewer records, of another data set or of a person's own is not taken for it."""
    records = [{"audio": {"bytes": data}, "text": "x"} for data in (wav(0), b"no sound", wav(1), wav(2))]

    def again(place="hub:me/mine", *, question="", **options):
        corpus = Anything(place, question=question)
        return prepare_corpus(corpus, tmp_path / "out", lambda skip: records[skip:], **options)

    first = again(limit=3)
    assert again(limit=3) == first
    assert (first.rows, first.records, len(first.bad)) == (2, 3, 1)
    for options, problem in (
        ({}, "limit 3, now None"),
        ({"limit": 3, "seed": 1}, "seed 0, now 1"),
        ({"limit": 3, "origin": "v2"}, "from '', now 'v2'"),
        ({"limit": 3, "question": "What?"}, "question '', now 'What\\?'"),
        ({"limit": 3, "place": "hub:you/mine"}, "corpus 'me/mine', now 'you/mine'"),
    ):
        with pytest.raises(CoatError, match=rf"mine.jsonl was imported with another .*{problem}"):
            again(**options)
    assert again("hub:me/mine/en-US").manifest.name == "mine-en-us.jsonl"
    first.manifest.unlink()
    assert again().rows == 3, "what was deleted is imported anew"
    (tmp_path / "out" / "mine.import.json").unlink()
    with pytest.raises(CoatError, match="not what an import has written"):
        again()


def test_bad_records_are_named_over_a_stop(tmp_path, monkeypatch):
    monkeypatch.setattr("coat.data.sources.prepare.SAVE_EVERY", 1)
    records = [{"audio": {"bytes": data}, "text": "x"} for data in (b"no sound", wav(0), b"none either", wav(1))]

    def breaking(skip):
        yield from records[skip:2]
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        prepare_corpus(Anything("hub:me/mine"), tmp_path / "out", breaking)
    made = prepare(tmp_path, records)
    assert (made.rows, [name.partition(":")[0] for name in made.bad]) == (2, ["00000000", "00000002"])
    assert prepare(tmp_path, records) == made


@pytest.mark.parametrize(
    "sound",
    [
        lambda: wav(0),
        lambda: {"bytes": wav(0), "path": "a.wav"},
        lambda: {"array": wave(0), "sampling_rate": RATE},
        lambda: {"array": wave(0).tolist(), "sampling_rate": RATE},
        lambda: {"array": np.stack([wave(0), wave(0)]), "sampling_rate": RATE, "path": None},
    ],
    ids=["bytes", "file", "array", "list", "channels first"],
)
@pytest.mark.parametrize("column", ["audio", "speech", "wav", "recording"])
def test_sound_in_any_form_and_column(tmp_path, sound, column):
    made = prepare(tmp_path, [{column: sound(), "text": "hello"}])
    (found,) = sounds(made)
    np.testing.assert_allclose(found, wave(0), atol=2e-4)


@pytest.mark.parametrize(
    ("record", "problem"),
    [
        ({"audio": wave(0).tolist()}, "samples alone have no rate"),
        ({"audio": {"array": wave(0)}}, "no 'sampling_rate'"),
        ({"audio": {"array": ["x"], "sampling_rate": RATE}}, "holds no samples"),
        ({"audio": {"codes": [1, 2]}}, "neither bytes nor a path"),
        ({"audio": b"not sound"}, "cannot be read as audio"),
        ({"audio": 3.5}, "its sound is float"),
    ],
)
def test_sound_that_cannot_be_read_is_named(tmp_path, record, problem):
    good = {"audio": {"bytes": wav(0)}, "text": "x"}
    made = prepare(tmp_path, [{**record, "text": "x"}, good])
    assert made.rows == 1
    assert problem in made.bad[0]
    with pytest.raises(CoatError, match="No row came") as caught:
        prepare_corpus(Anything("hub:me/mine"), tmp_path / "other", lambda _: [{**record, "text": "x"}])
    assert problem in caught.value.remedy


def test_two_columns_of_sound_are_an_error_until_one_is_passed_over(tmp_path):
    records = [{"audio": {"bytes": wav(0)}, "noisy": wav(1), "text": "x"}]
    with pytest.raises(CoatError, match="several columns: audio, noisy"):
        prepare(tmp_path, records)
    (found,) = sounds(prepare(tmp_path, records, ignore=["audio"]))
    np.testing.assert_array_equal(found, wave(1))


def test_columns_without_a_field_are_kept_as_metadata(tmp_path):
    made = prepare(tmp_path, [{"audio": {"bytes": wav(0)}, "text": "x", "speaker_id": 7, "emotion": "calm"}])
    assert '"metadata": {"speaker_id": 7, "emotion": "calm"}' in made.manifest.read_text()


def test_decoded_columns_of_a_saved_data_set(tmp_path):
    rows = datasets.Dataset.from_list([{"speech": {"bytes": wav(i), "path": None}, "text": f"{i}"} for i in range(3)])
    rows = rows.cast_column("speech", datasets.Audio(sampling_rate=RATE, decode=False))
    made = prepare(tmp_path, list(rows))
    for index, found in enumerate(sounds(made)):
        np.testing.assert_array_equal(found, wave(index))


def test_rows_in_a_manifests_form_have_a_list_of_one():
    corpus = Anything("hub:local/train")
    assert corpus.audio({"audios": ["a.wav"], "text": "hello"}) == "a.wav"
    with pytest.raises(CoatError, match=r"2 clips in 'audios'"):
        corpus.audio({"audios": ["a.wav", "b.wav"], "text": "hello"})
