"""``audit --events`` on folders as they come from a bucket: with all that lies beside the logs."""

from __future__ import annotations

import gzip
import json
import os
import tracemalloc
from pathlib import Path
from typing import Any

import pytest

from dekctl.audit import trail_file
from dekctl.audit.event_reader import EventReader
from dekctl.audit.events import trail_event
from dekctl.errors import UsageError
from support.app import AppDatabase
from support.cli import Dekctl
from support.cloudtrail import Record, records_of, write
from support.generations import Generations

ROWS = 3
EVERYTHING = EventReader(lambda _: True, lambda _: True)
DIGEST = {"digestStartTime": "2026-11-27T10:00:00Z", "logFiles": []}
INSIGHT = {
    "eventCategory": "Insight",
    "eventType": "AwsCloudTrailInsight",
    "eventTime": "2026-11-27T10:00:00Z",
    "insightDetails": {"eventSource": "kms.amazonaws.com", "eventName": "Decrypt"},
}
CONFIG = {"fileVersion": "1.0", "configSnapshotId": "x", "configurationItems": []}


@pytest.fixture
def trail(
    sqlite_database: AppDatabase, make_app: Any, generations: Generations, dekctl: Dekctl
) -> list[Record]:
    """What CloudTrail would record of a migration."""
    make_app(sqlite_database, rows=ROWS, env=generations.env)
    generations.standin.reset_counters()
    dekctl("migrate").expect(0)
    return records_of(generations.standin)


def put(folder: Path, name: str, content: Any) -> None:
    file = folder / name
    file.parent.mkdir(parents=True, exist_ok=True)
    raw = content if isinstance(content, bytes) else json.dumps(content).encode()
    file.write_bytes(gzip.compress(raw) if name.endswith(".gz") else raw)


def audited(dekctl: Dekctl, folder: Path, counts: dict[str, int] | None = None) -> dict[str, Any]:
    """The result; the events of the log were all read, and there were so many findings."""
    result = dekctl.json("audit", "--events", str(folder), expect=4 if counts else 0)
    assert result["counts"] == (counts or {})
    assert result["events"] >= 2 * ROWS
    return result


def test_what_lies_beside_the_logs_is_stepped_over_and_named_once(
    dekctl: Dekctl, trail: list[Record], tmp_path: Path
) -> None:
    folder = write(tmp_path / "trail", trail)
    network = {**trail[0], "eventCategory": "NetworkActivity"}
    whole = gzip.compress(json.dumps({"Records": trail}).encode())
    broken = bytearray(whole)
    broken[len(broken) // 2] ^= 0xFF
    for name, content in {
        "a digest.json.gz": DIGEST,
        "b digest.json.gz": DIGEST,
        "CloudTrail-Digest/c.json.gz": DIGEST,
        "CloudTrail-Insight/a.json.gz": {"Records": [INSIGHT]},
        "CloudTrail-NetworkActivity/a.json.gz": {"Records": [network]},
        "Config/a.json.gz": CONFIG,
        "notes.json": {"hello": 1},
        "list.json": [1],
        "text.json": b"hello",
        "cut.json": whole[: len(whole) // 2],
        "broken.json": bytes(broken),
        "empty.json.gz": b"",
        "record.json": {"Records": ["text", {"eventSource": "kms.amazonaws.com"}]},
    }.items():
        put(folder, name, content)
    # What damaged files held was not looked at. A digest in its place must be one.
    result = audited(dekctl, folder, {"altered": 1, "unchecked": 5})
    skipped = {entry["kind"]: entry["count"] for entry in result["skipped"]}
    assert skipped == {
        "digest": 2,
        "Insights": 1,
        "network activity": 1,
        "AWS Config": 1,
        "not CloudTrail's": 2,
        "damaged": 4,
        "with damaged records": 1,
    }
    assert result["files"] == 2  # the log, and the one with damaged records
    names = [name for entry in result["skipped"] for name in entry["files"]]
    assert len(names) == len(set(names)) == 12
    told = dekctl("audit", "--events", str(folder)).expect(4)
    assert "NOT COMPLETE: 5 files of the trail damaged" in told.stdout
    said = told.stderr
    assert "digest: 2 files (" in said
    assert said.count("record.json") == 1


def test_a_folder_without_any_log_is_refused_with_what_it_has(
    dekctl: Dekctl, trail: list[Record], tmp_path: Path
) -> None:
    put(tmp_path / "trail", "a.json.gz", DIGEST)
    result = dekctl("audit", "--events", str(tmp_path / "trail")).expect(2)
    assert "there is no log file of CloudTrail in" in result.stderr
    assert "digest: 1 file (" in result.stderr


def test_what_lookup_events_printed_is_read(
    dekctl: Dekctl, trail: list[Record], tmp_path: Path
) -> None:
    events = [{"EventId": r["eventID"], "CloudTrailEvent": json.dumps(r)} for r in trail]
    put(tmp_path / "trail", "events.json", {"Events": events, "NextToken": "x"})
    audited(dekctl, tmp_path / "trail")


def test_times_with_fractions_and_contexts_as_text_are_read(
    dekctl: Dekctl, trail: list[Record], tmp_path: Path
) -> None:
    for number, record in enumerate(trail):
        record["eventTime"] = record["eventTime"].replace("Z", ".123456Z")
        asked = record["requestParameters"]
        if number % 2 and asked.get("encryptionContext"):
            asked["encryptionContext"] = json.dumps(asked["encryptionContext"])
        elif number % 3:
            record["requestParameters"] = json.dumps(asked)
    audited(dekctl, write(tmp_path / "trail", trail))


@pytest.mark.parametrize(
    "text", ["{{dekctl:table={0}, dekctl:pk={1}}}", "dekctl:pk={1},dekctl:table={0}"]
)
@pytest.mark.parametrize("pk", ["1", '["a","b, c"]', "a=b, c"])
def test_a_context_as_athena_shows_it_is_read(text: str, pk: str) -> None:
    event = trail_event(
        {
            "eventSource": "kms.amazonaws.com",
            "eventID": "1",
            "eventName": "Decrypt",
            "eventTime": "2026-11-27T10:00:00",
            "requestParameters": {"encryptionContext": text.format("files", pk)},
        }
    )
    assert event is not None
    assert (event.table, event.pk) == ("files", pk)
    assert f"{event.time:%H:%M %Z}" == "10:00 UTC"


def bomb() -> bytes:
    """A few hundred kilobytes that unpack to 400 MB."""
    return gzip.compress(b'{"Records": [' + b" " * (400 * 2**20) + b"]}", 1)


def test_a_file_that_blows_up_is_refused_by_name_and_costs_no_memory() -> None:
    content = bomb()
    tracemalloc.start()
    try:
        with pytest.raises(UsageError, match=r"a\.json\.gz is larger than 64 MiB unpacked"):
            trail_file.read_log("a.json.gz", content, EVERYTHING)
        assert tracemalloc.get_traced_memory()[1] < 3 * trail_file.MAX_BYTES
    finally:
        tracemalloc.stop()


def test_a_large_file_is_not_read_as_a_whole(
    dekctl: Dekctl, trail: list[Record], tmp_path: Path
) -> None:
    folder = write(tmp_path / "trail", trail)
    put(folder, "large.json", b"")
    os.truncate(folder / "large.json", trail_file.MAX_BYTES * 50)  # takes no room on the disk
    assert "large.json is larger" in dekctl("audit", "--events", str(folder)).expect(2).stderr


@pytest.mark.parametrize("shape", ['{{"Records": {}}}', '{{"Records": [{{"a": {}}}]}}', "{}"])
def test_a_file_that_nests_without_end_is_refused_by_name(shape: str) -> None:
    content = shape.format("[" * 200_000 + "]" * 200_000).encode()
    with pytest.raises(UsageError, match=r"a\.json is nested too deeply"):
        trail_file.read_log("a.json", content, EVERYTHING)
