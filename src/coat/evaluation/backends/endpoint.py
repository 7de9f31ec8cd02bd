"""Any endpoint that speaks OpenAI's chat completions with ``input_audio``."""

from __future__ import annotations

import base64
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from typing import Any

from coat.audio import Clip
from coat.audio.libsndfile import encode_sound
from coat.data.conversation import Conversation, Message
from coat.errors import CoatError
from coat.evaluation.backends.base import Request, described, processor_options
from coat.generation import Reply


class EndpointBackend:
    """Asks an OpenAI-compatible server, several questions at once.

    Args:
        url: Its base address, ending in ``/v1``.
        model: The model's name there; the only one it has if None.
        key: API key.
        profile: The family of models whose prompts it is given.
        think: False asks a CoAT server to leave the block out; True says nothing.
        stride: Asks a CoAT server for a think token for so many audio tokens; None says nothing.
        weights: Your own name for the model behind the address; answers are kept under it.
        concurrency: Questions at once.
        hears: Seconds of audio that the model takes in one clip; longer ones are sent in pieces.
        timeout: Seconds for one answer.

    Raises:
        CoatError: The server is not there, or has no such model.
    """

    name = "openai"

    def __init__(
        self,
        url: str,
        *,
        model: str | None = None,
        key: str = "none",
        profile: str = "",
        think: bool = True,
        stride: int | None = None,
        weights: str = "",
        concurrency: int = 8,
        hears: float | None = None,
        timeout: float = 600.0,
    ) -> None:
        self.client = make_client(url, key, timeout=timeout)
        self.model, owner = served_model(self.client, url, model)
        # vLLM takes penalties of a checkpoint's generation_config.json where a request names none.
        self.greedy = {"repetition_penalty": 1.0} if owner in ("vllm", "coat") else {}
        self.model_path, self.profile = url, profile
        self.asks = processor_options(think=think, stride=stride)
        self.concurrency, self.hears = concurrency, hears
        self.fingerprint = f"{self.model} at {url} {weights} | {described(self.asks)}"

    def answer(self, requests: Sequence[Request]) -> Iterator[tuple[int, Reply | Exception]]:
        """See :class:`coat.evaluation.backends.base.Backend`."""
        pool = ThreadPoolExecutor(self.concurrency)
        try:
            asked = {pool.submit(self._ask, request): index for index, request in enumerate(requests)}
            for future in as_completed(asked):
                error = future.exception()
                if isinstance(error, Exception):
                    yield asked[future], error
                else:
                    yield asked[future], future.result()
        finally:
            pool.shutdown(cancel_futures=True)

    def _ask(self, request: Request) -> Reply:
        conversation = request.conversation(self.hears)
        options: dict[str, Any] = dict(self.greedy)
        if self.asks:
            options |= dict.fromkeys(("chat_template_kwargs", "mm_processor_kwargs"), self.asks)
        made = self.client.chat.completions.create(
            model=self.model,
            messages=spoken(conversation),
            temperature=0,
            max_tokens=request.max_new_tokens,
            extra_body=options,
        )
        choice, usage = made.choices[0], made.usage
        if choice.message.content is None:
            raise CoatError(f"{request.name}: the server's answer holds no text ({choice.finish_reason}).")
        return Reply(
            choice.message.content.strip(),
            usage.prompt_tokens if usage else 0,
            think_tokens_of(usage),
            usage.completion_tokens if usage else 0,
            choice.finish_reason != "length",
        )


def think_tokens_of(usage: Any) -> int | None:
    """Tokens of blocks in a prompt, as CoAT's own server counts them; None from servers that do not say."""
    count = getattr(getattr(usage, "prompt_tokens_details", None), "think_tokens", None)
    return int(count) if count is not None else None


def make_client(url: str, key: str, *, timeout: float, retries: int = 6) -> Any:
    """An OpenAI client, which waits and asks again where a server is busy or fails.

    Raises:
        CoatError: The client is not installed.
    """
    try:
        import openai
    except ImportError:
        raise CoatError("Endpoints are asked by OpenAI's client.", "pip install 'coat-audio[eval]'") from None
    return openai.OpenAI(base_url=url, api_key=key, max_retries=retries, timeout=timeout)


def served_model(client: Any, url: str, wanted: str | None) -> tuple[str, str]:
    """The name of a server's model, and who serves it, where it says so.

    Raises:
        CoatError: The server is not there, has no such model, or has several and none is named.
    """
    import openai

    try:
        # A server that is there says so at once; what is asked later is waited for.
        owners = {
            model.id: str(model.owned_by or "") for model in client.with_options(max_retries=1).models.list().data
        }
    except openai.NotFoundError:  # some proxies list nothing
        owners = {}
    except openai.OpenAIError as error:
        raise CoatError(
            f"{url} does not answer: {error}", "Give the base address, such as http://host:8000/v1."
        ) from None
    names = list(owners)
    if wanted is None and len(names) == 1:
        return names[0], owners[names[0]]
    if wanted is None or (names and wanted not in names):
        raise CoatError(f"{url} serves {', '.join(names) or 'no named model'}.", "Name one: --model NAME")
    return wanted, owners.get(wanted, "")


def spoken(conversation: Conversation) -> list[Message]:
    """Messages as OpenAI's API has them, clips inside as WAV of 16 bits."""
    clips = iter(conversation.clips)
    messages = []
    for message in conversation.messages:
        content = message["content"]
        if not isinstance(content, str):
            content = [_sound(next(clips)) if part["type"] == "audio" else part for part in content]
        messages.append({**message, "content": content})
    return messages


def _sound(clip: Clip) -> dict[str, Any]:
    data = base64.b64encode(wav(clip)).decode()
    return {"type": "input_audio", "input_audio": {"data": data, "format": "wav"}}


def wav(clip: Clip) -> bytes:
    """A clip as a file: WAV, 16 bits, which every server reads."""
    return encode_sound(clip.waveform, clip.sampling_rate, container="WAV", subtype="PCM_16")
