"""Where CloudTrail's files come from: the trail's bucket, or files that were downloaded.

Only the events of a file that concern the environment are kept: a day of a busy account is
gigabytes. Nothing grows with the number of events.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from botocore.exceptions import BotoCoreError, ClientError

from dekctl.audit.digests import FOLDER, base_name, delivery_time
from dekctl.audit.trail_file import MAX_BYTES
from dekctl.errors import KMSRefusedError, KMSUnavailableError, UsageError

LATE = timedelta(hours=2)
"""A file is stored under its delivery day; an event may be in the next day's files."""
SUFFIXES = (".json", ".json.gz")


class TrailFile(NamedTuple):
    """A file as it was read; ``signature`` is a digest's, in hexadecimal, if known."""

    name: str
    content: bytes
    signature: str | None = None


class Source(Protocol):
    """Where the files come from."""

    @property
    def name(self) -> str:
        """Name for messages."""
        ...

    @property
    def is_copy(self) -> bool:
        """Whether somebody copied the files: then there must be a log, and only names are sure."""
        ...

    def digests(self, since: datetime, until: datetime) -> Iterator[TrailFile]:
        """Every digest file that may name a log file of the time between the two (UTC)."""
        ...

    def logs(self, since: datetime, until: datetime) -> Iterator[TrailFile]:
        """Every other file that may hold an event between the two (UTC), the oldest first."""
        ...


@dataclass(frozen=True, slots=True)
class Folder:
    """Downloaded CloudTrail files, named as in the bucket."""

    paths: Sequence[Path]
    is_copy = True

    @property
    def name(self) -> str:
        return ", ".join(map(str, self.paths))

    def digests(self, since: datetime, until: datetime) -> Iterator[TrailFile]:  # noqa: ARG002 - the user chose the files
        for file in self._inside():
            if _is_digest(str(file)):
                signature = file.with_name(f"{file.name}.signature")
                text = _read(signature).decode("ascii", "replace") if signature.is_file() else None
                yield TrailFile(str(file), _read(file), text.strip() if text else None)

    def logs(self, since: datetime, until: datetime) -> Iterator[TrailFile]:  # noqa: ARG002 - as above
        for file in self._inside():
            if not _is_digest(str(file)):
                yield TrailFile(str(file), _read(file))

    def _inside(self) -> list[Path]:
        inside = {
            file: None
            for path in self.paths
            for file in (path.rglob("*") if path.is_dir() else [path])
            if file.is_file() and (file == path or file.name.endswith(SUFFIXES))
        }
        return sorted(inside, key=_age)


def _age(file: Path) -> tuple[float, str, str]:
    """Two copies of one file come together, so that their events are known to be the same."""
    moment = delivery_time(file.name)
    return moment.timestamp() if moment else 0.0, base_name(file.name), str(file)


def _is_digest(name: str) -> bool:
    return FOLDER in name


def _read(file: Path) -> bytes:
    try:
        # One byte more than is taken: enough to refuse it.
        with file.open("rb") as opened:
            return opened.read(MAX_BYTES + 1)
    except OSError as error:
        raise UsageError(
            f"cannot read {file}: {error.strerror}",
            hint="--events takes CloudTrail's files, or a folder of them",
        ) from None


@dataclass(frozen=True, slots=True)
class Bucket:
    """The trail's bucket, read with the auditor's rights.

    Files are under ``PREFIX/AWSLogs/ORGANIZATION/ACCOUNT/CloudTrail/REGION/YYYY/MM/DD/``, where the
    first and the third are often absent (AWS CloudTrail User Guide, "Finding your CloudTrail log
    files"). ``root`` is all up to the account.
    """

    s3: Any
    bucket: str
    root: str
    is_copy = False

    @property
    def name(self) -> str:
        return f"s3://{self.bucket}"

    def digests(self, since: datetime, until: datetime) -> Iterator[TrailFile]:
        yield from self._files(FOLDER, since, until)

    def logs(self, since: datetime, until: datetime) -> Iterator[TrailFile]:
        yield from self._files("CloudTrail", since, until)

    def _files(self, kind: str, since: datetime, until: datetime) -> Iterator[TrailFile]:
        try:
            regions = list(self._folders(f"{self.root}/{kind}/"))
            for day in _days(since.date(), (until + LATE).date()):
                for region in regions:
                    for key in self._keys(f"{region}{day:%Y/%m/%d}/"):
                        found = self.s3.get_object(Bucket=self.bucket, Key=key)
                        content = found["Body"].read(MAX_BYTES + 1)
                        signature = found.get("Metadata", {}).get("signature")
                        yield TrailFile(f"{self.name}/{key}", content, signature)
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
