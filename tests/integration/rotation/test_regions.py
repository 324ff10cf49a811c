"""Rows that cross Regions, and readers in a second one, on moto's server."""

from __future__ import annotations

from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError

from dekctl.kms import AWSKMS
from sandbox.moto import MotoServer
from support.app import AppDatabase
from support.cli import Dekctl
from support.kms_standin import KmsStandin

HOME, AWAY = "us-east-1", "eu-west-1"
ROWS = 6


@pytest.fixture
def session(dekctl: Dekctl) -> boto3.Session:
    """Fake credentials, for the test and for dekctl."""
    dekctl.environ |= {
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_EC2_METADATA_DISABLED": "true",
    }
    return boto3.Session("test", "test", region_name=HOME)


def env(moto_server: MotoServer, region: str, kek: str) -> dict[str, Any]:
    """Keys of ``[env.test]``."""
    return {
        "provider": "aws",
        "region": region,
        "endpoint_url": moto_server.endpoint_url,
        "kek": kek,
    }


def client(session: boto3.Session, moto_server: MotoServer, region: str) -> Any:
    """KMS of a Region."""
    return session.client("kms", region_name=region, endpoint_url=moto_server.endpoint_url)


def test_rows_of_another_region_are_carried_over_and_checked(
    sqlite_database: AppDatabase,
    make_app: Any,
    dekctl: Dekctl,
    moto_server: MotoServer,
    session: boto3.Session,
) -> None:
    here, there = (
        client(session, moto_server, region).create_key()["KeyMetadata"]["Arn"]
        for region in (HOME, AWAY)
    )
    app = make_app(sqlite_database, rows=ROWS, env=env(moto_server, HOME, here))
    dekctl("migrate").expect(0)
    dekctl("scrub", "--yes").expect(0)
    toml = (dekctl.folder / "dekctl.toml").read_text()
    dekctl.configure(toml.replace(HOME, AWAY).replace(here.replace(HOME, AWAY), there))

    moved = dekctl.json("rewrap")
    assert (moved["changed"], moved["carried_over"]) == (ROWS, ROWS)
    assert "ReEncrypt" not in moved["kms_calls"]
    assert {row["kek_id"] for row in app.rows().values()} == {there}
    kms = AWSKMS(there, region=AWAY, endpoint_url=moto_server.endpoint_url, session=session)
    app.assert_files_open(kms)
    assert dekctl.json("retire", here)["refused"] is False


def test_a_reader_in_the_second_region_opens_rows_with_the_related_key(
    sqlite_database: AppDatabase, make_app: Any, dekctl: Dekctl, kms_standin: KmsStandin
) -> None:
    """The strict KMS stands for the second Region; it refuses ARNs of any other."""
    related = kms_standin.kms().create_key(MultiRegion=True)["KeyMetadata"]["Arn"]
    primary = related.replace(kms_standin.region, AWAY)
    dekctl.environ |= kms_standin.environment()
    values = {"provider": "aws", "endpoint_url": kms_standin.endpoint_url, "kek": related}
    app = make_app(sqlite_database, rows=ROWS, env={**values, "region": kms_standin.region})
    dekctl("migrate").expect(0)
    dekctl("scrub", "--yes").expect(0)
    app.database.sql("UPDATE encrypted_files SET kek_id = :kek", kek=primary)

    with pytest.raises(ClientError, match="NotFoundException"):
        kms_standin.kms().encrypt(KeyId=primary, Plaintext=b"k" * 32)
    assert dekctl.json("verify")["verified"] == ROWS
    refused = dekctl.json("retire", related, expect=3)
    assert refused["rows"] == ROWS  # a key and its replicas are one KEK
    other = kms_standin.create_key()
    assert dekctl.json("rewrap", "--from", related, "--to", other)["changed"] == ROWS
    assert {row["kek_id"] for row in app.rows().values()} == {other}
