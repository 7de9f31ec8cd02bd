"""AudioCaps: ten seconds of YouTube, captioned; and questions about them."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

from coat.data.sources.base import Asked, Corpus, Record, choose, pick, wanted
from coat.data.sources.prompts import CAPTION
from coat.data.sources.text import sentence


class AudioCaps(Corpus):
    """Ten-second clips from YouTube, a caption each."""

    name = "audiocaps"
    title = "YouTube clips of 10 s, captioned"
    group = "captioning"
    licence = "captions free for academic use; the audio is YouTube's"
    access = "The makers give the audio out on request; the hub holds a copy."
    hub_id = "jp1924/AudioCaps"

    def key(self, record: Record, place: int) -> str:
        """The caption's own."""
        return str(record.get("audiocap_id") or super().key(record, place))

    def asked(self, record: Record, rng: np.random.Generator) -> Iterable[Asked]:
        """See :meth:`Corpus.asked`."""
        yield Asked(choose(rng, CAPTION), sentence(pick(record, "caption", "answer")), "captioning")


class AudioCapsQA(Corpus):
    """Questions about AudioCaps clips. The paper does not say which set it used; any with these columns will do."""

    name = "audiocaps_qa"
    title = "questions about AudioCaps clips"
    group = "qa"
    licence = "as its makers say; audio as AudioCaps"
    access = "Published sets (AQUALLM, OpenAQA) come as tables beside AudioCaps' audio."
    files = "train.csv with file_name, question and answer, and the clips beside it"

    def read(self, folder: Path) -> Iterator[Record]:
        """Rows of ``train.csv``."""
        with wanted(folder, "train.csv", self).open(newline="") as file:
            for row in csv.DictReader(file):
                yield row | {"audio": str(folder / row["file_name"])}

    def asked(self, record: Record, rng: np.random.Generator) -> Iterable[Asked]:
        """See :meth:`Corpus.asked`."""
        yield Asked(pick(record, "question", "instruction"), sentence(pick(record, "answer")), "question_answering")
