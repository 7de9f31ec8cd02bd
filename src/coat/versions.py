"""Which versions made something, for the record beside it."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Iterable

VERSION = "0.1.0"
MISSING = "not installed"


def versions_of(packages: Iterable[str]) -> dict[str, str]:
    """The installed version of each distribution, or that it is not installed."""
    return {name: _version(name) for name in packages}


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return MISSING
