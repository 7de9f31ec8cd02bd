"""MELD: dialogues of Friends with emotions."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

from coat.data.sources.base import Asked, Corpus, Record, choose, multiple_choice, wanted
from coat.data.sources.prompts import EMOTION

EMOTIONS = ("neutral", "joy", "sadness", "anger", "surprise", "fear", "disgust")


class Meld(Corpus):
    """Emotion of an utterance of the television series, seven classes, as a choice."""

    name = "meld"
    title = "dialogues of Friends, emotion of an utterance"
    group = "choice"
    licence = "GPL-3.0 (annotations); the audio is the series'"
    access = "Fetch MELD.Raw.tar.gz (github.com/declare-lab/MELD), and take the sound out of the videos with ffmpeg."
    files = "train_sent_emo.csv and train_splits/dia{D}_utt{U}.wav"

    def read(self, folder: Path) -> Iterator[Record]:
        """Rows of the table whose clip is there: one of the training clips has no sound."""
        with wanted(folder, "train_sent_emo.csv", self).open(newline="", encoding="utf-8", errors="replace") as file:
            for row in csv.DictReader(file):
                name = f"dia{row['Dialogue_ID']}_utt{row['Utterance_ID']}"
                if (sound := wanted(folder, "train_splits", self) / f"{name}.wav").is_file():
                    yield {"id": name, "emotion": row["Emotion"].strip().lower(), "audio": str(sound)}

    def key(self, record: Record, place: int) -> str:
        """The dialogue's and the utterance's number."""
        return str(record["id"])

    def asked(self, record: Record, rng: np.random.Generator) -> Iterable[Asked]:
        """See :meth:`Corpus.asked`."""
        yield multiple_choice(choose(rng, EMOTION), EMOTIONS, record["emotion"], "emotion", rng)
