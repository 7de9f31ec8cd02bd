"""The interface between an evaluation and whatever runs the model: questions and answers."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Protocol

from coat.audio import Clip
from coat.data.conversation import Conversation, Message, Part
from coat.generation import Reply


@dataclass(frozen=True)
class Request:
    """One question.

    Attributes:
        name: Name in messages.
        messages: The conversation; the last message is the user's.
        load: Decodes the clips.
        seconds: Seconds of audio, to sort by.
        max_new_tokens: Most tokens of the answer.
    """

    name: str
    messages: list[Message]
    load: Callable[[], list[Clip]]
    seconds: float
    max_new_tokens: int

    def conversation(self, hears: float | None) -> Conversation:
        """With its clips decoded, and cut into pieces where a model hears no more at once.

        Args:
            hears: Seconds that the model hears in one clip, if it takes several; None cuts nothing.
        """
        clips = self.load()
        if hears is None or all(clip.seconds <= hears for clip in clips):
            return Conversation(self.messages, clips, self.name)
        return in_pieces(Conversation(self.messages, clips, self.name), hears)


class Backend(Protocol):
    """A model, wherever it runs.

    Attributes:
        name: ``transformers``, ``vllm`` or ``openai``.
        model_path: Path, hub id or address, as given.
        fingerprint: Key of weights and settings; it changes when the answers may.
        profile: The family of models whose prompts it is given.
    """

    name: str
    model_path: str
    fingerprint: str
    profile: str

    def answer(self, requests: Sequence[Request]) -> Iterator[tuple[int, Reply | Exception]]:
        """Index and reply of each, in any order; an error where one failed."""
        ...


def processor_options(*, think: bool, stride: int | None) -> dict[str, Any]:
    """How a request asks a CoAT server or vLLM's plug-in for its thinking block; nothing where as it is configured."""
    if not think:
        return {"audio_think": False}
    return {"audio_think_stride": stride} if stride else {}


def described(options: Mapping[str, Any]) -> str:
    """These options in a fingerprint."""
    if options.get("audio_think") is False:
        return "no block"
    stride = options.get("audio_think_stride")
    return f"block of stride {stride}" if stride else "block"


def in_pieces(conversation: Conversation, hears: float) -> Conversation:
    """Clips that are too long as pieces of equal length, one after another, each an audio part of its own.

    Nothing is cut off: 50 s for a model that hears 30 s are two pieces of 25 s.
    """
    pieces = [_pieces(clip, hears) for clip in conversation.clips]
    rest = iter(pieces)
    messages = []

    def repeated(part: Part) -> list[Part]:
        return [part] * (len(next(rest)) if part["type"] == "audio" else 1)

    for message in conversation.messages:
        content = message["content"]
        if not isinstance(content, str):
            content = [each for part in content for each in repeated(part)]
        messages.append({**message, "content": content})
    return Conversation(messages, [piece for group in pieces for piece in group], conversation.name)


def _pieces(clip: Clip, hears: float) -> list[Clip]:
    count = max(1, math.ceil(clip.seconds / hears - 1e-6))
    ends = [round(place * len(clip.waveform) / count) for place in range(count + 1)]
    return [
        Clip(clip.waveform[first:last], clip.sampling_rate, f"{clip.name}, part {number}")
        for number, (first, last) in enumerate(pairwise(ends), 1)
    ]
