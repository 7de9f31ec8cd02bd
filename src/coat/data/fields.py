"""Values of a row's fields: what they may be, and what to say where they are not."""

from __future__ import annotations

import json
import math
from collections.abc import Collection
from difflib import get_close_matches
from typing import Any

# Fields of others' rows that mean something this project does not do.
UNSERVED = {
    **dict.fromkeys(("chosen", "rejected", "rejected_response", "rejected_messages"),
                    "preference pairs are not trained on; name the answer to train on 'response'"),
    **dict.fromkeys(("images", "image", "videos", "video"), "pictures are not read; audio and text are"),
    **dict.fromkeys(("tools", "tool_calls", "functions", "function_call"), "tools are not trained on"),
}  # fmt: skip


def refuse_unknown(given: dict[str, Any], known: Collection[str], where: str) -> None:
    """Fields that are not known and hold something."""
    for name, value in given.items():
        if name in known or value is None or value in ("", [], {}):
            continue
        if name in UNSERVED:
            raise ValueError(f"{where}'{short(name)}': {UNSERVED[name]}")
        near = get_close_matches(name, sorted(known), n=1)
        guess = f" Did you mean '{near[0]}'?" if near else ""
        more = "" if where else " Leave it out, put it under 'metadata', or pass it over with --ignore-fields"
        raise ValueError(f"{where}the field '{short(name)}' is not known.{guess}{more}")


def answer_text(value: Any, name: str) -> str:
    """An answer's text; numbers and truth values as JSON writes them."""
    if isinstance(value, bool | int | float):
        if isinstance(value, float) and not math.isfinite(value):
            raise ValueError(f"{name} is no number that can be written")
        return json.dumps(value)
    if isinstance(value, list | dict):
        raise ValueError(f"{name} must be a text, a number, true or false, not {kind_of(value)}: a row has one answer")
    return text_of(value, name)


def text_of(value: Any, name: str) -> str:
    """A text that can be written as UTF-8."""
    if not isinstance(value, str):
        raise ValueError(f"{name} must be text, not {kind_of(value)}")
    if not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError as error:
            raise ValueError(f"{name} holds half a character (a lone surrogate) at {error.start + 1}") from None
    return value


def kind_of(value: Any) -> str:
    """The JSON type of a value, for messages."""
    names = {dict: "an object", list: "a list", str: "text", bool: "true or false", type(None): "null"}
    return names.get(type(value), "a number")


def short(name: str) -> str:
    """A field's name, for a message."""
    shown = name.encode("utf-8", "replace").decode()
    return shown if len(shown) <= 40 else shown[:40] + "..."


def seconds_of(value: Any, name: str, where: str) -> float:
    """A time or a duration: a finite number from 0."""
    try:
        number = float(value) if isinstance(value, int | float) and not isinstance(value, bool) else math.nan
    except OverflowError:
        number = math.inf
    if not 0 <= number < 1e9:
        raise ValueError(f"'{name}' of {where} must be a number of seconds from 0, not {str(value)[:40]!r}")
    return number
