"""Files that are written whole or not at all, lines that survive a killed run, and names of folders in tables."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
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


def short_names(paths: Sequence[str | Path]) -> list[str]:
    """A name for each of some folders that tells it from the others: its last part, or what they do not share.

    Args:
        paths: Folders or files. The same one twice has the same name twice.

    Example:
        >>> short_names(["runs/base", "runs/pitch"])
        ['base', 'pitch']
        >>> short_names(["ladder/sft-seed0/eval", "ladder/full-seed0/eval"])
        ['sft-seed0', 'full-seed0']
    """
    parts = [Path(path).parts or Path.cwd().parts[-1:] for path in paths]
    different = len(set(parts))
    if len({each[-1] for each in parts}) < different:
        while len({each[-1] for each in parts}) == 1 and all(len(each) > 1 for each in parts):
            parts = [each[:-1] for each in parts]
    for last in range(1, max(map(len, parts))):
        names = ["/".join(each[-last:]) for each in parts]
        if len(set(names)) == different:
            return names
    return ["/".join(each) for each in parts]
