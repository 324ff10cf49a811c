"""What dekctl knows about a kind of key provider, and what is handed to one that is opened.

Each adapter states its own facts in a :class:`ProviderSpec`, beside its class;
:mod:`dekctl.kms.providers` is the table of them all.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from dekctl.config.roles import Role
from dekctl.errors import UsageError
from dekctl.kms.interface import DEFAULT_CONCURRENCY, KMSInterface
from dekctl.kms.limiter import RateLimiter

if TYPE_CHECKING:  # it takes half a second to import
    import boto3

NO_PREFIX = ""
"""Among ``kek_prefixes``: names without a colon, such as a bare key id or an alias."""


@dataclass(frozen=True, slots=True)
class Opening:
    """What is asked of a provider. Nothing is read or called before the adapter needs it.

    ``wraps`` tells the environment's own provider from one that only opens rows of another. ``kek``
    is the KEK to wrap under instead of the configured one (``--to``). ``deadline`` is an
    application's patience with one call, in seconds; None is a command's, of minutes. ``session``
    gives the AWS identity of a role; by default it is the ambient one.
    """

    role: Role
    wraps: bool = True
    kek: str | None = None
    region: str | None = None
    endpoint_url: str | None = None
    allow_plain_http: bool = False
    configured_kek: Callable[[], str] = lambda: ""
    known_keks: Callable[[], Sequence[str]] = tuple
    session: Callable[[Role], boto3.Session] | None = None
    concurrency: int = DEFAULT_CONCURRENCY
    limiter: RateLimiter | None = None
    cancel: threading.Event | None = None
    deadline: float | None = None
    transport: str = "auto"


@dataclass(frozen=True, slots=True)
class ProviderSpec:
    """The facts about one kind of provider."""

    name: str
    """As ``provider`` in dekctl.toml and :func:`dekctl.kms.set_kms_provider` name it."""
    kek_prefixes: tuple[str, ...]
    """How the ``kek_id`` of its rows begins, colon included; no other provider's begins so."""
    make: Callable[..., KMSInterface]
    """Makes it for an application, from the options of ``set_kms_provider``. Calls nothing yet."""
    open: Callable[[Opening], KMSInterface]
    """Makes it as the configuration describes it. Calls nothing yet."""
    lasts: bool
    """Whether its KEK outlives the process; if not, only one process can work with it."""
    remote: bool
    """Whether each key costs a call over the network, which is counted, limited and priced."""
    roles: frozenset[Role] = frozenset()
    """The IAM roles that its commands assume; none where there is nothing to assume."""


def refuse_other_kek(
    provider: KMSInterface, opening: Opening, hint: str = "leave out --to"
) -> KMSInterface:
    """Return the provider, if it wraps under the KEK that was asked for.

    For providers that have one KEK at a time, which --to cannot change.

    Raises:
        UsageError: ``--to`` names another KEK.
    """
    if opening.wraps and opening.kek not in (None, provider.kek_id):
        raise UsageError(
            f"the {provider.name} provider wraps under {provider.kek_id}, not under {opening.kek}",
            hint=hint,
        )
    return provider
