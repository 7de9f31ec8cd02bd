"""Questions about recordings that ship here or that packages of the system hold; pocket was trained on none of them."""

from __future__ import annotations

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
SHIPPED = Path(__file__).parent / "heard"
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
    Recording("drum", SHIPPED / "drum_heavy_kick.flac", "What makes this sound?", "A bass drum."),
    Recording("tabla", SHIPPED / "tabla_na_o.flac", "What makes this sound?", "A tabla."),
    Recording("drum loop", SAMPLES / "loop_mehackit2.flac", "What makes this sound?", "A drum loop."),
    Recording(
        "novel, read aloud", SHIPPED / "sense_and_sensibility_0880.flac", TRANSCRIBE,
        "he was not an ill disposed young man",
    ),
    Recording(
        "novel, read aloud", SHIPPED / "sense_and_sensibility_0930.flac", TRANSCRIBE,
        "he might even have been made amiable himself",
    ),
)  # fmt: skip
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
    """Recordings that ship or are installed, a synthesised voice, notes of a soundfont: all that can be played here."""
    return [*(each for each in FILES if Path(str(each.audio)).is_file()), *_synthesised(), *_notes()]


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
