"""Switchboard-1: telephone conversations."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

from coat.data.sources.base import Asked, Corpus, Record, choose
from coat.data.sources.prompts import TRANSCRIBE
from coat.data.sources.text import switchboard
from coat.errors import CoatError


class Switchboard(Corpus):
    """Telephone conversations, 260 hours, two channels at 8 kHz; ISIP's transcripts."""

    name = "switchboard"
    title = "telephone conversations, 260 h"
    group = "asr"
    licence = "LDC user agreement; not to be passed on"
    access = "Buy LDC97S62 from the LDC, and fetch ISIP's swb_ms98_transcriptions."
    files = "sw0XXXX.wav (one a conversation, two channels) and swb_ms98_transcriptions"

    def read(self, folder: Path) -> Iterator[Record]:
        """Turns of every ``*-ms98-a-trans.text``; side A is the left channel."""
        transcripts = sorted(folder.rglob("sw*-ms98-a-trans.text"))
        if not transcripts:
            raise CoatError(f"{folder} holds no sw*-ms98-a-trans.text.", f"It needs {self.files}. {self.access}")
        recordings = {path.stem.lower().replace("sw0", "sw"): path for path in folder.rglob("sw*.wav")}
        for path in transcripts:
            call, side = path.name[:6], path.name[6]
            if call not in recordings:
                raise CoatError(
                    f"There is no recording of {call} in {folder}.",
                    f"Convert it: sox sw0{call[2:]}.sph sw0{call[2:]}.wav",
                )
            for line in path.read_text().splitlines():
                segment, start, end, *words = line.split(maxsplit=3)
                yield {
                    "id": segment,
                    "text": words[0] if words else "",
                    "audio": {
                        "path": str(recordings[call]),
                        "start": float(start),
                        "end": float(end),
                        "channel": "AB".index(side),
                    },
                }

    def key(self, record: Record, place: int) -> str:
        """The segment's own."""
        return str(record["id"])

    def asked(self, record: Record, rng: np.random.Generator) -> Iterable[Asked]:
        """See :meth:`Corpus.asked`; turns of silence, laughter and noise alone are no speech."""
        if answer := switchboard(record["text"]):
            yield Asked(choose(rng, TRANSCRIBE), answer, "transcription")
