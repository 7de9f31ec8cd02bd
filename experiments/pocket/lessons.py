"""Manifests from which pocket learns to hear, made from installed packages and a seed.

    python -m experiments.pocket.lessons --out runs/pocket

Speech by flite's voices (with the times of its words, for ``align``), a telephone exchange's prompts by a human voice,
sounds of things, notes of real instruments, and questions in text whose answers are the language model's own.
Held out: sentences, prompts, recordings; notes of the held-out split are another soundfont's.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import random
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import soundfile
import typer

from coat import CoatModel
from coat.data.sources.asterisk_prompts import AsteriskPrompts
from coat.data.sources.prompts import TRANSCRIBE
from coat.data.sources.tuxpaint_stamps import MADE, SOUND, SPOKEN, TuxpaintStamps
from coat.errors import CoatError
from coat.pocket.recordings import FILES
from coat.synthetic.music import Passage, play
from experiments.pocket.voices import SAMPLING_RATE, VOICES, Flite, timed

WORDNET = Path("/usr/share/wordnet")
SOUNDFONTS = {"train": Path("/usr/share/sounds/sf2/FluidR3_GM.sf2"), "dev": Path("/usr/share/sounds/sf2/TimGM6mb.sf2")}
SONIC_PI = Path("/usr/share/sonic-pi/samples")
MIN_SECONDS, MAX_SECONDS = 0.5, 6.0
NOTE_SECONDS = 2.0

# Clips of each kind: for learning, and held out.
SPEECH, SPEECH_HELD_OUT = 6000, 60
# Sentences for answers alone: the others are enough for ``align``.
SPEECH_MORE = 6000
PROMPTS_HELD_OUT, NAMES_HELD_OUT = 60, 16
NOTES = {"train": 1200, "dev": 60}
# How often the few recordings of human voices and of things are shown.
HUMAN_TIMES, SOUND_TIMES = 4, 4

TEXTS, TEXT_TOKENS, TEXT_BATCH = 3600, 48, 32
TEXT_FORMS = [
    "What is a {noun}?", "Write a sentence with the word {noun}.", "Tell me something about the word {noun}.",
    "What does a {noun} have to do with people?", "Where would you find a {noun}?", "Is a {noun} a thing or a person?",
    "What is a {noun} made of?", "How many parts does a {noun} have?", "What is the opposite of a {noun}?",
    "Who uses a {noun}, and what for?", "Which colour is a {noun}?", "Name something that is like a {noun}.",
]  # fmt: skip

INSTRUMENTS = {
    0: "a piano", 6: "a harpsichord", 10: "a music box", 11: "a vibraphone", 13: "a xylophone", 19: "a church organ",
    21: "an accordion", 24: "an acoustic guitar", 30: "an electric guitar", 33: "a bass guitar", 40: "a violin",
    42: "a cello", 46: "a harp", 52: "a choir", 56: "a trumpet", 57: "a trombone", 65: "a saxophone", 68: "an oboe",
    71: "a clarinet", 73: "a flute", 104: "a sitar", 105: "a banjo", 114: "steel drums",
}  # fmt: skip
INSTRUMENT = ("Which instrument is played?", "What instrument is this?", "Name the instrument.")
SPEAKER = ("Is the speaker a man or a woman?", "Who is speaking, a man or a woman?")
KIND = ("Is this speech, music or another sound?", "What kind of audio is this: speech, music, or another sound?")
DRUMS = (
    (r"bd_|drum_heavy_kick|elec_(hollow|soft)_kick", "a bass drum"), (r"sn_|drum_snare|elec_.*snare", "a snare drum"),
    (r"drum_(cymbal|splash)|elec_cymbal", "a cymbal"), (r"drum_tom|elec_fuzz_tom", "a tom drum"),
    (r"tabla_", "a tabla"),
    (r"loop_(amen|breakbeat|compus|garzul|industrial|mehackit|mika|perc|safari|tabla)", "a drum loop"),
    (r"guit_", "an electric guitar"), (r"bass_", "a synthesiser bass"), (r"vinyl_", "a record player"),
    (r"perc_bell|elec_bell|elec_chime|elec_triangle", "a bell"), (r"drum_cowbell", "a cowbell"),
    (r"perc_door", "a door"), (r"misc_crow", "a crow"), (r"misc_burp", "a burp"), (r"ambi_piano", "a piano"),
    (r"mehackit_robot|glitch_robot", "a robot"), (r"perc_snap", "fingers that snap"), (r"perc_till", "a cash register"),
)  # fmt: skip

ASKED_ABOUT = {str(recording.audio) for recording in FILES}

Row = dict[str, Any]


def main(given: Sequence[str] | None = None) -> None:
    """Write ``train.jsonl``, ``dev.jsonl``, ``align.jsonl`` and the clips."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/pocket"))
    parser.add_argument("--parts", type=Path, default=Path("runs/pocket/parts"), help="Pocket without hearing.")
    parser.add_argument("--workers", type=int, default=2)
    arguments = parser.parse_args(given)
    out = arguments.out.resolve()
    (out / "clips").mkdir(parents=True, exist_ok=True)
    rng = random.Random(0)
    rows: dict[str, list[Row]] = {"train": [], "dev": []}
    spoken = speak(out, arguments.workers)
    (out / "align.jsonl").write_text("".join(json.dumps(c) + "\n" for c in spoken if c["place"] < SPEECH))
    first = [clip for clip in spoken if clip["place"] < SPEECH + SPEECH_HELD_OUT]
    for part in (
        speech(first, rng), recordings(rng), notes(out, rng), text(rng, arguments.parts),
        speech(spoken[len(first) :], rng),
    ):  # fmt: skip
        for split, made in part.items():
            rows[split] += made
    for split, made in rows.items():
        rng.shuffle(made)
        lines = [json.dumps({"id": f"{split}-{i:05d}", **row}, ensure_ascii=False) for i, row in enumerate(made)]
        (out / f"{split}.jsonl").write_text("\n".join(lines) + "\n")
        typer.echo(f"{split}: {len(made)} rows")


def sentences() -> list[str]:
    """Example sentences of WordNet with three to nine words, in an order of their own."""
    found = set()
    for part in ("noun", "verb", "adj", "adv"):
        path = WORDNET / f"data.{part}"
        if not path.is_file():
            raise CoatError(f"There is no {path}.", "apt-get install wordnet-base")
        for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
            for quoted in re.findall(r'"([^"]+)"', line.partition("| ")[2]):
                sentence = quoted.strip()
                if re.fullmatch(r"[A-Za-z][A-Za-z' ,-]+[?!.]?", sentence) and 3 <= len(sentence.split()) <= 9:
                    found.add(sentence)
    ordered = sorted(found)
    random.Random(0).shuffle(ordered)
    return ordered


def written(sentence: str) -> str:
    """A sentence with a capital and an end."""
    return sentence[0].upper() + sentence[1:] + ("" if sentence[-1] in ".?!" else ".")


def speak(out: Path, workers: int) -> list[Row]:
    """Clips of sentences by flite's voices, with their words' times, in the order of the sentences."""
    first = SPEECH + SPEECH_HELD_OUT
    wanted = list(enumerate(sentences()[: first + SPEECH_MORE]))
    parts = [(out, part[start::8], start) for part in (wanted[:first], wanted[first:]) for start in range(8)]
    with multiprocessing.get_context("spawn").Pool(workers) as pool:
        return sorted((clip for part in pool.starmap(_speak, parts) for clip in part), key=lambda clip: clip["place"])


def speech(spoken: Sequence[Row], rng: random.Random) -> dict[str, list[Row]]:
    """Transcription and the speaker's sex."""
    held_out = range(SPEECH, SPEECH + SPEECH_HELD_OUT)
    rows: dict[str, list[Row]] = {"train": [], "dev": []}
    for clip in spoken:
        split = "dev" if clip["place"] in held_out else "train"
        rows[split].append(row(clip["path"], rng.choice(TRANSCRIBE), written(clip["text"]), "transcription"))
        if clip["place"] % 12 == 0:
            answer = "A woman." if clip["voice"] == "us_slt" else "A man."
            rows[split].append(row(clip["path"], rng.choice(SPEAKER), answer, "speaker"))
        if clip["place"] % 40 == 0:
            rows[split].append(row(clip["path"], rng.choice(KIND), "Speech.", "kind"))
    return rows


def _speak(out: Path, part: list[tuple[int, str]], seed: int) -> list[Row]:
    flite, rng, spoken = Flite(), random.Random(seed), []
    for place, sentence in part:
        voice, stretch = rng.choice(VOICES), rng.uniform(0.8, 1.2)
        samples, words = flite.say(sentence, voice, stretch)
        own = timed(sentence, words)
        if own is None or not MIN_SECONDS < len(samples) / SAMPLING_RATE < MAX_SECONDS:
            continue
        path = out / "clips" / f"speech-{place:05d}.flac"
        soundfile.write(path, samples, SAMPLING_RATE)
        times = [(word.text, word.begin, word.end) for word in own]
        spoken.append({"place": place, "path": str(path), "text": sentence, "voice": voice, "words": times})
    return spoken


def recordings(rng: random.Random) -> dict[str, list[Row]]:
    """A human voice's prompts, spoken names, and sounds of things."""
    prompts = [
        row(str(record["audio"]["path"]), rng.choice(TRANSCRIBE), record["text"], "transcription")
        for record in AsteriskPrompts().read(Path(AsteriskPrompts.installed))
        if record["text"] and _fits(record["audio"]["path"])
    ]
    stamps = [r for r in TuxpaintStamps().read(Path(TuxpaintStamps.installed)) if _fits(r["audio"]["path"])]
    names = [
        row(str(r["audio"]["path"]), rng.choice(TRANSCRIBE), r["text"], "transcription")
        for r in stamps
        if r["kind"] == SPOKEN
    ]
    sounds = [
        row(str(r["audio"]["path"]), rng.choice(SOUND), written(r["text"].partition(".")[0].split(" (")[0]), "sound")
        for r in stamps
        if r["kind"] == MADE
    ]
    drums = []
    for path in sorted(SONIC_PI.glob("*.flac")):
        answer = next((answer for pattern, answer in DRUMS if re.match(pattern, path.stem)), None)
        if answer and _fits(path):
            drums.append(row(str(path), rng.choice(SOUND), written(answer), "sound"))
    rows: dict[str, list[Row]] = {"train": [], "dev": []}
    for found, times, held_out in (
        (prompts, HUMAN_TIMES, PROMPTS_HELD_OUT),
        (names, HUMAN_TIMES, NAMES_HELD_OUT),
        (sounds, SOUND_TIMES, 0),
        (drums, SOUND_TIMES, len(drums) // 5),
    ):
        rng.shuffle(found)
        # What `coat pocket hear` asks about is held out first.
        found.sort(key=lambda each: each["audios"][0] not in ASKED_ABOUT)
        rows["dev"] += found[:held_out]
        rows["train"] += found[held_out:] * times
        if found in (sounds, drums):
            answer = "Another sound." if found is sounds else "Music."
            rows["train"] += [
                row(r["audios"][0], rng.choice(KIND), answer, "kind") for r in found[held_out :: 1 + (found is sounds)]
            ]
    return rows


def _fits(path: str | Path) -> bool:
    return MIN_SECONDS / 2 < soundfile.info(path).duration < MAX_SECONDS


def notes(out: Path, rng: random.Random) -> dict[str, list[Row]]:
    """Single notes of instruments, each split from a soundfont of its own."""
    rows: dict[str, list[Row]] = {}
    for split, count in NOTES.items():
        chosen = [
            Passage(
                rng.choice(list(INSTRUMENTS)), (rng.randint(45, 84),), rng.randint(70, 120), rng.uniform(0.6, 1.6), 1
            )
            for _ in range(count)
        ]
        rows[split] = []
        for place, (passage, music) in enumerate(zip(chosen, play(chosen, SOUNDFONTS[split]), strict=True)):
            path = out / "clips" / f"note-{split}-{place:04d}.flac"
            soundfile.write(path, music[: round(NOTE_SECONDS * SAMPLING_RATE)].clip(-1, 1), SAMPLING_RATE)
            rows[split].append(
                row(str(path), rng.choice(INSTRUMENT), written(INSTRUMENTS[passage.program]), "instrument")
            )
    return rows


def text(rng: random.Random, parts: Path) -> dict[str, list[Row]]:
    """Questions without sound and the language model's own answers to them, so that it keeps its English."""
    nouns = set()
    for line in (WORDNET / "data.noun").read_text(encoding="utf-8", errors="replace").splitlines():
        words = line.partition("| ")[0].split()
        if len(words) > 4 and words[3] == "01" and re.fullmatch("[a-z]{4,8}", words[4]):
            nouns.add(words[4])
    chosen = rng.sample(sorted(nouns), TEXTS)
    questions = [form.format(noun=noun) for noun, form in zip(chosen, TEXT_FORMS * TEXTS, strict=False)]
    model = CoatModel.from_pretrained(parts)
    rows = []
    for start in range(0, len(questions), TEXT_BATCH):
        batch = questions[start : start + TEXT_BATCH]
        asked = [[{"role": "user", "content": question}] for question in batch]
        answers = model.generate(asked, max_new_tokens=TEXT_TOKENS)
        for question, answer in zip(batch, answers, strict=True):
            whole = re.match(r".*[.!?](?=\s|$)", answer, re.DOTALL)  # to the end of its last whole sentence
            if whole:
                messages = [{"role": "user", "content": question}, {"role": "assistant", "content": whole[0].strip()}]
                rows.append({"messages": messages, "task": "text_only"})
    return {"train": rows, "dev": []}


def row(path: str, question: str, answer: str, task: str) -> Row:
    """One row of a manifest."""
    return {
        "audios": [path],
        "messages": [
            {"role": "user", "content": f"<audio>{question}"},
            {"role": "assistant", "content": answer},
        ],
        "task": task,
        "source": source_of(path),
    }


def source_of(path: str) -> str:
    """Who made a clip."""
    for folder, source in (
        (AsteriskPrompts.installed, AsteriskPrompts.name),
        (TuxpaintStamps.installed, TuxpaintStamps.name),
        (str(SONIC_PI), "sonic_pi"),
    ):
        if path.startswith(folder):
            return source
    return "flite" if Path(path).name.startswith("speech") else "soundfont"


if __name__ == "__main__":
    main()
