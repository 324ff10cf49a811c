"""Spares the tests what a library makes anew each time, with the same result."""

from __future__ import annotations

import functools
import os
import shutil
import ssl
from pathlib import Path
from typing import Any

import botocore.session
from pymysql.connections import Connection

from sandbox.users import FOLDER_VARIABLE

MEMORY = Path("/dev/shm")  # noqa: S108 - mkdtemp makes private folders in it
ROOM_BYTES = 6 << 30


def keep_servers_in_memory() -> None:
    """Let PostgreSQL and MariaDB keep their files in memory, where there is room for them.

    A new database then takes a third of the time. ``SANDBOX_TMPDIR`` names another folder.
    """
    if MEMORY.is_dir() and shutil.disk_usage(MEMORY).free >= ROOM_BYTES:
        os.environ.setdefault(FOLDER_VARIABLE, str(MEMORY))


def share_what_libraries_make() -> None:
    """Let this process, and its forks, read botocore's models and the machine's certificates once.

    Every session of botocore parses the models of the APIs: 0.1 s. Every connection of PyMySQL
    without TLS settings reads the certificates, 0.06 s, and then verifies none.
    """
    botocore.session.create_loader = functools.cache(botocore.session.create_loader)
    private = "_create_ssl_ctx"
    make = getattr(Connection, private)
    unverified = make(None, {})

    def shared(connection: Any, settings: Any) -> ssl.SSLContext:
        made = make(connection, settings) if settings else unverified
        assert isinstance(made, ssl.SSLContext)
        return made

    setattr(Connection, private, shared)
