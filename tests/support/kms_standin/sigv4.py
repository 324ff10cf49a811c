"""Verifies AWS Signature Version 4, written from AWS's description of it.

The description: "Create a signed AWS API request" in the IAM User Guide. It shares no code with the
clients under test.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import time
from calendar import timegm
from functools import lru_cache
from urllib.parse import parse_qsl, quote

from .errors import AwsError
from .identity import Credentials, Directory
from .request import Request

ALGORITHM = "AWS4-HMAC-SHA256"
CLOCK_SKEW_SECONDS = 300
TIME_FORMAT = "%Y%m%dT%H%M%SZ"

_AUTHORIZATION = re.compile(
    rf"{ALGORITHM} +Credential=([^/,\s]+)/(\d{{8}})/([^/,\s]+)/([^/,\s]+)/aws4_request *, *"
    r"SignedHeaders=([a-z0-9;-]+) *, *Signature=([0-9a-f]{64})"
)


class Authenticator:
    """Tells who sent a request.

    With ``verify`` off, an access key that nobody has made stands for the administrator, and no
    signature is looked at.
    """

    def __init__(self, directory: Directory, region: str, *, verify: bool) -> None:
        self._directory = directory
        self._region = region
        self._verify = verify
        self.hosts: set[str] = set()

    def authenticate(self, request: Request, service: str) -> Credentials:
        """The credentials that signed the request.

        Raises:
            AwsError: as KMS names what is wrong with the signature or the credentials.
        """
        header = request.headers.get("authorization")
        if header is None:
            raise AwsError("MissingAuthenticationTokenException", "Missing Authentication Token")
        if not self._verify:
            access_key = header.partition("Credential=")[2].partition("/")[0]
            known = self._directory.credentials.get(access_key)
            if known is None:
                return self._directory.admin_credentials
            return _unexpired(known)
        match = _AUTHORIZATION.fullmatch(header)
        if match is None:
            raise AwsError("IncompleteSignatureException", "The Authorization header is malformed.")
        access_key, day, region, scope_service, signed_names, signature = match.groups()
        credentials = self._directory.credentials.get(access_key)
        if credentials is None or credentials.token != request.headers.get("x-amz-security-token"):
            raise AwsError(
                "UnrecognizedClientException",
                "The security token included in the request is invalid.",
            )
        if region != self._region and not (service == "sts" and region == "us-east-1"):
            raise _wrong("Credential should be scoped to a valid region.")
        if scope_service != service:
            raise _wrong(f"Credential should be scoped to correct service: '{service}'.")
        names = signed_names.split(";")
        self._check_signed_headers(request, names)
        moment = self._check_time(request, day)
        canonical = canonical_request(request, names)
        scope = f"{day}/{region}/{service}/aws4_request"
        text = f"{ALGORITHM}\n{moment}\n{scope}\n{hashlib.sha256(canonical.encode()).hexdigest()}"
        key = signing_key(credentials.secret_key, day, region, service)
        expected = hmac.new(key, text.encode(), hashlib.sha256).hexdigest()
        if not hmac.compare_digest(expected, signature):
            raise _wrong(
                "The request signature we calculated does not match the signature you provided. "
                "Check your AWS Secret Access Key and signing method. Consult the service "
                "documentation for details."
            )
        return _unexpired(credentials)

    def _check_signed_headers(self, request: Request, names: list[str]) -> None:
        if names != sorted(set(names)):
            raise _wrong("SignedHeaders is not sorted.")
        must = {"host"} | {name for name in request.headers if name.startswith("x-amz-")}
        missing = must.difference(names)
        if missing:
            raise _wrong(f"Not signed: {', '.join(sorted(missing))}.")
        if request.headers.get("host") not in self.hosts:
            raise _wrong("The request is for another host.")
        declared = request.headers.get("x-amz-content-sha256")
        if declared is not None and declared != hashlib.sha256(request.body).hexdigest():
            raise _wrong("x-amz-content-sha256 is not the hash of the body.")

    @staticmethod
    def _check_time(request: Request, day: str) -> str:
        moment = request.headers.get("x-amz-date", "")
        try:
            signed_at = timegm(time.strptime(moment, TIME_FORMAT))
        except ValueError:
            raise AwsError(
                "IncompleteSignatureException", "X-Amz-Date is missing or malformed."
            ) from None
        if moment[:8] != day:
            raise _wrong("The date in the credential scope is not that of the request.")
        now = time.time()
        if abs(now - signed_at) > CLOCK_SKEW_SECONDS:
            old = signed_at < now
            edge = time.strftime(
                TIME_FORMAT, time.gmtime(now + (-1 if old else 1) * CLOCK_SKEW_SECONDS)
            )
            raise _wrong(
                f"Signature expired: {moment} is now earlier than {edge}"
                if old
                else f"Signature not yet current: {moment} is still later than {edge}"
            )
        return moment


def canonical_request(request: Request, signed_names: list[str]) -> str:
    """The canonical request of the specification."""
    path, _, query = request.target.partition("?")
    pairs = sorted(
        (quote(name, safe="-_.~"), quote(value, safe="-_.~"))
        for name, value in parse_qsl(query, keep_blank_values=True)
    )
    headers = "".join(
        f"{name}:{' '.join(request.headers.get(name, '').split())}\n" for name in signed_names
    )
    return "\n".join(
        (
            request.method,
            quote(path, safe="/-_.~"),
            "&".join(f"{name}={value}" for name, value in pairs),
            headers,
            ";".join(signed_names),
            hashlib.sha256(request.body).hexdigest(),
        )
    )


@lru_cache(maxsize=256)
def signing_key(secret_key: str, day: str, region: str, service: str) -> bytes:
    """The key that signs all requests of one day, Region and service."""
    key = f"AWS4{secret_key}".encode()
    for part in (day, region, service, "aws4_request"):
        key = hmac.digest(key, part.encode(), "sha256")
    return key


def _unexpired(credentials: Credentials) -> Credentials:
    if credentials.expires is not None and time.time() > credentials.expires:
        raise AwsError(
            "ExpiredTokenException", "The security token included in the request is expired"
        )
    return credentials


def _wrong(message: str) -> AwsError:
    return AwsError("InvalidSignatureException", message)
