"""PEFT without what it brings along unasked."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def no_bitsandbytes(model: Any = None) -> Iterator[None]:
    """Adapters of a model in full precision, made without importing bitsandbytes.

    PEFT imports it wherever it is installed, for layers that only a quantised model has; that takes a second, and
    prints what it misses to people who never asked for four bits.

    Args:
        model: The transformers model; one that is quantised gets its adapters as PEFT makes them. None to import PEFT.
    """
    if getattr(model, "is_quantized", False) or "bitsandbytes" in sys.modules:
        yield
        return
    sys.modules["bitsandbytes"] = None  # type: ignore[assignment]  # Python's own way to say that it is not there
    _forget()
    try:
        yield
    finally:
        del sys.modules["bitsandbytes"]
        _forget()


def _forget() -> None:
    """Let PEFT look anew; its first import looks too."""
    from peft.import_utils import is_bnb_4bit_available, is_bnb_available

    is_bnb_available.cache_clear()
    is_bnb_4bit_available.cache_clear()
