"""One HTTP request, and what is sent back for it."""

from __future__ import annotations

from dataclasses import dataclass, field

REASONS = {
    200: "OK",
    400: "Bad Request",
    403: "Forbidden",
    404: "Not Found",
    412: "Precondition Failed",
    413: "Content Too Large",
    500: "Internal Server Error",
    501: "Not Implemented",
    503: "Service Unavailable",
}


@dataclass(slots=True)
class Request:
    """Header names are in lower case; a name sent twice has its values joined by a comma."""

    method: str
    target: str
    headers: dict[str, str]
    body: bytes = field(repr=False)


@dataclass(slots=True)
class Reply:
    """Bytes to send ``delay`` seconds later, or a cut connection.

    ``sent`` is the number of bytes after which the connection is cut; None sends all and keeps it.
    """

    data: bytes = field(repr=False)
    delay: float = 0.0
    sent: int | None = None


def render(status: int, kind: str, body: bytes, request_id: str = "") -> bytes:
    """An HTTP answer as bytes."""
    head = f"HTTP/1.1 {status} {REASONS.get(status, 'Error')}\r\n"
    if body:
        head += f"Content-Type: {kind}\r\n"
    if request_id:
        head += f"x-amzn-RequestId: {request_id}\r\n"
    return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body
