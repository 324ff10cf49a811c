"""One libcurl handle for KMS calls, and what botocore knows about the endpoint it calls."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pycurl
from botocore import exceptions as aws
from botocore.credentials import Credentials
from botocore.httpsession import get_cert_path
from botocore.model import ServiceModel
from botocore.session import Session
from botocore.utils import get_environ_proxies

from dekctl import __version__
from dekctl.kms.aws.session import CONNECT_SECONDS, credentials_of, endpoint_error

MAX_ANSWER_BYTES = 1_000_000
"""A KMS response is far smaller; a larger one comes from something else."""

TLS_ERRORS = frozenset({pycurl.E_SSL_CACERT, pycurl.E_SSL_CACERT_BADFILE, pycurl.E_SSL_CERTPROBLEM})
"""TLS trust failures, which retrying does not fix."""


@dataclass(frozen=True, slots=True)
class Service:
    """Where KMS is and how to reach it, according to botocore."""

    url: str
    region: str
    model: ServiceModel
    credentials: Credentials | None
    ca_bundle: str
    proxy: str

    @classmethod
    def of(cls, client: Any, session: Session) -> Service:
        """Read it from a botocore KMS client and the session that made it."""
        url, region = endpoint_of(client)
        return cls(
            url=url,
            region=region,
            model=client.meta.service_model,
            credentials=credentials_of(session),
            ca_bundle=ca_bundle(session),
            proxy=proxy_for(url),
        )


def endpoint_of(client: Any) -> tuple[str, str]:
    """Return the URL and the signing Region of a botocore KMS client's calls.

    ``client.meta.endpoint_url`` is only a first guess: botocore's rules decide for each call. So a
    call is made, and stopped before it is signed.
    """
    caught: list[tuple[str, str]] = []

    def catch(request: Any, region_name: str, **_: object) -> None:
        region = request.context.get("signing", {}).get("region") or region_name
        caught.append((request.url, region))
        raise _NotSentError

    client.meta.events.register("before-sign.kms.Encrypt", catch)
    try:
        client.encrypt(KeyId="none", Plaintext=b"none")
    except _NotSentError:
        pass
    except (aws.BotoCoreError, ValueError) as error:
        raise endpoint_error(error) from error
    finally:
        client.meta.events.unregister("before-sign.kms.Encrypt", catch)
    return caught[0]


class _NotSentError(Exception):
    """Stops a call that was only made to see where it would go."""


def ca_bundle(session: Session) -> str:
    """Return the file with the trusted CAs: the configured one, else the one in botocore."""
    configured: str | None = session.get_config_variable("ca_bundle")
    configured = configured or os.environ.get("REQUESTS_CA_BUNDLE")
    return configured or str(get_cert_path(True))


def proxy_for(url: str) -> str:
    """Return the proxy that the environment sets for a URL, or an empty string."""
    proxies: dict[str, str] = get_environ_proxies(url)
    return proxies.get(url.split(":", 1)[0].lower(), "")


class Handle:
    """A libcurl handle, used for one call after the other."""

    __slots__ = ("_answer_ms", "_chunks", "_headers", "_loaded", "easy")

    def __init__(self, service: Service, on_socket: Callable[[int, int], int]) -> None:
        """``on_socket`` is called with each new socket before it connects, and returns 0."""
        self._chunks: list[bytes] = []
        self._headers: list[bytes] = []
        self._loaded = False
        self._answer_ms = 0
        self.easy = easy = pycurl.Curl()
        easy.setopt(pycurl.URL, service.url)
        easy.setopt(pycurl.POST, 1)
        easy.setopt(pycurl.HTTP_VERSION, pycurl.CURL_HTTP_VERSION_1_1)
        easy.setopt(pycurl.USERAGENT, f"dekctl/{__version__} curl")
        easy.setopt(pycurl.PROXY, service.proxy)  # empty: no proxy, whatever the environment says
        easy.setopt(pycurl.CAINFO, service.ca_bundle)
        easy.setopt(pycurl.SSL_VERIFYPEER, 1)
        easy.setopt(pycurl.SSL_VERIFYHOST, 2)
        easy.setopt(pycurl.SSLVERSION, pycurl.SSLVERSION_TLSv1_2)  # this or newer
        easy.setopt(pycurl.NOSIGNAL, 1)
        easy.setopt(pycurl.TCP_NODELAY, 1)
        easy.setopt(pycurl.CONNECTTIMEOUT_MS, int(CONNECT_SECONDS * 1000))
        easy.setopt(pycurl.MAXFILESIZE, MAX_ANSWER_BYTES)
        easy.setopt(pycurl.WRITEFUNCTION, self._chunks.append)
        easy.setopt(pycurl.HEADERFUNCTION, self._headers.append)
        easy.setopt(pycurl.SOCKOPTFUNCTION, on_socket)

    def load(self, headers: list[str], body: bytes, answer: float) -> None:
        """Make the handle ready to send this request, answered within ``answer`` seconds."""
        milliseconds = max(1, int(answer * 1000))
        if milliseconds != self._answer_ms:
            self._answer_ms = milliseconds
            self.easy.setopt(pycurl.TIMEOUT_MS, milliseconds)
        self.easy.setopt(pycurl.HTTPHEADER, headers)
        self.easy.setopt(pycurl.POSTFIELDS, body)
        self._loaded = True

    def take(self) -> tuple[int, bytes]:
        """Return the HTTP status and the body of the response, and drop the body here."""
        body = b"".join(self._chunks)
        self._chunks.clear()
        return self.easy.getinfo(pycurl.RESPONSE_CODE), body

    @property
    def seconds(self) -> float:
        """How long the last call took, in seconds."""
        return float(self.easy.getinfo(pycurl.TOTAL_TIME))

    def header(self, name: bytes) -> str:
        """Return a header of the last response (``name`` in lower case), or an empty string."""
        for line in reversed(self._headers):
            key, _, value = line.partition(b":")
            if key.lower() == name:
                return value.strip().decode("latin-1")
            if line.startswith(b"HTTP/"):  # before it: an interim response, or one of a proxy
                break
        return ""

    def forget_headers(self) -> None:
        """Drop the headers of the last response."""
        self._headers.clear()

    def unload(self) -> bool:
        """Drop the request, which may hold a key. Returns False if there was none."""
        if not self._loaded:
            return False
        self._chunks.clear()
        self._headers.clear()
        self.easy.setopt(pycurl.POSTFIELDS, b"")
        self._loaded = False
        return True
