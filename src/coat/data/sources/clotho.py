"""Clotho: sounds from Freesound, five captions each; ClothoAQA: questions about them."""

from __future__ import annotations

import csv
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

from coat.data.sources.base import Asked, Corpus, Record, choose, wanted
from coat.data.sources.prompts import CAPTION
from coat.data.sources.text import sentence, squeezed

CAPTIONS = 5


class Clotho(Corpus):
    """Freesound clips of 15 to 30 s; each of the five captions is a row."""

    name = "clotho"
    title = "Freesound clips of 15 to 30 s, five captions each"
    group = "captioning"
    licence = "Creative Commons licences of the clips; captions non-commercial (Tampere University)"
    access = "Fetch Clotho 2.1 from zenodo.org/records/4783391 and unpack it."
    files = "clotho_captions_development.csv and the folder development/"

    def read(self, folder: Path) -> Iterator[Record]:
        """Rows of the development split, one a caption."""
        with wanted(folder, "clotho_captions_development.csv", self).open(newline="") as file:
            for row in csv.DictReader(file):
                for index in range(1, CAPTIONS + 1):
                    if row.get(f"caption_{index}"):
                        yield {
                            "id": f"{Path(row['file_name']).stem}-{index}",
                            "audio": str(folder / "development" / row["file_name"]),
                            "caption": row[f"caption_{index}"],
                        }

    def key(self, record: Record, place: int) -> str:
        """The clip's name and the caption's number."""
        return str(record["id"])

    def asked(self, record: Record, rng: np.random.Generator) -> Iterable[Asked]:
        """See :meth:`Corpus.asked`."""
        yield Asked(choose(rng, CAPTION), sentence(record["caption"]), "captioning")


class ClothoAQA(Corpus):
    """Questions about Clotho clips, answered in one word by three people; what two of them say is the answer."""

    name = "clotho_aqa"
    title = "questions about Clotho clips, answers of one word"
    group = "qa"
    licence = "Creative Commons licences of the clips"
    access = "Fetch ClothoAQA from zenodo.org/records/6473207 and unpack it."
    files = "clotho_aqa_train.csv and the folder audio_files/"

    def read(self, folder: Path) -> Iterator[Record]:
        """Questions whose annotators agree."""
        answers: dict[tuple[str, str], list[str]] = defaultdict(list)
        with wanted(folder, "clotho_aqa_train.csv", self).open(newline="") as file:
            for row in csv.DictReader(file):
                answers[row["file_name"], squeezed(row["QuestionText"])].append(squeezed(row["answer"]).lower())
        for (name, question), said in answers.items():
            answer, times = Counter(said).most_common(1)[0]
            if times >= min(2, len(said)):
                yield {"audio": str(folder / "audio_files" / name), "question": question, "answer": answer}

    def asked(self, record: Record, rng: np.random.Generator) -> Iterable[Asked]:
        """See :meth:`Corpus.asked`."""
        hint = choose(rng, (" Answer with a single word.", "\nAnswer in one word.", " One word, please."))
        yield Asked(record["question"] + hint, record["answer"], "question_answering")
