"""One KMS event of CloudTrail, reduced to what the audit needs.

Source: AWS KMS Developer Guide, "Logging AWS KMS API calls"; AWS CloudTrail User Guide, "CloudTrail
record contents".
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from dekctl.kek_id import is_same_kek
from dekctl.kms.context import PRIMARY_KEY, TABLE

KMS_SOURCE = "kms.amazonaws.com"
DENIALS = frozenset({"AccessDenied", "AccessDeniedException"})
CRYPTOGRAPHY = frozenset(
    {
        "Decrypt",
        "DeriveSharedSecret",
        "Encrypt",
        "GenerateDataKey",
        "GenerateDataKeyPair",
        "GenerateDataKeyPairWithoutPlaintext",
        "GenerateDataKeyWithoutPlaintext",
        "GenerateMac",
        "ReEncrypt",
        "Sign",
        "Verify",
        "VerifyMac",
    }
)
"""KMS's cryptographic operations on a key."""
_NEXT = re.compile(rf",\s*(?=(?:{TABLE}|{PRIMARY_KEY})=)")
"""Before the next part of a context as text. A primary key may hold a comma."""


@dataclass(frozen=True, slots=True)
class TrailEvent:
    """A call to KMS. ``principal`` is the role's ARN where a role was assumed, else the caller's.

    ``table`` and ``pk`` are those of the encryption context; None where it has none.
    """

    event_id: str
    time: datetime
    api: str
    principal: str
    session: str
    keks: tuple[str, ...]
    alias: str | None
    table: str | None
    pk: str | None
    error: str | None

    @property
    def is_cryptography(self) -> bool:
        """Whether the call used a key, and did not only manage or describe it."""
        return self.api in CRYPTOGRAPHY

    @property
    def is_denied(self) -> bool:
        """Whether KMS refused it for lack of permission."""
        return self.error in DENIALS

    def concerns(self, keks: Collection[str], aliases: Collection[str], tables: Any) -> bool:
        """Whether it is about one of these KEKs or aliases, or a row of one of these tables."""
        return (
            self.table in tables
            or (self.alias is not None and self.alias in aliases)
            or any(is_same_kek(named, kek) for named in self.keks for kek in keks)
        )


def kms_event(record: Mapping[str, Any]) -> TrailEvent | None:
    """Read a CloudTrail record; None if it is not about KMS.

    Raises:
        ValueError: it is not a CloudTrail record.
    """
    try:
        if record["eventSource"] != KMS_SOURCE:
            return None
        asked = _mapping(record.get("requestParameters"))
        context = _context(record["eventName"], asked)
        principal, session = _caller(record.get("userIdentity") or {})
        return TrailEvent(
            event_id=str(record["eventID"]),
            time=_time(record["eventTime"]),
            api=str(record["eventName"]),
            principal=principal,
            session=session,
            keks=_keks(record, asked),
            alias=asked.get("aliasName"),
            table=context.get(TABLE),
            pk=context.get(PRIMARY_KEY),
            error=record.get("errorCode"),
        )
    except (KeyError, TypeError, AttributeError, ValueError, RecursionError) as error:
        raise ValueError(f"not a CloudTrail record: {type(error).__name__}") from None


def _time(text: str) -> datetime:
    """A time of CloudTrail, with or without fractions of a second; UTC where it names no zone."""
    moment = datetime.fromisoformat(text)
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)


def _context(api: str, asked: Mapping[str, Any]) -> Mapping[str, str]:
    # ReEncrypt has two; readers will use the destination's.
    name = "destinationEncryptionContext" if api == "ReEncrypt" else "encryptionContext"
    return _mapping(asked.get(name))


def _mapping(found: Any) -> Mapping[str, Any]:
    """An object, which exports of CloudTrail's events give as a text: JSON, or ``{a=1, b=2}``."""
    if not isinstance(found, str):
        return found or {}
    try:
        return dict(json.loads(found))
    except ValueError:
        pairs = _NEXT.split(found.removeprefix("{").removesuffix("}"))
        return {key.strip(): value for key, _, value in (pair.partition("=") for pair in pairs)}


def _keks(record: Mapping[str, Any], asked: Mapping[str, Any]) -> tuple[str, ...]:
    resources = [entry.get("ARN") for entry in record.get("resources") or ()]
    parameters = [asked.get(p) for p in ("keyId", "sourceKeyId", "destinationKeyId", "targetKeyId")]
    return tuple(dict.fromkeys(str(name) for name in (*resources, *parameters) if name))


def _caller(identity: Mapping[str, Any]) -> tuple[str, str]:
    """Who called: the principal's ARN, and the session's name where a role was assumed."""
    arn = str(identity.get("arn") or identity.get("invokedBy") or identity.get("type") or "unknown")
    issuer = (identity.get("sessionContext") or {}).get("sessionIssuer") or {}
    if issuer.get("arn"):
        return str(issuer["arn"]), arn.rpartition("/")[2]
    return arn, ""
