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
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import load_der_public_key

from dekctl.audit.findings import AuditFinding, AuditFindings, AuditKind
from dekctl.errors import UsageError

ALGORITHM = "SHA256withRSA"
LATE = timedelta(hours=2)
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
        return Digest(
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
    except (KeyError, TypeError, AttributeError, ValueError, RecursionError) as error:
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


@dataclass(slots=True)
class Integrity:
    """Whether the trail's files are as CloudTrail delivered them.

    ``by_base_name`` is for files that were copied: then a file's own name identifies it, which
    CloudTrail gives to no second one. ``trail`` is the trail's name: where digests of others are,
    too, only its own have to cover the whole period.
    """

    findings: AuditFindings
    by_base_name: bool
    trail: str | None = None
    digests: dict[str, Digest] = field(default_factory=dict)
    logs: dict[str, LogEntry] = field(default_factory=dict)
    checked: int = 0
    seen: set[str] = field(default_factory=set)
    signatures: int = 0

    def add(self, digest: Digest) -> None:
        """Take in a digest."""
        if digest.place in self.digests:
            if digest.sha256 != self.digests[digest.place].sha256:
                self.report(AuditKind.ALTERED, digest.name, "is there twice, with other contents")
            return
        self.digests[digest.place] = digest
        if self._key(digest.name.removeprefix("s3://")) != self._key(digest.place):
            self.report(AuditKind.ALTERED, digest.name, f"was delivered as {digest.place}")

    def verify(self, keys: Callable[[Digest], rsa.RSAPublicKey | None]) -> None:
        """Check signatures and chains; afterwards the digests say which log files there must be.

        Args:
            keys: the public key of a digest; None if CloudTrail's keys cannot be had.
        """
        chains: dict[str, list[Digest]] = defaultdict(list)
        for digest in self.digests.values():
            chains[digest.chain].append(digest)
        without_key: list[Digest] = []
        for chain in chains.values():
            chain.sort(key=lambda digest: digest.ends)
            for number, digest in enumerate(chain):
                self._link(digest, first=number == 0)
            for digest in chain:
                self._signature(digest, keys, without_key)
                for entry in digest.logs:
                    self.logs[self._key(entry.name)] = entry
        for name, chain in self._chains().items():
            for digest, after in pairwise(chain):
                if after.begins > digest.ends + SEAM:
                    self._gap(name, digest.ends, after.begins)
        if without_key:
            names = sorted(digest.name for digest in without_key)
            self.report(
                AuditKind.UNCHECKED,
                names[0] + (f" and {len(names) - 1:,} more" if len(names) > 1 else ""),
                "signatures were not checked, as CloudTrail's public key "
                f"{without_key[0].fingerprint} is not known: pass them with --public-keys",
            )

    def _link(self, after: Digest, *, first: bool) -> None:
        """Compare a digest with what the next one says about it."""
        if after.previous is None:
            return
        digest = self.digests.get(after.previous)
        if digest is None:
            if not first:
                why = f"{after.name} names it, it is not there"
                self.report(AuditKind.REMOVED, after.previous, why)
            return
        digest.signature = digest.signature or after.previous_signature
        if after.previous_sha256 not in (None, digest.sha256):
            self.report(AuditKind.ALTERED, digest.name, f"its hash is another in {after.name}")
        elif digest.signature != after.previous_signature:
            self.report(AuditKind.ALTERED, digest.name, f"its signature is not in {after.name}")

    def _signature(
        self,
        digest: Digest,
        keys: Callable[[Digest], rsa.RSAPublicKey | None],
        without_key: list[Digest],
    ) -> None:
        if digest.signature is None:
            self.report(
                AuditKind.UNCHECKED,
                digest.name,
                "has no signature here, as copies lack the metadata of S3; write it beside the "
                f"file: aws s3api head-object --bucket {digest.place.partition('/')[0]} --key "
                f"{digest.place.partition('/')[2]} --query Metadata.signature --output text > "
                f"{digest.name}.signature",
            )
            return
        key = keys(digest)
        if key is None:
            without_key.append(digest)
        elif digest.is_signed_by(key):
            self.signatures += 1
        else:
            self.report(AuditKind.ALTERED, digest.name, "is not signed by CloudTrail")

    def see(self, name: str, unpacked: bytes) -> None:
        """Take in a log file that was read."""
        key = self._key(name.removeprefix("s3://"))
        self.seen.add(key)
        entry = self.logs.get(key)
        if entry is None:
            return
        if hashlib.sha256(unpacked).hexdigest() == entry.sha256:
            self.checked += 1
        else:
            self.report(AuditKind.ALTERED, name, f"its hash is another in {entry.digest}")

    def see_damaged(self, name: str) -> None:
        """Take in a log file that cannot be unpacked or parsed."""
        key = self._key(name.removeprefix("s3://"))
        self.seen.add(key)
        if key in self.logs:
            self.report(
                AuditKind.ALTERED, name, f"is damaged, {self.logs[key].digest} has its hash"
            )

    def conclude(self, begins: datetime, ends: datetime, now: datetime) -> None:
        """Report what is missing: log files, and digests at the start and the end."""
        if not self.digests:
            return
        for key, entry in self.logs.items():
            inside = (entry.newest or begins) >= begins and (entry.oldest or ends) <= ends
            if inside and key not in self.seen:
                self.report(
                    AuditKind.REMOVED, entry.name, f"{entry.digest} names it, it is not there"
                )
        chains = self._chains()
        covered = []
        for name, chain in chains.items():
            first, last = min(d.begins for d in chain), max(d.ends for d in chain)
            covered.append((first, last))
            starts = any(d.begins == first and d.previous is None for d in chain)
            if first > begins + SEAM and not starts:
                self._gap(name, begins, first)
            due = min(ends, now - LATE)
            if last < due:
                self._gap(name, last, due)
        self._unlisted(covered)

    def _chains(self) -> dict[str, list[Digest]]:
        """The digests that have to cover the period."""
        every: dict[str, list[Digest]] = defaultdict(list)
        for digest in self.digests.values():
            if not digest.is_backfill:
                every[digest.chain].append(digest)
        own = {name: found for name, found in every.items() if f"_{self.trail}_" in name}
        for chain in every.values():
            chain.sort(key=lambda digest: digest.ends)
        return own or every

    def _unlisted(self, covered: list[tuple[datetime, datetime]]) -> None:
        """Log files that no digest names although digests of their time are there."""
        for key in sorted(self.seen - self.logs.keys()):
            moment = delivery_time(key)
            if moment is None or any(
                first <= moment <= last - timedelta(hours=1) for first, last in covered
            ):
                self.report(
                    AuditKind.ALTERED, key, "no digest names it: CloudTrail did not deliver it"
                )

    def _key(self, name: str) -> str:
        return base_name(name) if self.by_base_name else name

    def _gap(self, chain: str, begins: datetime, ends: datetime) -> None:
        text = (
            f"no digest covers {begins:%Y-%m-%d %H:%M:%S} to {ends:%Y-%m-%d %H:%M:%S} of {chain}: "
            "whether log files of that time were removed or altered is not known"
        )
        self.findings.add(AuditFinding(AuditKind.GAP, text, begins, subject=text))

    def report(self, kind: AuditKind, name: str, why: str) -> None:
        """Add a finding about a file."""
        self.findings.add(AuditFinding(kind, f"{name}: {why}", subject=f"{name} {why}"))

    def as_json(self) -> dict[str, Any]:
        """Plain values; ``log_files`` are those whose hash is right."""
        return {
            "digests": len(self.digests),
            "signatures": self.signatures,
            "log_files": self.checked,
        }


def delivery_time(name: str) -> datetime | None:
    """The time in a file's name (``…_20261127T1000Z_…``); None if it has none."""
    for part in reversed(base_name(name).partition(".json")[0].split("_")):
        for form in ("%Y%m%dT%H%MZ", "%Y%m%dT%H%M%SZ"):
            try:
                return datetime.strptime(part, form).replace(tzinfo=UTC)
            except ValueError:
                continue
    return None
