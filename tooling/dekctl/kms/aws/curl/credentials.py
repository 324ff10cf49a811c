"""The credentials that calls are signed with, refreshed in the background."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from botocore import exceptions as aws
from botocore.credentials import Credentials, ReadOnlyCredentials, RefreshableCredentials

from dekctl.errors import DekctlError
from dekctl.kms.aws.session import credentials_error

ASK_SECONDS = 1.0
"""How often botocore is asked for credentials; it knows when to refresh them."""


class FreshCredentials:
    """Lets botocore refresh in a thread, and uses the old credentials until they expire."""

    def __init__(self, source: Credentials | None, ready: Callable[[], None]) -> None:
        """``ready`` is called, from that thread, when a refresh has ended."""
        self._source = source
        self._ready = ready
        self._known: ReadOnlyCredentials | None = None
        self._ask_at = 0.0
        self._asked: threading.Event | None = None  # set when the running refresh has ended
        self._error: Exception | None = None
        self._over = False

    def current(self) -> ReadOnlyCredentials | None:
        """Return the credentials to sign with, or None until there are any. For one thread.

        Raises:
            KMSError: botocore has none, and the last ones have expired.
        """
        source = self._source
        if source is None:
            raise credentials_error(aws.NoCredentialsError())
        if self._asked is None:
            if self._known is not None and time.monotonic() < self._ask_at:
                return self._known
            if not (isinstance(source, RefreshableCredentials) and source.refresh_needed()):
                self._take(source)  # no network call is needed
                return self._known
            self._asked = threading.Event()
            threading.Thread(
                target=self._refresh, args=(source, self._asked), name="kms-auth", daemon=True
            ).start()
        # Once expired they stay expired here: botocore may have new ones, but we do not yet.
        self._over = self._over or self._known is None or _has_expired(source)
        if not self._asked.is_set():
            return None if self._over else self._known
        over, error, self._asked = self._over, self._error, None
        self._over, self._error = False, None
        if error is not None and over:
            self._known = None
            if isinstance(error, DekctlError):
                raise error
            raise credentials_error(error) from error
        return self._known

    def _refresh(self, source: Credentials, asked: threading.Event) -> None:
        try:
            self._take(source)
        except Exception as error:  # raised in the thread that signs, if it matters
            self._error = error
            self._ask_at = time.monotonic() + ASK_SECONDS
        asked.set()
        self._ready()

    def _take(self, source: Credentials) -> None:
        frozen = source.get_frozen_credentials()
        if frozen != self._known:  # the signer caches by object identity
            self._known = frozen
        self._ask_at = time.monotonic() + ASK_SECONDS  # asking may have taken longer


def _has_expired(source: Credentials) -> bool:
    return isinstance(source, RefreshableCredentials) and source.refresh_needed(refresh_in=0)
