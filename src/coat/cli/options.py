"""Options that several commands share, and how they are parsed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import typer

from coat.errors import CoatError, did_you_mean

IgnoreFields = Annotated[
    str, typer.Option("--ignore-fields", help="Fields of rows to pass over, with commas; others are refused by name.")
]


def one_of(option: str, value: str, allowed: Sequence[str]) -> None:
    """Raise a CoatError if an option's value is not among those allowed."""
    if value not in allowed:
        raise CoatError(f"{option} {value} is not possible.", did_you_mean(value, list(allowed)))


def split(names: Sequence[str]) -> list[str]:
    """Names, given one by one or with commas."""
    return [part.strip() for name in names for part in name.split(",") if part.strip()]
