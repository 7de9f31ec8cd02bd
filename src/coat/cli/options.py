"""Options that several commands share, and how they are parsed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

import typer

from coat.errors import CoatError, did_you_mean

IgnoreFields = Annotated[
    str, typer.Option("--ignore-fields", help="Fields of rows to pass over, with commas; others are refused by name.")
]
Protocol = Annotated[str, typer.Option("--protocol", help="strict, paper or upstream: docs/evaluation.md.")]
Tasks = Annotated[
    list[str] | None,
    typer.Option("--tasks", help="Tasks of 'coat eval list', YAML files, manifests, or all. Repeatable; commas too."),
]
Data = Annotated[
    str | None, typer.Option("--data", help="A folder with a folder a task, or 'sample'; the hub if left out.")
]


def one_of(option: str, value: str, allowed: Sequence[str]) -> None:
    """Raise a CoatError if an option's value is not among those allowed."""
    if value not in allowed:
        raise CoatError(f"{option} {value} is not possible.", did_you_mean(value, list(allowed)))


def split(names: Sequence[str]) -> list[str]:
    """Names, given one by one or with commas."""
    return [part.strip() for name in names for part in name.split(",") if part.strip()]


def engine_options(options: Sequence[str]) -> dict[str, Any]:
    """NAME=VALUE options as keywords, values as JSON where they are.

    Raises:
        CoatError: One names no value.
    """
    import json

    found = {}
    for option in options:
        name, equals, value = option.partition("=")
        if not equals:
            raise CoatError(f"--engine {option} names no value.", "For example: --engine tensor_parallel_size=4")
        try:
            found[name.replace("-", "_")] = json.loads(value)
        except ValueError:
            found[name.replace("-", "_")] = value
    return found
