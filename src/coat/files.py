"""Files that are written whole or not at all, and lines that survive a killed run."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from coat.errors import CoatError

# Ends the name of what is being written.
PARTIAL = ".partial"


def write_whole(path: Path, text: str) -> None:
    """Write a file so that it is there whole or not at all."""
    partial = path.with_name(path.name + PARTIAL)
    partial.write_text(text)
    partial.replace(path)


def write_jsonl(path: Path, rows: Iterable[dict[str, Any]]) -> None:
    """Write rows as JSON Lines, whole or not at all."""
    write_whole(path, "".join(json.dumps(row) + "\n" for row in rows))


def read_jsonl(path: Path) -> list[dict[str, Any]]:
    """Rows of a file that this package appends to; a last line that was cut short is dropped, in the file too.

    Files of users are read by :mod:`coat.data.reading`, which changes nothing.

    Raises:
        CoatError: A line of it is no JSON: something else has written to it.
    """
    if not path.is_file():
        return []
    try:
        content = path.read_bytes()
        rows = content[: content.rfind(b"\n") + 1].decode()
        found = [json.loads(line) for line in rows.split("\n") if line.strip()]
    except ValueError as error:  # of JSON and of UTF-8
        raise CoatError(f"{path} is damaged: {error}.", "Delete it, or the line that is damaged.") from None
    if not content.endswith(b"\n") and content:
        write_whole(path, rows)
    return found
