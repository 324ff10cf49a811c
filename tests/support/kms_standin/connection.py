"""HTTP/1.1 on an asyncio transport: keep-alive, pipelining, delayed and cut answers.

Written by hand because it is on the path of every call: it reads what AWS clients send (a length,
no chunks) and refuses the rest.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import cast

from .request import Reply, Request, render

MAX_HEAD = 64 * 1024
MAX_BODY = 1024 * 1024


class Refused(Exception):  # noqa: N818  (an answer, not an error of ours)
    """The request cannot be read; the connection is closed after this status."""

    def __init__(self, status: int) -> None:
        super().__init__(status)
        self.status = status


class Turns:
    """Lets the connections that have data answer together, at the end of a turn of the loop.

    Reading all of them first and answering then keeps each part's code in the processor's cache:
    a tenth more answers than when each connection is read and answered in turn.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._ready: list[Connection] = []

    def add(self, connection: Connection) -> None:
        """Let a connection answer in this turn."""
        if not self._ready:
            self._loop.call_soon(self._run)
        self._ready.append(connection)

    def _run(self) -> None:
        ready, self._ready = self._ready, []
        for connection in ready:
            connection.answer()


class Connection(asyncio.Protocol):
    """One client's connection; answers its requests one after another."""

    def __init__(
        self, handle: Callable[[Request], Reply], loop: asyncio.AbstractEventLoop, turns: Turns
    ) -> None:
        self._handle = handle
        self._loop = loop
        self._turns = turns
        self._buffer = b""
        self._waiting = False
        self._close_after = False
        self._transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Called by asyncio."""
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        """Called by asyncio."""
        self._buffer = self._buffer + data if self._buffer else data
        if self._waiting and len(self._buffer) > MAX_HEAD + MAX_BODY:
            self._transport.abort()
        elif not self._waiting:
            self._turns.add(self)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002
        """Called by asyncio."""
        self._buffer = b""

    def answer(self) -> None:
        """Answer what has come, up to the first answer that has to wait."""
        while not self._waiting and self._buffer:
            try:
                request = self._read_request()
            except Refused as refused:
                self._transport.write(render(refused.status, "", b""))
                self._transport.close()
                self._buffer = b""
                return
            if request is None:
                return
            reply = self._handle(request)
            self._close_after = request.headers.get("connection", "").lower() == "close"
            if reply.delay > 0:
                self._waiting = True
                self._loop.call_later(reply.delay, self._send_late, reply)
            else:
                self._send(reply)

    def _send_late(self, reply: Reply) -> None:
        self._waiting = False
        if not self._transport.is_closing():
            self._send(reply)
            self.answer()

    def _send(self, reply: Reply) -> None:
        if reply.sent is None:
            self._transport.write(reply.data)
            if self._close_after:
                self._transport.close()
            return
        self._buffer = b""
        if reply.sent:
            self._transport.write(reply.data[: reply.sent])
            self._transport.close()
        else:
            self._transport.abort()

    def _read_request(self) -> Request | None:
        """Take one whole request off the buffer; None if it is not all there."""
        buffer = self._buffer
        end = buffer.find(b"\r\n\r\n")
        if end < 0:
            if len(buffer) > MAX_HEAD:
                raise Refused(413)
            return None
        lines = buffer[:end].decode("latin-1").split("\r\n")
        first = lines[0].split(" ")
        if len(first) != 3 or first[2] != "HTTP/1.1":
            raise Refused(400)
        headers: dict[str, str] = {}
        for line in lines[1:]:
            name, colon, value = line.partition(":")
            if not colon or not name or name[-1] == " " or name[0] in " \t":
                raise Refused(400)
            name = name.lower()
            value = value.strip()
            headers[name] = f"{headers[name]},{value}" if name in headers else value
        if "transfer-encoding" in headers or "expect" in headers:
            raise Refused(501)
        length = headers.get("content-length", "0")
        if not length.isdecimal():
            raise Refused(400)
        start = end + 4
        stop = start + int(length)
        if stop - start > MAX_BODY:
            raise Refused(413)
        if len(buffer) < stop:
            return None
        self._buffer = buffer[stop:]
        return Request(first[0], first[1], headers, buffer[start:stop])
