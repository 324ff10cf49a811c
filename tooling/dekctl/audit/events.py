"""One event of CloudTrail, reduced to what the audit needs.

Sources: AWS KMS Developer Guide, "Logging AWS KMS API calls" and "ReEncrypt" (``resources`` names
the source key, then the destination key); AWS CloudTrail User Guide, "CloudTrail record contents".
A call that was denied often has neither parameters nor resources: only its error message, which the
IAM User Guide describes in "Troubleshoot access denied error messages", names the resource.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, NamedTuple

from dekctl.kek_id import is_alias
from dekctl.kms.context import PRIMARY_KEY, TABLE

KMS = "kms.amazonaws.com"
CLOUDTRAIL = "cloudtrail.amazonaws.com"
S3 = "s3.amazonaws.com"
IAM = "iam.amazonaws.com"
LOGS = "logs.amazonaws.com"
ALARMS = "monitoring.amazonaws.com"
RULES = "events.amazonaws.com"
TOPICS = "sns.amazonaws.com"
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
MALFORMED = (KeyError, TypeError, AttributeError, ValueError, OverflowError, RecursionError)
"""What reading something else than was expected may raise."""
_NEXT = re.compile(rf",\s*(?=(?:{TABLE}|{PRIMARY_KEY})=)")
"""Before the next part of a context as text. A primary key may hold a comma."""
_KEY_PARAMETERS = ("keyId", "sourceKeyId", "destinationKeyId", "targetKeyId")
_SUBJECTS = {
    KMS: (),
    CLOUDTRAIL: ("name", "trailName"),
    S3: ("bucketName",),
    IAM: ("roleName",),
    LOGS: ("logGroupName",),
    ALARMS: ("alarmName", "alarmNames"),
    RULES: ("name", "rule"),
    TOPICS: ("topicArn", "subscriptionArn"),
}
"""The services that the audit looks at, with the parameters that name what an event is about: the
trail, its bucket, a role, or what alarms need."""
_NOTHING: Mapping[str, Any] = {}
_DENIED_RESOURCE = re.compile(r"on resource: (?:role )?(\S+)")
_NAME_IN_ARN = {
    CLOUDTRAIL: re.compile(r":trail/(.+)"),
    S3: re.compile(r":::([^/]+)"),
    IAM: re.compile(r":role/(?:.*/)?([^/]+)"),
    LOGS: re.compile(r":log-group:([^:]+)"),
    ALARMS: re.compile(r":alarm:(.+)"),
    RULES: re.compile(r":rule/(?:.*/)?([^/]+)"),
}


class TrailEvent(NamedTuple):
    """A call. ``principal`` is the role's ARN where a role was assumed, else the caller's.

    ``table`` and ``pk`` are those of the encryption context; None where it has none. ``moved_from``
    is the table and primary key that a ReEncrypt took the key from, where they are others.
    ``writes_under`` is the KEK that a new wrapped key is under. ``subjects`` are what a call to
    another service than KMS is about: trail, bucket, role, log group, alarms, rule or topic.
    ``by_service`` is whether AWS itself did it, as it rotates key material.
    """

    event_id: str
    time: datetime
    source: str
    api: str
    principal: str
    session: str
    account: str
    region: str
    keks: tuple[str, ...]
    writes_under: str | None
    alias: str | None
    table: str | None
    pk: str | None
    moved_from: str | None
    error: str | None
    subjects: tuple[str, ...]
    by_service: bool

    @property
    def is_cryptography(self) -> bool:
        """Whether the call used a key, and did not only manage or describe it."""
        return self.source == KMS and self.api in CRYPTOGRAPHY

    @property
    def is_denied(self) -> bool:
        """Whether it was refused for lack of permission."""
        return self.error in DENIALS


def trail_event(record: Mapping[str, Any]) -> TrailEvent | None:
    """Read a CloudTrail record; None if it is of a service that the audit does not look at.

    Raises:
        ValueError: it is not a CloudTrail record.
    """
    try:
        source = record["eventSource"]
        if source not in _SUBJECTS:
            return None
        api = str(record["eventName"])
        asked = _mapping(record.get("requestParameters"))
        resources = [str(r["ARN"]) for r in record.get("resources") or () if r.get("ARN")]
        keks: tuple[str, ...] = ()
        context = origin = _NOTHING
        writes_under = alias = None
        subjects: tuple[str, ...] = ()
        denied = record.get("errorCode") in DENIALS
        told = _DENIED_RESOURCE.findall(str(record.get("errorMessage"))) if denied else []
        if source == KMS:
            named = [asked[name] for name in _KEY_PARAMETERS if asked.get(name)]
            keks = tuple(dict.fromkeys(map(str, (*resources, *named, *told))))
            alias = asked.get("aliasName") or next(filter(is_alias, keks), None)
            if api == "ReEncrypt":
                context = _mapping(asked.get("destinationEncryptionContext"))
                origin = _mapping(asked.get("sourceEncryptionContext"))
                writes_under = resources[1] if len(resources) > 1 else asked.get("destinationKeyId")
            else:
                context = _mapping(asked.get("encryptionContext"))
                if api != "Decrypt":
                    writes_under = keks[0] if keks else None
        else:
            names = [asked[name] for name in _SUBJECTS[source] if asked.get(name)]
            found = [str(one) for n in names for one in (n if isinstance(n, list) else [n])]
            subjects = tuple(found or told)
            if told and not found and source in _NAME_IN_ARN:
                subjects += tuple(_NAME_IN_ARN[source].findall(told[0]))
        identity = record.get("userIdentity") or _NOTHING
        principal, session = _caller(identity)
        event = TrailEvent(
            str(record["eventID"]),
            _time(record["eventTime"]),
            source,
            api,
            principal,
            session,
            str(record.get("recipientAccountId") or identity.get("accountId") or ""),
            str(record.get("awsRegion") or ""),
            keks,
            writes_under,
            alias,
            context.get(TABLE),
            context.get(PRIMARY_KEY),
            _origin(origin, context) if origin else None,
            record.get("errorCode"),
            subjects,
            record.get("eventType") == "AwsServiceEvent" or identity.get("type") == "AWSService",
        )
        _refuse_odd_text(event)
        return event
    except MALFORMED as error:
        raise ValueError(f"not a CloudTrail record: {type(error).__name__}") from None


def _refuse_odd_text(event: TrailEvent) -> None:
    """Refuse what is no text (TypeError) or cannot be printed as UTF-8 (ValueError)."""
    single = (
        *(event.event_id, event.api, event.principal, event.session, event.account, event.region),
        *(event.writes_under, event.alias, event.table, event.pk, event.moved_from, event.error),
    )
    texts = (*single, *event.keks, *event.subjects)
    "\n".join(text for text in texts if text is not None).encode()


def _time(text: str) -> datetime:
    """A time of CloudTrail, with or without fractions of a second; UTC where it names no zone."""
    moment = datetime.fromisoformat(text)
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)


def _origin(source: Mapping[str, Any], target: Mapping[str, Any]) -> str | None:
    if source.get(TABLE) == target.get(TABLE) and source.get(PRIMARY_KEY) == target.get(
        PRIMARY_KEY
    ):
        return None
    return f"{source.get(TABLE)} {source.get(PRIMARY_KEY)}"


def _mapping(found: Any) -> Mapping[str, Any]:
    """An object, which exports of CloudTrail's events give as a text: JSON, or ``{a=1, b=2}``."""
    if not isinstance(found, str):
        return found or _NOTHING
    try:
        return dict(json.loads(found))
    except ValueError:
        pairs = _NEXT.split(found.removeprefix("{").removesuffix("}"))
        return {key.strip(): value for key, _, value in (pair.partition("=") for pair in pairs)}


def _caller(identity: Mapping[str, Any]) -> tuple[str, str]:
    """Who called: the principal's ARN, and the session's name where a role was assumed."""
    arn = str(identity.get("arn") or identity.get("invokedBy") or identity.get("type") or "unknown")
    context = identity.get("sessionContext")
    issuer = (context.get("sessionIssuer") if context else None) or _NOTHING
    if issuer.get("arn"):
        return str(issuer["arn"]), arn.rpartition("/")[2]
    return arn, ""
