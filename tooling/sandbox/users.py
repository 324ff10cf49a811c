"""Who runs a database server: never root.

PostgreSQL refuses to run as root. A root owner therefore hands the server to an existing
unprivileged user, in a folder which that user can reach already: permissions of folders that exist
are never widened.
"""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

CANDIDATES = ("postgres", "mysql", "nobody", "daemon")
FOLDER_VARIABLE = "SANDBOX_TMPDIR"
"""Where servers keep their files, instead of the folder for temporary files."""


@dataclass(frozen=True)
class User:
    """An unprivileged user of this machine."""

    name: str
    uid: int
    gid: int


def unprivileged_user(*preferred: str) -> User | None:
    """The user to hand servers to: the first that exists; None if there is none."""
    for name in (*preferred, *CANDIDATES):
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        if entry.pw_uid > 0:
            return User(name, entry.pw_uid, entry.pw_gid)
    return None


def is_root() -> bool:
    """Whether this process runs as root."""
    return os.geteuid() == 0


@dataclass(frozen=True)
class Home:
    """The folder of one server, and whether it goes away with the server."""

    path: Path
    temporary: bool

    def remove(self) -> None:
        """Delete the folder if it is temporary."""
        if self.temporary:
            shutil.rmtree(self.path, ignore_errors=True)


def make_home(directory: Path | None, name: str, user: User | None) -> Home:
    """Make the folder ``directory/name`` (mode 0700) for a server that ``user`` runs.

    Where ``directory`` is None or ``user`` cannot enter it, a temporary folder is made instead. A
    folder that exists is used again.

    Raises:
        OSError: the folder cannot be made, or no temporary folder is open to ``user``.
    """
    if directory is not None:
        directory.mkdir(parents=True, exist_ok=True)
        if user is None or _can_enter(directory, user):
            path = directory.resolve() / name
            path.mkdir(mode=0o700, exist_ok=True)
            _give(path, user)
            return Home(path, temporary=False)
    named = os.environ.get(FOLDER_VARIABLE, tempfile.gettempdir())
    for parent in (named, tempfile.gettempdir(), "/tmp", "/var/tmp"):  # noqa: S108  (mkdtemp is private)
        if user is None or _can_enter(Path(parent), user):
            path = Path(tempfile.mkdtemp(prefix=f"sandbox-{name}-", dir=parent)).resolve()
            _give(path, user)
            return Home(path, temporary=True)
    raise PermissionError(
        f"user {user.name if user else ''} cannot enter any temporary folder; set TMPDIR to one "
        "that is open to all users"
    )


def _give(path: Path, user: User | None) -> None:
    if user is not None:
        os.chown(path, user.uid, user.gid)


def _can_enter(path: Path, user: User) -> bool:
    # Asked as that user, because access lists and mounts have a say besides the mode bits.
    done = subprocess.run(
        ["test", "-x", str(path)],
        user=user.uid,
        group=user.gid,
        extra_groups=[],
        check=False,
        cwd="/",
    )
    return done.returncode == 0
