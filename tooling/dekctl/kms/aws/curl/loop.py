"""The thread that drives libcurl: takes calls, signs and sends them, reads responses, retries.

Everything except :meth:`Loop.submit`, :meth:`Loop.stop` and :meth:`Loop.set_concurrency` runs in
that thread. ``perform`` with a separate edge-triggered epoll costs no more than libcurl's socket
callbacks, needs no Python per event, and can be woken for new calls.
"""

from __future__ import annotations

import heapq
import os
import select
import threading
import time
from collections import deque
from email.utils import parsedate_to_datetime

import pycurl
from botocore.credentials import ReadOnlyCredentials

from dekctl.errors import DekctlError, KMSError
from dekctl.kms.aws.curl.batch import Batch, Call
from dekctl.kms.aws.curl.credentials import FreshCredentials
from dekctl.kms.aws.curl.handle import TLS_ERRORS, Handle, Service
from dekctl.kms.aws.faults import (
    CLOCK_CODES,
    NOT_KMS,
    WRONG_TYPE,
    ErrorClass,
    classify,
    error_for,
    wants_proxy_login,
)
from dekctl.kms.aws.response_check import is_whole
from dekctl.kms.aws.retry import CANCEL_GRACE_SECONDS, CancelledError, Retries, RetryPolicy
from dekctl.kms.aws.session import closed_error, tls_error, unexpected_error
from dekctl.kms.aws.sigv4 import Signer
from dekctl.kms.aws.transport import CountCall
from dekctl.kms.aws.wire import Decoder, decode_error, encode
from dekctl.kms.deadline import seconds_left_until
from dekctl.kms.limiter import RateLimiter

NAP_SECONDS = 0.05
"""While calls remain, check for cancellation and a new rate at least this often."""
CLOCK_SECONDS = 60.0
"""A smaller clock error is not why a signature was refused (KMS allows five minutes)."""
EVENTS = select.EPOLLIN | select.EPOLLOUT | select.EPOLLRDHUP | select.EPOLLET


class Loop:
    """Sends the calls of batches, never more than ``concurrency`` at once."""

    def __init__(
        self,
        service: Service,
        *,
        concurrency: int,
        limiter: RateLimiter,
        count: CountCall | None,
        cancel: threading.Event,
        policy: RetryPolicy,
    ) -> None:
        self._service = service
        self._concurrency = concurrency
        self._limiter = limiter
        self._count = count
        self._cancel = cancel
        self._policy = policy
        self._signer = Signer(service.url, service.region)
        self._decoders: dict[str, Decoder] = {}
        self._credentials = FreshCredentials(service.credentials, self._wake_up)

        self._gate = threading.Lock()  # guards _over, and the wake-up descriptor's life
        self._over: BaseException | None = None
        self._inbox: deque[Batch] = deque()
        self._batches: deque[Batch] = deque()  # those with requests not sent yet
        self._again: deque[Call] = deque()
        self._retries: list[tuple[float, int, Call]] = []
        self._retry_number = 0
        self._contacted = False
        self._abort_at: float | None = None

        self._busy: dict[pycurl.Curl, tuple[Handle, Call]] = {}
        self._free: list[Handle] = []
        self._cached = 0  # how many connections libcurl may keep
        self._multi = pycurl.CurlMulti()
        self._epoll = select.epoll()
        self._wake = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._epoll.register(self._wake, select.EPOLLIN | select.EPOLLET)

    # From any thread.

    @property
    def is_over(self) -> bool:
        """Whether the thread has ended, or is about to."""
        return self._over is not None

    def submit(self, batch: Batch) -> None:
        """Accept a batch; its ``done`` is set once it has all its answers."""
        with self._gate:
            if self._over is not None:
                batch.fail(self._over)
                return
            self._inbox.append(batch)
            os.eventfd_write(self._wake, 1)

    def stop(self) -> None:
        """End the thread; unfinished batches fail."""
        with self._gate:
            if self._over is None:
                self._over = closed_error()
                os.eventfd_write(self._wake, 1)

    def set_concurrency(self, concurrency: int) -> None:
        """Change how many calls may be in flight, from the next one on."""
        with self._gate:
            self._concurrency = concurrency
        self._wake_up()

    def _wake_up(self) -> None:
        with self._gate:
            if self._over is None:
                os.eventfd_write(self._wake, 1)

    # In the thread.

    def run(self) -> None:
        """Work until :meth:`stop`. A defect fails the calls in hand; the next ones start afresh."""
        try:
            while self._over is None:
                try:
                    self._step()
                except Exception as error:
                    if not self._has_work():
                        raise
                    self._fail_all(unexpected_error(error))
        except BaseException as error:
            with self._gate:
                self._over = unexpected_error(error)
        self.release()

    def release(self) -> None:
        """Fail the remaining calls and free everything. Called once, by the last user."""
        with self._gate:
            error = self._over or closed_error()
            self._over = error
            os.close(self._wake)
        for batch in (*self._inbox, *self._batches):
            batch.fail(error)
        for call in (*self._again, *(entry[2] for entry in self._retries)):
            call.batch.fail(error)
        for easy, (handle, call) in self._busy.items():
            self._multi.remove_handle(easy)
            call.batch.fail(error)
            self._free.append(handle)
        for handle in self._free:
            handle.easy.close()
        self._multi.close()
        self._epoll.close()

    def _step(self) -> None:
        now = time.monotonic()
        while self._inbox:
            self._batches.append(self._inbox.popleft())
        while self._retries and self._retries[0][0] <= now:
            self._again.append(heapq.heappop(self._retries)[2])
        if self._cancel.is_set():
            self._give_up(now)
        wait = self._fill()
        self._multi.perform()
        if not self._collect():
            self._sleep(wait)

    def _fill(self) -> float:
        """Send what may be sent. Returns the seconds until the limiter allows more."""
        wait = NAP_SECONDS
        room = min(self._concurrency - len(self._busy), self._waiting())
        if room > 0:
            try:
                credentials = self._credentials.current()
            except DekctlError as error:
                self._fail_unsent(error)
                return 0.0
            if credentials is not None:
                granted, limited = self._limiter.reserve(room)
                if granted < room:
                    wait = limited
                for _ in range(granted):
                    call = self._next_call()
                    if call is None:
                        break
                    try:
                        self._send(call, credentials)
                    except Exception as error:
                        call.batch.fail(unexpected_error(error))
        for handle in reversed(self._free):  # the last used are at the end
            if not handle.unload():
                break
        return wait

    def _waiting(self) -> int:
        """Count the calls that could be sent, up to the concurrency."""
        waiting = len(self._again)
        for batch in self._batches:
            if waiting >= self._concurrency:
                break
            waiting += len(batch.requests) - batch.next
        return waiting

    def _next_call(self) -> Call | None:
        while self._again:
            again = self._again.popleft()
            if not again.batch.abandoned:
                return again
        while self._batches:
            batch = self._batches[0]
            call = None if batch.abandoned else batch.take()
            if call is None or batch.next == len(batch.requests):
                self._batches.popleft()
            if call is not None:
                return call
        return None

    def _send(self, call: Call, credentials: ReadOnlyCredentials) -> None:
        operation = call.batch.operation
        try:
            body = encode(call.batch.requests[call.index])
        except (TypeError, ValueError):
            # Not chained and without details: they might repeat a value.
            call.answer(error_for(operation, "ValidationException", WRONG_TYPE))
            return
        handle = self._free.pop() if self._free else self._new_handle()
        answer = seconds_left_until(call.batch.until, self._policy.answer)
        headers = self._signer.headers(f"TrentService.{operation}", body, credentials)
        handle.load(headers, body, answer)
        call.skew = self._signer.skew
        self._multi.add_handle(handle.easy)
        self._busy[handle.easy] = (handle, call)
        if self._count is not None:
            self._count(operation)

    def _collect(self) -> bool:
        """Handle the calls that ended. Returns whether there were any."""
        ended = False
        queued = 1
        while queued:
            queued, answered, broken = self._multi.info_read()
            for easy in answered:
                handle, call = self._release_handle(easy)
                try:
                    self._answered(handle, call, *handle.take())
                except Exception as error:
                    call.batch.fail(unexpected_error(error))
                handle.forget_headers()
            for easy, code, message in broken:
                handle, call = self._release_handle(easy)
                handle.unload()
                operation = call.batch.operation
                if code in TLS_ERRORS:
                    call.answer(tls_error(operation, message))
                else:
                    refused = 407 if wants_proxy_login(message) else None
                    failure = error_for(operation, None, message, refused)
                    self._failed(call, classify(None, refused), failure)
            ended = ended or bool(answered or broken)
        return ended

    def _release_handle(self, easy: pycurl.Curl) -> tuple[Handle, Call]:
        self._multi.remove_handle(easy)
        handle, call = self._busy.pop(easy)
        self._free.append(handle)
        return handle, call

    def _answered(self, handle: Handle, call: Call, status: int, body: bytes) -> None:
        operation = call.batch.operation
        self._contacted = True
        if status == 200:
            answer = self._decoder(operation).decode(body)
            request = call.batch.requests[call.index]
            if answer is not None and is_whole(operation, request, answer):
                self._limiter.succeeded(handle.seconds)
                call.answer(answer)
                return
            error = error_for(operation, None, NOT_KMS)
            self._failed(call, ErrorClass.RETRY, error)
            return
        code, message = decode_error(body, status, handle.header(b"x-amzn-errortype"))
        if code in CLOCK_CODES and self._set_clock(call, handle.header(b"date")):
            self._again.append(call)
            return
        kind = classify(code, status)
        if kind is ErrorClass.THROTTLED and call.batch.until is None:  # see Transport
            self._limiter.throttled()
        self._failed(call, kind, error_for(operation, code, message, status))

    def _failed(self, call: Call, kind: ErrorClass, error: KMSError) -> None:
        """Schedule a retry, or answer with the error."""
        if call.retries is None:
            call.retries = Retries(self._policy, until=call.batch.until)
        delay = call.retries.next_delay(kind, contacted=self._contacted)
        if delay is None:
            call.answer(error)
            return
        self._retry_number += 1
        entry = (time.monotonic() + delay, self._retry_number, call)
        heapq.heappush(self._retries, entry)

    def _set_clock(self, call: Call, date: str) -> bool:
        """Adopt the clock of the service. Returns whether to sign the call again, once."""
        try:
            ahead = parsedate_to_datetime(date).timestamp() - time.time()
        except ValueError:
            return False
        if call.clock_tried or abs(ahead - call.skew) < CLOCK_SECONDS:
            return False
        call.clock_tried = True
        self._signer.skew = ahead
        return True

    def _sleep(self, wait: float) -> None:
        """Wait for the network, a new batch, or the next thing that is due."""
        if not self._has_work():
            self._epoll.poll()
            return
        if self._retries:
            wait = min(wait, self._retries[0][0] - time.monotonic())
        curl_ms = self._multi.timeout()
        if curl_ms >= 0:
            wait = min(wait, curl_ms / 1000)
        if wait > 0:
            self._epoll.poll(min(wait, NAP_SECONDS))

    def _give_up(self, now: float) -> None:
        """End waiting calls at once, and calls already sent after a grace period."""
        waiting: list[Call] = []
        for batch in self._batches:
            waiting.extend(iter(batch.take, None))
        waiting += [*self._again, *(entry[2] for entry in self._retries)]
        self._batches.clear()
        self._again.clear()
        self._retries.clear()
        if not self._busy:
            self._abort_at = None
        elif self._abort_at is None:
            self._abort_at = now + CANCEL_GRACE_SECONDS
        elif now >= self._abort_at:
            for easy in list(self._busy):
                handle, call = self._release_handle(easy)
                handle.unload()
                waiting.append(call)
        for call in waiting:
            call.answer(CancelledError(call.batch.operation))

    def _fail_unsent(self, error: DekctlError) -> None:
        """Fail what was not sent yet: nothing can be signed."""
        for batch in (*self._batches, *(call.batch for call in self._again)):
            batch.fail(error)
        self._batches.clear()
        self._again.clear()

    def _has_work(self) -> bool:
        return bool(self._busy or self._again or self._batches or self._retries or self._inbox)

    def _fail_all(self, error: KMSError) -> None:
        """Fail every call in hand, sent or not."""
        while self._inbox:
            self._batches.append(self._inbox.popleft())
        for easy in list(self._busy):
            handle, call = self._release_handle(easy)
            handle.unload()
            self._again.append(call)
        waiting = (*self._again, *(entry[2] for entry in self._retries))
        for batch in (*self._batches, *(call.batch for call in waiting)):
            batch.fail(error)
        self._batches.clear()
        self._again.clear()
        self._retries.clear()

    def _decoder(self, operation: str) -> Decoder:
        decoder = self._decoders.get(operation)
        if decoder is None:
            decoder = Decoder(self._service.model.operation_model(operation))
            self._decoders[operation] = decoder
        return decoder

    def _new_handle(self) -> Handle:
        """Make a handle, and have libcurl keep a connection for it."""
        handles = len(self._busy) + 1
        if handles > self._cached:
            self._cached = handles + 16
            self._multi.setopt(pycurl.M_MAXCONNECTS, self._cached)
        return Handle(self._service, self._watch)

    def _watch(self, descriptor: int, _purpose: int) -> int:
        """Watch a new socket. The kernel forgets it when libcurl closes it."""
        self._epoll.register(descriptor, EVENTS)
        return 0
