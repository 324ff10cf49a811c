"""CloudTrail's digest files: what was delivered, signed by AWS, hour by hour.

Sources: AWS CloudTrail User Guide, "CloudTrail digest file structure" and "Custom implementations
of CloudTrail log file integrity validation"; AWS CloudTrail API reference, "PublicKey" (the DER of
a key in PKCS #1). The signature is RSASSA-PKCS1-v1_5 with SHA-256. It is in the metadata of the
digest's object, and again in the next digest: so a copy of the bucket has all but the last one.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import load_der_public_key

from dekctl.audit.events import MALFORMED
from dekctl.errors import UsageError

ALGORITHM = "SHA256withRSA"
HOUR = timedelta(hours=1)
LATE = 2 * HOUR
"""A digest covers an hour, and is delivered within the next one."""
SEAM = timedelta(seconds=1)
"""One digest ends where the next begins."""
FOLDER = "CloudTrail-Digest"
"""Where digests are in a bucket, in place of ``CloudTrail``."""
_BACKFILL = "_backfill.json"

PublicKeys = Mapping[str, rsa.RSAPublicKey]
"""CloudTrail's public keys by fingerprint."""


@dataclass(frozen=True, slots=True)
class LogEntry:
    """A log file as its digest names it; times are those of its events, None if not given."""

    name: str
    sha256: str
    digest: str
    oldest: datetime | None
    newest: datetime | None


@dataclass(slots=True)
class Digest:
    """One digest file. ``name`` is where it was read; ``signature`` is hexadecimal, if known."""

    name: str
    place: str
    chain: str
    begins: datetime
    ends: datetime
    sha256: str
    end_text: str
    fingerprint: str
    signature: str | None
    previous: str | None
    previous_sha256: str | None
    previous_signature: str | None
    logs: list[LogEntry]

    @property
    def region(self) -> str:
        """The Region whose events it is about."""
        return self.place.partition(f"/{FOLDER}/")[2].partition("/")[0]

    @property
    def is_backfill(self) -> bool:
        """Whether it adds files that came too late for the digest of their hour."""
        return _BACKFILL in self.place

    def is_signed_by(self, key: rsa.RSAPublicKey) -> bool:
        """Whether its signature is right."""
        text = "\n".join(
            (self.end_text, self.place, self.sha256, self.previous_signature or "null")
        )
        try:
            signature = bytes.fromhex(self.signature or "")
            key.verify(signature, text.encode(), padding.PKCS1v15(), SHA256())
        except (InvalidSignature, ValueError):
            return False
        return True


def read_digest(name: str, content: bytes, signature: str | None) -> Digest:
    """Read a digest file (unpacked).

    Raises:
        ValueError: it is malformed.
    """
    try:
        found = json.loads(content)
        if found["digestSignatureAlgorithm"] != ALGORITHM:
            raise ValueError(f"signed by {found['digestSignatureAlgorithm']}")
        place = f"{found['digestS3Bucket']}/{found['digestS3Object']}"
        previous = found.get("previousDigestS3Object")
        digest = Digest(
            name=name,
            place=place,
            chain=_chain(place),
            begins=_time(found["digestStartTime"]),
            ends=_time(found["digestEndTime"]),
            sha256=hashlib.sha256(content).hexdigest(),
            end_text=str(found["digestEndTime"]),
            fingerprint=str(found["digestPublicKeyFingerprint"]),
            signature=signature,
            previous=f"{found['previousDigestS3Bucket']}/{previous}" if previous else None,
            previous_sha256=found.get("previousDigestHashValue"),
            previous_signature=found.get("previousDigestSignature"),
            logs=[_entry(entry, name) for entry in found["logFiles"]],
        )
        before = (digest.previous, digest.previous_sha256, digest.previous_signature)
        texts = (place, digest.fingerprint, *before, *(entry.name for entry in digest.logs))
        "\n".join(text for text in texts if text is not None).encode()
        return digest
    except MALFORMED as error:
        raise ValueError(f"malformed digest: {type(error).__name__}") from None


def _entry(entry: Mapping[str, Any], digest: str) -> LogEntry:
    if entry.get("hashAlgorithm") != "SHA-256":
        raise ValueError("another hash than SHA-256")
    oldest, newest = (entry.get(key) for key in ("oldestEventTime", "newestEventTime"))
    return LogEntry(
        f"{entry['s3Bucket']}/{entry['s3Object']}",
        str(entry["hashValue"]).lower(),
        digest,
        _time(oldest) if oldest else None,
        _time(newest) if newest else None,
    )


def _time(text: str) -> datetime:
    moment = datetime.fromisoformat(text)
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)


def _chain(place: str) -> str:
    """Which digests follow one another: those of one trail and Region, backfills apart."""
    head, _, file = place.rpartition("/")
    stem = file.partition(".json")[0].removesuffix("_backfill").rpartition("_")[0]
    root = head.partition(f"/{FOLDER}/")[0]
    return f"{root} {stem}{' backfill' if _BACKFILL in file else ''}"


def base_name(name: str) -> str:
    """A file's own name: where a copy of the bucket lies does not matter, nor that it is packed."""
    return name.replace("\\", "/").rpartition("/")[2].removesuffix(".gz")


def public_keys_of(listed: Iterable[Mapping[str, Any]]) -> dict[str, rsa.RSAPublicKey]:
    """Keys from the ``PublicKeyList`` of CloudTrail's ListPublicKeys.

    Raises:
        ValueError: one of them is no RSA key in PKCS #1.
    """
    found = {}
    for entry in listed:
        value = entry["Value"]
        der = base64.b64decode(value, validate=True) if isinstance(value, str) else value
        key = load_der_public_key(der)
        if not isinstance(key, rsa.RSAPublicKey):
            raise ValueError("not an RSA key")
        found[str(entry["Fingerprint"])] = key
    return found


def load_public_keys(file: Path) -> dict[str, rsa.RSAPublicKey]:
    """Keys from a file with the output of ``aws cloudtrail list-public-keys``.

    Raises:
        UsageError: it is not that.
    """
    try:
        return public_keys_of(json.loads(file.read_bytes())["PublicKeyList"])
    except (OSError, KeyError, TypeError, ValueError, RecursionError) as error:
        raise UsageError(
            f"{file} holds no public keys of CloudTrail: {error}",
            hint="write it with: aws cloudtrail list-public-keys --start-time DATE > FILE",
        ) from None


def delivery_time(name: str) -> datetime | None:
    """The time in a file's name (``…_20261127T1000Z_…``); None if it has none."""
    for part in reversed(base_name(name).partition(".json")[0].split("_")):
        for form in ("%Y%m%dT%H%MZ", "%Y%m%dT%H%M%SZ"):
            try:
                return datetime.strptime(part, form).replace(tzinfo=UTC)
            except ValueError:
                continue
    return None
