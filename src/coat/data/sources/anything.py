"""Any data set of the hub, or one that ``datasets`` has saved: an Audio column, and questions and answers."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable
from typing import Any

import numpy as np

from coat.data.formats import AUDIO, KNOWN, canonical
from coat.data.sources.base import AUDIO_COLUMNS, Asked, Corpus, Record
from coat.errors import CoatError

PREFIX = "hub:"
SOUND = frozenset((*AUDIO, *AUDIO_COLUMNS)) - {"file", "path"}
# A list of so many numbers with fractions is a waveform, not a label.
MANY = 400


class Anything(Corpus):
    """A data set whose columns are named as others name them.

    Args:
        place: ``hub:OWNER/NAME``, or ``hub:OWNER/NAME/CONFIG``.
        splits: Names of the splits to take.
        question: Asked where a row has none, as transcripts have.
        ignore: Columns to pass over.
    """

    title = "a data set of the hub"
    group = ""
    licence = "see its card"
    language = ""

    def __init__(
        self, place: str, splits: tuple[str, ...] = ("train",), question: str = "", ignore: Collection[str] = ()
    ) -> None:
        owner, *rest = place.removeprefix(PREFIX).split("/", 2)
        if not owner or not rest:
            raise CoatError(f"{place} names no data set.", "For example: hub:AudioLLMs/meld_emotion_test")
        self.hub_id = f"{owner}/{rest[0]}"  # type: ignore[misc]
        self.config = rest[1] if len(rest) > 1 else None  # type: ignore[misc]
        self.name = "-".join(rest).replace("/", "-").lower()  # type: ignore[misc]
        self.splits, self.question, self.ignore = splits, question, frozenset(ignore)  # type: ignore[misc]

    def audio(self, record: Record) -> Any:
        """The Audio column's; None for text alone.

        Raises:
            CoatError: Two columns hold sound: which one is meant could only be guessed.
        """
        found = self._sounding(record)
        if len(found) > 1:
            raise CoatError(
                f"A row of {self.hub_id} holds sound in several columns: {', '.join(found)}.",
                "Leave one of them: take the others out with --ignore-fields.",
            )
        sound = record[found[0]] if found else None
        if isinstance(sound, list) and sound and all(isinstance(each, str | dict) for each in sound):
            if len(sound) > 1:
                raise CoatError(
                    f"A row of {self.hub_id} has {len(sound)} clips in '{found[0]}', and a data set's rows one.",
                    "Write a manifest, whose rows may have several: docs/data.md.",
                )
            return sound[0]  # a manifest's row has a list
        return sound

    def _sounding(self, record: Record) -> list[str]:
        """Columns that hold sound: by their name, or by what is in them."""
        return [
            name
            for name, value in record.items()
            if value is not None and name not in self.ignore and (name in SOUND or _is_sound(value))
        ]

    def key(self, record: Record, place: int) -> str:
        """Its own id, if it has one."""
        return str(record.get("id") or super().key(record, place))

    def asked(self, record: Record, rng: np.random.Generator) -> Iterable[Asked]:
        """See :meth:`Corpus.asked`."""
        del rng
        sound = self._sounding(record)
        left_out = {*sound, *self.ignore}
        plain = {name: value for name, value in record.items() if name not in left_out and value is not None}
        # What a manifest has no field for is kept as metadata; nobody chose a data set's columns for this project.
        metadata = {name: plain.pop(name) for name in list(plain) if name not in KNOWN}
        if metadata and "metadata" not in plain:
            plain["metadata"] = metadata
        try:
            row = canonical(plain | {"audios": ["clip"] if sound else []})
        except ValueError as error:
            raise CoatError(
                f"A row of {self.hub_id} cannot be understood: {error}. It has {', '.join(sorted(record))}.",
                "Pass columns over with --ignore-fields, or write a manifest of your own: docs/data.md.",
            ) from None
        messages = [dict(message) for message in row["messages"]]
        if messages[0]["content"] in ("", "<audio>") and self.question:
            messages[0]["content"] += self.question
        yield Asked(
            "", "", row.get("task", self.name), row.get("choices", ()), tuple(messages),
            _plain(row.get("metadata", {})),
        )  # fmt: skip


def _is_sound(value: Any) -> bool:
    """Bytes, an encoded file, or decoded samples."""
    if isinstance(value, bytes):
        return True
    if isinstance(value, dict):
        return bool(value.get("array") is not None or isinstance(value.get("bytes"), bytes))
    samples = isinstance(value, np.ndarray) or (isinstance(value, list) and len(value) >= MANY)
    return samples and np.asarray(value).dtype.kind == "f"


def _plain(metadata: dict[str, Any]) -> dict[str, Any]:
    """Metadata as JSON has it."""
    return json.loads(json.dumps(metadata, default=str))
