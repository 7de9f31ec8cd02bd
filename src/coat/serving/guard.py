"""Middleware for every request: the key, limits of size and time, the request id, and error responses."""

from __future__ import annotations

import asyncio
import hmac
import json
import logging
import uuid
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass
from typing import Any

from coat.serving.errors import RefusedError, writable
from coat.serving.metrics import Metrics

log = logging.getLogger("coat")
Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
COUNTED = ("/v1/chat/completions", "/v1/audio/transcriptions", "/v1/models", "/health", "/metrics")


@dataclass(frozen=True)
class GuardSettings:
    """Limits of a request.

    Attributes:
        api_key: Asked for on every path under /v1; None asks for none.
        max_body_bytes: Larger bodies are refused as soon as that is known.
        body_timeout: Seconds in which a body must have arrived.
        private_metrics: Ask for the key at /metrics too: right beyond loopback.
    """

    api_key: str | None = None
    max_body_bytes: int = 64 * 2**20
    body_timeout: float = 60.0
    private_metrics: bool = False


class Guard:
    """ASGI middleware around everything that answers requests.

    The whole body is read here, within size and time, and then handed on. Every answer carries an ``x-request-id`` and
    is counted; what fails unforeseen is answered in OpenAI's form, and is one line of the log under that id.
    """

    def __init__(self, app: Any, settings: GuardSettings, metrics: Metrics) -> None:
        self.app, self.settings, self.metrics = app, settings, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        path = scope["path"] if scope["path"] in COUNTED else "other"
        request_id, started = uuid.uuid4().hex, False

        async def counted(message: MutableMapping[str, Any]) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                self.metrics.requests.labels(path, str(message["status"])).inc()
                message = {**message, "headers": [*message["headers"], (b"x-request-id", request_id.encode())]}
            await send(message)

        try:
            await self._pass(scope, receive, counted)
        except RefusedError as refused:
            await _answer(refused, counted)
        except Exception as error:
            log.error("request %s to %s failed: %s: %s", request_id, path, type(error).__name__, _short(error))
            if started:  # half an answer is out: the connection ends, so that nobody takes it for a whole one
                raise
            problem = f"The server failed on this request ({type(error).__name__})."
            await _answer(RefusedError(500, problem, code="server_error"), counted)

    async def _pass(self, scope: Scope, receive: Receive, send: Send) -> None:
        self._check_key(scope)
        try:
            body = await asyncio.wait_for(self._read(scope, receive), self.settings.body_timeout)
        except TimeoutError:
            raise RefusedError(408, f"The body did not arrive within {self.settings.body_timeout:g} s.") from None
        if body is None:  # the client went away
            return
        handed = False

        async def replay() -> MutableMapping[str, Any]:
            nonlocal handed
            if handed:
                return await receive()
            handed = True
            return {"type": "http.request", "body": body, "more_body": False}

        await self.app(scope, replay, send)

    def _check_key(self, scope: Scope) -> None:
        key, path = self.settings.api_key, scope["path"]
        if key is None or not (path.startswith("/v1") or (self.settings.private_metrics and path == "/metrics")):
            return
        scheme, _, given = dict(scope["headers"]).get(b"authorization", b"").partition(b" ")
        if scheme.lower() != b"bearer" or not hmac.compare_digest(given.strip(), key.encode()):
            raise RefusedError(
                401, "The API key is missing or wrong: send it as a Bearer token.", code="invalid_api_key",
                headers={"WWW-Authenticate": "Bearer"},
            )  # fmt: skip

    async def _read(self, scope: Scope, receive: Receive) -> bytes | None:
        limit = self.settings.max_body_bytes
        length = dict(scope["headers"]).get(b"content-length", b"0")
        if length.isdigit() and int(length) > limit:
            raise RefusedError(413, f"The body has {int(length)} bytes; at most {limit} are taken.")
        body = bytearray()
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                return None
            body += message.get("body", b"")
            if len(body) > limit:
                raise RefusedError(413, f"The body has more than {limit} bytes.")
            if not message.get("more_body"):
                return bytes(body)


def _short(error: Exception) -> str:
    """An error's text on one line: it may quote what a client sent."""
    return writable(repr(str(error)))[:300]


async def _answer(refused: RefusedError, send: Send) -> None:
    body = json.dumps(refused.body()).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    # What is left of a refused body is not read: the connection ends here.
    headers.append((b"connection", b"close"))
    headers += [(name.lower().encode(), value.encode()) for name, value in (refused.headers or {}).items()]
    await send({"type": "http.response.start", "status": refused.status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
