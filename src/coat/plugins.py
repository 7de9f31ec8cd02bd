"""Classes by name: those of the package, those that other packages declare, and any by ``module:Class``.

A package declares its own in its ``pyproject.toml``, and recipes then use them by name:

```toml
[project.entry-points."coat.experts"]
loudness = "my_package.loudness:Loudness"

[project.entry-points."coat.backbones"]
my_model = "my_package.my_model:MyModel"
```
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from importlib import import_module
from importlib.metadata import entry_points
from typing import Any

from coat.errors import CoatError, did_you_mean
from coat.extras import missing


@cache
def declared(group: str) -> dict[str, str]:
    """Entry points of installed packages: names and ``module:Class``."""
    return {point.name: point.value for point in entry_points(group=group)}


def known_names(registry: Mapping[str, str], group: str) -> list[str]:
    """Every name: the package's own first."""
    return [*registry, *(name for name in declared(group) if name not in registry)]


def find_class(name: str, registry: Mapping[str, str], group: str, kind: str, base: type) -> Any:
    """A class by name or ``module:Class``.

    Args:
        name: A key of the registry, a name that an installed package declares, or ``module:Class``.
        registry: The package's own, by name.
        group: Group of entry points.
        kind: Noun for messages, such as "expert".
        base: Required base class.

    Raises:
        CoatError: There is no such name, its module cannot be imported, or it is something else.
    """
    where = name if ":" in name else registry.get(name) or declared(group).get(name)
    if where is None:
        raise CoatError(f"There is no {kind} '{name}'.", did_you_mean(name, known_names(registry, group)))
    module, _, attribute = where.partition(":")
    try:
        found = getattr(import_module(module), attribute, None)
    except ImportError as error:
        raise missing(error) or CoatError(
            f"The {kind} {name} cannot be imported: {error}.", f"Install the package that holds {module}."
        ) from None
    if found is None:
        raise CoatError(f"{module} holds no {attribute}.", f"Name the class of the {kind}: module:Class")
    if not (isinstance(found, type) and issubclass(found, base)):
        raise CoatError(f"{where} is no {kind}.", f"Derive it from {base.__module__}.{base.__name__}.")
    return found
