"""A throw-away MariaDB server from the machine's own binaries."""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

import pymysql
from sqlalchemy import URL

from sandbox.process import SandboxError, ServerProcess, free_port, run
from sandbox.users import Home, User, is_root, make_home, unprivileged_user

PORT_ATTEMPTS = 3
SUPERUSER = "sandbox"
FOLDERS = (
    "/usr/sbin",
    "/usr/libexec",
    "/usr/local/sbin",
    "/usr/local/bin",
    "/usr/local/mysql/bin",
    "/opt/homebrew/bin",
    "/opt/homebrew/opt/mariadb/bin",
)
FAST_SETTINGS = {
    # A crash of the machine may lose rows; a kill of the server does not.
    "innodb-flush-log-at-trx-commit": "2",
    "innodb-log-file-size": "64M",
    "innodb-buffer-pool-size": "128M",
    "max-connections": "200",
}


class MariaDBServer:
    """A running server on 127.0.0.1, with a superuser of a random password."""

    def __init__(
        self,
        home: Home,
        user: User | None,
        programs: tuple[Path, Path],
        settings: Mapping[str, str],
    ) -> None:
        self._home = home
        self._user = user
        self._server, self._installer = programs
        self._settings = {**FAST_SETTINGS, **settings}
        self._password = secrets.token_urlsafe(16)
        self._process: ServerProcess | None = None
        self.port = free_port()

    @staticmethod
    def find() -> tuple[tuple[Path, Path] | None, str]:
        """``mariadbd`` and ``mariadb-install-db``, or None and the reason why it cannot run."""
        server = _find_program("mariadbd", "mysqld")
        installer = _find_program("mariadb-install-db", "mysql_install_db")
        if server is None or installer is None:
            return None, "MariaDB is not installed (Debian: apt-get install mariadb-server)"
        if is_root() and unprivileged_user() is None:
            return None, "MariaDB should not run as root, and there is no other user to run it"
        return (server, installer), ""

    @classmethod
    def start(
        cls, directory: Path | None = None, *, settings: Mapping[str, str] | None = None
    ) -> Self:
        """Make a data directory and start the server; takes a few seconds.

        Args:
            directory: where the data lives; a temporary folder if None, and also if this is root
                and the user that runs the server cannot enter ``directory``.
            settings: options over the defaults, without dashes: ``{"log-bin": "binlog"}``.

        Raises:
            SandboxError: not installed, or it did not start.
        """
        programs, reason = cls.find()
        if programs is None:
            raise SandboxError(reason)
        user = unprivileged_user("mysql") if is_root() else None
        server = cls(make_home(directory, "mariadb", user), user, programs, settings or {})
        try:
            server._initialise()
            server._launch()
        except BaseException:
            server.stop()
            raise
        return server

    @property
    def directory(self) -> Path:
        """The server's folder: its data and its log."""
        return self._home.path

    @property
    def data_directory(self) -> Path:
        """The server's files."""
        return self._home.path / "data"

    @property
    def log(self) -> Path:
        """The server's log."""
        return self._home.path / "mariadb.log"

    @property
    def pid(self) -> int:
        """Process id of the server."""
        return self._running.pid

    def url(self, database: str) -> str:
        """SQLAlchemy URL of a database."""
        return URL.create(
            "mysql+pymysql",
            SUPERUSER,
            self._password,
            "127.0.0.1",
            self.port,
            database,
            {"charset": "utf8mb4"},
        ).render_as_string(hide_password=False)

    def create_database(self, name: str) -> str:
        """Make an empty database and return its URL."""
        quoted = name.replace("`", "``")
        self.sql(f"CREATE DATABASE `{quoted}` CHARACTER SET utf8mb4")
        return self.url(name)

    def sql(self, statement: str, database: str | None = None) -> list[tuple[Any, ...]]:
        """Run one statement on its own, in autocommit, and return its rows (none: empty list)."""
        connection = pymysql.connect(
            host="127.0.0.1",
            port=self.port,
            user=SUPERUSER,
            password=self._password,
            database=database,
            charset="utf8mb4",
            autocommit=True,
        )
        with connection, connection.cursor() as cursor:
            cursor.execute(statement)
            return [tuple(row) for row in cursor.fetchall()]

    def restart(self, *, crash: bool = False) -> None:
        """Stop and start again, on the same port; ``crash`` kills it instead of a shutdown."""
        self._running.stop(grace=0 if crash else 20)
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
            raise SandboxError("the MariaDB server is stopped")
        return self._process

    def _initialise(self) -> None:
        if self.data_directory.exists():
            raise SandboxError(f"{self.data_directory} exists already; remove it first")
        run(
            [
                self._installer,
                "--no-defaults",
                f"--datadir={self.data_directory}",
                *self._own_temporary_folder(),
                "--auth-root-authentication-method=normal",
                "--skip-test-db",
                "--skip-name-resolve",
            ],
            log=self._home.path / "install.log",
            user=self._user,
            directory=self._home.path,
        )
        self._write_accounts()

    def _own_temporary_folder(self) -> list[str]:
        # A server that starts removes every #sql file of its temporary folder. In one that servers
        # share, that takes the tables from under the others, which then crash.
        return [f"--tmpdir={self._home.path}"]

    def _write_accounts(self) -> None:
        # The server reads this before it listens, so there is no moment without passwords, and no
        # password in a command line.
        statements = (
            f"ALTER USER root@localhost IDENTIFIED BY '{self._password}';\n"
            f"CREATE USER IF NOT EXISTS {SUPERUSER}@127.0.0.1 IDENTIFIED BY '{self._password}';\n"
            f"GRANT ALL ON *.* TO {SUPERUSER}@127.0.0.1 WITH GRANT OPTION;\n"
        )
        descriptor = os.open(self._accounts, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w") as file:
            if self._user is not None:
                os.fchown(descriptor, self._user.uid, self._user.gid)
            file.write(statements)

    @property
    def _accounts(self) -> Path:
        return self._home.path / "accounts.sql"

    def _launch(self) -> None:
        for attempt in range(PORT_ATTEMPTS):
            try:
                self._process = self._launch_once()
            except SandboxError:
                # Between the choice of a free port and its use another process may take it.
                if attempt + 1 == PORT_ATTEMPTS or "Can't start server: Bind" not in (
                    self.log.read_text()
                ):
                    raise
                self.port = free_port()
            else:
                return

    def _launch_once(self) -> ServerProcess:
        options = [f"--{name}={value}" for name, value in self._settings.items()]
        return ServerProcess.start(
            [
                self._server,
                "--no-defaults",
                f"--datadir={self.data_directory}",
                *self._own_temporary_folder(),
                "--bind-address=127.0.0.1",
                f"--port={self.port}",
                # Relative to the data directory: a socket's path has 107 bytes at most.
                "--socket=mariadb.sock",
                "--pid-file=mariadb.pid",
                "--skip-name-resolve",
                f"--init-file={self._accounts}",
                *options,
            ],
            log=self.log,
            ready=self._is_ready,
            user=self._user,
            directory=self._home.path,
        )

    def _is_ready(self, pid: int) -> bool:
        # The file tells our server from another one that may have taken the port.
        try:
            if (self.data_directory / "mariadb.pid").read_text().strip() != str(pid):
                return False
            self.sql("SELECT 1")
        except (OSError, pymysql.Error):
            return False
        return True


def _find_program(*names: str) -> Path | None:
    for name in names:
        found = shutil.which(name)
        if found is not None:
            return Path(found)
        for folder in FOLDERS:
            program = Path(folder) / name
            if os.access(program, os.X_OK):
                return program
    return None
