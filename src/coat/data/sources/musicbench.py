"""MusicBench: music with captions about tempo, key and chords (Mustango)."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

from coat.data.sources.base import Asked, Corpus, Record, choose, wanted
from coat.data.sources.prompts import MUSIC
from coat.data.sources.text import sentence


class MusicBench(Corpus):
    """Ten seconds of music; a description, or one of tempo, key and chords where they are known."""

    name = "musicbench"
    title = "music of 10 s with descriptions, tempo, key, chords"
    group = "music"
    licence = "CC BY-SA 3.0"
    access = "Fetch huggingface.co/datasets/amaai-lab/MusicBench, and unpack MusicBench.tar.gz."
    files = "MusicBench_train.json and the folders that the archive holds"

    def read(self, folder: Path) -> Iterator[Record]:
        """Rows of the table."""
        with wanted(folder, "MusicBench_train.json", self).open() as file:
            for line in file:
                if line.strip():
                    row = json.loads(line)
                    yield row | {"audio": str(self._sound(folder, row["location"]))}

    def _sound(self, folder: Path, location: str) -> Path:
        """Archives differ in the folder at their top."""
        places = [folder / location, folder / "datashare" / location]
        return next((place for place in places if place.is_file()), places[0])

    def asked(self, record: Record, rng: np.random.Generator) -> Iterable[Asked]:
        """See :meth:`Corpus.asked`."""
        told = [
            (question, sentence(record[column]))
            for column, question in (
                ("prompt_bpm", "What is the tempo of this music?"),
                ("prompt_key", "Which key is this music in?"),
                ("prompt_ch", "Which chords are played?"),
                ("prompt_bt", "What is the meter?"),
            )
            if str(record.get(column) or "").strip()
        ]
        if told and rng.random() < 0.25:
            question, answer = told[int(rng.integers(len(told)))]
            yield Asked(question, answer, "music_theory")
        else:
            caption = (
                record["main_caption"] if rng.random() < 0.5 else record.get("alt_caption") or record["main_caption"]
            )
            yield Asked(choose(rng, MUSIC), sentence(caption), "music_description")
