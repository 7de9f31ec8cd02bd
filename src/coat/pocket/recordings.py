"""Questions about recordings that packages of the system hold, none of which pocket was trained on."""

from __future__ import annotations

import re
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from shutil import which

import numpy as np

from coat.api.model import CoatModel
from coat.audio import Clip, load_audio
from coat.data.sources import prompts
from coat.data.sources.asterisk_prompts import AsteriskPrompts
from coat.data.sources.tuxpaint_stamps import TuxpaintStamps
from coat.errors import CoatError
from coat.reports.page import Table

TRANSCRIBE = prompts.TRANSCRIBE[0]
ASTERISK = Path(AsteriskPrompts.installed)
LIBRIVOX = Path("/usr/share/pocketsphinx/test/data/librivox")
STAMPS = Path(TuxpaintStamps.installed) / "animals"
SAMPLES = Path("/usr/share/sonic-pi/samples")
NOTE_SECONDS, SAMPLING_RATE = 2.0, 16_000


@dataclass(frozen=True)
class Recording:
    """A clip, a question about it, and the right answer.

    Attributes:
        title: A few words on its origin.
        audio: A file, or a clip that was made for the purpose.
        question: The question.
        reference: The right answer.
    """

    title: str
    audio: Path | Clip
    question: str
    reference: str


# experiments/pocket/lessons.py holds these out.
FILES = (
    Recording("telephone prompt", ASTERISK / "vm-leavemsg.wav", TRANSCRIBE, "Press 5 to leave a message"),
    Recording("telephone prompt", ASTERISK / "conf-lockednow.wav", TRANSCRIBE, "The conference is now locked"),
    Recording("volunteer", STAMPS / "insects/grasshopper_desc.ogg", TRANSCRIBE, "A grasshopper."),
    Recording("volunteer", STAMPS / "mammals/bears/bear_desc.ogg", TRANSCRIBE, "A bear."),
    Recording("drum", SAMPLES / "drum_heavy_kick.flac", "What makes this sound?", "A bass drum."),
    Recording("tabla", SAMPLES / "tabla_na_o.flac", "What makes this sound?", "A tabla."),
    Recording("drum loop", SAMPLES / "loop_mehackit2.flac", "What makes this sound?", "A drum loop."),
)
SENTENCE = "The children are playing in the garden."
MAX_NEW_TOKENS = 40
NOTES = ((0, 60, "A piano."), (40, 69, "A violin."), (73, 76, "A flute."))


@dataclass(frozen=True)
class Heard:
    """An answer, and the seconds that it took from the file to the last token."""

    recording: Recording
    answer: str
    seconds: float


def ask(model: CoatModel, asked: Sequence[Recording]) -> Iterator[Heard]:
    """Ask about recordings, one after another."""
    for recording in asked:
        begun = time.perf_counter()
        audio = recording.audio if isinstance(recording.audio, Clip) else str(recording.audio)
        answer = model.chat(audio, recording.question, max_new_tokens=MAX_NEW_TOKENS)
        yield Heard(recording, answer, time.perf_counter() - begun)


def table_of(heard: Sequence[Heard]) -> Table:
    """A row for each answer, with the question, the reference and the time."""
    rows = [
        [each.recording.title, each.recording.question, each.recording.reference, each.answer, f"{each.seconds:.1f}"]
        for each in heard
    ]
    return Table(["recording", "question", "reference", "answer", "seconds"], rows)


def recordings() -> list[Recording]:
    """Recordings of installed packages, a synthesised voice, notes of a soundfont: all that this machine can play."""
    return [*(each for each in FILES if Path(str(each.audio)).is_file()), *_read_aloud(), *_synthesised(), *_notes()]


def _read_aloud() -> Iterator[Recording]:
    """Two short sentences of a novel (``pocketsphinx-testdata``); the others are longer than pocket has heard."""
    texts = LIBRIVOX / "transcription"
    if not texts.is_file():
        return
    for line in texts.read_text().splitlines():
        found = re.fullmatch(r"<s> (.+) </s> \((.+)\)", line.strip())
        if found and len(found[1].split()) < 10:
            yield Recording("novel, read aloud", LIBRIVOX / f"{found[2]}.wav", TRANSCRIBE, found[1])


def _synthesised() -> Iterator[Recording]:
    """A voice that no training clip has."""
    if which("espeak-ng"):
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "said.wav"
            subprocess.run(["espeak-ng", "-v", "en-gb", "-s", "140", "-w", str(path), SENTENCE], check=True)
            yield Recording("espeak-ng", load_audio(path), TRANSCRIBE, SENTENCE)


def _notes() -> Iterator[Recording]:
    """Single notes; pocket has heard the instruments from another soundfont."""
    from coat.synthetic.music import Passage, find_soundfont, play

    try:
        soundfont = find_soundfont()
    except CoatError:
        return
    if not which("fluidsynth"):
        return
    passages = [Passage(program, (note,), 100, 1.2, strikes=1) for program, note, _ in NOTES]
    for (_, _, name), samples in zip(NOTES, play(passages, soundfont), strict=True):
        clip = Clip(samples[: round(NOTE_SECONDS * SAMPLING_RATE)].astype(np.float32), SAMPLING_RATE)
        yield Recording("note of a soundfont", clip, "Which instrument is played?", name)
