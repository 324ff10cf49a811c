"""A throw-away PostgreSQL server from the machine's own binaries."""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

import psycopg
from psycopg.sql import SQL, Composed, Identifier
from sqlalchemy import URL

from sandbox.process import SandboxError, ServerProcess, free_port, run
from sandbox.users import Home, User, is_root, make_home, unprivileged_user

PORT_ATTEMPTS = 3
SUPERUSER = "sandbox"
BIN_VARIABLE = "SANDBOX_POSTGRESQL_BIN"
"""The folder of ``initdb`` and ``postgres``, instead of the newest one that is installed."""
FAST_SETTINGS = {
    # A crash of the machine may lose the cluster; a kill of the server loses no commit:
    # that is why synchronous_commit stays on.
    "fsync": "off",
    "full_page_writes": "off",
    "max_connections": "200",
    "max_wal_size": "2GB",
}


class PostgresServer:
    """A running cluster on 127.0.0.1, with a superuser of a random password."""

    def __init__(
        self, home: Home, user: User | None, bindir: Path, settings: Mapping[str, str]
    ) -> None:
        self._home = home
        self._user = user
        self._bindir = bindir
        self._settings = {**FAST_SETTINGS, **settings}
        self._password = secrets.token_urlsafe(16)
        self._process: ServerProcess | None = None
        self.port = free_port()

    @staticmethod
    def find() -> tuple[Path | None, str]:
        """The folder of ``initdb`` and ``postgres``, or None and the reason why it cannot run."""
        bindir = _find_bindir()
        if bindir is None:
            if BIN_VARIABLE in os.environ:
                return None, f"{BIN_VARIABLE} names no folder with initdb and postgres"
            return None, "PostgreSQL is not installed (Debian: apt-get install postgresql)"
        if is_root() and unprivileged_user() is None:
            return None, "PostgreSQL does not run as root, and there is no other user to run it"
        return bindir, ""

    @classmethod
    def start(
        cls, directory: Path | None = None, *, settings: Mapping[str, str] | None = None
    ) -> Self:
        """Make a cluster and start it; takes about a second.

        Args:
            directory: where the cluster lives; a temporary folder if None, and also if this is root
                and the user that runs the server cannot enter ``directory``.
            settings: server settings over the defaults, for example ``{"fsync": "on"}``.

        Raises:
            SandboxError: not installed, or it did not start.
        """
        bindir, reason = cls.find()
        if bindir is None:
            raise SandboxError(reason)
        user = unprivileged_user("postgres") if is_root() else None
        server = cls(make_home(directory, "postgres", user), user, bindir, settings or {})
        try:
            server._initialise()
            server._launch()
        except BaseException:
            server.stop()
            raise
        return server

    def start_standby(self) -> PostgresServer:
        """Start a copy of this server that follows it by streaming replication.

        Raises:
            SandboxError: it could not be made, or it did not start.
        """
        standby = PostgresServer(
            make_home(None, "standby", self._user), self._user, self._bindir, self._settings
        )
        standby._password = self._password
        try:
            run(
                [
                    self._bindir / "pg_basebackup",
                    f"--pgdata={standby.data_directory}",
                    "--host=127.0.0.1",
                    f"--port={self.port}",
                    f"--username={SUPERUSER}",
                    "--write-recovery-conf",
                    "--checkpoint=fast",
                    "--no-sync",
                ],
                log=standby._home.path / "basebackup.log",
                user=self._user,
                directory=standby._home.path,
                environment={**os.environ, "PGPASSWORD": self._password},
            )
            standby._launch()
        except BaseException:
            standby.stop()
            raise
        return standby

    @property
    def directory(self) -> Path:
        """The server's folder: its data and its log."""
        return self._home.path

    @property
    def data_directory(self) -> Path:
        """The cluster's files."""
        return self._home.path / "data"

    @property
    def log(self) -> Path:
        """The server's log."""
        return self._home.path / "postgres.log"

    @property
    def pid(self) -> int:
        """Process id of the postmaster."""
        return self._running.pid

    def url(self, database: str = "postgres") -> str:
        """SQLAlchemy URL of a database."""
        return URL.create(
            "postgresql+psycopg", SUPERUSER, self._password, "127.0.0.1", self.port, database
        ).render_as_string(hide_password=False)

    def create_database(self, name: str) -> str:
        """Make an empty database and return its URL."""
        self._execute(SQL("CREATE DATABASE {}").format(Identifier(name)), "postgres")
        return self.url(name)

    def sql(self, statement: str, database: str = "postgres") -> list[tuple[Any, ...]]:
        """Run one statement on its own, in autocommit, and return its rows (none: empty list)."""
        return self._execute(SQL(statement), database)

    def restart(self, *, crash: bool = False) -> None:
        """Stop and start again, on the same port; ``crash`` skips the shutdown checkpoint."""
        self._running.stop(stop_signal=signal.SIGQUIT if crash else signal.SIGINT)
        self._launch()

    def stop(self) -> None:
        """Stop the server and remove its folder if it is temporary."""
        if self._process is not None:
            self._process.stop()
            self._process = None
        self._home.remove()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def _running(self) -> ServerProcess:
        if self._process is None:
            raise SandboxError("the PostgreSQL server is stopped")
        return self._process

    def _execute(self, statement: SQL | Composed, database: str) -> list[tuple[Any, ...]]:
        with psycopg.connect(
            host="127.0.0.1",
            port=self.port,
            user=SUPERUSER,
            password=self._password,
            dbname=database,
            autocommit=True,
        ) as connection:
            cursor = connection.execute(statement)
            return cursor.fetchall() if cursor.description else []

    def _initialise(self) -> None:
        if (self.data_directory / "PG_VERSION").exists():
            raise SandboxError(f"{self.data_directory} holds a cluster already; remove it first")
        password_file = self._home.path / "password"
        descriptor = os.open(password_file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w") as file:
            if self._user is not None:
                os.fchown(descriptor, self._user.uid, self._user.gid)
            file.write(self._password)
        try:
            run(
                [
                    self._bindir / "initdb",
                    f"--pgdata={self.data_directory}",
                    f"--username={SUPERUSER}",
                    f"--pwfile={password_file}",
                    "--auth=scram-sha-256",
                    "--encoding=UTF8",
                    "--locale=C",
                    "--no-sync",
                ],
                log=self._home.path / "initdb.log",
                user=self._user,
                directory=self._home.path,
            )
        finally:
            password_file.unlink()

    def _launch(self) -> None:
        for attempt in range(PORT_ATTEMPTS):
            try:
                self._process = self._launch_once()
            except SandboxError:
                # Between the choice of a free port and its use another process may take it.
                if attempt + 1 == PORT_ATTEMPTS or "could not bind" not in self.log.read_text():
                    raise
                self.port = free_port()
            else:
                return

    def _launch_once(self) -> ServerProcess:
        settings = {
            "listen_addresses": "127.0.0.1",
            "port": str(self.port),
            "unix_socket_directories": "",
            **self._settings,
        }
        options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        return ServerProcess.start(
            [self._bindir / "postgres", "-D", self.data_directory, *options],
            log=self.log,
            ready=self._is_ready,
            user=self._user,
            directory=self._home.path,
            stop_signal=signal.SIGINT,  # "fast": disconnects clients, then a clean shutdown
            death_signal=signal.SIGQUIT,  # "immediate": takes the server's children along
        )

    def _is_ready(self, pid: int) -> bool:
        # The postmaster writes its state into this file; pg_ctl waits for the same word.
        try:
            lines = (self.data_directory / "postmaster.pid").read_text().splitlines()
        except OSError:
            return False
        return len(lines) >= 8 and lines[0] == str(pid) and lines[7].strip() in ("ready", "standby")


def _find_bindir() -> Path | None:
    if chosen := os.environ.get(BIN_VARIABLE):
        return Path(chosen) if _has_server(Path(chosen)) else None
    folders = []
    on_path = shutil.which("initdb")
    if on_path is not None:
        folders.append(Path(on_path).resolve().parent)
    folders += sorted(
        Path("/usr/lib/postgresql").glob("*/bin"),
        key=lambda folder: [int(part) for part in folder.parent.name.split(".") if part.isdigit()],
        reverse=True,
    )
    if shutil.which("pg_config") is not None:
        asked = subprocess.run(
            ["pg_config", "--bindir"], capture_output=True, text=True, check=False, timeout=10
        )
        folders.append(Path(asked.stdout.strip()))
    return next((folder for folder in folders if _has_server(folder)), None)


def _has_server(folder: Path) -> bool:
    return all(os.access(folder / program, os.X_OK) for program in ("initdb", "postgres"))
