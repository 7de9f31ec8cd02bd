"""Asterisk's core sounds: the prompts of a telephone exchange, spoken by one person."""

from __future__ import annotations

import gzip
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

from coat.data.sources.base import Asked, Corpus, Record, choose
from coat.data.sources.prompts import TRANSCRIBE
from coat.errors import CoatError

TEXTS = "core-sounds-en.txt"
# Where Debian puts the transcripts, which it packs apart from the sounds.
DEBIAN_TEXTS = Path("/usr/share/doc/asterisk-core-sounds-en") / f"{TEXTS}.gz"

# "[this is a tone]", "<beep ascending>", "(3 seconds of silence)"
NO_WORDS = re.compile(r"\[|^[(<].*[)>]$")


class AsteriskPrompts(Corpus):
    """English prompts by a human voice, 25 minutes at 8 kHz, with their texts."""

    name = "asterisk_prompts"
    title = "telephone prompts by one voice, 25 min"
    group = "asr"
    licence = "CC BY-SA 3.0"
    access = "apt-get install asterisk-core-sounds-en asterisk-core-sounds-en-wav."
    files = f"the .wav files, and {TEXTS} (or .gz)"
    installed = "/usr/share/asterisk/sounds/en_US_f_Allison"

    def read(self, folder: Path) -> Iterator[Record]:
        """Prompts that say words; tones and silence have a description in brackets for a text."""
        if next(folder.rglob("*.wav"), None) is None:
            raise CoatError(f"{folder} holds no .wav files.", f"{self.name} needs {self.files}. {self.access}")
        for line in self._texts(folder).splitlines():
            name, colon, text = line.partition(":")
            path = folder / f"{name.strip()}.wav"
            text = " ".join(text.split())
            if colon and not name.startswith(";") and not NO_WORDS.search(text) and path.is_file():
                yield {"id": name.strip(), "text": text, "audio": {"path": str(path)}}

    def _texts(self, folder: Path) -> str:
        for path in (folder / TEXTS, folder / f"{TEXTS}.gz", DEBIAN_TEXTS):
            if path.is_file():
                content = path.read_bytes()
                return (gzip.decompress(content) if path.suffix == ".gz" else content).decode()
        raise CoatError(f"{folder} holds no {TEXTS}.", f"It needs {self.files}. {self.access}")

    def key(self, record: Record, place: int) -> str:
        """The prompt's own name."""
        return str(record["id"])

    def asked(self, record: Record, rng: np.random.Generator) -> Iterable[Asked]:
        """See :meth:`Corpus.asked`."""
        if record["text"]:
            yield Asked(choose(rng, TRANSCRIBE), record["text"], "transcription")
