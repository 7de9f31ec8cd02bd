"""The reference page of recipes, written from the recipe's own types: ``python -m coat.config.reference``."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator, Mapping
from types import UnionType
from typing import Any, ClassVar, Literal, get_args, get_origin, get_type_hints

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from coat.config.recipe import Recipe

HEAD = """# Recipes

<!-- Written by `python -m coat.config.reference > docs/recipes.md`; do not edit. -->

A recipe is a YAML file that says everything about a run. `coat train RECIPE --check` shows it resolved, with every
default; a run keeps that as `recipe.yaml`. Unknown fields, wrong types and impossible values are all named at once.

- `extends: other.yaml` lays a recipe over another, beside it.
- `--set training.seed=1` overrides a field from the command line; repeatable. An item of a list is named by its place
  or its name: `--set stages.0.steps=100`, `--set stages.warm-up.steps=100`.
- Files in [`recipes/`](../recipes) are complete ones to start from.
"""


def reference() -> str:
    """Every field of a recipe with its type, default and meaning, as Markdown."""
    return HEAD + "".join(_sections(Recipe, ""))


def _sections(model: type, prefix: str) -> list[str]:
    plain, parts = [], []
    for name, field in _fields(model):
        nested = _nested(field.annotation)
        if nested is None:
            plain.append(_line(name, field))
        else:
            place = f"{prefix}{name}{_MANY.get(get_origin(field.annotation), '')}"
            parts += [f"\n## `{place}`\n\n{_first_line(nested)}\n", *_sections(nested, f"{place}.")]
    table = ["\n| field | type | default | meaning |\n| --- | --- | --- | --- |\n", *plain] if plain else []
    return [*table, *parts]


def _fields(model: type) -> Iterator[tuple[str, FieldInfo]]:
    """Fields of a part: a pydantic model, or a dataclass whose docstring describes its attributes."""
    if issubclass(model, BaseModel):
        yield from model.model_fields.items()
        return
    described = described_in(model.__doc__ or "")
    for name, annotation in get_type_hints(model).items():
        if get_origin(annotation) is not ClassVar:
            yield name, FieldInfo(annotation=annotation, default=getattr(model, name), description=described[name])


def described_in(docstring: str) -> dict[str, str]:
    r"""Attributes that a docstring describes, each on one line of Markdown.

    Example:
        >>> described_in("Part.\n\n    Attributes:\n        size: In ``bytes``,\n            all told.\n")
        {'size': 'In `bytes`, all told.'}
    """
    found = re.findall(r"^        (\w+): (.*(?:\n {12}.*)*)$", docstring, re.MULTILINE)
    return {name: " ".join(text.split()).replace("``", "`") for name, text in found}


_MANY: dict[Any, str] = {list: "[]", dict: ".NAME"}


def _line(name: str, field: FieldInfo) -> str:
    return f"| `{name}` | {_type(field.annotation)} | {_default(field)} | {field.description or ''} |\n"


def _nested(annotation: Any) -> type | None:
    inner = annotation
    if get_origin(annotation) in (list, UnionType):
        inner = get_args(annotation)[0]
    elif get_origin(annotation) is dict:
        inner = get_args(annotation)[1]
    is_part = isinstance(inner, type) and (issubclass(inner, BaseModel) or dataclasses.is_dataclass(inner))
    return inner if is_part else None


def _type(annotation: Any) -> str:
    if get_origin(annotation) is Literal:
        return ", ".join(f"`{value}`" for value in get_args(annotation))
    if get_origin(annotation) is UnionType or str(get_origin(annotation)) == "typing.Union":
        return " or ".join(_type(part) for part in get_args(annotation) if part is not type(None))
    if get_origin(annotation) in (dict, Mapping):
        return f"map of {_type(get_args(annotation)[1])}"
    return "any value" if annotation is Any else str(getattr(annotation, "__name__", annotation))


def _default(field: FieldInfo) -> str:
    if field.default_factory is not None:
        return "empty"
    if field.default is PydanticUndefined:
        return "**needed**"
    if isinstance(field.default, bool):
        return f"`{str(field.default).lower()}`"
    return "none" if field.default is None else f"`{field.default}`"


def _first_line(model: type) -> str:
    return (model.__doc__ or "").strip().splitlines()[0]


if __name__ == "__main__":
    print(reference(), end="")  # noqa: T201
