"""Reads records fast: those that certainly concern nobody are not parsed, alike ones only once.

Most events of a trail are others' or reads by the application, which differ in id, time and primary
key only. What is left of a record without these is looked up; to parse it as JSON takes many times
as long. Whatever is written in another way than usual is parsed.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import datetime
from functools import lru_cache
from typing import Any

from dekctl.audit.events import TrailEvent, trail_event
from dekctl.kms.context import PRIMARY_KEY

KEPT = 4096
"""Records that are remembered: about 6 MB."""
_ID, _REQUEST, _TIME = b'"eventID":"', b'"requestID":"', b'"eventTime":"'
_PK = f'"{PRIMARY_KEY}":"'.encode()
_UUID = 36


class NotAsUsualError(Exception):
    """A file is not written as CloudTrail does, so that its records cannot be told apart."""


class EventReader:
    """Reads records, as bytes or parsed; other events than those of interest are None."""

    def __init__(
        self, may_concern: Callable[[bytes], bool], concerns: Callable[[TrailEvent], bool]
    ) -> None:
        """Prepare.

        Args:
            may_concern: false for the bytes of a record that is certainly of no interest.
            concerns: whether an event is of interest; id, time and primary key do not matter.
        """
        self._may_concern = may_concern
        self._concerns = concerns
        self._known: dict[bytes, TrailEvent | None] = {}

    def parsed(self, record: Any) -> TrailEvent | None:
        """The event of a parsed record.

        Raises:
            ValueError: it is not a CloudTrail record.
        """
        event = trail_event(record)
        return event if event is not None and self._concerns(event) else None

    def raw(self, record: bytes) -> TrailEvent | None:
        """The event of a record as bytes.

        Raises:
            NotAsUsualError: the bytes are not JSON.
            ValueError: it is not a CloudTrail record.
        """
        if not self._may_concern(record):
            return None
        parts = _without_what_differs(record)
        if parts is None:
            return self.parsed(_load(record))
        alike, event_id, moment, pk = parts
        known = self._known
        if alike in known:
            event = known[alike]
            if event is None:
                return None
            return TrailEvent(event_id, _moment(moment), *event[2:12], pk, *event[13:])
        event = self.parsed(_load(record))
        if event is None or (event.event_id, event.pk, event.moved_from) == (event_id, pk, None):
            if len(known) >= KEPT:
                known.clear()
            known[alike] = event
        return event


def _load(record: bytes) -> Any:
    try:
        return json.loads(record)
    except ValueError:
        raise NotAsUsualError from None


def _without_what_differs(record: bytes) -> tuple[bytes, str, str, str | None] | None:
    """A record without its id, time and primary key, and these; None if they are not plain.

    Without a backslash in the record, a quotation mark always ends a text. So two records that are
    alike without these texts have one structure. A name that occurs twice might be another's.
    """
    if b"\\" in record or record.count(_ID) != 1 or record.count(_TIME) != 1:
        return None
    before, _, rest = record.partition(_TIME)
    moment, _, rest = rest.partition(b'"')
    between, _, rest = rest.partition(_ID)
    event_id, quote, after = rest.partition(b'"')
    if not quote or len(moment) != 20:  # the id comes before the time, or a time has fractions
        return None
    pk = None
    if record.count(_REQUEST) == 1:
        head, name, tail = between.partition(_REQUEST)
        between = head + name + tail[_UUID:] if tail[_UUID : _UUID + 1] == b'"' else between
    if _PK in between:
        pk = between.partition(_PK)[2].partition(b'"')[0]
        between = between.replace(_PK + pk + b'"', _PK)
    alike = b"\n".join((before, between, after))
    return alike, event_id.decode(), moment.decode(), None if pk is None else pk.decode()


@lru_cache(maxsize=KEPT)
def _moment(text: str) -> datetime:
    return datetime.fromisoformat(text)
