"""Any data set of the hub, or one that ``datasets`` has saved: an Audio column, and questions and answers."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from coat.data.formats import canonical
from coat.data.sources.base import AUDIO_COLUMNS, Asked, Corpus, Record
from coat.errors import CoatError

PREFIX = "hub:"


class Anything(Corpus):
    """A data set whose columns are named as others name them.

    Args:
        place: ``hub:OWNER/NAME``, or ``hub:OWNER/NAME/CONFIG``.
        splits: Which to take.
        question: Asked where a row has none, as transcripts have.
    """

    title = "a data set of the hub"
    group = ""
    licence = "see its card"
    language = ""

    def __init__(self, place: str, splits: tuple[str, ...] = ("train",), question: str = "") -> None:
        owner, *rest = place.removeprefix(PREFIX).split("/", 2)
        if not owner or not rest:
            raise CoatError(f"{place} names no data set.", "For example: hub:AudioLLMs/meld_emotion_test")
        self.hub_id = f"{owner}/{rest[0]}"  # type: ignore[misc]
        self.config = rest[1] if len(rest) > 1 else None  # type: ignore[misc]
        self.name = rest[0].lower()  # type: ignore[misc]
        self.splits, self.question = splits, question  # type: ignore[misc]

    def audio(self, record: Record) -> Any:
        """The Audio column's; None for text alone."""
        return next((record[name] for name in AUDIO_COLUMNS if record.get(name)), None)

    def key(self, record: Record, place: int) -> str:
        """Its own id, if it has one."""
        return str(record.get("id") or super().key(record, place))

    def asked(self, record: Record, rng: np.random.Generator) -> Iterable[Asked]:
        """See :meth:`Corpus.asked`."""
        del rng
        plain = {name: value for name, value in record.items() if name not in AUDIO_COLUMNS and value is not None}
        clips = ["clip"] if self.audio(record) else []
        try:
            row = canonical(plain | {"audios": clips})
        except ValueError as error:
            raise CoatError(
                f"A row of {self.hub_id} cannot be understood: {error}. It has {', '.join(sorted(record))}.",
                "Write a manifest of your own: docs/data.md shows the format.",
            ) from None
        messages = [dict(message) for message in row["messages"]]
        if messages[0]["content"] in ("", "<audio>") and self.question:
            messages[0]["content"] += self.question
        choices = record.get("choices")
        yield Asked("", "", str(record.get("task") or self.name), tuple(choices) if isinstance(choices, list) else (),
                    tuple(messages))  # fmt: skip
