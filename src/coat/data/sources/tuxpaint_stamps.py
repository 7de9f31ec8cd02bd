"""Tux Paint's stamps: things that children stamp into pictures, with their sounds and spoken names."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

from coat.data.sources.base import Asked, Corpus, Record, choose
from coat.data.sources.prompts import TRANSCRIBE
from coat.errors import CoatError

SOUND = (
    "What makes this sound?",
    "What is heard?",
    "Name the source of the sound.",
)
SPOKEN, MADE = "spoken", "made"
# Elsewhere (letters, digits, signs, festivals) a stamp's sound is music or speech that its name does not say.
SOUNDING = ("animals", "hobbies", "household", "naturalforces", "vehicles")


class TuxpaintStamps(Corpus):
    """Spoken English names by volunteers, and the sounds of animals, vehicles, tools and instruments."""

    name = "tuxpaint_stamps"
    title = "sounds and spoken names of things"
    group = "audio_qa"
    licence = "GPL-2.0 and others, see the package's copyright file"
    access = "apt-get install tuxpaint-stamps-default."
    files = "NAME.ogg (the sound), NAME_desc.ogg (the name, spoken) and NAME.txt (the name, written)"
    installed = "/usr/share/tuxpaint/stamps"

    def read(self, folder: Path) -> Iterator[Record]:
        """Spoken names, and sounds of animals, tools, instruments, weather and vehicles, each with a written name.

        Names in other languages (``NAME_desc_fr.ogg``) and sounds of letters, digits and signs are left out.
        """
        found = sorted(folder.rglob("*.ogg"))
        if not found:
            raise CoatError(f"{folder} holds no .ogg files.", f"It needs {self.files}. {self.access}")
        for path in found:
            stem = path.stem.removesuffix("_desc")
            text = path.with_name(f"{stem}.txt")
            if not text.is_file():
                continue
            name = text.read_text(encoding="utf-8", errors="replace").partition("\n")[0].strip()
            key = path.relative_to(folder).with_suffix("").as_posix()
            kind = SPOKEN if path.stem.endswith("_desc") else MADE
            if kind == MADE and key.partition("/")[0] not in SOUNDING:
                continue
            yield {"id": key, "text": name, "kind": kind, "audio": {"path": str(path)}}

    def key(self, record: Record, place: int) -> str:
        """The file's path in the package."""
        return str(record["id"])

    def asked(self, record: Record, rng: np.random.Generator) -> Iterable[Asked]:
        """See :meth:`Corpus.asked`."""
        if not record["text"]:
            return
        if record["kind"] == SPOKEN:
            yield Asked(choose(rng, TRANSCRIBE), record["text"], "transcription")
        else:
            thing = record["text"].partition(".")[0]
            yield Asked(choose(rng, SOUND), thing[:1].lower() + thing[1:], "sound")
