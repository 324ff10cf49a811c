"""Instances of the example applications, asked without a network: one interface for both."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from flask import Flask

from dekctl.reader import RowKeys

if TYPE_CHECKING:
    from fastapi import FastAPI

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Answer:
    """What an instance answered."""

    status: int
    data: bytes


@dataclass(frozen=True, slots=True, eq=False)
class Service:
    """One instance of an application, with its own engine and reader."""

    request: Callable[[str, str, bytes], Answer]
    """Takes method, path and body."""
    close: Callable[[], None]
    keys: RowKeys | None = None
    """Its reader, where the application shows it; an old version has none."""


def flask_service(app: Flask) -> Service:
    """An instance of ``examples/flask_app``."""

    def request(method: str, path: str, data: bytes) -> Answer:
        answer = app.test_client().open(path, method=method, data=data)
        return Answer(answer.status_code, answer.data)

    keys: RowKeys | None = app.extensions.get("keys")

    def close() -> None:
        app.extensions["engine"].dispose()
        if keys is not None:
            keys.close()

    return Service(request, close, keys)


class EventLoop:
    """An event loop in a thread, for instances of ``examples/fastapi_app``."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="event loop")
        self._thread.start()

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine in the loop, from another thread."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()

    def close(self) -> None:
        """End the loop and its thread."""
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def service(self, app: FastAPI) -> Service:
        """An instance that runs in this loop, beside the others."""
        lifespan = app.router.lifespan_context(app)
        self.run(_begin(lifespan))

        def request(method: str, path: str, data: bytes) -> Answer:
            return self.run(_ask(app, method, path, data))

        return Service(request, lambda: self.run(_end(lifespan)))


async def _begin(lifespan: Any) -> None:
    await lifespan.__aenter__()


async def _end(lifespan: Any) -> None:
    await lifespan.__aexit__(None, None, None)


async def _ask(app: FastAPI, method: str, path: str, data: bytes) -> Answer:
    """One request by the ASGI protocol, as uvicorn makes it."""
    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "headers": [(b"content-length", str(len(data)).encode())],
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 2),
    }
    status, body = 0, b""

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": data, "more_body": False}

    async def send(message: Any) -> None:
        nonlocal status, body
        if message["type"] == "http.response.start":
            status = message["status"]
        else:
            body += message.get("body", b"")

    await app(scope, receive, send)
    return Answer(status, body)
