"""What every key provider can do: wrap, unwrap and rewrap data keys, one or many at a time.

An application uses :meth:`KMSInterface.wrap` and :meth:`KMSInterface.unwrap`. The engine hands over
many keys at once and lets the provider decide how to send them.
"""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from dekctl.errors import RowRejectedError
from dekctl.kms.branch_key import BranchKey
from dekctl.kms.dek import DEK, hides_keys

Context = Mapping[str, str]
"""An encryption context: authenticated, not secret; CloudTrail shows it in plain text."""

DEFAULT_CONCURRENCY = 128
"""Calls in flight at once, unless the operator says otherwise."""

MAX_PLAINTEXT_BYTES = 4096
"""KMS Encrypt takes 1 to 4,096 bytes (AWS KMS API reference, Encrypt, ``Plaintext``)."""


@dataclass(slots=True)
class WrapRequest:
    """A plaintext key to wrap under the provider's KEK, or under ``kek``, another one it has.

    ``hierarchical`` wraps it under a branch key of that KEK (V3).
    """

    plaintext: bytes = field(repr=False)
    context: Context | None
    kek: str | None = None
    hierarchical: bool = False


@dataclass(slots=True)
class UnwrapRequest:
    """A wrapped key to unwrap; ``kek_id`` is what the row stores: an ARN, a key id or an alias."""

    wrapped: bytes = field(repr=False)
    kek_id: str | None
    context: Context | None
    hierarchical: bool = False


@dataclass(slots=True)
class RewrapRequest:
    """A wrapped key to wrap anew under the provider's KEK, or under ``new_kek``, another it has.

    ``hierarchical`` says whether it is wrapped under a branch key (V3) now, ``new_hierarchical``
    whether it shall be.
    """

    wrapped: bytes = field(repr=False)
    kek_id: str | None
    context: Context | None
    new_context: Context | None
    new_kek: str | None = None
    hierarchical: bool = False
    new_hierarchical: bool = False


@dataclass(slots=True)
class GenerateRequest:
    """A new key to make, ``size`` bytes long. ``kek`` wraps it; None is the provider's own."""

    size: int
    context: Context | None
    kek: str | None = None


@dataclass(slots=True)
class Wrapped:
    """A wrapped key and the KEK that wraps it, as the provider names it (never an alias)."""

    blob: bytes = field(repr=False)
    kek_id: str
    key_material_id: str | None = None
    branch_key: BranchKey | None = None
    """The branch key (V3) that it is useless without."""


@dataclass(slots=True)
class Unwrapped:
    """A plaintext key and the KEK that wrapped it. Its ``repr`` shows no key."""

    plaintext: bytes = field(repr=False)
    kek_id: str
    key_material_id: str | None = None
    branch_key: BranchKey | None = None
    """The branch key (V3) that was used, as it was stored."""


class KMSInterface(ABC):
    """A key provider.

    The ``*_many`` methods return one answer per request, in the order of the requests: the
    result, or a :class:`RowRejectedError` *instance* where only that key is at fault. They raise
    :class:`dekctl.errors.KMSError` for what would fail every other key too. They may be called from
    several threads at once.
    """

    name: str
    """As the table of providers names it: ``aws``, ``env``, ``memory``."""

    def __init__(self) -> None:
        self.calls: Counter[str] = Counter()
        """KMS calls made so far, by API name, retries included. Empty for local providers."""

    @property
    @abstractmethod
    def kek_id(self) -> str:
        """The KEK that ``wrap`` uses, as it is stored in a row: an ARN, or a local name."""

    @property
    def keks(self) -> Sequence[str]:
        """The KEKs that the provider was given: the one that wraps, and older ones.

        ARNs or local names; an alias where nothing else was given.
        """
        return self.known_kek_ids() or (self.kek_id,)

    @abstractmethod
    def wrap_many(self, requests: Sequence[WrapRequest]) -> list[Wrapped | RowRejectedError]:
        """Wrap each plaintext under :attr:`kek_id`, or under the KEK its request names."""

    @abstractmethod
    def unwrap_many(self, requests: Sequence[UnwrapRequest]) -> list[Unwrapped | RowRejectedError]:
        """Unwrap each key with the KEK its row names."""

    @abstractmethod
    def rewrap_many(self, requests: Sequence[RewrapRequest]) -> list[Wrapped | RowRejectedError]:
        """Wrap each key anew, under :attr:`kek_id` or the KEK its request names."""

    def resolve(self, kek: str) -> str:
        """Return the id that rows store for a KEK of this provider, which may be an alias.

        Raises:
            KMSError: the provider refused or cannot be reached.
        """
        return kek

    def known_kek_ids(self) -> Sequence[str] | None:
        """Return every KEK that this provider can unwrap with; None where only a call can tell."""
        return None

    def generate_many(
        self, requests: Sequence[GenerateRequest]
    ) -> list[tuple[Unwrapped, Wrapped] | RowRejectedError]:
        """Make new random keys; return each open, and wrapped."""
        keys = [os.urandom(request.size) for request in requests]
        wrapped = self.wrap_many(
            [WrapRequest(key, r.context, r.kek) for key, r in zip(keys, requests, strict=True)]
        )
        return [
            answer
            if isinstance(answer, RowRejectedError)
            else (Unwrapped(key, answer.kek_id, answer.key_material_id), answer)
            for key, answer in zip(keys, wrapped, strict=True)
        ]

    # Drivers hand out memoryview, and callers who mean to wipe a key keep it in a bytearray. Not
    # bytes(…) alone: of a number it would make so many zeros.
    @hides_keys
    def wrap(
        self, plaintext: bytes | bytearray | memoryview, context: Context | None = None
    ) -> bytes:
        """Wrap one key. Returns the provider's blob.

        Raises:
            RowRejectedError: the key has an impossible size.
            KMSError: the provider refused or cannot be reached.
        """
        answer = self.wrap_many([WrapRequest(DEK(memoryview(plaintext)), context)])[0]
        if isinstance(answer, RowRejectedError):
            raise answer
        return answer.blob

    @hides_keys
    def unwrap(
        self, wrapped: bytes | bytearray | memoryview, context: Context | None = None
    ) -> DEK:
        """Unwrap one key with this provider's KEK. Returns the plaintext key.

        Raises:
            RowRejectedError: the blob is damaged, of another KEK, or of another context.
            KMSError: the provider refused or cannot be reached.
        """
        answer = self.unwrap_many([UnwrapRequest(bytes(memoryview(wrapped)), None, context)])[0]
        if isinstance(answer, RowRejectedError):
            raise answer
        return DEK(answer.plaintext)

    def generate(
        self, size: int, context: Context | None, kek: str | None = None
    ) -> tuple[Unwrapped, Wrapped]:
        """Make a new random key of ``size`` bytes; return it in plaintext, and wrapped.

        ``kek`` is the KEK that wraps it; by default :attr:`kek_id`.

        Raises:
            KMSError: the provider refused or cannot be reached.
        """
        answer = self.generate_many([GenerateRequest(size, context, kek)])[0]
        if isinstance(answer, RowRejectedError):
            raise answer
        return answer

    def prepare(self) -> None:  # noqa: B027 - local providers are ready
        """Make ready what the first call would have to wait for; no call is made."""

    def set_concurrency(self, concurrency: int) -> None:  # noqa: B027 - nor have calls in flight
        """Change how many calls may be in flight from now on."""

    def close(self) -> None:  # noqa: B027 - local providers hold nothing to release
        """Release connections and threads. The provider cannot be used afterwards."""
