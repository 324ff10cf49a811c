"""PgBouncer in transaction mode, in front of one database; it hands out the session used last."""

from __future__ import annotations

import shutil
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from sqlalchemy.engine import make_url

from sandbox.process import ServerProcess, free_port
from sandbox.users import is_root, make_home, unprivileged_user


@contextmanager
def pgbouncer(url: str) -> Iterator[str]:
    """Start PgBouncer and give the URL that leads through it. Skips the test without PgBouncer."""
    program = shutil.which("pgbouncer") or shutil.which("pgbouncer", path="/usr/sbin")
    if program is None:
        pytest.skip("pgbouncer is not installed")
    target = make_url(url)
    user = unprivileged_user("postgres") if is_root() else None
    home = make_home(None, "pgbouncer", user)
    port = free_port()
    settings = home.path / "pgbouncer.ini"
    settings.write_text(
        f"[databases]\n{target.database} = host={target.host} port={target.port} "
        f"user={target.username} password={target.password}\n"
        f"[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\n"
        "auth_type = any\npool_mode = transaction\ndefault_pool_size = 8\n"
        "ignore_startup_parameters = extra_float_digits,options\n"
    )
    settings.chmod(0o644)
    server = ServerProcess.start(
        [Path(program), settings],
        log=home.path / "pgbouncer.log",
        ready=lambda _pid: _listens(port),
        user=user,
        directory=home.path,
    )
    try:
        yield target.set(port=port).render_as_string(hide_password=False)
    finally:
        server.stop()
        home.remove()


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
