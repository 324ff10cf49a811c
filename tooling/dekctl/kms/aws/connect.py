"""Which transport carries the KMS calls: libcurl's where it can run, else boto3's."""

from __future__ import annotations

import os
import select
import sys
from collections.abc import Callable

from botocore.session import Session

from dekctl.errors import UsageError
from dekctl.kms.aws.boto import BotoTransport
from dekctl.kms.aws.transport import Transport, TransportKind, TransportOptions


def curl_obstacle() -> str | None:
    """Why libcurl's transport cannot run in this process, pycurl or not; None where it can."""
    green = _green_threads()
    if green is not None:  # asked first: they take epoll away
        return f"{green} has replaced threads and sockets in this process, and libcurl blocks them"
    if not (hasattr(select, "epoll") and hasattr(os, "eventfd")):
        return f"it needs Linux, and this is {sys.platform}"
    return None


def _green_threads() -> str | None:
    """The library that has replaced the standard library's threads, if one has."""
    gevent = sys.modules.get("gevent.monkey")
    if gevent is not None and any(map(gevent.is_module_patched, ("threading", "select", "socket"))):
        return "gevent"
    eventlet = sys.modules.get("eventlet.patcher")
    if eventlet is not None and any(
        map(eventlet.is_monkey_patched, ("thread", "select", "socket"))
    ):
        return "eventlet"
    return None


def _transport_of(kind: TransportKind) -> Callable[[Session, TransportOptions], Transport]:
    """The transport that a kind means here.

    Raises:
        UsageError: ``curl`` was asked for and cannot run.
    """
    if kind == "boto3":
        return BotoTransport
    obstacle, hint = curl_obstacle(), 'use transport="auto", which takes boto3 here'
    if obstacle is None:
        try:
            from dekctl.kms.aws.curl.transport import CurlTransport  # noqa: PLC0415 (pycurl is optional)
        except ImportError as error:
            obstacle, hint = f"pycurl is not installed ({error})", 'run: pip install "dekctl[fast]"'
        else:
            return CurlTransport
    if kind == "curl":
        raise UsageError(f"the fast KMS client cannot run here: {obstacle}", hint=hint)
    return BotoTransport


def make_transport(kind: TransportKind, session: Session, options: TransportOptions) -> Transport:
    """Make a transport: ``auto`` is libcurl's where pycurl is installed and can run, else boto3's.

    Raises:
        UsageError: ``curl`` was asked for and cannot run; or the Region or endpoint is missing or
            wrong.
    """
    return _transport_of(kind)(session, options)
