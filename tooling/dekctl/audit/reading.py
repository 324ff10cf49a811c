"""Reads the events of a period out of CloudTrail's files, and checks the files by their digests."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime

from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

from dekctl.audit.digests import Digest, PublicKeys, read_digest
from dekctl.audit.event_reader import EventReader
from dekctl.audit.events import TrailEvent
from dekctl.audit.findings import AuditKind
from dekctl.audit.integrity import Integrity
from dekctl.audit.log_files import Source
from dekctl.audit.runs import CLOCKS
from dekctl.audit.scope import Scope
from dekctl.audit.trail_file import DAMAGES, NoLogError, Skipped, read_log, unpack
from dekctl.errors import UsageError
from dekctl.wording import counted

REMEMBERED = 250_000
"""Events that are remembered at least. CloudTrail may deliver an event twice, soon after."""
NAMED = 100
"""Files of a kind that are named; all are counted."""


@dataclass(slots=True)
class Skips:
    """Files that are no log, or damaged."""

    count: int = 0
    names: list[str] = field(default_factory=list)


@dataclass(slots=True)
class Reading:
    """What has been read so far."""

    files: int = 0
    skipped: dict[Skipped, Skips] = field(default_factory=dict)
    duplicates: int = 0

    def skip(self, why: Skipped, name: str) -> None:
        """Note a file."""
        skips = self.skipped.setdefault(why, Skips())
        skips.count += 1
        if len(skips.names) < NAMED:
            skips.names.append(name)

    @property
    def damaged(self) -> int:
        """Files that are damaged or hold damaged records: what they held was not looked at."""
        return sum(self.skipped[why].count for why in DAMAGES if why in self.skipped)

    def skipped_text(self) -> str:
        """What was stepped over, for people."""
        return "; ".join(
            f"{why.value}: {counted(skips.count, 'file')} "
            f"({skips.names[0]}{', …' * (skips.count > 1)})"
            for why, skips in self.skipped.items()
        )


def read_digests(
    source: Source,
    since: datetime,
    until: datetime,
    integrity: Integrity,
    keys: Callable[[datetime, datetime, str], PublicKeys],
) -> None:
    """Read and verify the digest files of a period.

    Args:
        source: where they are.
        since: start of the period.
        until: its end.
        integrity: takes them, and what is wrong with them.
        keys: CloudTrail's public keys between two times, in a Region; none if they cannot be had.

    Raises:
        UsageError: a file is too large.
        KMSError: the bucket cannot be read.
    """
    for name, content, signature in source.digests(since, until):
        try:
            integrity.add(read_digest(name, unpack(name, content), signature))
        except (ValueError, zlib.error, EOFError):
            integrity.report(AuditKind.ALTERED, name, "is damaged or no digest file")
    if not integrity.digests:
        return
    found: dict[str, PublicKeys] = {}
    first = min(digest.begins for digest in integrity.digests.values())
    last = max(digest.ends for digest in integrity.digests.values())

    def key_of(digest: Digest) -> RSAPublicKey | None:
        for region in ("", digest.region):
            if region not in found:
                found[region] = keys(first, last, region)
            if digest.fingerprint in found[region]:
                return found[region][digest.fingerprint]
        return None

    integrity.verify(key_of)


def read_events(
    source: Source,
    since: datetime,
    until: datetime,
    scope: Scope,
    integrity: Integrity,
    reading: Reading,
    now: datetime,
) -> Iterator[TrailEvent]:
    """Yield every event between two times that concerns the environment, once.

    Other files than logs are stepped over, and noted in ``reading``. CloudTrail writes no events of
    the future (after ``now``).

    Raises:
        UsageError: a file is too large, or the person's own files hold no log at all.
        KMSError: the bucket cannot be read.
    """
    once, latest = _Once(), now + CLOCKS
    reader = EventReader(scope.filter(), scope.concerns)
    for name, content, _ in source.logs(since, until):
        try:
            log = read_log(name, content, reader)
        except NoLogError as error:
            reading.skip(error.why, name)
            if error.why in DAMAGES:
                integrity.see_damaged(name)
            continue
        reading.files += 1
        integrity.see(name, log.unpacked)
        if log.damaged:
            reading.skip(Skipped.RECORD, name)
        events = log.events
        del log, content  # one file in memory at a time
        for event in events:
            if event.time > latest:
                text = f"event {event.event_id} is of {event.time:%Y-%m-%d %H:%M:%S}, in the future"
                integrity.report(AuditKind.ALTERED, name, text)
            if not since <= event.time <= until:
                continue
            seen = once.seen(event)
            if seen:
                reading.duplicates += 1
                continue
            if seen is None:
                text = f"event {event.event_id} is there before, with other contents"
                integrity.report(AuditKind.ALTERED, name, text)
            yield event
    if not reading.files and source.is_copy:
        found = reading.skipped_text()
        raise UsageError(
            f"there is no log file of CloudTrail in {source.name}"
            + (f": {found}" if found else ""),
            hint="--events takes CloudTrail's log files (*.json.gz), or a folder of them",
        )


class _Once:
    """Recognizes events that came before; the oldest are forgotten, so memory is bounded.

    Files come in the order of their delivery. An event that is delivered again much later counts
    twice, which shows as a surplus: never as nothing. One with another's id but other contents is
    no copy: else a file that somebody added could hide it.
    """

    def __init__(self) -> None:
        self._recent: dict[str, int] = {}
        self._older: dict[str, int] = {}

    def seen(self, event: TrailEvent) -> bool | None:
        """Whether it came before; None if its id came with other contents."""
        event_id, contents = event.event_id, hash(event)
        before = self._recent.get(event_id, self._older.get(event_id))
        if before is not None:
            return True if before == contents else None
        self._recent[event_id] = contents
        if len(self._recent) >= REMEMBERED:
            self._older, self._recent = self._recent, {}
        return False


def utc(moment: datetime) -> datetime:
    """A time from the ledger or the command line (both UTC) with its time zone."""
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
