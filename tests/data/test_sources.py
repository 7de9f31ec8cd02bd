"""Every corpus on rows of its documented schema, through the writer, to a manifest that training reads."""

import shutil

import numpy as np
import pytest
import soundfile
from typer.testing import CliRunner

from coat.cli.app import app
from coat.data.index import open_manifest
from coat.data.manifest import read_manifest
from coat.data.sources import REGISTRY, corpus
from coat.data.sources.prepare import prepare_corpus
from coat.data.sources.records import folder_records, plain_records
from coat.data.sources.text import gigaspeech, sentence, switchboard, uncapitalised
from coat.errors import CoatError
from tests.cli.command import coat
from tests.data.corpora import FILES, HUB, asterisk_files, audio, meld_files, sound, split


@pytest.fixture
def prepared(tmp_path):
    """A function: name to its manifest's rows."""

    def make(name, **options):
        found = corpus(name)
        if name in HUB:
            made = prepare_corpus(
                found, tmp_path / "out", lambda skip: list(plain_records(HUB[name]()))[skip:], **options
            )
        else:
            place = tmp_path / "raw" / name
            place.mkdir(parents=True)
            FILES[name](place)
            made = prepare_corpus(found, tmp_path / "out", lambda skip: folder_records(found, place, skip), **options)
        assert made.rows == len(open_manifest(made.manifest))
        return read_manifest(made.manifest)

    return make


def test_every_corpus_is_tested():
    assert set(HUB) | set(FILES) == set(REGISTRY)


@pytest.mark.parametrize("name", list(REGISTRY))
def test_rows_can_be_trained_on(name, prepared):
    found, rows = corpus(name), prepared(name)
    assert rows
    for row in rows:
        assert (row.source, row.group, row.licence) == (name, found.group, found.licence)
        assert row.task
        assert row.answer
        assert len(row.audios) == found.has_audio
        for ref in row.audios:
            clip = ref.load()
            assert clip.sampling_rate < 100_000  # as it is stored, whatever its card declares
            assert ref.known_seconds == pytest.approx(clip.seconds, abs=1e-3)
        if row.choices:
            assert len(set(row.choices)) == len(row.choices) > 1
    assert len({row.id for row in rows}) == len(rows)
    assert found.licence
    assert found.hub_id or found.files


def answers(rows):
    return [row.answer for row in rows]


def test_transcripts_are_normalised(prepared):
    assert answers(prepared("librispeech"))[0] == "I saw the old man"
    assert answers(prepared("gigaspeech")) == ["As they say, it is. What now?"]
    assert answers(prepared("common_voice")) == ["He said so.", "Never mind."]
    assert answers(prepared("voxpopuli")) == ["Madam President, thank you."]
    assert answers(prepared("switchboard")) == ["hi um yeah i'd like", "well okay"]


def test_prompts_without_words_and_things_without_names_are_left_out(prepared):
    assert [(row.id, row.answer) for row in prepared("asterisk_prompts")] == [
        ("asterisk_prompts-activated", "Activated."),
        ("asterisk_prompts-digits/1", "one"),
    ]
    stamps = {row.id: (row.task, row.answer) for row in prepared("tuxpaint_stamps")}
    assert stamps == {
        "tuxpaint_stamps-animals/dog": ("sound", "a dog"),
        "tuxpaint_stamps-animals/dog_desc": ("transcription", "A dog. It barks."),
    }


def test_what_a_system_package_has_installed_is_found(tmp_path, monkeypatch):
    from coat.data.sources.asterisk_prompts import AsteriskPrompts

    monkeypatch.setattr(AsteriskPrompts, "installed", str(tmp_path / "sounds"))
    out = ["data", "import", "asterisk_prompts", "--out", str(tmp_path / "out")]
    refused = CliRunner().invoke(app, out)
    assert "apt-get install asterisk-core-sounds-en" in str(refused.exception.remedy)
    asterisk_files(tmp_path / "sounds")
    assert CliRunner().invoke(app, out).exit_code == 0
    assert len(read_manifest(tmp_path / "out" / "asterisk_prompts.jsonl")) == 2


def test_turns_of_a_conversation_are_cut_from_their_channel(prepared, tmp_path):
    rows = prepared("switchboard")
    assert [row.seconds for row in rows] == [1.0, 0.75]
    both, rate = soundfile.read(tmp_path / "raw/switchboard/sw02001.wav", dtype="float32")
    clip = rows[1].audios[0].load()
    assert clip.sampling_rate == rate
    np.testing.assert_allclose(clip.waveform, both[round(0.5 * rate) : round(1.25 * rate), 1], atol=1e-4)


def test_sessions_for_evaluation_stay_out(prepared):
    rows = prepared("iemocap")
    assert [row.id for row in rows] == [f"iemocap-Ses01F_impro01_F00{i}" for i in (0, 1, 4)]
    assert [row.answer.split()[1] for row in rows] == ["neutral", "happy", "angry"]
    for row in rows:
        letter, right = row.answer[1], row.answer.split()[1]
        assert row.choices[ord(letter) - 65] == right
        assert f"({letter}) {right}" in row.messages[0]["content"]


def test_annotators_must_agree(prepared):
    assert answers(prepared("clotho_aqa")) == ["yes"]


def test_a_clip_without_sound_is_left_out(prepared):
    assert len(prepared("meld")) == 2


def test_options_are_kept_for_scores(prepared):
    rows = prepared("librisqa_choice")
    assert {row.choices for row in rows} == {("The miller", "The king")}
    assert {row.answer for row in rows} == {"A", "A. The speaker names the miller."}


def test_wordings_vary_and_the_seed_decides_them(prepared, tmp_path):
    rows = prepared("musicbench", seed=1)
    assert len({row.messages[0]["content"] for row in rows}) > 2
    shutil.rmtree(tmp_path / "out")
    shutil.rmtree(tmp_path / "raw")
    assert [row.messages for row in prepared("musicbench", seed=1)] == [row.messages for row in rows]


def test_numbers_of_labels_do_not_matter():
    """Mirrors of IEMOCAP number their classes differently; names are what counts."""
    for names in (["ang", "hap", "neu", "sad"], ["neu", "sad", "hap", "ang"]):
        rows = [{"audio": audio(), "label": names.index("hap")}]
        assert next(iter(plain_records(split(rows, label=names))))["label"] == "hap"


def test_a_stopped_corpus_goes_on(tmp_path, monkeypatch):
    from coat.data.sources import prepare as module

    monkeypatch.setattr(module, "SAVE_EVERY", 2)
    found, all_records = corpus("librispeech"), list(plain_records(split(
        [{"audio": audio(i), "text": f"WORD {i}", "id": f"u{i}"} for i in range(7)])))  # fmt: skip
    read = []

    def records(skip, stop=None):
        for place, record in enumerate(all_records[skip:], skip):
            if place == stop:
                raise KeyboardInterrupt
            read.append(place)
            yield record

    with pytest.raises(KeyboardInterrupt):
        prepare_corpus(found, tmp_path, lambda skip: records(skip, 5))
    with (tmp_path / "librispeech.jsonl.begun").open("a") as file:
        file.write('{"id": "half a li')  # as a killed process leaves it
    read.clear()
    made = prepare_corpus(found, tmp_path, records)
    assert read == [4, 5, 6]
    assert [row.answer for row in read_manifest(made.manifest)] == [f"word {i}" for i in range(7)]
    assert prepare_corpus(found, tmp_path, records).rows == 7  # done is done


def test_sound_that_cannot_be_read_is_counted(tmp_path):
    rows = [{"audio": {"bytes": data, "path": None}, "text": "A"} for data in (sound(), b"no sound", sound(0.01))]
    made = prepare_corpus(corpus("librispeech"), tmp_path, lambda skip: rows[skip:])
    assert made.rows == 1
    assert len(made.bad) == 2


def test_text_by_hand():
    assert uncapitalised("WHAT I  SAW") == "what I saw"
    assert gigaspeech("HELLO <COMMA> I AM HERE <EXCLAMATIONPOINT> GOOD <PERIOD>") == "Hello, I am here! Good."
    assert gigaspeech("<SIL>") == ""
    assert switchboard("[noise] i -[s]aw them_1 and [lik/like] it <b_aside> yes") == "i them and like it yes"
    assert sentence(' "Is it so?" ') == "Is it so?"


def test_from_the_command_line(tmp_path):
    listed = coat("data", "sources", cwd=tmp_path).stdout
    assert "librispeech" in listed
    missing = coat("data", "import", "meld", cwd=tmp_path)
    assert "comes as files" in " ".join(missing.stderr.replace("│", " ").split())
    meld_files(tmp_path / "MELD")
    made = coat("data", "import", "meld", "--from", "MELD", "--out", "data", cwd=tmp_path)
    assert made.returncode == 0, made.stderr
    assert "2 rows" in made.stdout
    HUB["audiocaps"]().to_parquet(str(tmp_path / "caps" / "train.parquet"))
    made = coat("data", "import", "audiocaps", "--from", "caps", cwd=tmp_path)
    assert made.returncode == 0, made.stderr
    assert read_manifest(tmp_path / "data" / "audiocaps.jsonl")[0].answer == "Rain falls on a roof."


def test_what_is_missing_is_named(tmp_path):
    for name in FILES:
        with pytest.raises(CoatError, match="holds no") as caught:
            list(folder_records(corpus(name), tmp_path))
        assert corpus(name).files.split()[0].strip(",") in caught.value.remedy
    with pytest.raises(CoatError, match="none of the columns"):
        list(corpus("librispeech").asked({"words": "x"}, np.random.default_rng(0)))
    with pytest.raises(CoatError, match="Did you mean 'meld'"):
        corpus("mled")


def words_of(text):
    """What a panel says, on one line."""
    return " ".join(text.replace("│", " ").split())


def test_any_data_set_with_an_audio_column(tmp_path):
    """Transcripts alone, questions and answers under others' names, whole conversations, text alone."""
    talk = [{"role": "user", "content": "Who?"}, {"role": "assistant", "content": "She."}]
    shapes = {
        "words": [{"audio": audio(), "sentence": "x", "text": "hello there"}],
        "asked": [{"context": audio(), "instruction": "What emotion?", "answer": "joy", "choices": ["joy", "fear"]}],
        "talks": [{"audio": audio(), "messages": talk, "id": "t1"}],
        "plain": [{"question": "Say a colour.", "answer": "red"}],
    }
    for name, rows in shapes.items():
        column = "context" if name == "asked" else "audio" if name != "plain" else None
        split(rows, column=column).to_parquet(str(tmp_path / name / "train.parquet"))
        asked = ("data", "import", f"hub:someone/{name}", "--from", name, "--question", "What is said?")
        if name == "words":  # which of two answers is meant is not guessed
            assert "both 'sentence' and 'text'" in words_of(coat(*asked, cwd=tmp_path).stderr)
            asked = (*asked, "--ignore-fields", "sentence")
        made = coat(*asked, cwd=tmp_path)
        assert made.returncode == 0, made.stderr
    rows = {name: read_manifest(tmp_path / "data" / f"{name}.jsonl")[0] for name in shapes}
    assert {name: [m["content"] for m in row.messages] for name, row in rows.items()} == {
        "words": ["<audio>What is said?", "hello there"],
        "asked": ["<audio>What emotion?", "joy"],
        "talks": ["<audio>Who?", "She."],
        "plain": ["Say a colour.", "red"],
    }
    assert rows["asked"].choices == ("joy", "fear")
    assert rows["talks"].id == "talks-t1"
    assert [len(row.audios) for row in rows.values()] == [1, 1, 1, 0]
    assert "names no data set" in coat("data", "import", "hub:x", cwd=tmp_path).stderr
