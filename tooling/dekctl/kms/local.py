"""Providers that need no cloud: a KEK from the environment, and one in memory.

Both wrap with AES-256-GCM from ``cryptography``, the encryption context as additional data.

A blob is ``0x01 | fingerprint (8 bytes) | nonce (12 bytes) | ciphertext and tag``. The nonce is
random, so one KEK should wrap no more than 2**32 keys (NIST SP 800-38D, section 8.3).
"""

from __future__ import annotations

import base64
import hashlib
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TypeVar

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from dekctl.errors import KekRefusedError, RowRejectedError, UsageError
from dekctl.kek_id import ENV_PREFIX, MEMORY_PREFIX
from dekctl.kms.chosen import choose, chosen
from dekctl.kms.context import OTHER_CONTEXT_HINT, encode_context
from dekctl.kms.dek import hides_keys
from dekctl.kms.interface import (
    MAX_PLAINTEXT_BYTES,
    Context,
    KMSInterface,
    RewrapRequest,
    Unwrapped,
    UnwrapRequest,
    Wrapped,
    WrapRequest,
)
from dekctl.kms.spec import Opening, ProviderSpec, refuse_other_kek

KEK_BYTES = 32
KEK_VARIABLE = "DEKCTL_KEK"
OLD_KEKS_VARIABLE = "DEKCTL_OLD_KEKS"

FORGOTTEN_HINT = (
    "the memory provider loses its KEK when its process ends; set another provider in "
    "dekctl.toml, then wrap the plaintexts again: dekctl wrap --stale"
)

_FORMAT = b"\x01"
_FINGERPRINT_BYTES = 8
_NONCE_BYTES = 12
_HEADER_BYTES = len(_FORMAT) + _FINGERPRINT_BYTES + _NONCE_BYTES

Asked = TypeVar("Asked")
Answer = TypeVar("Answer")


def _each(
    requests: Iterable[Asked], answer: Callable[[Asked], Answer]
) -> list[Answer | RowRejectedError]:
    """Answer every request; for a rejected one the error itself is the answer."""
    answers: list[Answer | RowRejectedError] = []
    for request in requests:
        try:
            answers.append(answer(request))
        except RowRejectedError as error:
            answers.append(error.with_traceback(None))  # its frames hold the key
    return answers


def _not_available(kek_id: str) -> KekRefusedError:
    hint = f"add it (base64) to {OLD_KEKS_VARIABLE}"
    if kek_id.startswith(MEMORY_PREFIX):
        hint = FORGOTTEN_HINT
    return KekRefusedError(
        f"the KEK {kek_id} is not available", hint=hint, code="NotFoundException"
    )


class _LocalKEK:
    """One 32-byte KEK in memory. Its ``repr`` shows the fingerprint only."""

    __slots__ = ("_cipher", "_head", "fingerprint", "kek_id")

    def __init__(self, key: bytes, kek_id: str | None = None) -> None:
        self._cipher = AESGCM(key)
        self.fingerprint = hashlib.sha256(b"dekctl KEK fingerprint\x00" + key).digest()[
            :_FINGERPRINT_BYTES
        ]
        self._head = _FORMAT + self.fingerprint
        self.kek_id = kek_id or f"{ENV_PREFIX}{self.fingerprint.hex()}"

    def __repr__(self) -> str:
        return f"<KEK {self.kek_id}>"

    def seal(self, plaintext: bytes, context: Context | None, nonce: bytes) -> bytes:
        sealed = self._cipher.encrypt(nonce, plaintext, encode_context(context))
        return self._head + nonce + sealed

    def open(self, blob: bytes, context: Context | None) -> bytes:
        nonce = blob[_HEADER_BYTES - _NONCE_BYTES : _HEADER_BYTES]
        return self._cipher.decrypt(nonce, blob[_HEADER_BYTES:], encode_context(context))


def _nonces(count: int) -> Iterator[bytes]:
    """Random nonces; the system is asked once for all of them."""
    random = os.urandom(_NONCE_BYTES * count)
    return (random[i : i + _NONCE_BYTES] for i in range(0, len(random), _NONCE_BYTES))


class _LocalKMS(KMSInterface):
    """What both local providers share: the blob format, and finding the KEK by fingerprint."""

    def __init__(self, current: _LocalKEK, others: Sequence[_LocalKEK] = ()) -> None:
        super().__init__()
        self._current = current
        self._keks = {kek.fingerprint: kek for kek in (*others, current)}

    @property
    def kek_id(self) -> str:
        return self._current.kek_id

    def known_kek_ids(self) -> list[str]:
        return [kek.kek_id for kek in self._keks.values()]

    def _wrap(
        self, plaintext: bytes, context: Context | None, kek_id: str | None, nonce: bytes
    ) -> Wrapped:
        if not 1 <= len(plaintext) <= MAX_PLAINTEXT_BYTES:
            raise RowRejectedError(f"a key of {len(plaintext)} bytes cannot be wrapped")
        kek = self._current if kek_id is None else self._named(kek_id)
        return Wrapped(kek.seal(plaintext, context, nonce), kek.kek_id)

    def _named(self, kek_id: str) -> _LocalKEK:
        for kek in self._keks.values():
            if kek.kek_id == kek_id:
                return kek
        raise _not_available(kek_id)

    def _unwrap(self, blob: bytes, kek_id: str | None, context: Context | None) -> Unwrapped:
        if len(blob) <= _HEADER_BYTES or not blob.startswith(_FORMAT):
            raise RowRejectedError(f"not a blob of the {self.name} provider")
        fingerprint = blob[1 : 1 + _FINGERPRINT_BYTES]
        kek = self._keks.get(fingerprint)
        if kek is None:
            named = f"{self.name}:{fingerprint.hex()}"
            raise _not_available(kek_id or named)
        if kek_id is not None and kek_id != kek.kek_id:
            raise RowRejectedError(
                f"the row names KEK {kek_id}, but {kek.kek_id} wrapped its key",
                code="IncorrectKeyException",
            )
        try:
            return Unwrapped(kek.open(blob, context), kek.kek_id)
        except InvalidTag:
            raise RowRejectedError(
                "the wrapped key is damaged, or belongs to another row or table",
                hint=OTHER_CONTEXT_HINT,
                code="InvalidCiphertextException",
            ) from None

    @hides_keys
    def wrap_many(self, requests: Sequence[WrapRequest]) -> list[Wrapped | RowRejectedError]:
        nonces = _nonces(len(requests))
        return _each(requests, lambda r: self._wrap(r.plaintext, r.context, r.kek, next(nonces)))

    @hides_keys
    def unwrap_many(self, requests: Sequence[UnwrapRequest]) -> list[Unwrapped | RowRejectedError]:
        return _each(requests, lambda r: self._unwrap(r.wrapped, r.kek_id, r.context))

    @hides_keys
    def rewrap_many(self, requests: Sequence[RewrapRequest]) -> list[Wrapped | RowRejectedError]:
        nonces = _nonces(len(requests))
        return _each(
            requests,
            lambda r: self._wrap(
                self._unwrap(r.wrapped, r.kek_id, r.context).plaintext,
                r.new_context,
                r.new_kek,
                next(nonces),
            ),
        )


def _decode_kek(text: str, variable: str) -> _LocalKEK:
    try:
        key = base64.b64decode(text.strip(), validate=True)
    except ValueError:  # not base64, or not even ASCII
        key = b""
    if len(key) != KEK_BYTES:
        raise UsageError(
            f"{variable} does not hold a base64 KEK of {KEK_BYTES} bytes",
            hint=f'make one with: export {variable}="$(openssl rand -base64 32)"',
        )
    return _LocalKEK(key)


class EnvKMS(_LocalKMS):
    """A KEK from the environment: ``DEKCTL_KEK`` wraps; ``DEKCTL_OLD_KEKS`` only unwrap.

    Each KEK is 32 bytes in base64; ``DEKCTL_OLD_KEKS`` holds several, separated by commas.
    ``kek_id`` is ``env:<fingerprint>``, 16 hexadecimal digits of a SHA-256 that
    reveals nothing of the key.
    """

    name = "env"

    def __init__(self, environ: Mapping[str, str] | None = None) -> None:
        """Read the KEKs.

        Raises:
            UsageError: ``DEKCTL_KEK`` is missing or is not 32 bytes of base64.
        """
        environ = os.environ if environ is None else environ
        if not environ.get(KEK_VARIABLE):
            raise UsageError(
                f"the env provider needs a KEK in {KEK_VARIABLE}",
                hint=f'make one with: export {KEK_VARIABLE}="$(openssl rand -base64 32)"',
            )
        old = [text for text in environ.get(OLD_KEKS_VARIABLE, "").split(",") if text.strip()]
        super().__init__(
            _decode_kek(environ[KEK_VARIABLE], KEK_VARIABLE),
            [_decode_kek(text, OLD_KEKS_VARIABLE) for text in old],
        )


class InMemoryKMS(_LocalKMS):
    """A random KEK that is lost when the process ends. For development and tests only."""

    name = "memory"

    def __init__(self, name: str = "dev") -> None:
        super().__init__(_LocalKEK(os.urandom(KEK_BYTES), f"{MEMORY_PREFIX}{name}"))

    def roll(self, name: str) -> str:
        """Make a new KEK and wrap with it from now on; older ones still unwrap. Returns its id."""
        self._current = _LocalKEK(os.urandom(KEK_BYTES), f"{MEMORY_PREFIX}{name}")
        self._keks[self._current.fingerprint] = self._current
        return self._current.kek_id


def _open_env(opening: Opening) -> KMSInterface:
    return refuse_other_kek(
        EnvKMS(),
        opening,
        "leave out --to; to wrap under another KEK, put it into "
        f"{KEK_VARIABLE} and the present one into {OLD_KEKS_VARIABLE}",
    )


def _open_memory(opening: Opening) -> KMSInterface:
    """Open the process's own: the chosen one, else a new one, which is chosen then."""
    provider = chosen()
    if not isinstance(provider, InMemoryKMS):
        provider = choose(InMemoryKMS())
    return refuse_other_kek(provider, opening)


ENV = ProviderSpec(
    name="env",
    kek_prefixes=(ENV_PREFIX,),
    make=EnvKMS,
    open=_open_env,
    lasts=True,
    remote=False,
)
MEMORY = ProviderSpec(
    name="memory",
    kek_prefixes=(MEMORY_PREFIX,),
    make=InMemoryKMS,
    open=_open_memory,
    lasts=False,
    remote=False,
)
