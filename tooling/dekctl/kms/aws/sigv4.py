"""AWS Signature Version 4 for KMS calls: botocore's signatures, at a tenth of its cost.

What all calls of one second share (headers, scope, signing key) is computed once. Written after the
"Signature Version 4" pages of the AWS IAM user guide; the tests compare it with
:class:`botocore.auth.SigV4Auth` byte for byte.
"""

from __future__ import annotations

import hmac
import time
from collections.abc import Callable
from hashlib import sha256
from urllib.parse import quote, urlsplit

from botocore.credentials import ReadOnlyCredentials
from botocore.utils import normalize_url_path

CONTENT_TYPE = "application/x-amz-json-1.1"


class Signer:
    """Makes the headers of signed KMS calls to one endpoint. For one thread."""

    def __init__(self, url: str, region: str, *, clock: Callable[[], float] = time.time) -> None:
        """``clock`` gives the seconds since 1970; ``skew`` is added to it."""
        self._region = region
        self._host = host_header(url)
        self._path = quote(normalize_url_path(urlsplit(url).path), safe="/~")
        self._clock = clock
        self.skew = 0.0
        """Seconds by which the clock of the service is ahead of ours."""
        self._second = -1
        self._credentials: ReadOnlyCredentials | None = None
        self._date = self._scope = self._time = ""
        self._key = b""
        self._targets: dict[str, _Target] = {}

    def headers(self, target: str, body: bytes, credentials: ReadOnlyCredentials) -> list[str]:
        """Return the header lines of one call, ``Authorization`` among them.

        ``target`` is the value of ``X-Amz-Target``: ``TrentService.Encrypt``.
        """
        second = int(self._clock() + self.skew)
        if second != self._second or credentials is not self._credentials:
            self._renew(second, credentials)
        known = self._targets.get(target)
        if known is None:
            known = self._targets[target] = self._prepare(target, credentials)
        request_hash = sha256(known.request + sha256(body).hexdigest().encode()).hexdigest()
        signature = hmac.digest(self._key, known.to_sign + request_hash.encode(), "sha256").hex()
        return [*known.headers, known.authorization + signature]

    def _renew(self, second: int, credentials: ReadOnlyCredentials) -> None:
        self._time = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(second))
        date = self._time[:8]
        if date != self._date or credentials is not self._credentials:
            self._date = date
            self._scope = f"{date}/{self._region}/kms/aws4_request"
            key = f"AWS4{credentials.secret_key}".encode()
            for part in self._scope.split("/"):
                key = hmac.digest(key, part.encode(), "sha256")
            self._key = key
        self._second = second
        self._credentials = credentials
        self._targets.clear()

    def _prepare(self, target: str, credentials: ReadOnlyCredentials) -> _Target:
        signed = {"content-type": CONTENT_TYPE, "host": self._host, "x-amz-date": self._time}
        if credentials.token:
            signed["x-amz-security-token"] = credentials.token
        signed["x-amz-target"] = target  # names must be in alphabetical order
        names = ";".join(signed)
        lines = "".join(f"{name}:{value}\n" for name, value in signed.items())
        return _Target(
            headers=[f"{name}: {value}" for name, value in signed.items()],
            request=f"POST\n{self._path}\n\n{lines}\n{names}\n".encode(),
            to_sign=f"AWS4-HMAC-SHA256\n{self._time}\n{self._scope}\n".encode(),
            authorization=f"authorization: AWS4-HMAC-SHA256 Credential={credentials.access_key}/"
            f"{self._scope}, SignedHeaders={names}, Signature=",
        )


class _Target:
    """What the calls of one operation share within one second."""

    __slots__ = ("authorization", "headers", "request", "to_sign")

    def __init__(
        self, *, headers: list[str], request: bytes, to_sign: bytes, authorization: str
    ) -> None:
        self.headers = headers
        self.request = request
        self.to_sign = to_sign
        self.authorization = authorization


def host_header(url: str) -> str:
    """Return the ``Host`` header for a URL: no default port, no user, lower case."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    if ":" in host:
        host = f"[{host}]"
    if parts.port and parts.port != {"http": 80, "https": 443}.get(parts.scheme):
        host = f"{host}:{parts.port}"
    return host
