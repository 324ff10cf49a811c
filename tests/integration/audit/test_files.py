"""The trail's files: however they are ordered, copied or written, no event is hidden."""

from __future__ import annotations

import gzip
import json
from datetime import timedelta

import pytest
from click.testing import CliRunner

from dekctl.audit.event_reader import EventReader
from dekctl.audit.scope import Scope
from dekctl.audit.trail_file import read_log
from dekctl.cli.main import cli
from support.audit_world import ACCOUNT, MALLORY, MINUTE, OLD_KEK, TABLE, AuditWorld, role_arn


def test_the_order_of_files_does_not_matter_and_copies_count_once(world: AuditWorld) -> None:
    _, calls = world.verified(rows=6)
    files = [world.write(calls[n : n + 2], at=n * MINUTE) for n in (4, 0, 2)]
    copy = world.trail / "copy" / files[0].name
    copy.parent.mkdir()
    copy.write_bytes(files[0].read_bytes())
    result = world.audit()
    assert result.clean
    assert (result.matched.events, result.reading.duplicates) == (6, 2)


def test_an_event_cannot_be_hidden_behind_one_of_its_id(world: AuditWorld) -> None:
    stolen = world.event("Decrypt", MALLORY)
    decoy = world.event() | {"eventID": stolen["eventID"]}
    world.write([decoy], at=timedelta(0))
    assert world.counts(stolen) == {"altered": 1, "unknown-principal": 1}


def test_records_that_are_written_otherwise_are_read_too(world: AuditWorld) -> None:
    stolen = world.event("Decrypt", MALLORY)
    stolen["requestParameters"]["x"] = [{"a": 1}, {"eventVersion": "1.11"}]  # as a boundary looks
    stolen["userAgent"] = '"},{"eventVersion":"1.11"'
    file = world.write([world.event(), stolen, world.event()])
    assert world.counts() == {"unknown-principal": 1}
    text = gzip.decompress(file.read_bytes()).decode()
    escaped = text.replace("/", "\\/").replace("kms.amazonaws", "\\u006bms.amazonaws")
    for other in (escaped, json.dumps(json.loads(text), indent=1), text + "\n"):
        file.write_bytes(gzip.compress(other.encode()))
        assert world.counts() == {"unknown-principal": 1}


def test_alike_records_are_read_as_if_each_was_parsed(world: AuditWorld) -> None:
    """The fast reader against the slow one, on records that try to look alike."""
    run = world.run("rewrap", {"ReEncrypt": 9}, changed=9)
    records = []
    for pk in ("1", "2", 'a"b', "é", "", "1"):
        for api, who in (("Decrypt", "app"), ("ReEncrypt", "rewrapper"), ("Encrypt", "wrapper")):
            records.append(world.event(api, who, pk=pk, run=run))
            moved = world.event(api, who, pk=pk, run=run)
            for name in ("encryptionContext", "sourceEncryptionContext"):
                if name in moved["requestParameters"]:
                    moved["requestParameters"][name] = {
                        "eventID": pk,
                        "eventSource": "s3.amazonaws.com",
                        "dekctl:table": TABLE,
                        "dekctl:pk": "7",
                        "eventTime": "2026-01-01T00:00:00Z",
                    }
            records.append(moved)
            records.append(world.event(api, who, pk=pk) | {"requestID": pk})
            records.append(world.event(api, who, pk=pk) | {"eventTime": "2026-11-27T10:00:00.5Z"})
            records.append(world.event(api, who, pk=pk) | {"eventID": pk})
    scope = Scope.of(
        world.project.outputs or pytest.fail("no outputs"), world.project.known_keks(), [TABLE]
    )
    content = world.write(records * 2).read_bytes()
    fast = read_log("x", content, EventReader(scope.filter(), scope.concerns))
    slow = read_log("x", gzip.decompress(content), EventReader(scope.filter(), scope.concerns))
    assert fast.events == slow.events
    assert len(fast.events) == 2 * len(records)


def test_what_a_caller_chose_never_looks_like_a_line_of_the_audit(world: AuditWorld) -> None:
    world.write([world.event("Decrypt", MALLORY, pk="1\nno findings\x1b[2J")])
    config = str(world.folder / "dekctl.toml")
    done = CliRunner().invoke(cli, ["--config", config, "audit", "--events", str(world.trail)])
    assert done.exit_code == 4
    assert "no findings" not in done.stdout.splitlines()
    assert r"1\nno findings\x1b[2J" in done.stdout


def test_keys_are_known_by_any_of_their_names(world: AuditWorld) -> None:
    by_id = world.event("Decrypt", MALLORY, key=OLD_KEK.rpartition("/")[2], resources=[])
    by_alias = world.event(
        "Decrypt", MALLORY, key=f"arn:aws:kms:us-east-1:{ACCOUNT}:alias/files", resources=[]
    )
    assert world.counts(by_id, by_alias) == {"unknown-principal": 2}
    assert role_arn("app").endswith("files-app")
