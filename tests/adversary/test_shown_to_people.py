"""What people see and what is written for them: no escapes of others, no file for all, no frame."""

from __future__ import annotations

import stat
from typing import Any

import pytest

from dekctl.errors import KMSError
from dekctl.kms.aws.provider import AWSKMS
from dekctl.kms.interface import WrapRequest
from dekctl.wording import printable
from support.app import AppDatabase
from support.cli import Dekctl

ODD = "a\x1b]0;owned\x07\n error: forged\u202e\x9b2J"


def test_a_primary_key_with_terminal_escapes_is_escaped_everywhere(
    sqlite_database: AppDatabase, dekctl: Dekctl
) -> None:
    sqlite_database.sql("CREATE TABLE encrypted_files (id TEXT PRIMARY KEY, encryption_key BLOB)")
    for key, dek in ((ODD, b"short"), ("good", bytes(range(32)))):
        sqlite_database.sql("INSERT INTO encrypted_files VALUES (:id, :dek)", id=key, dek=dek)
    dekctl.hidden.append(bytes(range(32)))
    dekctl.configure(f'[env.test]\ndatabase_url = "{sqlite_database.url}"\nprovider = "env"\n')
    output = dekctl.folder / "report.html"
    said = [dekctl("migrate").expect(4), dekctl("status"), dekctl("verify")]
    dekctl("report", "--output", str(output)).expect(0)
    texts = [output.read_text(), *(each.stdout + each.stderr for each in said)]
    for text in texts:
        assert not set(text) & set("\x1b\x07\x9b\u202e")
    shown = printable(ODD)
    assert shown in texts[0]
    assert shown in texts[1]
    assert shown in texts[2]
    assert stat.S_IMODE(output.stat().st_mode) == 0o600
    assert dekctl.json("status")["quarantine"][0]["pk"] == ODD


def test_an_error_of_a_provider_holds_no_key_in_its_frames(monkeypatch: pytest.MonkeyPatch) -> None:
    kms = AWSKMS("alias/x", region="us-east-1")
    dek = bytes(range(32))

    def fail(*_: Any) -> None:
        raise KMSError("out of reach")

    monkeypatch.setattr(AWSKMS, "_transport", fail)
    with pytest.raises(KMSError) as caught:
        kms.wrap_many([WrapRequest(dek, None)])
    frame = caught.value.__traceback__
    assert frame is not None
    frame = frame.tb_next  # the first is this test's own
    while frame is not None:
        assert "requests" not in frame.tb_frame.f_locals
        assert "calls" not in frame.tb_frame.f_locals
        frame = frame.tb_next
