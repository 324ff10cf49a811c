"""AWS KMS in the table of providers, and how applications and commands make it."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, cast, get_args

from dekctl.config.roles import ROW_ROLES
from dekctl.errors import UsageError
from dekctl.kek_id import ARN_PREFIX
from dekctl.kms.aws.retry import APPLICATION, within
from dekctl.kms.aws.transport import TransportKind
from dekctl.kms.spec import NO_PREFIX, Opening, ProviderSpec

if TYPE_CHECKING:
    from dekctl.kms.aws.provider import AWSKMS

KEY_VARIABLE = "DEKCTL_KMS_KEY_ID"


def from_opening(opening: Opening) -> AWSKMS:
    """Make the provider: for a command in a role, and patient for minutes; or for an application.

    Raises:
        UsageError: there is no such transport.
    """
    from dekctl.kms.aws.provider import AWSKMS  # noqa: PLC0415 - boto3 only for who uses it

    transports = get_args(TransportKind)
    if opening.transport not in transports:
        raise UsageError(
            f"there is no transport {opening.transport!r}",
            hint=f"choose one of: {', '.join(transports)}",
        )
    return AWSKMS(
        opening.kek or opening.configured_kek(),
        region=opening.region,
        endpoint_url=opening.endpoint_url,
        allow_plain_http=opening.allow_plain_http,
        session=opening.session(opening.role) if opening.session else None,
        transport=cast("TransportKind", opening.transport),
        known_keks=opening.known_keks(),
        concurrency=opening.concurrency,
        limiter=opening.limiter,
        cancel=opening.cancel,
        retry=None if opening.deadline is None else within(opening.deadline),
    )


def _for_application(**options: Any) -> AWSKMS:
    from dekctl.kms.aws.provider import AWSKMS  # noqa: PLC0415 - boto3 only for who uses it

    if "key_id" not in options:
        key_id = os.environ.get(KEY_VARIABLE)
        if not key_id:
            raise UsageError(
                "the aws provider has no KEK",
                hint=f"set {KEY_VARIABLE} to a key ARN or alias, or call "
                'set_kms_provider("aws", key_id="alias/…")',
            )
        options["key_id"] = key_id
    return AWSKMS(**{"retry": APPLICATION, **options})


AWS = ProviderSpec(
    name="aws",
    kek_prefixes=(ARN_PREFIX, NO_PREFIX),  # an earlier script stored key ids and aliases
    make=_for_application,
    open=from_opening,
    lasts=True,
    remote=True,
    roles=frozenset(ROW_ROLES),
)
