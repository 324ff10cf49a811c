"""Spares the tests what a library makes anew each time, with the same result."""

from __future__ import annotations

import functools
import ssl
from typing import Any

import botocore.session
from pymysql.connections import Connection


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
