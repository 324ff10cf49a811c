"""Which provider the application uses: ``set_kms_provider`` and ``get_kms_provider``."""

from __future__ import annotations

from typing import Any

from dekctl.errors import UsageError
from dekctl.kms.chosen import choose, chosen
from dekctl.kms.interface import KMSInterface
from dekctl.kms.providers import provider_named


def set_kms_provider(provider: str | KMSInterface, **options: Any) -> KMSInterface:
    """Choose the provider that :func:`get_kms_provider` returns in this process.

    Args:
        provider: a ready-made :class:`KMSInterface`, or the name of a provider (``"aws"``,
            ``"env"``, ``"memory"``), which is then made here.
        options: for the provider made here; for ``aws`` those of :class:`dekctl.kms.AWSKMS`, where
            ``key_id`` defaults to the variable ``DEKCTL_KMS_KEY_ID``, and ``retry`` to a few
            seconds.

    Raises:
        UsageError: there is no such provider, or its KEK is missing.
    """
    if isinstance(provider, KMSInterface):
        return choose(provider)
    return choose(provider_named(provider).make(**options))


def get_kms_provider() -> KMSInterface:
    """Return the provider chosen with :func:`set_kms_provider`.

    Raises:
        UsageError: none was chosen.
    """
    provider = chosen()
    if provider is None:
        raise UsageError(
            "no KMS provider is chosen", hint='call set_kms_provider("aws", key_id="alias/…") first'
        )
    return provider
