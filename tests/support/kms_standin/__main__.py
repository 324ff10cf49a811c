"""The stand-in's own process: ``python -m support.kms_standin FOLDER``.

FOLDER holds ``config.json``; ``ready.json`` appears there once the server listens.
"""

from __future__ import annotations

import asyncio
import gc
import json
import signal
import ssl
import sys
import traceback
from pathlib import Path
from typing import Any

from .connection import Connection, Turns
from .control import PATH, Control
from .request import Reply, Request, render
from .service import Service, Settings

BACKLOG = 1024


async def serve(folder: Path, config: dict[str, Any]) -> None:
    """Listen on a free port of 127.0.0.1 until SIGTERM."""
    service = Service(Settings(**config["settings"]))
    control = Control(service, config["token"])
    static = render(200, "application/x-amz-json-1.1", b"{}") if config["static"] else None

    def handle(request: Request) -> Reply:
        if request.target == PATH:
            return control.handle(request)
        if static is not None:
            return Reply(static, service.faults.delay())
        try:
            return service.handle(request)
        except Exception:  # a bug here must neither hide nor stop the other connections
            traceback.print_exc()
            return Reply(render(500, "", b""))

    context = None
    if config["server_certificate"] is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(config["server_certificate"])
    loop = asyncio.get_running_loop()
    turns = Turns(loop)
    server = await loop.create_server(
        lambda: Connection(handle, loop, turns), "127.0.0.1", 0, ssl=context, backlog=BACKLOG
    )
    port = server.sockets[0].getsockname()[1]
    service.authenticator.hosts = {f"127.0.0.1:{port}", f"localhost:{port}"}
    stop = asyncio.Event()
    loop.add_signal_handler(signal.SIGTERM, stop.set)
    # What is alive now stays so: looking through it again and again costs a tenth of the speed.
    gc.freeze()
    gc.set_threshold(50_000, 20, 20)
    unready = folder / "unready.json"
    unready.write_text(json.dumps({"port": port}))
    unready.rename(folder / "ready.json")
    await stop.wait()
    server.close()


def main() -> None:
    """Run until SIGTERM, on uvloop where it is installed: TLS is three times as fast there."""
    folder = Path(sys.argv[1])
    config = json.loads((folder / "config.json").read_text())
    try:
        import uvloop  # noqa: PLC0415  (optional)
    except ImportError:
        asyncio.run(serve(folder, config))
    else:
        uvloop.run(serve(folder, config))


if __name__ == "__main__":
    main()
