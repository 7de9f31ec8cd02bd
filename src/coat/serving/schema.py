"""Requests as OpenAI's clients send them, and the conversations they hold."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from anyio import to_thread
from pydantic import BaseModel, ConfigDict, Field, model_validator

from coat.audio import Clip, check_clip
from coat.audio.decoding import decode
from coat.audio.downmix import to_mono
from coat.data.conversation import Conversation
from coat.errors import CoatError
from coat.serving.errors import RefusedError

MAX_MESSAGES, MAX_CLIPS, MAX_STOPS, MAX_BIASES = 256, 64, 16, 1024
MAX_TEXT = 1_000_000
MAX_STRIDE = 1000


class _Part(BaseModel):
    """A part of a request: a field that is not known, and is not empty, is refused by name.

    ``null`` is the default of every optional field, as OpenAI's client sends it; and what its answers hold beside
    their text (``"refusal": null``, ``"tool_calls": []``) may come back with them.
    """

    model_config = ConfigDict(extra="forbid")

    @model_validator(mode="before")
    @classmethod
    def _empty_is_absent(cls, given: Any) -> Any:
        if not isinstance(given, dict):
            return given
        fields = cls.model_fields
        return {
            name: value
            for name, value in given.items()
            if not (value is None and not (name in fields and fields[name].is_required()))
            and not (name not in fields and value in ("", [], {}))
        }


class TextPart(_Part):
    """Text."""

    type: Literal["text"]
    text: str


class InputAudio(_Part):
    """A file in base64. The format is read from the file itself."""

    data: str
    format: str = Field("wav", max_length=64)


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
    """One turn. Only an assistant's may be without content."""

    role: Literal["system", "developer", "user", "assistant"]
    content: Annotated[str, Field(max_length=MAX_TEXT)] | list[Part] | None = None

    @model_validator(mode="after")
    def _users_say_something(self) -> ChatMessage:
        if self.content is None and self.role != "assistant":
            raise ValueError(f"a {self.role} message must have content")
        return self


class StreamOptions(_Part):
    """The last chunk of a stream."""

    include_usage: bool = False


class ProcessorOptions(_Part):
    """As vLLM has them."""

    audio_think: bool = True
    audio_think_stride: int | None = Field(None, ge=1, le=MAX_STRIDE)


class ChatRequest(_Part):
    """``/v1/chat/completions``. What would change the answer and is not served is refused, never ignored."""

    model: str
    messages: list[ChatMessage] = Field(min_length=1, max_length=MAX_MESSAGES)
    max_tokens: int | None = Field(None, ge=1)
    max_completion_tokens: int | None = Field(None, ge=1)
    temperature: float = Field(0.0, ge=0, le=2)
    top_p: float = Field(1.0, gt=0, le=1)
    top_k: int = Field(-1, ge=-1)
    min_p: float = Field(0.0, ge=0, le=1)
    frequency_penalty: float = Field(0.0, ge=-2, le=2)
    presence_penalty: float = Field(0.0, ge=-2, le=2)
    repetition_penalty: float = Field(1.0, gt=0, le=10)
    logit_bias: dict[str, Annotated[float, Field(ge=-100, le=100)]] = Field(default_factory=dict, max_length=MAX_BIASES)
    seed: int | None = Field(None, ge=0, lt=2**63)
    stop: str | Annotated[list[str], Field(max_length=MAX_STOPS)] | None = None
    stream: bool = False
    stream_options: StreamOptions | None = None
    n: Literal[1] = 1
    logprobs: Literal[False] = False
    top_logprobs: Literal[0] = 0
    tools: Annotated[list[Any], Field(max_length=0)] = Field(default_factory=list)
    tool_choice: Literal["none", "auto"] = "none"
    parallel_tool_calls: bool = True
    modalities: list[Literal["text"]] = Field(default_factory=list, max_length=1)
    response_format: dict[str, Any] | None = None
    mm_processor_kwargs: ProcessorOptions = ProcessorOptions()
    chat_template_kwargs: ProcessorOptions = ProcessorOptions()
    # Of bookkeeping; no answer depends on them.
    user: str = ""
    metadata: dict[str, Any] = Field(default_factory=dict)
    store: Literal[False] = False
    service_tier: Literal["auto", "default"] = "auto"
    safety_identifier: str = ""
    prompt_cache_key: str = ""

    @model_validator(mode="before")
    @classmethod
    def _texts_are_whole(cls, given: Any) -> Any:
        waiting = [given]
        while waiting:
            value = waiting.pop()
            if isinstance(value, dict):
                waiting += [*value.keys(), *value.values()]
            elif isinstance(value, list):
                waiting += value
            elif isinstance(value, str) and not value.isascii():
                whole_text(value)
        return given

    def options(self, limit: int, vocabulary: int) -> Options:
        """How to answer, with at most ``limit`` tokens, by a model with so many tokens.

        Raises:
            RefusedError: A field asks for something that is not served.
        """
        if self.response_format not in (None, {}, {"type": "text"}):
            raise RefusedError(400, "Only text answers are served.", param="response_format")
        if self.stream_options is not None and not self.stream:
            raise RefusedError(400, "stream_options go with stream: true.", param="stream_options")
        asked = self.max_completion_tokens or self.max_tokens or limit
        stops = [self.stop] if isinstance(self.stop, str) else self.stop or []
        return Options(
            max_tokens=min(asked, limit),
            temperature=self.temperature,
            top_p=self.top_p,
            top_k=max(self.top_k, 0),
            min_p=self.min_p,
            frequency_penalty=self.frequency_penalty,
            presence_penalty=self.presence_penalty,
            repetition_penalty=self.repetition_penalty,
            logit_bias={_token(name, vocabulary): bias for name, bias in self.logit_bias.items()},
            seed=self.seed,
            stop=[stop for stop in stops if stop],
            think=self.mm_processor_kwargs.audio_think and self.chat_template_kwargs.audio_think,
            stride=self.mm_processor_kwargs.audio_think_stride or self.chat_template_kwargs.audio_think_stride,
        )


def whole_text(text: str) -> str:
    """A text that can be written as UTF-8.

    Raises:
        ValueError: It holds half a character.
    """
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ValueError("a text holds half a character (a lone surrogate)") from None
    return text


def _token(name: str, vocabulary: int) -> int:
    if not (name.isascii() and name.isdigit() and len(name) <= len(str(vocabulary)) and int(name) < vocabulary):
        raise RefusedError(
            400, f"logit_bias has the key '{name[:40]}'; its keys are ids of tokens below {vocabulary}.",
            param="logit_bias",
        )  # fmt: skip
    return int(name)


@dataclass(frozen=True)
class Options:
    """How to answer one request.

    Attributes:
        max_tokens: Most tokens of the answer.
        temperature: 0 takes the likeliest token.
        top_p: Sample among the likeliest tokens that hold so much probability.
        top_k: Sample among so many tokens; 0 sets no limit.
        min_p: Sample among tokens at least so likely, relative to the likeliest.
        frequency_penalty: Taken off a token's logit each time that the answer holds it.
        presence_penalty: Taken off once for a token that the answer holds.
        repetition_penalty: Divisor of the positive logits of tokens in prompt and answer, and factor of their
            negative ones.
        logit_bias: Added to logits, by token.
        seed: Seed of sampling; two requests with one seed answer alike, whatever they are batched with.
        stop: Texts that end an answer, and are not part of it.
        think: Whether there is a thinking block.
        stride: Audio tokens for each think token; as the model is configured if None.
    """

    max_tokens: int = 256
    temperature: float = 0.0
    top_p: float = 1.0
    top_k: int = 0
    min_p: float = 0.0
    frequency_penalty: float = 0.0
    presence_penalty: float = 0.0
    repetition_penalty: float = 1.0
    logit_bias: dict[int, float] = field(default_factory=dict)
    seed: int | None = None
    stop: list[str] = field(default_factory=list)
    think: bool = True
    stride: int | None = None


async def conversation_of(
    messages: list[ChatMessage],
    fetch: Callable[[str], Awaitable[bytes]],
    *,
    max_seconds: float,
    max_samples: int,
) -> Conversation:
    """Messages with their audio decoded.

    Args:
        messages: As they came.
        fetch: Downloads http(s) URLs, or refuses to.
        max_seconds: The longest clip.
        max_samples: Samples that all clips may have together, over all their channels, as they are decoded.

    Raises:
        RefusedError: A part cannot be decoded; the message names which.
    """
    clips: list[Clip] = []
    turns = []
    for index, message in enumerate(messages):
        given = message.content or ""
        parts = [TextPart(type="text", text=given)] if isinstance(given, str) else given
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
            clip, decoded = await to_thread.run_sync(_decode, data, where, max_seconds, max_samples)
            clips.append(clip)
            max_samples -= decoded
            content.append({"type": "audio"})
        turns.append({"role": "system" if message.role == "developer" else message.role, "content": content})
    if turns[-1]["role"] != "user":
        raise RefusedError(400, "The last message must be the user's.", param=f"messages[{len(turns) - 1}]")
    return Conversation(turns, clips, "the request")


async def _bytes_of(part: InputAudioPart | AudioUrlPart, where: str, fetch: Callable[[str], Awaitable[bytes]]) -> bytes:
    if isinstance(part, InputAudioPart):
        return decode_base64(part.input_audio.data, where)
    url = part.audio_url.url
    scheme = url.partition(":")[0].lower()
    if scheme == "data":
        return decode_base64(url, where)
    if scheme in ("http", "https"):
        return await fetch(url)
    raise RefusedError(400, f"{where}: audio comes by data: or http(s) URL.", param=where)


def decode_base64(text: str, where: str) -> bytes:
    """Bytes of base64, with line breaks or without; ``data:`` URLs too.

    Raises:
        RefusedError: It is not base64.
    """
    if text[:5].lower() == "data:":
        head, comma, text = text.partition(",")
        if not comma or not head.lower().endswith(";base64"):
            raise RefusedError(400, f"{where}: the data: URL must be base64.", param=where)
    try:
        return base64.b64decode("".join(text.split()), validate=True)
    except (binascii.Error, ValueError) as error:
        raise RefusedError(400, f"{where}: the audio is not base64 ({error}).", param=where) from None


def _decode(data: bytes, where: str, max_seconds: float, max_samples: int) -> tuple[Clip, int]:
    """A clip, and how many samples were decoded for it, over all its channels."""
    name = f"The audio of {where}"
    try:
        samples, rate = decode(data, name, max_seconds=max_seconds, max_samples=max_samples)
        return check_clip(Clip(to_mono(samples, name), rate, name), max_seconds=max_seconds), samples.size
    except CoatError as error:
        raise RefusedError(400, str(error), param=where) from None
