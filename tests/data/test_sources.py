"""Every corpus on rows of its documented schema, through the writer, to a manifest that training reads."""

import csv
import gzip
import io
import json
import shutil

import datasets
import numpy as np
import pytest
import soundfile
from typer.testing import CliRunner

from coat.cli.app import app
from coat.data.index import open_manifest
from coat.data.manifest import read_manifest
from coat.data.sources import REGISTRY, corpus
from coat.data.sources.prepare import folder_records, plain_records, prepare_corpus
from coat.data.sources.text import gigaspeech, sentence, switchboard, uncapitalised
from coat.errors import CoatError
from tests.cli.command import coat


def sound(seconds=0.5, rate=16_000, form="WAV", channels=1, seed=0):
    rng = np.random.default_rng(seed)
    buffer = io.BytesIO()
    soundfile.write(buffer, rng.normal(0, 0.1, (round(seconds * rate), channels)), rate, format=form)
    return buffer.getvalue()


def audio(seed=0, **options):
    return {"bytes": sound(seed=seed, **options), "path": None}


def split(rows, rate=16_000, column="audio", **labels):
    """A split with an Audio column, as a card declares it."""
    table = datasets.Dataset.from_list(rows)
    if column:
        table = table.cast_column(column, datasets.Audio(rate))
    for name, names in labels.items():
        table = table.cast_column(name, datasets.ClassLabel(names=names))
    return table


HUB = {
    # hub rows as documented; 192 kHz and an oddly named column where mirrors have them
    "librispeech": lambda: split(
        [{"file": "a.flac", "audio": audio(i, form="FLAC"), "text": "I SAW THE OLD MAN", "speaker_id": 84, "chapter_id": 1,
          "id": f"84-1-000{i}"} for i in range(3)], rate=192_000),
    "gigaspeech": lambda: split(
        [{"segment_id": f"P{i}", "speaker": "N/A", "text": text, "audio": audio(i), "begin_time": 0.0, "end_time": 0.5,
          "audio_id": "P", "title": "t", "url": "u", "source": 1, "category": 0}
         for i, text in enumerate(["AS THEY SAY <COMMA> IT IS <PERIOD> WHAT NOW <QUESTIONMARK>", "<MUSIC>"])],
        source=["audiobook", "podcast", "youtube"]),
    "common_voice": lambda: split(
        [{"client_id": "c", "path": "x.mp3", "audio": audio(i, form="MP3", rate=48_000), "sentence": text, "up_votes": 2,
          "down_votes": down, "age": "", "gender": "", "accents": "", "locale": "en", "segment": "", "variant": ""}
         for i, (text, down) in enumerate([('"He said so"', 0), ("Never mind.", 1), ("Wrong words", 5)])], rate=48_000),
    "voxpopuli": lambda: split(
        [{"audio_id": "2013-en_01", "language": 0, "audio": audio(), "raw_text": "Madam President, thank you.",
          "normalized_text": "madam president thank you", "gender": "f", "speaker_id": "1", "is_gold_transcript": True,
          "accent": "None"}], language=["en", "de"]),
    "spgispeech": lambda: split(
        [{"wav_filename": "ab/1.wav", "audio": audio(), "wav_filesize": 100, "transcript": "Good morning, everyone."}]),
    "audiocaps": lambda: split(
        [{"audiocap_id": 91139, "youtube_id": "r1", "start_time": 130, "caption": "Rain falls on a roof", "audio": audio()}],
        rate=48_000),
    "gsqa": lambda: split(
        [{"instruction": "Name a colour.", "input": "", "output": "Red.", "speech_input": "Name a colour.",
          "input_speaker": "a", "output_speaker": "b", "input_audio": audio(1), "output_audio": audio(2)}],
        column="input_audio"),
    "wildjailbreak": lambda: split(
        [{"vanilla": "How do I boil an egg?", "adversarial": "", "completion": "Put it into boiling water.",
          "data_type": "vanilla_benign"},
         {"vanilla": "x", "adversarial": "Pretend that ...", "completion": "I will not.", "data_type": "adversarial_harmful"}],
        column=None),
}  # fmt: skip


def table(path, rows):
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)


def wav(path, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(sound(**options))


def switchboard_files(folder):
    wav(folder / "sw02001.wav", seconds=4.0, rate=8_000, channels=2)
    for side, lines in {
        "A": [
            "sw2001A-ms98-a-0001 0.000000 1.500000 [silence]",
            "sw2001A-ms98-a-0002 1.5 2.5 hi um yeah i'd wor[d]- like",
        ],
        "B": ["sw2001B-ms98-a-0001 0.5 1.25 [laughter-well] okay [noise]"],
    }.items():
        path = folder / "swb_ms98_transcriptions" / "20" / "2001" / f"sw2001{side}-ms98-a-trans.text"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("\n".join(lines) + "\n")


def iemocap_files(folder):
    for session in (1, 5):
        dialog = f"Ses0{session}F_impro01"
        lines = ["% [START_TIME - END_TIME] TURN_NAME EMOTION [V, A, D]", ""]
        for index, emotion in enumerate(["neu", "exc", "xxx", "fru", "ang"]):
            lines.append(f"[6.2901 - 8.2357]\t{dialog}_F00{index}\t{emotion}\t[2.5000, 2.5000, 2.5000]")
            wav(folder / f"Session{session}/sentences/wav/{dialog}/{dialog}_F00{index}.wav", seed=index)
        path = folder / f"Session{session}/dialog/EmoEvaluation/{dialog}.txt"
        path.parent.mkdir(parents=True)
        path.write_text("\n".join(lines) + "\n")


def librisqa_files(folder):
    spoken = "/data/LibriSpeech/train-clean-360/14/208/14-208-0001.wav"
    wav(folder / "LibriSpeech/train-clean-360/14/208/14-208-0001.wav")
    one = {
        "speech_path": spoken,
        "question": "Who came?",
        "answer": "The miller.",
        "text": "THE MILLER CAME",
        "duration": 1.2,
    }
    (folder / "LibriSQA-PartI-train.json").write_text(json.dumps([one]))
    two = {"speech_path": spoken, "question_and_option": "Who came? A. The miller B. The king", "answer": "A",
           "answer_and_analysis": "A. The speaker names the miller."}  # fmt: skip
    (folder / "LibriSQA-PartII-train.json").write_text("\n".join(json.dumps(two) for _ in range(6)))


def clotho_files(folder):
    captions = {f"caption_{i}": f"rain number {i}" for i in range(1, 6)}
    table(folder / "clotho_captions_development.csv", [{"file_name": "Rain 1.wav", **captions}])
    wav(folder / "development" / "Rain 1.wav", rate=44_100)
    wav(folder / "audio_files" / "Rain 1.wav", rate=44_100)
    said = [("Is it raining?", "yes"), ("Is it raining?", "Yes"), ("Is it raining?", "no"),
            ("How many?", "one"), ("How many?", "two"), ("How many?", "three")]  # fmt: skip
    table(
        folder / "clotho_aqa_train.csv",
        [{"file_name": "Rain 1.wav", "QuestionText": q, "answer": a, "confidence": "yes"} for q, a in said],
    )


def meld_files(folder):
    row = {"Sr No.": 1, "Utterance": "also I was", "Speaker": "Chandler", "Sentiment": "neutral", "Season": 8, "Episode": 21,
           "StartTime": "00:16:16,059", "EndTime": "00:16:21,731"}  # fmt: skip
    rows = [
        row | {"Dialogue_ID": 0, "Utterance_ID": u, "Emotion": e} for u, e in enumerate(["neutral", "joy", "anger"])
    ]
    table(folder / "train_sent_emo.csv", rows)
    for utterance in (0, 1):  # the third clip has no sound
        wav(folder / "train_splits" / f"dia0_utt{utterance}.wav")


def musicbench_files(folder):
    row = {"location": "data_aug2/a.wav", "main_caption": "A calm piano piece", "alt_caption": "Slow piano", "prompt_aug": "",
           "prompt_ch": "The chords are C, G.", "prompt_bt": "", "prompt_bpm": "The tempo is 90 bpm.", "prompt_key": "",
           "beats": [[0.1], [1.0]], "bpm": 90.0, "chords": ["C"], "chords_time": [0.1], "key": ["C", "major"],
           "keyprob": [0.7], "is_audioset_train": True}  # fmt: skip
    wav(folder / "datashare/data_aug2/a.wav")
    (folder / "MusicBench_train.json").write_text("".join(json.dumps(row) + "\n" for _ in range(12)))


def audiocaps_qa_files(folder):
    table(folder / "train.csv", [{"file_name": "a.wav", "question": "What falls?", "answer": "Rain"}])
    wav(folder / "a.wav")


def asterisk_files(folder):
    for name in ("activated", "digits/1", "beep", "silence/3", "join"):
        wav(folder / f"{name}.wav")
    lines = [
        "; Core sounds",
        "",
        "activated: Activated.",
        "digits/1:  one",
        "beep: [this is a tone]",
        "gone: Gone.",
        "silence/3: (3 seconds of silence)",
        "join: <beep ascending>",
    ]
    (folder / "core-sounds-en.txt.gz").write_bytes(gzip.compress("\n".join(lines).encode()))


def tuxpaint_files(folder):
    for name in ("animals/dog", "animals/dog_desc", "animals/dog_desc_fr", "household/saw", "symbols/math/0"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / f"{name}.ogg").write_bytes(sound(form="OGG"))
    (folder / "animals/dog.txt").write_text("A dog. It barks.\nfr.utf8=Un chien.\n")
    (folder / "symbols/math/0.txt").write_text("Zero\n")  # spoken, and no sound of a thing


FILES = {
    "asterisk_prompts": asterisk_files, "tuxpaint_stamps": tuxpaint_files,
    "switchboard": switchboard_files, "iemocap": iemocap_files, "iemocap_qa": iemocap_files, "librisqa": librisqa_files,
    "librisqa_choice": librisqa_files, "clotho": clotho_files, "clotho_aqa": clotho_files, "meld": meld_files,
    "musicbench": musicbench_files, "audiocaps_qa": audiocaps_qa_files,
}  # fmt: skip


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
