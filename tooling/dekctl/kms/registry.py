"""Which provider the application uses: ``set_kms_provider`` and ``get_kms_provider``."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

from dekctl.errors import UsageError
from dekctl.kms.aws.provider import AWSKMS
from dekctl.kms.aws.retry import APPLICATION
from dekctl.kms.interface import KMSInterface
from dekctl.kms.local import EnvKMS, InMemoryKMS

KEY_VARIABLE = "DEKCTL_KMS_KEY_ID"

_provider: KMSInterface | None = None


def _aws(**options: Any) -> KMSInterface:
    if "key_id" not in options:
        key_id = os.environ.get(KEY_VARIABLE)
        if not key_id:
            raise UsageError(
                "the aws provider does not know its KEK",
                hint=f"set {KEY_VARIABLE} to a key ARN or alias, or call "
                'set_kms_provider("aws", key_id="alias/…")',
            )
        options["key_id"] = key_id
    return AWSKMS(**{"retry": APPLICATION, **options})


_FACTORIES: dict[str, Callable[..., KMSInterface]] = {
    "aws": _aws,
    "env": EnvKMS,
    "memory": InMemoryKMS,
}


def set_kms_provider(provider: str | KMSInterface, **options: Any) -> KMSInterface:
    """Choose the provider that :func:`get_kms_provider` gives out in this process.

    ``provider`` is ``"aws"``, ``"env"`` or ``"memory"``, whose adapter is made here from
    ``options`` (for ``aws`` those of :class:`AWSKMS`; without ``key_id`` it is taken from
    ``DEKCTL_KMS_KEY_ID``, without ``retry`` calls are tried again for a few seconds), or a
    ready-made :class:`KMSInterface`.

    Raises:
        UsageError: no such provider, or it lacks its KEK.
    """
    global _provider  # noqa: PLW0603 - the seed's interface is a module-level provider
    if isinstance(provider, KMSInterface):
        _provider = provider
        return provider
    factory = _FACTORIES.get(provider)
    if factory is None:
        raise UsageError(
            f"unknown KMS provider {provider!r}", hint=f"choose one of: {', '.join(_FACTORIES)}"
        )
    _provider = factory(**options)
    return _provider


def get_kms_provider() -> KMSInterface:
    """Return the provider chosen with :func:`set_kms_provider`.

    Raises:
        UsageError: none was chosen.
    """
    if _provider is None:
        raise UsageError(
            "no KMS provider is chosen", hint='call set_kms_provider("aws", key_id="alias/…") first'
        )
    return _provider
