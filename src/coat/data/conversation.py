"""A conversation with sound in it: what every other room passes around."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from coat.audio import Clip

Message = dict[str, Any]


@dataclass(frozen=True)
class Conversation:
    """Messages and the clips that their ``<audio>`` marks stand for.

    Attributes:
        messages: ``{"role", "content"}`` each.
        clips: In the order of the marks.
        name: Its name in messages to the user.
    """

    messages: list[Message]
    clips: list[Clip]
    name: str = "prompt"
