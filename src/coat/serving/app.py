"""The embedded server: OpenAI's chat and transcription endpoints on one model."""

from __future__ import annotations

import asyncio
import json
import time
import uuid
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from difflib import get_close_matches
from functools import partial
from typing import Annotated, Any

from anyio import to_thread
from fastapi import FastAPI, Form, Request, UploadFile
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware

from coat.audio import decode_audio
from coat.data.conversation import Conversation
from coat.errors import CoatError
from coat.serving.engine import Engine, Job, QueueFullError, StoppingError
from coat.serving.errors import RefusedError
from coat.serving.guard import Guard, GuardSettings
from coat.serving.metrics import Metrics
from coat.serving.remote import fetch
from coat.serving.schema import ChatMessage, ChatRequest, Options, ProcessorOptions, conversation_of, whole_text
from coat.serving.transcription import check_form, check_format, language_name
from coat.versions import VERSION

KNOWN_FIELDS = [*ChatRequest.model_fields, *ChatMessage.model_fields, *ProcessorOptions.model_fields]
TAGS = ("text", "input_audio", "audio_url")
SAMPLES_A_SECOND = 2 * 48_000
# Seconds: between looks for a client that went away, and after which a client may ask again elsewhere.
LOOK_EVERY, RETRY_AFTER = 0.5, 5


@dataclass(frozen=True)
class ServerSettings:
    """One server.

    Attributes:
        name: The model's name in requests.
        guard: Key and limits of bodies.
        allowed_hosts: Hosts that audio may be fetched from; none by default.
        allowed_origins: Origins of web pages that may call the server from a browser; ``*`` for any.
        max_new_tokens: Longest answer, and what is answered where a request names no length.
        request_timeout: Seconds from arrival to last token.
        transcription_prompt: The prompt of /v1/audio/transcriptions.
    """

    name: str
    guard: GuardSettings = field(default_factory=GuardSettings)
    allowed_hosts: tuple[str, ...] = ()
    allowed_origins: tuple[str, ...] = ()
    max_new_tokens: int = 1024
    request_timeout: float = 300.0
    transcription_prompt: str = "Transcribe the speech."


def make_app(engine: Engine, settings: ServerSettings, metrics: Metrics | None = None) -> FastAPI:
    """The ASGI application.

    Args:
        engine: Answers.
        settings: The settings of the server.
        metrics: To count in; new ones if None.
    """
    metrics = metrics or Metrics()
    metrics.watch(engine)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        await to_thread.run_sync(engine.stop)

    app = FastAPI(title="coat", version=VERSION, lifespan=lifespan, docs_url=None, redoc_url=None)
    app.add_middleware(Guard, settings=settings.guard, metrics=metrics)
    if settings.allowed_origins:  # around the guard: a browser asks first without the key
        app.add_middleware(
            CORSMiddleware,
            allow_origins=list(settings.allowed_origins),
            allow_methods=["GET", "POST"],
            allow_headers=["Authorization", "Content-Type"],
            expose_headers=["x-request-id", "Retry-After"],
        )
    _add_error_handlers(app)
    service = _Service(engine, settings, metrics)

    @app.get("/health")
    @app.head("/health", include_in_schema=False)
    async def health() -> Response:
        return JSONResponse({"status": "ok" if engine.alive else "stopped"}, status_code=200 if engine.alive else 503)

    @app.get("/metrics")
    async def read_metrics() -> Response:
        return Response(metrics.text(), media_type="text/plain; version=0.0.4")

    @app.get("/v1/models")
    @app.head("/v1/models", include_in_schema=False)
    async def models() -> dict[str, Any]:
        return {"object": "list", "data": [service.card()]}

    @app.get("/v1/models/{name:path}")
    async def model(name: str) -> dict[str, Any]:
        service.check_model(name)
        return service.card()

    @app.post("/v1/chat/completions")
    async def chat(body: ChatRequest, request: Request) -> Response:
        return await service.chat(body, request)

    @app.post("/v1/audio/transcriptions")
    async def transcriptions(
        request: Request,
        file: UploadFile,
        model: Annotated[str, Form()],
        prompt: Annotated[str, Form(max_length=10_000)] = "",
        language: Annotated[str, Form(max_length=64)] = "",
        response_format: Annotated[str, Form()] = "json",
        temperature: Annotated[float, Form(ge=0, le=2)] = 0.0,
        stream: Annotated[bool, Form()] = False,
    ) -> Response:
        check_form(await request.form())
        service.check_model(model)
        check_format(response_format)
        spoken = f"({language_name(language)})" if language else ""
        question = " ".join(filter(None, (settings.transcription_prompt, spoken, prompt)))
        return await service.transcribe(await file.read(), question, temperature, response_format, stream, request)

    return app


def _add_error_handlers(app: FastAPI) -> None:
    @app.exception_handler(RefusedError)
    async def refused(_: Request, error: RefusedError) -> Response:
        return JSONResponse(error.body(), status_code=error.status, headers=error.headers)

    @app.exception_handler(RequestValidationError)
    async def malformed(_: Request, error: RequestValidationError) -> Response:
        problems = error.errors()[:8]
        text = "; ".join(_told(problem) for problem in problems)
        refused = RefusedError(400, f"The request is malformed: {text}", param=_field(problems[0]) or None)
        return JSONResponse(refused.body(), status_code=400)

    @app.exception_handler(HTTPException)
    async def plain(_: Request, error: HTTPException) -> Response:
        body = RefusedError(error.status_code, str(error.detail)).body()
        return JSONResponse(body, status_code=error.status_code, headers=error.headers)


def _field(problem: Mapping[str, Any]) -> str:
    """Where a request is malformed, as OpenAI writes it: ``messages[0].content``."""
    loc = problem["loc"][1:]
    # Between them stand the names of a union's members, which no client knows.
    parts = [
        part
        for before, part in zip(("", *loc), loc, strict=False)
        if not (
            isinstance(part, str)
            and ("[" in part or part.endswith("str") or (isinstance(before, int) and part in TAGS))
        )
    ]
    named = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in parts)
    return named.removeprefix(".")[:200]


def _told(problem: Mapping[str, Any]) -> str:
    field = _field(problem)
    if problem["type"] != "extra_forbidden":
        return f"{field}: {problem['msg']}" if field else problem["msg"]
    near = get_close_matches(field.rpartition(".")[2], KNOWN_FIELDS, n=1)
    return f"{field} is not served here." + (f" Did you mean '{near[0]}'?" if near else "")


class _Service:
    """Requests to jobs, and jobs to responses."""

    def __init__(self, engine: Engine, settings: ServerSettings, metrics: Metrics) -> None:
        self.engine, self.settings, self.metrics = engine, settings, metrics
        self.created = int(time.time())
        spec = engine.model.backbone.audio_spec
        self.max_seconds = spec.max_seconds
        # Stereo at 48 kHz, for as long as a prompt may be: more would be decoded for nothing.
        self.max_samples = round(SAMPLES_A_SECOND * engine.limits.max_prompt_tokens / spec.token_rate)
        self.vocabulary = engine.model.backbone.embedding.weight.shape[0]

    def card(self) -> dict[str, Any]:
        return {"id": self.settings.name, "object": "model", "created": self.created, "owned_by": "coat"}

    def check_model(self, name: str) -> None:
        if name != self.settings.name:
            raise RefusedError(
                404, f"There is no model '{name[:200]}' here; this server has '{self.settings.name}'.",
                param="model", code="model_not_found",
            )  # fmt: skip

    async def chat(self, body: ChatRequest, request: Request) -> Response:
        self.check_model(body.model)
        began, options = time.monotonic(), body.options(self.settings.max_new_tokens, self.vocabulary)
        download = partial(fetch, allowed=self.settings.allowed_hosts, max_bytes=self.settings.guard.max_body_bytes)
        conversation = await conversation_of(
            body.messages, download, max_seconds=self.max_seconds, max_samples=self.max_samples
        )
        answer = await self._submit(conversation, options, began)
        head = {"id": f"chatcmpl-{uuid.uuid4().hex}", "created": int(time.time()), "model": self.settings.name}
        if body.stream:
            usage = body.stream_options is not None and body.stream_options.include_usage
            return StreamingResponse(self._chunks(answer, head, usage), media_type="text/event-stream")
        job = await answer.whole(request)
        choice = {
            "index": 0,
            "message": {"role": "assistant", "content": job.text, "refusal": None},
            "finish_reason": job.finish_reason,
            "logprobs": None,
        }
        return JSONResponse({**head, "object": "chat.completion", "choices": [choice], "usage": usage_of(job)})

    async def transcribe(
        self, data: bytes, question: str, temperature: float, form: str, stream: bool, request: Request
    ) -> Response:
        began = time.monotonic()
        try:
            decoded = partial(decode_audio, max_seconds=self.max_seconds, max_samples=self.max_samples)
            clip = await to_thread.run_sync(decoded, data, "The file")
            question = whole_text(question)
        except CoatError as error:
            raise RefusedError(400, str(error), param="file") from None
        except ValueError as error:
            raise RefusedError(400, f"The request is malformed: {error}.", param="prompt") from None
        content = [{"type": "audio"}, {"type": "text", "text": question}]
        conversation = Conversation([{"role": "user", "content": content}], [clip], "the request")
        options = Options(max_tokens=self.settings.max_new_tokens, temperature=temperature)
        answer = await self._submit(conversation, options, began)
        if stream:
            return StreamingResponse(self._transcript(answer), media_type="text/event-stream")
        job = await answer.whole(request)
        return (
            PlainTextResponse(job.text)
            if form == "text"
            else JSONResponse({"text": job.text, "usage": {"type": "tokens", **_transcription_usage(job)}})
        )

    async def _submit(self, conversation: Conversation, options: Options, began: float) -> _Answer:
        """Queue a request; its time runs since it arrived, decoding included."""
        deadline = began + self.settings.request_timeout
        loop = asyncio.get_running_loop()
        pieces: asyncio.Queue[str | None] = asyncio.Queue()

        def hear(piece: str | None) -> None:
            with suppress(RuntimeError):  # the loop may be gone when the server is going down
                loop.call_soon_threadsafe(pieces.put_nowait, piece)

        if time.monotonic() > deadline:
            raise _too_slow()
        try:
            job = await to_thread.run_sync(self.engine.submit, conversation, options, hear)
        except QueueFullError:
            raise RefusedError(
                429, f"{self.engine.limits.max_queue} requests wait already: try again soon.",
                code="queue_full", headers={"Retry-After": "1"},
            ) from None  # fmt: skip
        except StoppingError as error:
            raise _stopping(error) from None
        except CoatError as error:
            raise RefusedError(400, str(error), param="messages") from None
        return _Answer(job, pieces, deadline, self.metrics)

    async def _chunks(self, answer: _Answer, head: dict[str, Any], usage: bool) -> AsyncIterator[str]:
        def chunk(delta: dict[str, Any], finish: str | None = None) -> str:
            choice = {"index": 0, "delta": delta, "finish_reason": finish, "logprobs": None}
            return _event({**head, "object": "chat.completion.chunk", "choices": [choice]})

        try:
            yield chunk({"role": "assistant", "content": ""})
            async for piece in answer:
                yield chunk({"content": piece})
            yield chunk({}, answer.job.finish_reason)
            if usage:
                yield _event({**head, "object": "chat.completion.chunk", "choices": [], "usage": usage_of(answer.job)})
        except RefusedError as refused:
            yield _event(refused.body())
        yield "data: [DONE]\n\n"

    async def _transcript(self, answer: _Answer) -> AsyncIterator[str]:
        try:
            async for piece in answer:
                yield _event({"type": "transcript.text.delta", "delta": piece})
            usage = {"type": "tokens", **_transcription_usage(answer.job)}
            yield _event({"type": "transcript.text.done", "text": answer.job.text, "usage": usage})
        except RefusedError as refused:
            yield _event(refused.body())


class _Answer:
    """An answer on its way; given up when nobody reads it any more or when it takes too long."""

    def __init__(self, job: Job, pieces: asyncio.Queue[str | None], deadline: float, metrics: Metrics) -> None:
        self.job, self.metrics = job, metrics
        self._pieces = pieces
        self._deadline = deadline

    async def __aiter__(self) -> AsyncIterator[str]:
        try:
            while (piece := await self._next(self._deadline - time.monotonic())) is not None:
                yield piece
            self._check()
        finally:
            self.job.cancelled = self.job.finish_reason is None
            self.metrics.answered(self.job)

    async def whole(self, request: Request) -> Job:
        """The finished job.

        Raises:
            RefusedError: It failed or took too long.
        """
        looked = time.monotonic()
        try:
            while True:
                left = self._deadline - time.monotonic()
                try:
                    if await self._next(min(left, LOOK_EVERY)) is None:
                        break
                except RefusedError:
                    if left <= LOOK_EVERY:
                        raise
                # Pieces may come faster than this waits: whoever left is looked for all the same.
                if time.monotonic() - looked >= LOOK_EVERY:
                    looked = time.monotonic()
                    if await request.is_disconnected():
                        raise RefusedError(499, "The client went away.")
            self._check()
            return self.job
        finally:
            self.job.cancelled = self.job.finish_reason is None
            self.metrics.answered(self.job)

    async def _next(self, timeout: float) -> str | None:
        try:
            return await asyncio.wait_for(self._pieces.get(), max(timeout, 0.001))
        except TimeoutError:
            raise _too_slow() from None

    def _check(self) -> None:
        error = self.job.error
        if isinstance(error, StoppingError):
            raise _stopping(error)
        if isinstance(error, CoatError):
            raise RefusedError(503, str(error), code="unavailable")
        if error is not None:
            raise RefusedError(500, f"The model failed on this request ({type(error).__name__}).", code="model_error")


def _too_slow() -> RefusedError:
    return RefusedError(504, "The answer took longer than this server allows.", code="timeout")


def _stopping(error: StoppingError) -> RefusedError:
    return RefusedError(503, str(error), code="unavailable", headers={"Retry-After": str(RETRY_AFTER)})


def usage_of(job: Job) -> dict[str, Any]:
    """Tokens of a job; the block's are part of the prompt and shown apart."""
    prompt, completion = job.num_prompt_tokens, len(job.tokens)
    return {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
        "prompt_tokens_details": {"audio_tokens": job.num_audio_tokens, "think_tokens": job.num_think_tokens},
    }


def _transcription_usage(job: Job) -> dict[str, Any]:
    usage = usage_of(job)
    return {
        "input_tokens": usage["prompt_tokens"],
        "output_tokens": usage["completion_tokens"],
        "total_tokens": usage["total_tokens"],
        "input_token_details": usage["prompt_tokens_details"],
    }


def _event(content: dict[str, Any]) -> str:
    return f"data: {json.dumps(content, ensure_ascii=False)}\n\n"
