"""Manifests of millions of rows: read by place, with lengths and groups at hand.

A pass over the file checks every row and notes where it begins, how long its audio is, and which group and source
it is of: 24 bytes a row. The notes are kept beside the file, ``NAME.index.npz``, for as long as it does not change.
Rows themselves are read when they are asked for. A file that cannot be entered anywhere (compressed, a JSON array,
Parquet) is read through a plain copy beside it, ``NAME.rows.jsonl``.
"""

from __future__ import annotations

import json
import os
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Sequence
from hashlib import blake2b
from pathlib import Path
from typing import Any, overload

import numpy as np

from coat.audio import too_long
from coat.data.indexing import Notes, Reading, read_notes
from coat.data.manifest import Row, existing
from coat.data.reading import UTF8_MARK, Record, kind_of, parse_json, read_records
from coat.errors import CoatError

VERSION = 2


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
    """A manifest that is read by place.

    Rows are read at their offsets, never from where the last reading ended: processes that share the open file, as
    forked loader workers do, cannot disturb each other.

    Args:
        path: Path of the file.
        notes: From :func:`open_manifest`.
        lines: The plain JSON Lines file to read from; the manifest itself if None.
        reading: Settings of reading rows.
    """

    def __init__(self, path: Path, notes: Notes, lines: Path | None = None, reading: Reading | None = None) -> None:
        self.path, self.notes, self.lines = path, notes, lines or path
        self.reading = reading or Reading()
        self._file: int | None = None

    def __len__(self) -> int:
        return len(self.notes.offsets)

    def row(self, index: int) -> Row:
        """The row at a place."""
        if not -len(self) <= index < len(self):
            raise IndexError(index)
        number = int(self.notes.lines[index])
        word = "line" if self.lines == self.path else "row"
        try:
            record = Record(number, f"{word} {number}", parse_json(self.line(index)))
            return self.reading.row(record, self.path.parent)
        except (ValueError, OSError) as error:
            raise CoatError(
                f"{word.capitalize()} {number} of {self.path} has changed since it was checked: {error}",
                "Start again: the file is checked anew.",
            ) from None

    def line(self, index: int) -> bytes:
        """The row at a place as it is written, without the end of its line."""
        if self._file is None:
            self._file = os.open(self.lines, os.O_RDONLY)
        index %= len(self)
        start = int(self.notes.offsets[index])
        last = index == len(self) - 1
        stop = os.fstat(self._file).st_size if last else int(self.notes.offsets[index + 1])
        data = os.pread(self._file, stop - start, start)
        while len(data) < stop - start and (more := os.pread(self._file, stop - start - len(data), start + len(data))):
            data += more
        data = data.removeprefix(UTF8_MARK) if start == 0 else data
        return next(iter(data.splitlines()), b"")

    @property
    def seconds(self) -> np.ndarray:
        """Seconds of audio in each row."""
        return self.notes.seconds

    @property
    def longest(self) -> np.ndarray:
        """Seconds of each row's longest clip."""
        return self.notes.longest

    def __getstate__(self) -> dict[str, Any]:
        """A spawned process opens the file for itself."""
        return self.__dict__ | {"_file": None}

    def __del__(self) -> None:
        if self._file is not None:
            os.close(self._file)


class Joined(Rows):
    """Manifests one after another, or some rows of them.

    Args:
        parts: At least one.
        places: Places of the rows in all parts together; every one if None.
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
        fitting = [not too_long(float(seconds), max_seconds) for seconds in self.longest]
        return Joined(self.parts, self.places[np.array(fitting, dtype=bool)])


def open_manifest(
    path: str | Path,
    *,
    ignore: Collection[str] = (),
    answered: bool = False,
    on_bad_row: str = "raise",
    progress: Callable[[int], None] | None = None,
) -> Manifest:
    """Check every row of a manifest and every file that it names, or take the notes of the last time.

    Args:
        path: JSON Lines, a JSON array or Parquet, see :mod:`coat.data.reading`.
        ignore: Fields to pass over.
        answered: Rows without an answer to train on are malformed.
        on_bad_row: ``raise`` at rows whose audio is missing, unreadable or too short, or ``skip`` them: they are in
            ``notes.left_out``. Malformed rows always stop.
        progress: Called with the number of rows just read.

    Raises:
        CoatError: The file is missing or empty, or rows of it are unusable; up to ten are named.
    """
    path = existing(path)
    reading = Reading(tuple(sorted(ignore)), answered, on_bad_row)
    state = path.stat()
    stamp = f"{VERSION}/{state.st_size}/{state.st_mtime_ns}/{reading}"
    lines = path if kind_of(path) == "lines" else _plain_copy(path, f"{VERSION}/{state.st_size}/{state.st_mtime_ns}")
    kept = path.with_name(path.name + ".index.npz")
    notes = _kept(kept, stamp)
    if notes is None:
        notes = read_notes(path, lines, reading, progress)
        _keep(kept, notes, stamp)
    return Manifest(path, notes, lines, reading)


def _plain_copy(path: Path, stamp: str) -> Path:
    """The rows of a file as JSON Lines, made once: beside it, or where temporary files go."""
    for folder in (path.parent, Path(tempfile.gettempdir())):
        name = blake2b(str(path.resolve()).encode(), digest_size=8).hexdigest() if folder != path.parent else path.name
        copy, made_of = folder / f"{name}.rows.jsonl", folder / f"{name}.rows.stamp"
        if copy.is_file() and made_of.is_file() and made_of.read_text() == stamp:
            return copy
        try:
            _write_plain(path, copy)
            made_of.write_text(stamp)
        except OSError:
            continue
        return copy
    raise CoatError(f"A plain copy of {path} can be written nowhere.", "Make room, or give plain JSON Lines.")


def _write_plain(path: Path, copy: Path) -> None:
    """One line a row, an empty one for a row that could not be read: rows keep their numbers."""
    partial = copy.with_name(f"{copy.name}.{os.getpid()}.partial")
    try:
        with partial.open("w", encoding="ascii") as file:
            written = 0
            for record in read_records(path):
                file.write("\n" * (record.number - 1 - written))
                file.write((json.dumps(record.raw) if not record.problem else "") + "\n")
                written = record.number
        partial.replace(copy)
    finally:
        partial.unlink(missing_ok=True)


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
