"""One file of a trail's bucket: CloudTrail's log, or one of the others that lie beside it.

Sources: AWS CloudTrail User Guide, "CloudTrail log file examples", "CloudTrail digest file
structure", "CloudTrail Insights events" and "Network activity events"; AWS Config Developer Guide,
"Viewing configuration snapshots"; AWS CLI reference, ``cloudtrail lookup-events``.
"""

from __future__ import annotations

import contextlib
import json
import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from dekctl.audit.digests import base_name
from dekctl.audit.event_reader import EventReader, NotAsUsualError
from dekctl.audit.events import TrailEvent
from dekctl.errors import UsageError

MAX_BYTES = 64 * 2**20
"""Size of the largest file that is read, unpacked; CloudTrail's own have 50 MB at most."""
_GZIP = b"\x1f\x8b"


class Skipped(StrEnum):
    """Why a file, or a record, is no part of an audit."""

    DIGEST = "digest"
    INSIGHTS = "Insights"
    NETWORK = "network activity"
    CONFIG = "AWS Config"
    STRAY = "not CloudTrail's"
    DAMAGED = "damaged"
    RECORD = "with damaged records"


DAMAGES = (Skipped.DAMAGED, Skipped.RECORD)
"""Of these, part of the trail may be lost: the audit does not end as clean."""


class NoLogError(Exception):
    """A file holds no log; ``why`` says what else."""

    def __init__(self, why: Skipped) -> None:
        super().__init__(why)
        self.why = why


_CATEGORIES = {"Insight": Skipped.INSIGHTS, "NetworkActivity": Skipped.NETWORK}
"""Event categories that are no calls: kept in files of their own."""


_HEAD = b'{"Records":['
_BETWEEN = b'},{"eventVersion":'
_FIRST = _BETWEEN[2:]
"""How CloudTrail writes a file: one line, each record begins with its version. A text in JSON can
hold no bare quotation mark, so these bytes stand between objects only; where they do so within a
record, its parts are no JSON, and the file is parsed as a whole."""


@dataclass(frozen=True, slots=True)
class LogFile:
    """What was read of a log file."""

    unpacked: bytes
    events: list[TrailEvent]
    damaged: bool
    """Whether a record is no record of CloudTrail's."""


def read_log(name: str, content: bytes, reader: EventReader) -> LogFile:
    """Read a file: CloudTrail's log, or what ``lookup-events`` printed.

    Raises:
        NoLogError: it is something else, or damaged.
        UsageError: it is too large, or nested too deeply.
    """
    try:
        unpacked = unpack(name, content)
        # The checksum of a packed file says that it is whole.
        if content.startswith(_GZIP) and (records := _split(unpacked)) is not None:
            with contextlib.suppress(NotAsUsualError):
                return _read(unpacked, records, reader.raw)
        return _read(unpacked, _all_records(json.loads(unpacked)), reader.parsed)
    except RecursionError:
        raise _refused(name, "is nested too deeply for a log file of CloudTrail") from None
    except (zlib.error, EOFError, ValueError, KeyError, TypeError):
        raise NoLogError(Skipped.DAMAGED) from None
    except NoLogError as error:
        # Under the name of a log file there is nothing else.
        stray = error.why is Skipped.STRAY and "_CloudTrail_" in base_name(name)
        raise NoLogError(Skipped.DAMAGED) if stray else error from None


def _read(
    unpacked: bytes, records: Iterable[Any], read: Callable[[Any], TrailEvent | None]
) -> LogFile:
    events, damaged = [], False
    for record in records:
        try:
            event = read(record)
        except ValueError:
            damaged = True
            continue
        if event is not None:
            events.append(event)
    return LogFile(unpacked, events, damaged)


def _split(unpacked: bytes) -> Iterator[bytes] | None:
    """The records of a log as bytes; None if it is not written as CloudTrail does."""
    if not (unpacked.startswith(_HEAD + _FIRST) and unpacked.endswith(b"}]}")):
        return None
    if any(kind in unpacked for kind in _OTHER_KINDS):
        return None
    return _records(unpacked)


def _records(unpacked: bytes) -> Iterator[bytes]:
    start, end = len(_HEAD), len(unpacked) - 2
    while (boundary := unpacked.find(_BETWEEN, start)) >= 0:
        yield unpacked[start : boundary + 1]
        start = boundary + 2
    yield unpacked[start:end]


_OTHER_KINDS = (b'"eventCategory":"Insight"', b'"eventCategory":"NetworkActivity"')


def _all_records(document: Any) -> list[Any]:
    if isinstance(document, dict) and isinstance(document.get("Events"), list):
        return [json.loads(event["CloudTrailEvent"]) for event in document["Events"]]
    if not isinstance(document, dict):
        raise NoLogError(Skipped.STRAY)
    records = document.get("Records")
    if not isinstance(records, list):
        if "digestStartTime" in document:
            raise NoLogError(Skipped.DIGEST)
        config = "configurationItems" in document or "configSnapshotId" in document
        raise NoLogError(Skipped.CONFIG if config else Skipped.STRAY)
    kinds = {_category(record) for record in records}
    if len(kinds) == 1 and (only := _CATEGORIES.get(kinds.pop())):
        raise NoLogError(only)
    return [record for record in records if _category(record) not in _CATEGORIES]


def unpack(name: str, content: bytes) -> bytes:
    """A file's content without compression.

    Raises:
        UsageError: it is too large.
        zlib.error, EOFError: the compressed data is damaged, or cut off.
    """
    if not content.startswith(_GZIP):
        members = [content]
    else:
        members, left = [], MAX_BYTES + 1
        while content.startswith(_GZIP):  # a file may have several members
            member = zlib.decompressobj(wbits=31)
            members.append(member.decompress(content, left))
            left -= len(members[-1])
            if left <= 0:
                break
            if not member.eof:
                raise EOFError
            content = member.unused_data.lstrip(b"\0")
        if content and left > 0:
            raise zlib.error("something else follows the compressed data")
    if sum(map(len, members)) > MAX_BYTES:
        raise _refused(name, f"is larger than {MAX_BYTES // 2**20} MiB unpacked")
    return members[0] if len(members) == 1 else b"".join(members)


def _category(record: Any) -> str:
    return str(record.get("eventCategory", "")) if isinstance(record, dict) else ""


def _refused(name: str, why: str) -> UsageError:
    return UsageError(f"{name} {why}", hint="remove it, then run the same command again")
