"""Reads CloudTrail's log files: from the trail's bucket, or from files that were downloaded.

Only the KMS events of a file are kept: a day of a busy account is gigabytes.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any, Protocol

from botocore.exceptions import BotoCoreError, ClientError

from dekctl.audit.events import TrailEvent, kms_event
from dekctl.errors import KMSRefusedError, KMSUnavailableError, UsageError

LATE = timedelta(hours=1)
"""A file is stored under its delivery day; an event may be in the next day's files."""
SUFFIXES = (".json", ".json.gz")


class Source(Protocol):
    """Where log files come from."""

    @property
    def name(self) -> str:
        """Name for messages."""
        ...

    def files(self, since: datetime, until: datetime) -> Iterator[tuple[str, bytes]]:
        """Name and content of every file that may hold an event between the two (UTC)."""
        ...


@dataclass(frozen=True, slots=True)
class Folder:
    """Downloaded CloudTrail files, named as in the bucket."""

    paths: Sequence[Path]

    @property
    def name(self) -> str:
        return ", ".join(map(str, self.paths))

    def files(self, since: datetime, until: datetime) -> Iterator[tuple[str, bytes]]:  # noqa: ARG002 - the user chose the files
        found = 0
        for path in self.paths:
            inside = sorted(path.rglob("*")) if path.is_dir() else [path]
            for file in inside:
                if file.is_file() and (file == path or file.name.endswith(SUFFIXES)):
                    found += 1
                    try:
                        yield str(file), file.read_bytes()
                    except OSError as error:
                        raise UsageError(
                            f"cannot read {file}: {error.strerror}",
                            hint="--events takes CloudTrail's files, or a folder of them",
                        ) from None
        if not found:
            raise UsageError(
                f"there is no CloudTrail file in {self.name}",
                hint="--events takes CloudTrail's files (*.json.gz), or a folder of them",
            )


@dataclass(frozen=True, slots=True)
class Bucket:
    """The trail's bucket, read with the auditor's rights.

    Files are under ``AWSLogs/ACCOUNT/CloudTrail/REGION/YYYY/MM/DD/`` (AWS CloudTrail User Guide,
    "AuditFinding your CloudTrail log files").
    """

    s3: Any
    bucket: str
    account_id: str

    @property
    def name(self) -> str:
        return f"s3://{self.bucket}"

    def files(self, since: datetime, until: datetime) -> Iterator[tuple[str, bytes]]:
        root = f"AWSLogs/{self.account_id}/CloudTrail/"
        try:
            for region in self._folders(root):
                for day in _days(since.date(), (until + LATE).date()):
                    for key in self._keys(f"{region}{day:%Y/%m/%d}/"):
                        body = self.s3.get_object(Bucket=self.bucket, Key=key)["Body"]
                        yield f"{self.name}/{key}", body.read()
        except ClientError as error:
            detail = error.response["Error"]
            raise KMSRefusedError(
                f"{self.name} cannot be read: {detail.get('Code')} ({detail.get('Message')})",
                hint="does the audit trail of Terraform exist? See: make plan; or fetch its files "
                "and name them: dekctl audit --events FOLDER",
                code=detail.get("Code"),
            ) from None
        except BotoCoreError as error:
            raise KMSUnavailableError(
                f"{self.name} cannot be reached: {error}",
                hint="check endpoint_url, the Region and the network with: dekctl doctor",
            ) from None

    def _folders(self, prefix: str) -> Iterator[str]:
        pages = self.s3.get_paginator("list_objects_v2").paginate(
            Bucket=self.bucket, Prefix=prefix, Delimiter="/"
        )
        for page in pages:
            for entry in page.get("CommonPrefixes", ()):
                yield entry["Prefix"]

    def _keys(self, prefix: str) -> Iterator[str]:
        pages = self.s3.get_paginator("list_objects_v2").paginate(Bucket=self.bucket, Prefix=prefix)
        for page in pages:
            for entry in page.get("Contents", ()):
                if entry["Key"].endswith(SUFFIXES):
                    yield entry["Key"]


def _days(first: date, last: date) -> Iterator[date]:
    for number in range((last - first).days + 1):
        yield first + timedelta(days=number)


@dataclass(slots=True)
class Reading:
    """What has been read so far."""

    files: int = 0
    newest: datetime | None = None


def read_events(
    source: Source,
    since: datetime,
    until: datetime,
    wanted: Callable[[TrailEvent], bool],
    reading: Reading,
) -> Iterator[TrailEvent]:
    """Yield every wanted KMS event between two times once. CloudTrail may deliver one twice.

    Raises:
        UsageError: a file is not CloudTrail's.
        KMSError: the bucket cannot be read.
    """
    seen: set[str] = set()
    for name, content in source.files(since, until):
        reading.files += 1
        for record in _records(name, content):
            event = kms_event(record)
            if event is None or not since <= event.time <= until:
                continue
            reading.newest = max(event.time, reading.newest or event.time)
            if wanted(event) and event.event_id not in seen:
                seen.add(event.event_id)
                yield event


def _records(name: str, content: bytes) -> list[dict[str, Any]]:
    try:
        text = gzip.decompress(content) if content[:2] == b"\x1f\x8b" else content
        records = json.loads(text)["Records"]
    except (OSError, EOFError, ValueError, KeyError, TypeError):
        raise UsageError(
            f"{name} is not a log file of CloudTrail",
            hint="--events takes CloudTrail's own files (*.json.gz), as they are in the bucket",
        ) from None
    found: list[dict[str, Any]] = records
    return found


def utc(moment: datetime) -> datetime:
    """A time from the ledger or the command line (both UTC) with its time zone."""
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
