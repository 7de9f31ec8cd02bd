"""Small copies of every corpus: rows of the hub and files, in their documented schemas."""

import csv
import gzip
import io
import json

import datasets
import numpy as np
import soundfile


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
