"""The rows of a file, whatever it is: JSON Lines, plain or compressed, a JSON array, Parquet. The one reader of all.

Every command reads rows by :func:`read_records`, so that a byte order mark, a lone carriage return, U+2028 in a text
or a compressed file mean the same to a check, to training and to an evaluation.
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from coat.errors import CoatError

GZIP, ZSTD, PARQUET = b"\x1f\x8b", b"\x28\xb5\x2f\xfd", b"PAR1"
UTF8_MARK = b"\xef\xbb\xbf"
ENCODING_MARKS = {
    b"\xff\xfe\x00\x00": "UTF-32", b"\x00\x00\xfe\xff": "UTF-32", b"\xff\xfe": "UTF-16", b"\xfe\xff": "UTF-16",
}  # fmt: skip
PARQUET_ROWS = 1024


@dataclass(frozen=True)
class Record:
    """A row as it was read.

    Attributes:
        number: Its line, or its index in an array or a table, from 1.
        where: The same position in words.
        raw: Content of the record.
        problem: Why it could not be read; then ``raw`` is None.
        offset: Byte at which its line begins in an uncompressed JSON Lines file; -1 elsewhere.
    """

    number: int
    where: str
    raw: Any
    problem: str = ""
    offset: int = -1


def read_records(path: Path) -> Iterator[Record]:
    """Every row of a file, or what is wrong with it.

    Args:
        path: JSON Lines (``.gz`` and ``.zst`` too), a JSON array, or Parquet; known by its content, not its name.

    Raises:
        CoatError: The file cannot be read at all: it is another encoding, or damaged.
    """
    kind = kind_of(path)
    if kind == "parquet":
        yield from _parquet(path)
    elif kind == "array":
        yield from _array(path)
    else:
        yield from read_lines(path)


def kind_of(path: Path) -> str:
    """``lines`` for plain JSON Lines, ``compressed``, ``array`` or ``parquet``.

    Raises:
        CoatError: It is not UTF-8, or cannot be opened.
    """
    try:
        with path.open("rb") as file:
            magic = file.read(4)
        if magic == PARQUET:
            return "parquet"
        with _opened(path) as file:
            head = file.read(4096)
    except (OSError, EOFError) as error:
        raise CoatError(f"{path} cannot be read ({error}).", "Get it anew from its source.") from None
    _check_encoding(path, head)
    if head.removeprefix(UTF8_MARK).lstrip().startswith(b"["):
        return "array"
    return "compressed" if magic[:2] == GZIP or magic == ZSTD else "lines"


def parse_json(data: bytes) -> Any:
    """JSON that loses nothing: UTF-8, no name twice in an object, no number that is none.

    Raises:
        ValueError: What is wrong, in words.
    """
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        byte = data[error.start]
        raise ValueError(
            f"byte 0x{byte:02X} at column {error.start + 1} is not UTF-8 (the file may be Latin-1: "
            "iconv -f LATIN1 -t UTF-8 old > new)"
        ) from None
    try:
        return json.loads(text, object_pairs_hook=_object, parse_constant=_no_number)
    except json.JSONDecodeError as error:
        raise ValueError(f"it is not JSON: {error.msg} at column {error.pos + 1}") from None
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"the field '{twice}' is there twice")
    return made


def _no_number(name: str) -> Any:
    raise ValueError(f"{name} is not JSON: give a number, or leave the field out")


def _check_encoding(path: Path, head: bytes) -> None:
    marked = [name for mark, name in ENCODING_MARKS.items() if head.startswith(mark)]
    if not marked and b"\0" not in head:
        return
    name = marked[0] if marked else "UTF-16"
    raise CoatError(
        f"{path} is {name}; rows are read as UTF-8.", f"Convert it first: iconv -f {name} -t UTF-8 '{path}' > new.jsonl"
    )


def _opened(path: Path) -> BinaryIO:
    """The file's bytes, uncompressed."""
    with path.open("rb") as file:
        magic = file.read(4)
    if magic[:2] == GZIP:
        import gzip

        return gzip.open(path, "rb")  # type: ignore[return-value]
    if magic == ZSTD:
        import pyarrow

        return io.BufferedReader(pyarrow.input_stream(str(path), compression="zstd"))
    return path.open("rb")


def read_lines(path: Path, start: int = 0, stop: int | None = None, number: int = 0) -> Iterator[Record]:
    """Rows of JSON Lines, or of a part of them.

    Args:
        path: Plain or compressed.
        start: First byte of the part in a plain file; a line begins there.
        stop: The byte after its last; the end of the file if None.
        number: Lines before it.
    """
    offset = start
    try:
        with _opened(path) as file:
            if start:
                file.seek(start)
            for chunk in file:
                # Old programs end lines by a carriage return alone; inside JSON it must be escaped.
                for line in chunk.splitlines(keepends=True) if b"\r" in chunk else (chunk,):
                    number += 1
                    yield from _line(line, number, offset)
                    offset += len(line)
                if stop is not None and offset >= stop:
                    return
    except (OSError, EOFError) as error:
        raise CoatError(f"{path} breaks off after line {number} ({error}).", "Get it anew from its source.") from None


def parts_of(path: Path, size: int) -> Iterator[tuple[int, int, int]]:
    """Where a plain JSON Lines file can be divided.

    Args:
        path: The file.
        size: Bytes of a part, about.

    Yields:
        Start and stop of each part, and the lines before it.
    """
    with path.open("rb") as file:
        start = lines = 0
        while data := file.read(size):
            data += file.readline()
            yield start, start + len(data), lines
            start += len(data)
            lines += data.count(b"\n") + data.count(b"\r") - data.count(b"\r\n")


def _line(line: bytes, number: int, offset: int) -> Iterator[Record]:
    if number == 1:
        line = line.removeprefix(UTF8_MARK)
    if not line.strip():
        return
    try:
        yield Record(number, f"line {number}", parse_json(line), offset=offset)
    except ValueError as error:
        yield Record(number, f"line {number}", None, str(error), offset)


def _array(path: Path) -> Iterator[Record]:
    try:
        with _opened(path) as file:
            data = file.read().removeprefix(UTF8_MARK)
    except (OSError, EOFError) as error:
        raise CoatError(f"{path} cannot be read ({error}).", "Get it anew from its source.") from None
    try:
        rows = parse_json(data)
    except ValueError as error:
        try:  # JSON Lines whose rows are arrays, which no row may be, or an array that is broken
            parse_json(data.split(b"\n", 1)[0])
        except ValueError:
            raise CoatError(
                f"{path} begins as a JSON array, but {error}.", "Write it anew, or as JSON Lines."
            ) from None
        yield from read_lines(path)
        return
    for number, raw in enumerate(rows, 1):
        yield Record(number, f"row {number}", raw)


def _parquet(path: Path) -> Iterator[Record]:
    import pyarrow
    import pyarrow.parquet

    number = 0
    try:
        with pyarrow.parquet.ParquetFile(path) as file:
            for batch in file.iter_batches(PARQUET_ROWS):
                for raw in batch.to_pylist():
                    number += 1
                    try:
                        yield Record(number, f"row {number}", _plain(raw))
                    except ValueError as error:
                        yield Record(number, f"row {number}", None, str(error))
    except (pyarrow.ArrowException, OSError) as error:
        raise CoatError(f"{path} breaks off after row {number} ({error}).", "Get it anew from its source.") from None


def _plain(value: Any, name: str = "") -> Any:
    """A table's value as JSON has it; columns without a value are left out, as a table cannot."""
    if isinstance(value, dict):
        return {key: _plain(item, name or key) for key, item in value.items() if item is not None}
    if isinstance(value, list):
        return [_plain(item, name) for item in value]
    if isinstance(value, bytes):
        raise ValueError(
            f"the column '{name}' holds bytes: sound inside a table becomes files by coat data import "
            "hub:OWNER/NAME --from FOLDER"
        )
    return value if isinstance(value, str | int | float | bool) or value is None else str(value)
