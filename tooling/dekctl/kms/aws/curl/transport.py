"""KMS calls through libcurl's multi interface: the fast transport.

pycurl rather than awscrt (AWS's C runtime) because it makes about twice as many bare calls per
CPU-second over TLS (10,000 to 17,000 against 5,000 to 6,600), and because it handles proxies,
CA bundles and all of HTTP. Signing and JSON add about 20 microseconds per call.

One thread owns libcurl and the network. :meth:`CurlTransport.call_many` hands calls to it and
waits, from any thread.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from functools import partial
from typing import Any

from botocore.session import Session

from dekctl.errors import KMSError
from dekctl.kms.aws.curl.batch import Batch
from dekctl.kms.aws.curl.handle import Service
from dekctl.kms.aws.curl.loop import Loop
from dekctl.kms.aws.retry import CancelledError, not_in_time
from dekctl.kms.aws.session import closed_error, create_client
from dekctl.kms.aws.transport import Request, Response, TransportOptions
from dekctl.kms.deadline import deadline_at, seconds_left_until
from dekctl.kms.limiter import RateLimiter


class CurlTransport:
    """The :class:`dekctl.kms.aws.transport.Transport` of libcurl. Linux only (epoll, eventfd).

    Credentials, Region, endpoint, CA bundle and proxies are those that botocore finds.
    """

    def __init__(self, session: Session, options: TransportOptions) -> None:
        """Connect nothing yet.

        Raises:
            UsageError: the Region or the endpoint is missing or wrong.
        """
        client: Any = create_client(session, options)
        service = Service.of(client, session)
        client.close()
        self._concurrency = options.concurrency
        self._make_loop = partial(
            Loop,
            service,
            limiter=options.limiter or RateLimiter(),
            count=options.count,
            cancel=options.cancel or threading.Event(),
            policy=options.policy,
        )
        self._loop = self._make_loop(concurrency=options.concurrency)
        self._thread: threading.Thread | None = None
        self._start_lock = threading.Lock()
        self._closed = False

    def call_many(self, operation: str, requests: Sequence[Request]) -> list[Response | KMSError]:
        """Send the operation once per request; see :class:`dekctl.kms.aws.transport.Transport`."""
        batch = Batch(operation, requests, deadline_at())
        with self._start_lock:
            if self._closed:
                raise closed_error()
            if not requests:
                return []
            if self._loop.is_over:  # a defect ended its thread
                self._loop = self._make_loop(concurrency=self._concurrency)
                self._thread = None
            if self._thread is None:
                self._thread = threading.Thread(target=self._loop.run, name="kms-curl", daemon=True)
                self._thread.start()
            loop = self._loop
        loop.submit(batch)
        try:
            in_time = batch.done.wait(seconds_left_until(batch.until, threading.TIMEOUT_MAX))
        finally:
            batch.abandoned = True
        if batch.error is not None:
            raise batch.error
        missing = CancelledError if in_time else not_in_time
        return [missing(operation) if answer is None else answer for answer in batch.answers]

    def set_concurrency(self, concurrency: int) -> None:
        """Change how many calls may be in flight. Calls already sent are not affected."""
        with self._start_lock:
            self._concurrency = concurrency
            self._loop.set_concurrency(concurrency)

    def close(self) -> None:
        """Drop connections; waiting calls are abandoned."""
        with self._start_lock:
            if self._closed:
                return
            self._closed = True
        self._loop.stop()
        if self._thread is None:
            self._loop.release()
        elif self._thread is not threading.current_thread():
            self._thread.join(timeout=5)
