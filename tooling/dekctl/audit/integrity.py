"""Whether a trail's files are as CloudTrail delivered them: compares them with its digests."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Any

from cryptography.hazmat.primitives.asymmetric import rsa

from dekctl.audit.digests import HOUR, LATE, SEAM, Digest, LogEntry, base_name, delivery_time
from dekctl.audit.findings import AuditFinding, AuditFindings, AuditKind


@dataclass(slots=True)
class Integrity:
    """Whether the trail's files are as CloudTrail delivered them.

    ``by_base_name`` is for files that were copied: then a file's own name identifies it, which
    CloudTrail gives to no second one. ``trail`` is the trail's name, if it has one: only its own
    digests cover the period. Those of other trails, accounts (``account``) or buckets (``bucket``)
    do not, whoever signed them.

    Only a digest whose signature is right can say that there is no other file. Of one that nobody
    could verify counts what it names. ``lenient``: that it could not be verified is no finding but
    a note, as that there is no digest at all. ``regions`` are those of the KEKs: each has digests
    of its own.
    """

    findings: AuditFindings
    by_base_name: bool
    trail: str | None = None
    lenient: bool = False
    regions: frozenset[str] = frozenset()
    account: str = ""
    bucket: str = ""
    digests: dict[str, Digest] = field(default_factory=dict)
    logs: dict[str, LogEntry] = field(default_factory=dict)
    checked: int = 0
    seen: set[str] = field(default_factory=set)
    verified: set[str] = field(default_factory=set)
    unchecked: list[str] = field(default_factory=list)
    """What could not be checked and is no finding."""

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
        unsigned: list[Digest] = []
        for chain in chains.values():
            chain.sort(key=lambda digest: digest.ends)
            for number, digest in enumerate(chain):
                self._link(digest, first=number == 0)
            for digest in chain:
                self._signature(digest, keys, without_key, unsigned)
                for entry in digest.logs:
                    self.logs[self._key(entry.name)] = entry
        for name, chain in self._chains().items():
            for digest, after in pairwise(chain):
                if after.begins > digest.ends + SEAM:
                    self._gap(name, digest.ends, after.begins)
        if without_key:
            self._unchecked(
                without_key,
                "signatures were not checked, as CloudTrail's public key "
                f"{without_key[0].fingerprint} is not known: pass them with --public-keys",
            )
        for digest in unsigned:
            self._unchecked(
                [digest],
                "has no signature here, as copies lack the metadata of S3; write it beside the "
                f"file: aws s3api head-object --bucket {digest.place.partition('/')[0]} --key "
                f"{digest.place.partition('/')[2]} --query Metadata.signature --output text > "
                f"{digest.name}.signature",
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
        unsigned: list[Digest],
    ) -> None:
        if digest.signature is None:
            unsigned.append(digest)
            return
        key = keys(digest)
        if key is None:
            without_key.append(digest)
        elif digest.is_signed_by(key):
            self.verified.add(digest.place)
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

    def conclude(
        self, begins: datetime, ends: datetime, now: datetime, first_run: datetime | None
    ) -> None:
        """Report what is missing: log files, and digests at the start and the end.

        Digests may begin within the period, where the trail is new: no later than the first run.
        """
        if not self.digests:
            if self.by_base_name:
                self.unchecked.append(
                    "there are no digest files beside the logs, so whether log files were removed "
                    "or altered was not checked; copy CloudTrail-Digest/ of the bucket, too"
                )
            return
        for key, entry in self.logs.items():
            inside = (entry.newest or begins) >= begins and (entry.oldest or ends) <= ends
            if inside and key not in self.seen:
                self.report(
                    AuditKind.REMOVED, entry.name, f"{entry.digest} names it, it is not there"
                )
        covered = []
        chains = self._chains()
        due = min(ends, now - LATE)
        for region in sorted(self.regions - {d.region for c in chains.values() for d in c}):
            if (chains or not self.lenient) and due - begins > HOUR:
                self._gap(f"the Region {region}", begins, due)
        for name, chain in chains.items():
            first, last = min(d.begins for d in chain), max(d.ends for d in chain)
            known = [d for d in chain if d.place in self.verified]
            if known:
                covered.append((min(d.begins for d in known), max(d.ends for d in known)))
            starts = any(d.begins == first and d.previous is None for d in chain)
            if first_run is not None and first > first_run + HOUR:
                starts = False
            if first > begins + SEAM and not starts:
                self._gap(name, begins, first)
            if last < due:
                self._gap(name, last, due)
        self._unlisted(covered)

    def _chains(self) -> dict[str, list[Digest]]:
        """The digests that have to cover the period; where lenient, only if one was verified."""
        every: dict[str, list[Digest]] = {}
        for digest in self.digests.values():
            of_account = base_name(digest.place).startswith(self.account)
            if of_account and digest.place.startswith(self.bucket) and not digest.is_backfill:
                every.setdefault(digest.chain, []).append(digest)
        if self.trail:
            every = {name: found for name, found in every.items() if f"_{self.trail}_" in name}
        for chain in every.values():
            chain.sort(key=lambda digest: digest.ends)
        if self.lenient:
            return {n: c for n, c in every.items() if any(d.place in self.verified for d in c)}
        return every

    def _unlisted(self, covered: list[tuple[datetime, datetime]]) -> None:
        """Log files that no digest names although verified digests of their time are there."""
        for key in sorted(self.seen - self.logs.keys()):
            moment = delivery_time(key)
            if any(
                moment is None or first <= moment <= last - timedelta(hours=1)
                for first, last in covered
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

    def _unchecked(self, digests: list[Digest], why: str) -> None:
        names = sorted(digest.name for digest in digests)
        what = names[0] + (f" and {len(names) - 1:,} more" if len(names) > 1 else "")
        if self.lenient:
            self.unchecked.append(f"{what}: {why}")
        else:
            self.report(AuditKind.UNCHECKED, what, why)

    def report(self, kind: AuditKind, name: str, why: str) -> None:
        """Add a finding about a file."""
        self.findings.add(AuditFinding(kind, f"{name}: {why}", subject=f"{name} {why}"))

    def as_json(self) -> dict[str, Any]:
        """Plain values; ``log_files`` are those whose hash is right."""
        return {
            "digests": len(self.digests),
            "signatures": len(self.verified),
            "log_files": self.checked,
            "unchecked": self.unchecked,
        }
