"""KMS calls through boto3 in threads: always available; the fast transport's reference."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import Any

from botocore import exceptions as aws
from botocore import xform_name
from botocore.parsers import ResponseParserError
from botocore.session import Session

from dekctl.errors import KMSError
from dekctl.kms.aws.faults import (
    NOT_KMS,
    WRONG_TYPE,
    ErrorClass,
    classify,
    error_for,
    wants_proxy_login,
)
from dekctl.kms.aws.response_check import is_whole
from dekctl.kms.aws.retry import (
    CANCEL_GRACE_SECONDS,
    CancelledError,
    Retries,
    not_in_time,
)
from dekctl.kms.aws.session import (
    CREDENTIAL_ERRORS,
    closed_error,
    create_client,
    credentials_error,
    credentials_of,
    frozen,
    tls_error,
    unlogged,
)
from dekctl.kms.aws.transport import Request, Response, TransportOptions
from dekctl.kms.aws.wire import Decoder
from dekctl.kms.deadline import deadline_at, seconds_left_until
from dekctl.kms.limiter import RateLimiter


class BotoTransport:
    """The :class:`dekctl.kms.aws.transport.Transport` of boto3.

    It makes 600 to 1,000 calls per CPU-second, however many threads there are.
    """

    def __init__(self, session: Session, options: TransportOptions) -> None:
        """Connect nothing yet.

        Raises:
            UsageError: the Region or the endpoint is missing or wrong.
        """
        self._policy = options.policy
        self._credentials = credentials_of(session)
        self._client = create_client(session, options)
        self._client.meta.events.register("before-parse.kms.*", _refuse_damaged)
        self._concurrency = options.concurrency
        self._limiter = options.limiter or RateLimiter()
        self._count = options.count
        self._count_lock = threading.Lock()
        self._cancel = options.cancel or threading.Event()
        self._contacted = False
        self._closed = False
        self._pool_lock = threading.Lock()
        self._pool = ThreadPoolExecutor(options.concurrency, thread_name_prefix="kms")

    def call_many(self, operation: str, requests: Sequence[Request]) -> list[Response | KMSError]:
        """Send the operation once per request; see :class:`dekctl.kms.aws.transport.Transport`."""
        if self._closed:
            raise closed_error()
        batch = _Batch(operation, requests, deadline_at())
        with self._pool_lock:  # a pool that was replaced takes no more work
            workers = min(self._concurrency, len(requests))
            futures = [self._pool.submit(self._work, batch) for _ in range(workers)]
        try:
            in_time = self._wait(futures, batch.until)
        finally:
            batch.stop = True
        missing = CancelledError if in_time else not_in_time
        return [missing(operation) if answer is None else answer for answer in batch.answers]

    def set_concurrency(self, concurrency: int) -> None:
        """Change how many calls may be in flight. Calls already started are not affected."""
        if concurrency == self._concurrency:
            return
        made = ThreadPoolExecutor(concurrency, thread_name_prefix="kms")
        with self._pool_lock:
            before, self._pool = self._pool, made
            self._concurrency = concurrency
        before.shutdown(wait=False)

    def close(self) -> None:
        """Drop connections and threads; waiting calls are abandoned."""
        self._closed = True
        self._pool.shutdown(wait=False, cancel_futures=True)
        self._client.close()

    def _wait(self, futures: list[Future[None]], until: float | None) -> bool:
        """Wait for the workers, after a cancellation only briefly. False: not in time."""
        give_up: float | None = None
        pending = set(futures)
        while pending and (give_up is None or time.monotonic() < give_up):
            left = seconds_left_until(until, 0.2)
            if left == 0:
                return False
            done, pending = wait(pending, timeout=left, return_when="FIRST_EXCEPTION")
            for future in done:
                if not future.cancelled():
                    future.result()
            if give_up is None and self._cancel.is_set():
                give_up = time.monotonic() + CANCEL_GRACE_SECONDS
        return True

    def _work(self, batch: _Batch) -> None:
        while (index := batch.take()) is not None:
            batch.answers[index] = self._call(batch, batch.requests[index])

    def _call(self, batch: _Batch, request: Request) -> Response | KMSError:
        operation = batch.operation
        method = getattr(self._client, xform_name(operation))
        retries = Retries(self._policy, until=batch.until)
        while True:
            if self._cancel.is_set() or self._closed:
                return CancelledError(operation)
            if not self._limiter.acquire(self._cancel, batch.until):
                return (
                    CancelledError(operation) if self._cancel.is_set() else not_in_time(operation)
                )
            if self._count is not None:
                with self._count_lock:
                    self._count(operation)
            sent = time.monotonic()
            answer, kind = self._attempt(operation, method, request)
            if not isinstance(answer, KMSError):
                self._limiter.succeeded(time.monotonic() - sent)
                return answer
            if kind is ErrorClass.THROTTLED and batch.until is None:  # see Transport
                self._limiter.throttled()
            delay = None if kind is None else retries.next_delay(kind, contacted=self._contacted)
            if delay is None:
                return answer
            if self._cancel.wait(delay):
                return CancelledError(operation)

    def _attempt(
        self, operation: str, method: Any, request: Request
    ) -> tuple[Response | KMSError, ErrorClass | None]:
        """Make one call. Returns the response, or the error and its class (None: no retry)."""
        try:
            with unlogged():
                frozen(self._credentials)  # else their errors would look like any of the call's
                response: Response = method(**request)
        except aws.ClientError as error:
            if error.operation_name != operation:  # the role could not be assumed
                raise credentials_error(error) from error
            self._contacted = True
            details = error.response["Error"]
            status = error.response["ResponseMetadata"]["HTTPStatusCode"]
            code = details.get("Code") or str(status)
            return (
                error_for(operation, code, details.get("Message", ""), status),
                classify(code, status),
            )
        except CREDENTIAL_ERRORS as error:
            raise credentials_error(error) from error
        except aws.SSLError as error:
            return tls_error(operation, str(error)), None
        except aws.ProxyConnectionError as error:
            refused = 407 if wants_proxy_login(str(error.kwargs.get("error"))) else None
            return error_for(operation, None, str(error), refused), classify(None, refused)
        except aws.BotoCoreError as error:
            return error_for(operation, None, str(error)), ErrorClass.RETRY
        except TypeError:
            # Not chained and without details: they might repeat a value.
            return error_for(operation, "ValidationException", WRONG_TYPE), None
        except (AttributeError, ValueError, RecursionError, ResponseParserError):  # no object
            return error_for(operation, None, NOT_KMS), ErrorClass.RETRY
        self._contacted = True
        # Only ResponseMetadata: botocore drops what it cannot read.
        if len(response) == 1 or not is_whole(operation, request, response):
            return error_for(operation, None, NOT_KMS), ErrorClass.RETRY
        return response, None


def _refuse_damaged(operation_model: Any, response_dict: Any, **_: object) -> None:
    """Refuse what the fast transport refuses: botocore drops members that are not base64.

    Raises:
        ValueError: it is not a valid KMS response.
    """
    good = response_dict["status_code"] == 200
    if good and Decoder(operation_model).decode(response_dict["body"]) is None:
        raise ValueError(NOT_KMS)


class _Batch:
    """The requests of one ``call_many`` and the answers so far."""

    def __init__(self, operation: str, requests: Sequence[Request], until: float | None) -> None:
        self.operation = operation
        self.requests = requests
        self.until = until
        self.answers: list[Response | KMSError | None] = [None] * len(requests)
        self.stop = False
        self._next = 0
        self._lock = threading.Lock()

    def take(self) -> int | None:
        with self._lock:
            if self.stop or self._next == len(self.requests):
                return None
            self._next += 1
            return self._next - 1
