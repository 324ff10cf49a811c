"""The table of key providers: the one place that knows which there are.

Whoever must tell providers apart looks a fact up here; nobody compares names or prefixes.
"""

from __future__ import annotations

from dekctl.errors import UsageError
from dekctl.kms.aws.spec import AWS
from dekctl.kms.local import ENV, MEMORY
from dekctl.kms.spec import NO_PREFIX, ProviderSpec

PROVIDERS: dict[str, ProviderSpec] = {
    spec.name: spec
    for spec in (
        AWS,
        ENV,
        MEMORY,
    )
}

_BY_PREFIX = {prefix: spec for spec in PROVIDERS.values() for prefix in spec.kek_prefixes}


def provider_named(name: str, where: str = "") -> ProviderSpec:
    """The provider of this name.

    Args:
        name: as configured.
        where: what named it, for the error.

    Raises:
        UsageError: there is no such provider.
    """
    spec = PROVIDERS.get(name)
    if spec is None:
        raise UsageError(
            f"unknown KMS provider {name!r}{where and f' in {where}'}",
            hint=f"choose one of: {', '.join(PROVIDERS)}",
        )
    return spec


def provider_of(kek_id: str) -> ProviderSpec | None:
    """The provider that a stored ``kek_id`` belongs to; None where no provider has such names."""
    scheme, colon, _ = kek_id.partition(":")
    return _BY_PREFIX.get(scheme + colon if colon else NO_PREFIX)
