"""The private names of other packages in use: each in one place, and still what they were."""

from __future__ import annotations

import inspect
import re
from importlib.metadata import version
from pathlib import Path

import boto3
import botocore.session
import pytest
from botocore.credentials import Credentials

from dekctl.kms.aws.botocore_private import botocore_session, set_credentials

PACKAGE = Path(__file__).parents[2] / "tooling" / "dekctl"
CHECKED = {"boto3": "1.44.5", "botocore": "1.44.5", "PyMySQL": "1.2.4"}
PLACES = {
    r"[a-z]\._session\b": "kms/aws/botocore_private.py",
    r"[a-z]\._credentials\b": "kms/aws/botocore_private.py",
    r"\._make_api_call\b": None,
    r"\._sock\b": "db/dialects/mysql.py",
    r"\._read_timeout\b": "db/dialects/mysql.py",
}


def advice(package: str) -> str:
    return f"{package} {version(package)} differs from {CHECKED[package]}, which was checked"


@pytest.mark.parametrize(("name", "place"), PLACES.items())
def test_each_private_name_has_one_place(name: str, place: str | None) -> None:
    found = {
        str(file.relative_to(PACKAGE))
        for file in PACKAGE.rglob("*.py")
        for line in file.read_text(encoding="utf-8").splitlines()
        if re.search(name, line.replace("self._", ""))
    }
    assert found == ({place} if place else set())


def test_a_boto3_session_holds_a_botocore_session() -> None:
    inner = botocore.session.get_session()
    assert botocore_session(boto3.Session(botocore_session=inner)) is inner, advice("boto3")


def test_a_botocore_session_uses_the_credentials_it_was_given() -> None:
    session = botocore.session.get_session()
    mine = Credentials("AKIDEXAMPLE", "secret")
    set_credentials(session, mine)
    assert session.get_credentials() is mine, advice("botocore")


def test_a_pymysql_connection_keeps_its_socket_and_its_patience() -> None:
    connections = pytest.importorskip("pymysql.connections")
    source = inspect.getsource(connections.Connection)
    assert "self._sock.settimeout(self._read_timeout)" in source, advice("PyMySQL")
