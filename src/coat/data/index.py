"""Manifests of millions of rows: read by place, with lengths and groups at hand.

A pass over the file checks every row and notes where it begins, how long its audio is, and which group and source
it is of: 24 bytes a row. The notes are kept beside the file, ``NAME.index.npz``, for as long as it does not change.
Rows themselves are read when they are asked for.
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, overload

import numpy as np

from coat.audio import MIN_SECONDS, check_length
from coat.data.manifest import Row, listed, parse_row
from coat.errors import CoatError

VERSION = 1
HEADER_READERS = 16
REPORT_EVERY = 10_000
COLUMNS = {
    "offsets": np.int64, "lines": np.int32, "seconds": np.float32, "longest": np.float32, "groups": np.int16,
    "sources": np.int16,
}  # fmt: skip


@dataclass(frozen=True)
class Notes:
    """What is known of every row.

    Attributes:
        offsets: ``(n,)`` where its line begins.
        lines: ``(n,)`` its line number.
        seconds: ``(n,)`` of audio in all.
        longest: ``(n,)`` seconds of its longest clip.
        groups: ``(n,)`` places in ``names``.
        sources: ``(n,)`` places in ``names``.
        names: Of groups and sources.
    """

    offsets: np.ndarray
    lines: np.ndarray
    seconds: np.ndarray
    longest: np.ndarray
    groups: np.ndarray
    sources: np.ndarray
    names: np.ndarray


class Rows(Sequence[Row], ABC):
    """Rows that are read when they are asked for."""

    @overload
    def __getitem__(self, index: int) -> Row: ...

    @overload
    def __getitem__(self, index: slice) -> list[Row]: ...

    def __getitem__(self, index: int | slice) -> Row | list[Row]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        return self.row(index)

    @abstractmethod
    def row(self, index: int) -> Row:
        """The row at a place."""


class Manifest(Rows):
    """A manifest (JSON Lines) that is read by place.

    Args:
        path: Of the file.
        notes: From :func:`open_manifest`.
    """

    def __init__(self, path: Path, notes: Notes) -> None:
        self.path, self.notes = path, notes
        self._file: BinaryIO | None = None

    def __len__(self) -> int:
        return len(self.notes.offsets)

    def row(self, index: int) -> Row:
        """The row at a place."""
        if not -len(self) <= index < len(self):
            raise IndexError(index)
        if self._file is None:
            self._file = self.path.open("rb")
        self._file.seek(int(self.notes.offsets[index]))
        try:
            return parse_row(json.loads(self._file.readline()), int(self.notes.lines[index]), self.path.parent)
        except ValueError as error:
            raise CoatError(
                f"Line {self.notes.lines[index]} of {self.path} has changed since it was checked: {error}",
                "Start again: the file is checked anew.",
            ) from None

    @property
    def seconds(self) -> np.ndarray:
        """Of audio in each row."""
        return self.notes.seconds

    @property
    def longest(self) -> np.ndarray:
        """Seconds of each row's longest clip."""
        return self.notes.longest

    def __getstate__(self) -> dict[str, Any]:
        """Every process opens the file for itself."""
        return self.__dict__ | {"_file": None}


class Joined(Rows):
    """Manifests one after another, or some rows of them.

    Args:
        parts: At least one.
        places: Which rows, as places in all parts together; every one if None.
    """

    def __init__(self, parts: Sequence[Manifest], places: np.ndarray | None = None) -> None:
        self.parts = list(parts)
        self._ends = np.cumsum([len(part) for part in parts])
        self.places = np.arange(int(self._ends[-1])) if places is None else places
        self.seconds = np.concatenate([part.seconds for part in parts])[self.places]
        self.longest = np.concatenate([part.longest for part in parts])[self.places]

    def __len__(self) -> int:
        return len(self.places)

    def row(self, index: int) -> Row:
        """The row at a place."""
        place = int(self.places[index])
        part = int(np.searchsorted(self._ends, place, side="right"))
        return self.parts[part][place - (int(self._ends[part - 1]) if part else 0)]

    def within(self, max_seconds: float) -> Joined:
        """Only rows none of whose clips is longer."""
        return Joined(self.parts, self.places[self.longest <= max_seconds + 1e-6])


def open_manifest(path: str | Path, *, progress: Callable[[int], None] | None = None) -> Manifest:
    """Check every row of a manifest and every header that it names, or take the notes of the last time.

    Args:
        path: A JSON Lines file.
        progress: Called with the number of rows just read.

    Raises:
        CoatError: The file is missing or empty, or rows of it are unusable; up to ten are named.
    """
    path = Path(path)
    if not path.is_file():
        raise CoatError(f"There is no manifest at {path}.", "Check data.train in the recipe.")
    state = path.stat()
    stamp = f"{VERSION}/{state.st_size}/{state.st_mtime_ns}"
    kept = path.with_name(path.name + ".index.npz")
    notes = _kept(kept, stamp)
    if notes is None:
        notes = _Reader(path, progress).read()
        _keep(kept, notes, stamp)
    return Manifest(path, notes)


def _kept(path: Path, stamp: str) -> Notes | None:
    if not path.is_file():
        return None
    try:
        with np.load(path) as file:
            if str(file["stamp"]) != stamp:
                return None
            return Notes(**{name: file[name] for name in Notes.__dataclass_fields__})
    except (OSError, ValueError, KeyError):
        return None


def _keep(path: Path, notes: Notes, stamp: str) -> None:
    partial = path.with_name(path.name + ".partial")
    try:
        with partial.open("wb") as file:
            np.savez(file, stamp=np.array(stamp), **notes.__dict__)
        partial.replace(path)
    except OSError:
        partial.unlink(missing_ok=True)  # where nothing can be written, the file is checked each time


class _Reader:
    """One pass over a file."""

    def __init__(self, path: Path, progress: Callable[[int], None] | None) -> None:
        self.path, self.progress = path, progress
        self.columns: dict[str, list[Any]] = {name: [] for name in COLUMNS}
        self.ids: list[int] = []
        self.names: dict[str, int] = {}
        self.problems: list[str] = []
        self.remedy = ""

    def read(self) -> Notes:
        with ThreadPoolExecutor(HEADER_READERS) as pool:
            waiting: list[tuple[int, int, Row]] = []
            for item in self._rows():
                waiting.append(item)
                if len(waiting) == REPORT_EVERY:
                    self._note(waiting, pool)
                    waiting = []
            self._note(waiting, pool)
        self._check_ids()
        if self.problems:
            raise CoatError(
                f"{self.path} has {listed(self.problems, 'bad row')}", self.remedy or "docs/data.md shows the format."
            )
        if not self.ids:
            raise CoatError(f"{self.path} holds no rows.", "docs/data.md shows the format.")
        arrays = {name: np.array(column, dtype=COLUMNS[name]) for name, column in self.columns.items()}
        return Notes(**arrays, names=np.array(list(self.names), dtype=str))

    def _rows(self) -> Iterator[tuple[int, int, Row]]:
        offset = 0
        with self.path.open("rb") as file:
            for number, line in enumerate(file, 1):
                if line.strip():
                    try:
                        yield offset, number, parse_row(json.loads(line), number, self.path.parent)
                    except (ValueError, KeyError, TypeError, AttributeError) as error:
                        self.problems.append(f"line {number}: {error}")
                offset += len(line)

    def _note(self, waiting: list[tuple[int, int, Row]], pool: ThreadPoolExecutor) -> None:
        unknown = [item for item in waiting if any(audio.known_seconds is None for audio in item[2].audios)]
        measured = dict(
            zip((item[1] for item in unknown), pool.map(_measured, (item[2] for item in unknown)), strict=True)
        )
        for offset, number, row in waiting:
            seconds = measured.get(number)
            if seconds is None:
                seconds = [audio.seconds for audio in row.audios]
                if seconds and min(seconds) < MIN_SECONDS:
                    seconds = _measured(row)
            if isinstance(seconds, CoatError):
                self.problems.append(f"{row.id}: {seconds.problem}")
                self.remedy = self.remedy or seconds.remedy
                continue
            self.ids.append(hash(row.id))
            values = (
                offset,
                number,
                sum(seconds),
                max(seconds, default=0.0),
                self._name(row.group),
                self._name(row.source),
            )
            for column, value in zip(self.columns.values(), values, strict=True):
                column.append(value)
        if self.progress:
            self.progress(len(waiting))

    def _name(self, name: str) -> int:
        return self.names.setdefault(name, len(self.names))

    def _check_ids(self) -> None:
        hashes, counts = np.unique(np.array(self.ids, dtype=np.int64), return_counts=True)
        if (counts == 1).all():
            return
        twice = set(hashes[counts > 1].tolist())
        seen: dict[str, int] = {}
        known = list(self.problems)  # which a second reading would find again
        for _, _, row in self._rows():
            if hash(row.id) in twice:
                seen[row.id] = seen.get(row.id, 0) + 1
        self.problems = known
        self.problems += [f"id '{name}' is used {count} times" for name, count in seen.items() if count > 1]


def _measured(row: Row) -> list[float] | CoatError:
    try:
        for audio in row.audios:
            check_length(audio.seconds, str(audio.path))
        return [audio.seconds for audio in row.audios]
    except CoatError as error:
        return error
