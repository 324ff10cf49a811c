"""A disabled generation closes its own rows only, also where rows do not name their KEK."""

from __future__ import annotations

import json
from typing import Any

import boto3
import pytest

from dekctl.config.outputs import read_output
from dekctl.errors import KMSRefusedError, RowRejectedError
from dekctl.kms.aws.provider import AWSKMS
from dekctl.kms.interface import Unwrapped, UnwrapRequest
from support.app import AppDatabase
from support.cli import Dekctl
from support.generations import Generations
from support.kms_standin import KmsStandin

DEK = bytes(range(32))


def as_admin(standin: KmsStandin, *keks: str) -> AWSKMS:
    return AWSKMS(
        keks[-1],
        region=standin.region,
        endpoint_url=standin.endpoint_url,
        session=boto3.Session(
            aws_access_key_id=standin.admin.access_key,
            aws_secret_access_key=standin.admin.secret_key,
            region_name=standin.region,
        ),
        known_keks=keks,
        transport="boto3",
        concurrency=2,
    )


def test_rows_that_name_no_kek_open_although_one_generation_is_disabled(
    kms_standin: KmsStandin,
) -> None:
    kms = kms_standin.kms()
    first, second, active = (kms.create_key()["KeyMetadata"]["Arn"] for _ in range(3))
    blobs = [
        kms.encrypt(KeyId=arn, Plaintext=DEK)["CiphertextBlob"] for arn in (second, first, active)
    ]
    kms.disable_key(KeyId=first)
    provider = as_admin(kms_standin, first, second, active)

    opened = provider.unwrap_many([UnwrapRequest(blob, None, None) for blob in blobs])

    assert isinstance(opened[0], Unwrapped)
    assert opened[0].plaintext == DEK
    assert isinstance(opened[1], RowRejectedError), "its own KEK is disabled: set it aside"
    assert opened[1].code == "DisabledException"
    assert isinstance(opened[2], Unwrapped)
    kms.disable_key(KeyId=second)
    kms.disable_key(KeyId=active)
    with pytest.raises(KMSRefusedError, match="DisabledException"):
        provider.unwrap_many([UnwrapRequest(blobs[2], None, None)])
    provider.close()


def test_disabled_generations_are_tried_last(kms_standin: KmsStandin, dekctl: Dekctl) -> None:
    for alias in kms_standin.kms().list_aliases()["Aliases"]:
        kms_standin.kms().delete_alias(AliasName=alias["AliasName"])
    generations = Generations.begin(kms_standin, dekctl)
    generations.roll()
    generations.states["g1"] = "disabled"
    generations.write()
    arns = generations.arns

    document = json.loads(generations.file.read_text())
    outputs = read_output(document, "outputs.json", "")

    assert outputs.kek_arns() == [arns["g2"], arns["g1"]]


ROWS = 4


def test_doctor_and_status_look_at_every_key_that_rows_name(
    sqlite_database: AppDatabase, make_app: Any, kms_standin: KmsStandin, dekctl: Dekctl
) -> None:
    """After a plan that lost g1, the outputs do not name it any more, and the alias has moved."""
    generations = Generations.begin(kms_standin, dekctl)
    make_app(sqlite_database, rows=ROWS, env=generations.env)
    dekctl("migrate").expect(0)
    lost, kms = generations.active, kms_standin.kms()
    kms.schedule_key_deletion(KeyId=lost, PendingWindowInDays=30)
    generations.roll()
    del generations.arns["g1"], generations.states["g1"]
    generations.write()

    failed = [c for c in dekctl.json("doctor", expect=5)["checks"] if not c["ok"]]
    [pending] = [c for c in failed if c["check"] == "KEK of rows"]
    rescue = f"aws kms cancel-key-deletion --key-id {lost} --region {kms_standin.region}"
    assert f"{lost} is PendingDeletion and will be gone on 20" in pending["detail"]
    assert rescue in pending["hint"]
    [kek] = dekctl.json("status")["keks"]
    assert (kek["kek_id"], kek["state"], kek["rows"]) == (lost, "PendingDeletion", ROWS)
    assert kek["deletion_date"].startswith("20")
    shown = dekctl("status").expect(0).stdout
    assert "PendingDeletion in KMS" in shown
    assert rescue in shown

    kms.cancel_key_deletion(KeyId=lost)
    kms.enable_key(KeyId=lost)
    assert dekctl.json("status")["keks"][0]["state"] == "Enabled"
    dekctl("doctor").expect(0)


def test_doctor_and_status_name_a_key_that_is_gone(
    sqlite_database: AppDatabase, make_app: Any, kms_standin: KmsStandin, dekctl: Dekctl
) -> None:
    generations = Generations.begin(kms_standin, dekctl)
    app = make_app(sqlite_database, rows=ROWS, env=generations.env)
    dekctl("migrate").expect(0)
    gone = generations.active.rpartition("/")[0] + "/00000000-0000-0000-0000-000000000000"
    app.database.sql("UPDATE encrypted_files SET kek_id = :kek WHERE id = 1", kek=gone)
    [check] = [c for c in dekctl.json("doctor", expect=5)["checks"] if not c["ok"]]
    assert f"KMS knows no key {gone}" in check["detail"]
    states = {kek["kek_id"]: kek["state"] for kek in dekctl.json("status")["keks"]}
    assert states == {gone: "NotFound", generations.active: "Enabled"}


def test_status_without_kms_shows_the_rows_and_says_what_it_could_not_see(
    sqlite_database: AppDatabase, make_app: Any, kms_standin: KmsStandin, dekctl: Dekctl
) -> None:
    generations = Generations.begin(kms_standin, dekctl)
    make_app(sqlite_database, rows=ROWS, env=generations.env)
    dekctl("migrate").expect(0)
    text = (dekctl.folder / "dekctl.toml").read_text()
    dekctl.configure(text.replace(kms_standin.endpoint_url, "http://127.0.0.1:1"))
    [kek] = dekctl.json("status", expect=5)["keks"]
    assert (kek["state"], kek["rows"]) == (None, ROWS)
    assert kek["state_problem"]
    assert "KMS does not report its state" in dekctl("status").expect(5).stdout
