"""Recipes from files: YAML, a recipe laid over another, fields overridden, every bad field named."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from coat.config.recipe import Recipe
from coat.errors import CoatError, did_you_mean


def load_recipe(path: str | Path, overrides: Sequence[str] = ()) -> Recipe:
    """Read a recipe, apply ``a.b=c`` overrides, check everything at once.

    A recipe may begin with ``extends: other.yaml`` (relative to itself): its own fields are laid over the
    other's, part by part. Lists are replaced whole. An override names what is in a list by its place or by its
    ``name``: ``stages.0.steps=100``, ``stages.warm-up.steps=100``.

    Example:
        >>> load_recipe("my.yaml", ["training.seed=1"]).training.seed  # doctest: +SKIP
        1

    Raises:
        CoatError: The file is missing or malformed; every bad field is named with what it may be.
    """
    return parse_recipe(_read(Path(path)), str(path), overrides)


def parse_recipe(raw: dict[str, Any], name: str = "recipe", overrides: Sequence[str] = ()) -> Recipe:
    """Validate a recipe given as plain data.

    Example:
        >>> raw = {"stages": [{"name": "hear", "steps": 800}], "data": {"train_dataset": "train.jsonl"}}
        >>> parse_recipe(raw, overrides=["stages.hear.steps=100"]).stages[0].steps
        100

    Raises:
        CoatError: Every bad field, named.
    """
    for override in overrides:
        _apply(raw, override)
    try:
        return Recipe.model_validate(raw)
    except ValidationError as error:
        lines = "\n".join(f"  {_explain(problem)}" for problem in error.errors())
        raise CoatError(
            f"{name} has {error.error_count()} problem(s):\n{lines}", "docs/recipes.md lists every field."
        ) from None


def _read(path: Path, above: tuple[Path, ...] = ()) -> dict[str, Any]:
    if not path.is_file():
        raise CoatError(f"There is no recipe at {path}.", "The recipes folder has examples.")
    if path.resolve() in above:
        raise CoatError(f"{path} extends itself, by way of {above[-1]}.", "Take one of the 'extends:' out.")
    try:
        raw = yaml.load(path.read_text(encoding="utf-8"), _OnceLoader)
    except UnicodeDecodeError as error:
        raise CoatError(f"{path} is not UTF-8 text ({error}).", "Save it as UTF-8.") from None
    except yaml.YAMLError as error:
        raise CoatError(f"{path} is not YAML: {error}", "Mend that line.") from None
    if not isinstance(raw, dict):
        raise CoatError(f"{path} must hold fields, such as 'stages:'.", "The recipes folder has examples.")
    parent = raw.pop("extends", None)
    if parent is None:
        return raw
    if not isinstance(parent, str):
        raise CoatError(f"{path}: extends names one recipe, not {parent!r}.", "For example: extends: base.yaml")
    return _merge(_read(path.parent / parent, (*above, path.resolve())), raw)


class _OnceLoader(yaml.SafeLoader):
    """Safe, and refuses a field that is given twice, of which YAML would take the last without a word."""

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        """Called for every mapping."""
        seen: set[str] = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                continue  # no field has such a name, which YAML's own message says
            name = key.value
            if name in seen and name != "<<":
                raise yaml.constructor.ConstructorError(None, None, f"'{name}' is given twice", key.start_mark)
            seen.add(name)
        return super().construct_mapping(node, deep)


def _merge(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    merged = dict(below)
    for key, value in above.items():
        both = isinstance(value, dict) and isinstance(merged.get(key), dict)
        merged[key] = _merge(merged[key], value) if both else value
    return merged


def _apply(raw: dict[str, Any], override: str) -> None:
    key, equals, value = override.partition("=")
    *parents, leaf = names = key.strip().split(".")
    if not equals or not all(names):
        raise CoatError(f"--set {override} is not of the form a.b=c.", "For example: --set training.seed=1")
    try:
        parsed = _number(yaml.load(value, _OnceLoader))
    except yaml.YAMLError as error:
        raise CoatError(f"--set {key}: {value} is not YAML: {error}", "Quote it as one word of the shell.") from None
    place: Any = raw
    for part in parents:
        place = place[_index(place, part, key)] if isinstance(place, list) else place.setdefault(part, {})
        if not isinstance(place, dict | list):
            raise CoatError(f"--set {key}: '{part}' has no fields.")
    place[_index(place, leaf, key) if isinstance(place, list) else leaf] = parsed


def _index(items: list[Any], part: str, key: str) -> int:
    """The place in a list that ``part`` of an override means: its number, or the name of what is there."""
    names = [str(item.get("name", "")) if isinstance(item, dict) else "" for item in items]
    if part in names:
        return names.index(part)
    if part.isdecimal() and int(part) < len(items):
        return int(part)
    there = ", ".join(f"{place} ({name})" if name else str(place) for place, name in enumerate(names))
    raise CoatError(f"--set {key}: there is no '{part}'; there is {there or 'nothing'}.")


def _number(value: Any) -> Any:
    """YAML reads 1e-3 as text; people mean a number."""
    try:
        return float(value) if isinstance(value, str) else value
    except ValueError:
        return value


def _explain(problem: Any) -> str:
    where = ".".join(str(part) for part in problem["loc"] if part not in ("float", "literal['auto']"))
    if problem["type"] in ("extra_forbidden", "unexpected_keyword_argument"):
        *parents, given = [part for part in problem["loc"] if not isinstance(part, int)]
        return f"{where}: there is no such field. {did_you_mean(str(given), _fields_at(parents))}"
    if problem["type"] == "missing":
        return f"{where}: this field is required."
    given = problem.get("input")
    shown = f" (got {given!r})" if isinstance(given, str | int | float | bool) else ""
    return f"{where}: {problem['msg'].removeprefix('Value error, ')}{shown}" if where else str(problem["msg"])


def _fields_at(parents: Sequence[Any]) -> list[str]:
    model: Any = Recipe
    for part in parents:
        annotation = model.model_fields[part].annotation
        model = next((a for a in (annotation, *getattr(annotation, "__args__", ())) if _names(a)), model)
    return _names(model)


def _names(part: Any) -> list[str]:
    """Fields of a part of a recipe: of a pydantic model, or of a dataclass."""
    return list(getattr(part, "model_fields", getattr(part, "__dataclass_fields__", ())))
