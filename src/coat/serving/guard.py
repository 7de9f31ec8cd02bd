"""What is checked before a request is parsed: the key, the size, the patience."""

from __future__ import annotations

import asyncio
import hmac
import json
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass
from typing import Any

from coat.serving.errors import RefusedError
from coat.serving.metrics import Metrics

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
    """

    api_key: str | None = None
    max_body_bytes: int = 64 * 2**20
    body_timeout: float = 60.0


class Guard:
    """ASGI middleware. The whole body is read here, within size and time, and then handed on."""

    def __init__(self, app: Any, settings: GuardSettings, metrics: Metrics) -> None:
        self.app, self.settings, self.metrics = app, settings, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        path = scope["path"] if scope["path"] in COUNTED else "other"

        async def counted(message: MutableMapping[str, Any]) -> None:
            if message["type"] == "http.response.start":
                self.metrics.requests.labels(path, str(message["status"])).inc()
            await send(message)

        try:
            self._check_key(scope)
            body = await asyncio.wait_for(self._read(scope, receive), self.settings.body_timeout)
        except RefusedError as refused:
            await _answer(refused, counted)
            return
        except TimeoutError:
            await _answer(
                RefusedError(408, f"The body did not arrive within {self.settings.body_timeout:g} s."), counted
            )
            return
        if body is None:  # the client went away
            return
        handed = False

        async def replay() -> MutableMapping[str, Any]:
            nonlocal handed
            if handed:
                return await receive()
            handed = True
            return {"type": "http.request", "body": body, "more_body": False}

        await self.app(scope, replay, counted)

    def _check_key(self, scope: Scope) -> None:
        if self.settings.api_key is None or not scope["path"].startswith("/v1"):
            return
        given = dict(scope["headers"]).get(b"authorization", b"")
        if not hmac.compare_digest(given, b"Bearer " + self.settings.api_key.encode()):
            raise RefusedError(
                401, "The API key is missing or wrong: send it as a Bearer token.", code="invalid_api_key"
            )

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


async def _answer(refused: RefusedError, send: Send) -> None:
    body = json.dumps(refused.body()).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    # What is left of a refused body is not read: the connection ends here.
    headers.append((b"connection", b"close"))
    await send({"type": "http.response.start", "status": refused.status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
