"""LibriSQA: questions about LibriSpeech utterances, free and with options."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from coat.data.sources.base import Asked, Corpus, Record, choose, wanted
from coat.data.sources.text import squeezed

_OPTION = re.compile(r"\b[A-H][.):]\s*(.+?)(?=\s*\b[A-H][.):]|$)", re.DOTALL)


def _records(folder: Path, name: str, corpus: Corpus) -> Iterator[Record]:
    """Rows of a JSON array or of JSON Lines, with the recording that they name."""
    text = wanted(folder, name, corpus).read_text()
    rows: list[dict[str, Any]] = (
        json.loads(text) if text.lstrip().startswith("[") else [json.loads(line) for line in text.splitlines() if line]
    )
    for row in rows:
        spoken = row["speech_path"]
        yield row | {
            "audio": str(folder / "LibriSpeech" / spoken[spoken.find("train-") if "train-" in spoken else 0 :])
        }


class LibriSQA(Corpus):
    """Part I: questions with free answers, about train-clean-360."""

    name = "librisqa"
    title = "questions about LibriSpeech, free answers"
    group = "qa"
    licence = "not stated; audio CC BY 4.0"
    access = "Fetch huggingface.co/datasets/ZihanZhao/LibriSQA, and LibriSpeech train-clean-360 from openslr.org/12."
    files = "LibriSQA-PartI-train.json and the folder LibriSpeech/"

    def read(self, folder: Path) -> Iterator[Record]:
        """Part I."""
        return _records(folder, "LibriSQA-PartI-train.json", self)

    def asked(self, record: Record, rng: np.random.Generator) -> Iterable[Asked]:
        """See :meth:`Corpus.asked`."""
        del rng
        yield Asked(squeezed(record["question"]), squeezed(record["answer"]), "question_answering")


class LibriSQAChoice(Corpus):
    """Part II: questions with options, answered by a letter with or without the reason."""

    name = "librisqa_choice"
    title = "questions about LibriSpeech, with options"
    group = "choice"
    licence = "not stated; audio CC BY 4.0"
    access = LibriSQA.access
    files = "LibriSQA-PartII-train.json and the folder LibriSpeech/"

    def read(self, folder: Path) -> Iterator[Record]:
        """Part II."""
        return _records(folder, "LibriSQA-PartII-train.json", self)

    def asked(self, record: Record, rng: np.random.Generator) -> Iterable[Asked]:
        """See :meth:`Corpus.asked`."""
        question, letter = record["question_and_option"].strip(), squeezed(record["answer"])
        options = tuple(map(squeezed, _OPTION.findall(question)))
        reason = squeezed(record.get("answer_and_analysis") or "")
        if reason and rng.random() < 0.5:
            hint = choose(rng, ("\nAnswer, and say why.", "\nGive your reason."))
            yield Asked(question + hint, reason, "choice", options)
        else:
            hint = choose(rng, ("\nAnswer with the option's letter.", "\nWhich letter is right?"))
            yield Asked(question + hint, letter, "choice", options)
