"""Requests as OpenAI's clients send them, and the conversations they hold."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from anyio import to_thread
from pydantic import BaseModel, ConfigDict, Field

from coat.audio import Clip, decode_audio
from coat.data.conversation import Conversation
from coat.errors import CoatError
from coat.serving.errors import RefusedError

MAX_MESSAGES, MAX_CLIPS, MAX_STOPS = 256, 64, 16


class _Part(BaseModel):
    model_config = ConfigDict(extra="ignore")


class TextPart(_Part):
    """Text."""

    type: Literal["text"]
    text: str


class InputAudio(_Part):
    """A file in base64."""

    data: str
    format: str = "wav"


class InputAudioPart(_Part):
    """OpenAI's own form."""

    type: Literal["input_audio"]
    input_audio: InputAudio


class Url(_Part):
    """A data: URL, or http(s) where the server allows the host."""

    url: str


class AudioUrlPart(_Part):
    """vLLM's form."""

    type: Literal["audio_url"]
    audio_url: Url


Part = Annotated[TextPart | InputAudioPart | AudioUrlPart, Field(discriminator="type")]


class ChatMessage(_Part):
    """One turn."""

    role: Literal["system", "developer", "user", "assistant"]
    content: str | list[Part] = Field(max_length=1_000_000)


class StreamOptions(_Part):
    """What a stream ends with."""

    include_usage: bool = False


class ProcessorOptions(_Part):
    """As vLLM has them."""

    audio_think: bool = True


class ChatRequest(_Part):
    """``/v1/chat/completions``. Fields that would change the answer and are not served are refused, not ignored."""

    model: str
    messages: list[ChatMessage] = Field(min_length=1, max_length=MAX_MESSAGES)
    max_tokens: int | None = Field(None, ge=1)
    max_completion_tokens: int | None = Field(None, ge=1)
    temperature: float = Field(0.0, ge=0, le=2)
    top_p: float = Field(1.0, gt=0, le=1)
    seed: int | None = Field(None, ge=0, lt=2**63)
    stop: str | list[str] | None = Field(None, max_length=MAX_STOPS)
    stream: bool = False
    stream_options: StreamOptions | None = None
    n: Literal[1] | None = None
    logprobs: Literal[False] | None = None
    tools: Literal[None] = None
    response_format: dict[str, Any] | None = None
    mm_processor_kwargs: ProcessorOptions = ProcessorOptions()

    def options(self, limit: int) -> Options:
        """How to answer, with at most ``limit`` tokens."""
        if self.response_format not in (None, {"type": "text"}):
            raise RefusedError(400, "Only text answers are served.", param="response_format")
        asked = self.max_completion_tokens or self.max_tokens or limit
        stops = [self.stop] if isinstance(self.stop, str) else self.stop or []
        return Options(
            max_tokens=min(asked, limit),
            temperature=self.temperature,
            top_p=self.top_p,
            seed=self.seed,
            stop=[stop for stop in stops if stop],
            think=self.mm_processor_kwargs.audio_think,
        )


@dataclass(frozen=True)
class Options:
    """How to answer one request.

    Attributes:
        max_tokens: Where the answer is cut at the latest.
        temperature: 0 takes the likeliest token.
        top_p: Sample among the likeliest tokens that hold so much probability.
        seed: Of sampling; two requests with one seed answer alike, whatever they are batched with.
        stop: Texts that end an answer, and are not part of it.
        think: With the block.
    """

    max_tokens: int = 256
    temperature: float = 0.0
    top_p: float = 1.0
    seed: int | None = None
    stop: list[str] = field(default_factory=list)
    think: bool = True


async def conversation_of(
    messages: list[ChatMessage], fetch: Callable[[str], Awaitable[bytes]], *, max_seconds: float
) -> Conversation:
    """Messages with their audio decoded.

    Args:
        messages: As they came.
        fetch: Downloads http(s) URLs, or refuses to.
        max_seconds: The longest clip.

    Raises:
        RefusedError: A part cannot be decoded; the message names which.
    """
    clips: list[Clip] = []
    turns = []
    for index, message in enumerate(messages):
        parts = [TextPart(type="text", text=message.content)] if isinstance(message.content, str) else message.content
        content: list[dict[str, str]] = []
        for number, part in enumerate(parts):
            where = f"messages[{index}].content[{number}]"
            if isinstance(part, TextPart):
                content.append({"type": "text", "text": part.text})
                continue
            if message.role != "user":
                raise RefusedError(400, f"{where}: only users send audio.", param=where)
            if len(clips) == MAX_CLIPS:
                raise RefusedError(400, f"At most {MAX_CLIPS} clips in a request.", param=where)
            data = await _bytes_of(part, where, fetch)
            clips.append(await to_thread.run_sync(_decode, data, where, max_seconds))
            content.append({"type": "audio"})
        turns.append({"role": "system" if message.role == "developer" else message.role, "content": content})
    if turns[-1]["role"] != "user":
        raise RefusedError(400, "The last message must be the user's.", param=f"messages[{len(turns) - 1}]")
    return Conversation(turns, clips, "the request")


async def _bytes_of(part: InputAudioPart | AudioUrlPart, where: str, fetch: Callable[[str], Awaitable[bytes]]) -> bytes:
    if isinstance(part, InputAudioPart):
        return decode_base64(part.input_audio.data, where)
    url = part.audio_url.url
    scheme, _, rest = url.partition(":")
    if scheme == "data":
        head, comma, data = rest.partition(",")
        if not comma or not head.endswith(";base64"):
            raise RefusedError(400, f"{where}: the data: URL must be base64.", param=where)
        return decode_base64(data, where)
    if scheme in ("http", "https"):
        return await fetch(url)
    raise RefusedError(400, f"{where}: audio comes by data: or http(s) URL.", param=where)


def decode_base64(text: str, where: str) -> bytes:
    """Bytes of base64.

    Raises:
        RefusedError: It is not base64.
    """
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise RefusedError(400, f"{where}: the audio is not base64 ({error}).", param=where) from None


def _decode(data: bytes, where: str, max_seconds: float) -> Clip:
    try:
        return decode_audio(data, f"The audio of {where}", max_seconds=max_seconds)
    except CoatError as error:
        raise RefusedError(400, str(error), param=where) from None
