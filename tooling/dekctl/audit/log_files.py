"""Reads CloudTrail's log files: from the trail's bucket, or from files that were downloaded.

Only the KMS events of a file are kept: a day of a busy account is gigabytes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any, Protocol

from botocore.exceptions import BotoCoreError, ClientError

from dekctl.audit.events import TrailEvent, kms_event
from dekctl.audit.trail_file import MAX_BYTES, NoLogError, Skipped, records_of
from dekctl.errors import KMSRefusedError, KMSUnavailableError, UsageError
from dekctl.wording import counted

LATE = timedelta(hours=1)
"""A file is stored under its delivery day; an event may be in the next day's files."""
SUFFIXES = (".json", ".json.gz")


class Source(Protocol):
    """Where log files come from."""

    @property
    def name(self) -> str:
        """Name for messages."""
        ...

    @property
    def must_have_logs(self) -> bool:
        """Whether it is a mistake if there is no log at all."""
        ...

    def files(self, since: datetime, until: datetime) -> Iterator[tuple[str, bytes]]:
        """Name and content of every file that may hold an event between the two (UTC)."""
        ...


@dataclass(frozen=True, slots=True)
class Folder:
    """Downloaded CloudTrail files, named as in the bucket."""

    paths: Sequence[Path]
    must_have_logs = True

    @property
    def name(self) -> str:
        return ", ".join(map(str, self.paths))

    def files(self, since: datetime, until: datetime) -> Iterator[tuple[str, bytes]]:  # noqa: ARG002 - the user chose the files
        inside = [
            file
            for path in self.paths
            for file in (sorted(path.rglob("*")) if path.is_dir() else [path])
            if file.is_file() and (file == path or file.name.endswith(SUFFIXES))
        ]
        for file in dict.fromkeys(inside):
            try:
                # One byte more than is taken: enough to refuse it.
                with file.open("rb") as opened:
                    yield str(file), opened.read(MAX_BYTES + 1)
            except OSError as error:
                raise UsageError(
                    f"cannot read {file}: {error.strerror}",
                    hint="--events takes CloudTrail's files, or a folder of them",
                ) from None


@dataclass(frozen=True, slots=True)
class Bucket:
    """The trail's bucket, read with the auditor's rights.

    Files are under ``AWSLogs/ACCOUNT/CloudTrail/REGION/YYYY/MM/DD/`` (AWS CloudTrail User Guide,
    "Finding your CloudTrail log files").
    """

    s3: Any
    bucket: str
    account_id: str
    must_have_logs = False

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
                        yield f"{self.name}/{key}", body.read(MAX_BYTES + 1)
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
    skipped: dict[Skipped, list[str]] = field(default_factory=dict)
    """The files that are no log, or damaged, by what they are."""

    def skip(self, why: Skipped, name: str) -> None:
        """Note a file once."""
        names = self.skipped.setdefault(why, [])
        if name not in names[-1:]:
            names.append(name)

    def skipped_text(self) -> str:
        """What was stepped over, for people."""
        return "; ".join(
            f"{why.value}: {counted(len(names), 'file')} ({names[0]}{', …' * (len(names) > 1)})"
            for why, names in self.skipped.items()
        )


def read_events(
    source: Source,
    since: datetime,
    until: datetime,
    wanted: Callable[[TrailEvent], bool],
    reading: Reading,
) -> Iterator[TrailEvent]:
    """Yield every wanted KMS event between two times once. CloudTrail may deliver one twice.

    Other files than logs are stepped over, and noted in ``reading``.

    Raises:
        UsageError: a file is too large, or the person's own files hold no log at all.
        KMSError: the bucket cannot be read.
    """
    seen: set[str] = set()
    for name, content in source.files(since, until):
        try:
            records = records_of(name, content)
        except NoLogError as error:
            reading.skip(error.why, name)
            continue
        reading.files += 1
        for record in records:
            try:
                event = kms_event(record)
            except ValueError:
                reading.skip(Skipped.RECORD, name)
                continue
            if event is None or not since <= event.time <= until:
                continue
            reading.newest = max(event.time, reading.newest or event.time)
            if wanted(event) and event.event_id not in seen:
                seen.add(event.event_id)
                yield event
    if not reading.files and source.must_have_logs:
        found = reading.skipped_text()
        raise UsageError(
            f"there is no log file of CloudTrail in {source.name}"
            + (f": {found}" if found else ""),
            hint="--events takes CloudTrail's log files (*.json.gz), or a folder of them",
        )


def utc(moment: datetime) -> datetime:
    """A time from the ledger or the command line (both UTC) with its time zone."""
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
