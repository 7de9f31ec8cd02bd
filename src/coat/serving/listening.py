"""uvicorn, for a server that strangers can reach: connections are bounded, and a signal is heard at once."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from types import FrameType
from typing import Any, ClassVar

import h11
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from coat.errors import CoatError

HEADER_SECONDS = 10.0
MAX_CONNECTIONS, MAX_BACKLOG = 1024, 256


def bounds() -> tuple[int, int]:
    """Connections that may be open at once, and those that are accepted in one go, by the limit of file descriptors.

    A quarter is spared for uploads, downloads and connections on their way out, of which there may be as many as are
    accepted in one go.
    """
    if find_spec("resource") is None:  # Windows, where sockets are not file descriptors
        return MAX_CONNECTIONS, MAX_BACKLOG
    import resource

    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    held = len(list(Path("/proc/self/fd").iterdir())) if Path("/proc/self/fd").is_dir() else 64
    backlog = min(MAX_BACKLOG, soft // 4)
    return max(8, min(MAX_CONNECTIONS, soft - held - backlog)), backlog


class BoundedProtocol(H11Protocol):
    """HTTP whose connections are bounded, in number and in the time that a request's head may take to come.

    Where there are too many, the one that has been silent for longest makes room; where none is silent, the newcomer is
    turned away. uvicorn makes one for each connection, and hands over nothing of ours: a server's bounds are those of a
    class of its own, from :func:`bounded`.
    """

    most: ClassVar[int] = MAX_CONNECTIONS
    header_seconds: ClassVar[float] = HEADER_SECONDS
    _silent: ClassVar[dict[H11Protocol, None]] = {}  # in the order in which they began to wait
    _waiting: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        """Called for every connection that was accepted."""
        if len(self.connections) >= self.most:
            oldest = next((each for each in self._silent if each in self.connections), None)
            if oldest is None:
                transport.abort()
                return
            self.connections.discard(oldest)  # its own end comes in a moment
            del self._silent[oldest]
            oldest.transport.abort()
        super().connection_made(transport)
        self._await_head()

    def data_received(self, data: bytes) -> None:
        """Called with whatever arrives."""
        if self.transport is None:  # refused, and not gone yet
            return
        super().data_received(data)
        if self.conn.their_state is h11.IDLE:
            self._await_head()  # a head that comes in crumbs has no more time than one that does not come
        else:
            self._spoken()

    def connection_lost(self, exc: Exception | None) -> None:
        """Called when it is closed."""
        self._spoken()
        if self.transport is not None:
            super().connection_lost(exc)

    def _await_head(self) -> None:
        if self._waiting is None:
            self._waiting = self.loop.call_later(self.header_seconds, self._give_up)
            self._silent[self] = None

    def _spoken(self) -> None:
        if self._waiting is not None:
            self._waiting.cancel()
            self._waiting = None
        self._silent.pop(self, None)

    def _give_up(self) -> None:
        self._spoken()
        if not self.transport.is_closing():
            self.transport.close()


def bounded(most: int, header_seconds: float = HEADER_SECONDS) -> type[BoundedProtocol]:
    """The protocol of one server.

    Args:
        most: Connections that may be open at once.
        header_seconds: Most seconds until a request's head has come.
    """
    return type("Bounded", (BoundedProtocol,), {"most": most, "header_seconds": header_seconds, "_silent": {}})


class Server(uvicorn.Server):
    """Says so at once when a signal asks it to end.

    Args:
        config: uvicorn's.
        drain: Called at the first signal: what waits is refused, what runs goes on within the grace period.
    """

    def __init__(self, config: uvicorn.Config, drain: Callable[[], None]) -> None:
        super().__init__(config)
        self._drain = drain

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Called by the signal."""
        self._drain()
        super().handle_exit(sig, frame)


def check_port(host: str, port: int) -> None:
    """Before a model is loaded for minutes.

    Raises:
        CoatError: Nothing can listen there.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        with socket.socket(family) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((host, port))
    except OSError as error:
        raise CoatError(f"Nothing can listen on {host}:{port} ({error.strerror}).", "Give another --port.") from None
