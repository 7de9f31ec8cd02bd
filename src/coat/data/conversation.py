"""A conversation with sound in it: what every other room passes around."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from coat.audio import Clip

Message = dict[str, Any]
Part = dict[str, str]

# Where a clip goes in the text of a row or of a question; in a conversation it is a part.
MARK = "<audio>"


@dataclass(frozen=True)
class Conversation:
    """Messages and the clips that are heard in them.

    Attributes:
        messages: ``{"role", "content"}`` each; content is a text, or a list of ``{"type": "audio"}`` and
            ``{"type": "text", "text": ...}`` parts. Texts may be given with ``<audio>`` where a clip goes: they are
            held as parts.
        clips: In the order of the audio parts.
        name: Its name in messages to the user.

    Example:
        >>> Conversation([{"role": "user", "content": "<audio>What is said?"}], []).messages[0]["content"]
        [{'type': 'audio'}, {'type': 'text', 'text': 'What is said?'}]
    """

    messages: list[Message]
    clips: list[Clip]
    name: str = "prompt"

    def __post_init__(self) -> None:
        object.__setattr__(self, "messages", [in_parts(message) for message in self.messages])


def in_parts(message: Message) -> Message:
    """A message whose ``<audio>`` marks are parts; one whose content is parts, or text alone, stays as it is."""
    content = message["content"]
    if not isinstance(content, str) or MARK not in content:
        return dict(message)
    parts: list[Part] = []
    for place, piece in enumerate(content.split(MARK)):
        parts += [{"type": "audio"}] * (place > 0) + [{"type": "text", "text": piece}] * bool(piece)
    return {**message, "content": parts}


def user_message(text: str, clips: int = 0) -> Message:
    """A question of a user, its clips before it."""
    if not clips:
        return {"role": "user", "content": text}
    return {"role": "user", "content": [{"type": "audio"}] * clips + [{"type": "text", "text": text}] * bool(text)}


def texts_of(message: Message) -> Iterator[str]:
    """The texts of a message, between its clips."""
    content = message["content"]
    yield from [content] if isinstance(content, str) else (part["text"] for part in content if part["type"] == "text")


def with_ending(message: Message, text: str) -> Message:
    """A message that ends with more text."""
    content = message["content"]
    if isinstance(content, str):
        return {**message, "content": content + text}
    *before, last = content
    if last["type"] != "text":
        return {**message, "content": [*content, {"type": "text", "text": text}]}
    return {**message, "content": [*before, {**last, "text": last["text"] + text}]}
