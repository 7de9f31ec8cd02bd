"""The pass over a manifest that checks every row and notes where it is: by as many processes as there are cores.

Parts of the file are read side by side, each with the number of its first line, so that rows and errors have the
names that they have when it is read from its beginning.
"""

from __future__ import annotations

import gc
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from hashlib import blake2b
from itertools import islice
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np

from coat.audio import MIN_SECONDS, AudioError
from coat.audio.errors import refuse
from coat.audio.limits import problem_of_length
from coat.data.manifest import Row, RowError, listed, row_of
from coat.data.reading import Record, parts_of, read_lines, read_records
from coat.errors import CoatError
from coat.processes import cores, each

HEADER_READERS = 16
ROWS_AT_ONCE = 10_000
PART_BYTES = 2**23
# Objects that are made before Python looks for cycles among them; a row is some thirty, and holds none.
BETWEEN_COLLECTIONS = 50_000
COLUMNS = {
    "offsets": np.int64, "lines": np.int32, "seconds": np.float32, "longest": np.float32, "groups": np.int16,
    "sources": np.int16,
}  # fmt: skip


@dataclass(frozen=True)
class Notes:
    """Indexed properties of every row.

    Attributes:
        offsets: ``(n,)`` where its line begins.
        lines: ``(n,)`` its line number.
        seconds: ``(n,)`` of audio in all.
        longest: ``(n,)`` seconds of its longest clip.
        groups: ``(n,)`` places in ``names``.
        sources: ``(n,)`` places in ``names``.
        names: Names of groups and sources.
        left_out: Rows whose audio cannot be used, and why, where such rows were asked to be left out.
    """

    offsets: np.ndarray
    lines: np.ndarray
    seconds: np.ndarray
    longest: np.ndarray
    groups: np.ndarray
    sources: np.ndarray
    names: np.ndarray
    left_out: np.ndarray


@dataclass(frozen=True)
class Reading:
    """How the rows of a manifest are taken.

    Attributes:
        ignore: Fields to pass over.
        answered: Rows without an answer to train on are bad.
        on_bad_row: ``raise`` at rows whose audio is missing, unreadable or too short, or ``skip`` them.
    """

    ignore: tuple[str, ...] = ()
    answered: bool = False
    on_bad_row: str = "raise"

    def row(self, record: Record, root: Path) -> Row:
        """See :func:`coat.data.manifest.row_of`."""
        return row_of(record, root, ignore=self.ignore, answered=self.answered)


@dataclass
class Found:
    """Contents of a part of a file.

    Attributes:
        columns: Columns of :class:`Notes`, by name; groups and sources are indices into ``names``.
        ids: ``(n,)`` digests of the rows' ids.
        names: Names of groups and sources.
        problems: Faults of rows that cannot be used, each with its line.
        left_out: Rows whose audio cannot be used, where such rows are left out.
        remedy: The first problem's remedy.
        rows: That were read.
    """

    columns: dict[str, list[Any]] = field(default_factory=lambda: {name: [] for name in COLUMNS})
    ids: list[int] = field(default_factory=list)
    names: dict[str, int] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)
    remedy: str = ""
    rows: int = 0


def read_notes(path: Path, lines: Path, reading: Reading, progress: Callable[[int], None] | None = None) -> Notes:
    """Check every row.

    Args:
        path: The manifest.
        lines: The plain JSON Lines file to read: the manifest, or its copy.
        reading: Settings of reading rows.
        progress: Called with the number of rows just read.

    Raises:
        CoatError: Rows are unusable, up to ten are named; or there are none.
    """
    word = "line" if lines == path else "row"
    # What could not be read has no line in a copy.
    problems = [f"{r.where}: {r.problem}" for r in read_records(path) if r.problem] if lines != path else []
    whole = Found(problems=problems)
    parts = list(parts_of(lines, PART_BYTES))
    read = partial(read_part, lines, path.parent, word, reading)
    _join(whole, each(read, parts, workers=cores()), progress)
    _check_ids(whole, lines, path.parent, word, reading)
    if whole.problems:
        raise CoatError(
            f"{path} has {listed(whole.problems, 'bad row')}", whole.remedy or "docs/data.md shows the format."
        )
    if not whole.ids:
        what = f"no usable row: {listed(whole.left_out, 'bad row')}" if whole.left_out else "no rows."
        raise CoatError(f"{path} holds {what}", "docs/data.md shows the format.")
    arrays = {name: np.array(column, dtype=COLUMNS[name]) for name, column in whole.columns.items()}
    return Notes(**arrays, names=np.array(list(whole.names), dtype=str), left_out=np.array(whole.left_out, dtype=str))


def _join(whole: Found, parts: Iterator[Found], progress: Callable[[int], None] | None) -> None:
    for part in parts:
        places = [whole.names.setdefault(name, len(whole.names)) for name in part.names]
        for name, column in part.columns.items():
            whole.columns[name] += [places[i] for i in column] if name in ("groups", "sources") else column
        whole.ids += part.ids
        whole.problems += part.problems
        whole.left_out += part.left_out
        whole.remedy = whole.remedy or part.remedy
        if progress:
            progress(part.rows)


def read_part(lines: Path, root: Path, word: str, reading: Reading, part: tuple[int, int, int]) -> Found:
    """Check the rows of a part of a file.

    Args:
        lines: The file.
        root: Folder that relative paths start from.
        word: Noun for a row in messages: ``line`` or ``row``.
        reading: Settings of reading rows.
        part: From :func:`coat.data.reading.parts_of`.
    """
    found = Found()
    rows = _rows(lines, root, word, reading, part, found)
    with _SELDOM_COLLECTED, ThreadPoolExecutor(HEADER_READERS) as pool:
        while some := list(islice(rows, ROWS_AT_ONCE)):
            _note(some, pool, reading, found)
    return found


class _SeldomCollected:
    """With Python's own threshold, collecting garbage is a third of the time.

    The threshold is the process's: of threads that read at once the first raises it, and the last puts it back.
    """

    def __init__(self) -> None:
        self._lock, self._inside, self._before = Lock(), 0, gc.get_threshold()

    def __enter__(self) -> None:
        with self._lock:
            if not self._inside:
                first, *others = self._before = gc.get_threshold()
                gc.set_threshold(max(first, BETWEEN_COLLECTIONS) if first else 0, *others)
            self._inside += 1

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._inside -= 1
            if not self._inside:
                gc.set_threshold(*self._before)


_SELDOM_COLLECTED = _SeldomCollected()


def _rows(
    lines: Path, root: Path, word: str, reading: Reading, part: tuple[int, int, int], found: Found
) -> Iterator[tuple[Record, Row]]:
    for record in read_lines(lines, *part):
        found.rows += 1
        where = f"{word} {record.number}"
        try:
            named = Record(record.number, where, record.raw, record.problem, record.offset)
            yield named, reading.row(named, root)
        except RowError as error:
            found.problems.append(f"{where}: {error}")


def _note(some: list[tuple[Record, Row]], pool: ThreadPoolExecutor, reading: Reading, found: Found) -> None:
    unknown = [row for _, row in some if any(audio.known_seconds is None for audio in row.audios)]
    measured = dict(zip(map(id, unknown), pool.map(_measured, unknown), strict=True))
    for record, row in some:
        seconds = measured.get(id(row))
        if seconds is None:
            seconds = [audio.seconds for audio in row.audios]
            if seconds and min(seconds) < MIN_SECONDS:
                seconds = _measured(row)
        if isinstance(seconds, AudioError):
            if reading.on_bad_row == "skip":
                found.left_out.append(f"{row.id}: {seconds.problem}")
                continue
            found.problems.append(f"{row.id}: {seconds.problem}")
            found.remedy = found.remedy or seconds.remedy
            continue
        found.ids.append(_digest(row.id))
        group, source = (found.names.setdefault(name, len(found.names)) for name in (row.group, row.source))
        values = (record.offset, record.number, sum(seconds), max(seconds, default=0.0), group, source)
        for column, value in zip(found.columns.values(), values, strict=True):
            column.append(value)


def _digest(name: str) -> int:
    return int.from_bytes(blake2b(name.encode(), digest_size=8).digest(), "little", signed=True)


def _check_ids(whole: Found, lines: Path, root: Path, word: str, reading: Reading) -> None:
    """Name the ids that are used more than once; only then is the file read again."""
    digests, counts = np.unique(np.array(whole.ids, dtype=np.int64), return_counts=True)
    if (counts == 1).all():
        return
    twice = set(digests[counts > 1].tolist())
    rows = _rows(lines, root, word, reading, (0, lines.stat().st_size, 0), Found())
    seen = Counter(row.id for _, row in rows if _digest(row.id) in twice)
    whole.problems += [f"id '{name}' is used {count} times" for name, count in seen.items() if count > 1]


def _measured(row: Row) -> list[float] | AudioError:
    try:
        for audio in row.audios:
            refuse(problem_of_length(audio.seconds), str(audio.path))
        return [audio.seconds for audio in row.audios]
    except AudioError as error:
        return error
