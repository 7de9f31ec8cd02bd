"""Error responses."""

from __future__ import annotations

from typing import Any


class RefusedError(Exception):
    """A request that is answered with an error in OpenAI's form.

    Attributes:
        status: HTTP status.
        message: The problem and its remedy.
        param: The field that was wrong.
        code: A word for programs.
        headers: To send along.
    """

    def __init__(
        self, status: int, message: str, *, param: str | None = None, code: str | None = None,
        headers: dict[str, str] | None = None,
    ) -> None:  # fmt: skip
        super().__init__(message)
        self.status, self.message, self.param, self.code, self.headers = status, message, param, code, headers

    def body(self) -> dict[str, Any]:
        """The JSON body."""
        kind = "invalid_request_error" if self.status < 500 and self.status != 429 else "server_error"
        kind = {401: "authentication_error", 429: "rate_limit_error"}.get(self.status, kind)
        message, param = writable(self.message), writable(self.param) if self.param else self.param
        return {"error": {"message": message, "type": kind, "param": param, "code": self.code}}


def writable(text: str) -> str:
    """A text with a question mark for every half of a character: it may quote what a client sent."""
    return text.encode("utf-8", "replace").decode()
