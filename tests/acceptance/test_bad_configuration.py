"""A wrong configuration gets a clear error with the next command in it, and changes nothing."""

from __future__ import annotations

import json
import socket
from pathlib import Path
from typing import Any

import pytest

from dekctl.config import TableConfig
from support.app import AppDatabase, Application
from support.cli import Dekctl
from support.refusals import assert_says


def test_without_a_configuration_the_error_says_how_to_name_one(dekctl: Dekctl) -> None:
    assert_says(dekctl("status").expect(2), "dekctl.toml does not exist", "--config")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[tabel]\n[env.x]\n", ("'tabel'", "did you mean 'table'?")),
        ('[table]\nnmae = "x"\n[env.x]\n', ("'nmae'", "did you mean 'name'?")),
        ('[env.x]\ndatabase_ulr = "x"\n', ("'database_ulr'", "did you mean 'database_url'?")),
        ("[env.x]\nqqqq = 1\n", ("'qqqq'", "known keys are")),
        (
            '[table]\nplaintext_encoding = "base46"\n[env.x]\n',
            ("did you mean 'base64'?", "raw, base64"),
        ),
        ('[env.x]\nprovider = "azure"\n', ("'azure'", "aws, env, memory")),
        ("[table\n", ("not valid TOML",)),
        ("", ("no [env.NAME]",)),
        ("[env.a]\n[env.b]\n", ("no environment is chosen", "--env a")),
        ('[env.x]\ndatabase_url = "env:NOWHERE"\n', ("NOWHERE", "not set")),
        ("[env.x]\n", ("no database_url",)),
        ('[env.x]\ndatabase_url = "not a url"\n', ("not an SQLAlchemy URL",)),
        ('[env.x]\ndatabase_url = "oracle://db"\n', ("'oracle'", "postgresql+psycopg://")),
        ("[table]\nprimary_key = []\n[env.x]\n", ("primary_key", 'primary_key = ["id"]')),
        ('[table]\nkek_column = "id"\n[env.x]\n', ("'id' twice",)),
    ],
)
def test_a_wrong_configuration_is_named(dekctl: Dekctl, text: str, words: tuple[str, ...]) -> None:
    dekctl.configure(text)
    assert_says(dekctl("status").expect(2), *words)


def test_an_unknown_environment_is_named_with_the_nearest(dekctl: Dekctl) -> None:
    dekctl.configure("[env.staging]\n[env.production]\n")
    assert_says(dekctl("--env", "stagin", "status").expect(2), "did you mean 'staging'?")


def test_a_password_in_the_database_url_is_never_shown(dekctl: Dekctl) -> None:
    port = unused_port()
    dekctl.configure(
        f'[env.x]\ndatabase_url = "postgresql+psycopg://app:s3cretword@127.0.0.1:{port}/db"\n'
        'provider = "env"\n'
    )
    for command in (["status"], ["doctor"], ["--debug", "wrap"]):
        result = dekctl(*command).expect(6)
        assert "s3cretword" not in result.stdout + result.stderr


@pytest.mark.parametrize("arguments", [["wrapp"], ["wrap", "--batch-size", "0"], ["wrap", "--qq"]])
def test_a_wrong_command_line_ends_with_2(dekctl: Dekctl, arguments: list[str]) -> None:
    dekctl.configure("[env.x]\n")
    assert_says(dekctl(*arguments).expect(2))


def outputs(**changes: Any) -> dict[str, Any]:
    """The Terraform output of the contract."""
    arn = "arn:aws:kms:us-east-1:111122223333:key/1"
    roles = ("app", "wrapper", "rewrapper", "verifier", "auditor", "key_admin")
    value = {
        "schema_version": 1,
        "region": "us-east-1",
        "account_id": "111122223333",
        "kek": {
            "arn": arn,
            "alias": "alias/app-dek",
            "generations": {"2026a": {"arn": arn, "state": "active"}},
        },
        "roles": {role: f"arn:aws:iam::111122223333:role/{role}" for role in roles},
        "context_name": "encrypted_files",
        "audit": {"trail_arn": None, "bucket": None, "log_group": None},
    }
    return {**value, **changes}


@pytest.mark.parametrize(
    ("document", "words"),
    [
        (None, ("cannot read the Terraform outputs", "terraform output -json")),
        ("not json", ("not JSON",)),
        ({}, ("no Terraform output named dekctl", "terraform apply && terraform output")),
        ({"dekctl": {"value": outputs(schema_version=2)}}, ("schema_version 2",)),
        ({"dekctl": {"value": outputs(roles={})}}, ("'app'", "terraform apply")),
        ({"dekctl": {"value": outputs(kek={"arn": "a", "alias": "b"})}}, ("'generations'",)),
        ({"dekctl": {"value": outputs(context_name="other")}}, ("'other'", "context_name")),
    ],
)
def test_missing_or_wrong_terraform_outputs_are_named(
    dekctl: Dekctl, sqlite_database: AppDatabase, document: Any, words: tuple[str, ...]
) -> None:
    Application(sqlite_database).create(3)
    dekctl.configure(
        f'[env.x]\ndatabase_url = "{sqlite_database.url}"\nterraform_outputs = "outputs.json"\n'
    )
    if document is not None:
        text = document if isinstance(document, str) else json.dumps(document)
        (dekctl.folder / "outputs.json").write_text(text)
    assert_says(dekctl("migrate").expect(2), *words)
    assert_says(dekctl("status").expect(2), *words)


def test_a_table_that_the_roles_may_not_use_is_named_before_any_row(
    dekctl: Dekctl, sqlite_database: AppDatabase
) -> None:
    Application(sqlite_database).create(3)
    Application(sqlite_database, TableConfig(name="photos", context_name="photos")).create(3)
    document = {"dekctl": {"value": outputs(context_names=["encrypted_files"])}}
    (dekctl.folder / "outputs.json").write_text(json.dumps(document))
    dekctl.configure(
        '[[table]]\n[[table]]\nname = "photos"\ncontext_name = "photos"\n'
        f'[env.x]\ndatabase_url = "{sqlite_database.url}"\nterraform_outputs = "outputs.json"\n'
    )
    dekctl("schema", "expand").expect(0)
    assert_says(dekctl("wrap").expect(2), "'photos'", "further_context_names", "terraform apply")


def test_a_missing_terraform_root_is_named(dekctl: Dekctl, sqlite_database: AppDatabase) -> None:
    Application(sqlite_database).create(1)
    dekctl.configure(f'[env.x]\ndatabase_url = "{sqlite_database.url}"\nterraform = "nowhere"\n')
    assert_says(dekctl("migrate").expect(2), "nowhere does not exist")


@pytest.mark.parametrize(
    "env",
    [
        'terraform_outputs = "missing.json"\n',
        'region = "us-east-1"\n',
        'provider = "env"\n',
    ],
    ids=["no outputs", "no kek", "no local kek"],
)
def test_migrate_changes_nothing_before_it_has_read_its_configuration(
    dekctl: Dekctl, sqlite_database: AppDatabase, env: str
) -> None:
    app = Application(sqlite_database).create(2)
    before = app.rows()
    del dekctl.environ["DEKCTL_KEK"]
    dekctl.configure(f'[env.x]\ndatabase_url = "{sqlite_database.url}"\n{env}')
    assert_says(dekctl("migrate").expect(2))
    assert app.rows() == before
    assert sqlite_database.sql("SELECT name FROM sqlite_master WHERE name LIKE 'dekctl%'") == []


def test_an_aws_profile_that_does_not_exist_is_named(
    dekctl: Dekctl, sqlite_database: AppDatabase
) -> None:
    Application(sqlite_database).create(1)
    dekctl.configure(
        f'[env.x]\ndatabase_url = "{sqlite_database.url}"\nkek = "alias/x"\nregion = "us-east-1"\n'
    )
    dekctl("schema", "expand").expect(0)
    dekctl.environ["AWS_PROFILE"] = "no-such-profile"
    for command in (["wrap"], ["retire", "alias/x"], ["doctor"]):
        result = dekctl(*command).expect(2)
        assert "no-such-profile" in result.stdout + result.stderr
        assert "aws configure list-profiles" in result.stdout + result.stderr


@pytest.mark.parametrize(
    ("table", "words"),
    [
        ('primary_key = ["uuid"]', ("no column 'uuid'", "its columns are: id,")),
        ('primary_key = ["size"]', ("not a unique key", "its primary key is: id")),
        ('primary_key = ["id", "size"]', ("not a unique key",)),
        ('name = "encrypted_file"', ("the table encrypted_file does not exist",)),
        ('plaintext_column = "key"', ("neither key nor",)),
    ],
)
def test_a_table_that_is_not_as_configured_is_named(
    app_database: AppDatabase, dekctl: Dekctl, table: str, words: tuple[str, ...]
) -> None:
    app = Application(app_database).create(3)
    before = app.rows()
    dekctl.configure(
        f'[table]\n{table}\n[env.x]\ndatabase_url = "{app_database.url}"\nprovider = "env"\n'
    )
    for command in (["status"], ["migrate"], ["wrap"], ["schema", "expand"]):
        assert_says(dekctl(*command).expect(2), *words)
    assert app.rows() == before


def unused_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@pytest.mark.parametrize(
    "url",
    [
        "postgresql+psycopg://app:word@127.0.0.1:{port}/app",
        "mysql+pymysql://app:word@127.0.0.1:{port}/app",
        "sqlite:////nowhere/at/all/app.db",
    ],
)
def test_an_unreachable_database_ends_with_6(dekctl: Dekctl, url: str) -> None:
    dekctl.configure(
        f'[env.x]\ndatabase_url = "{url.format(port=unused_port())}"\nprovider = "env"\n'
    )
    for command in (["status"], ["wrap"], ["schema", "expand"]):
        assert_says(dekctl(*command).expect(6), "the database")


def test_a_mistyped_sqlite_path_makes_no_empty_database(dekctl: Dekctl, tmp_path: Path) -> None:
    dekctl.configure(f'[env.x]\ndatabase_url = "sqlite:///{tmp_path}/ap.db"\nprovider = "env"\n')
    dekctl("status").expect(6)
    assert not (tmp_path / "ap.db").exists()


@pytest.mark.parametrize("kek", [None, "", "short", "!" * 44])
def test_a_missing_or_wrong_local_kek_is_named_and_not_shown(
    sqlite_database: AppDatabase, dekctl: Dekctl, make_app: Any, kek: str | None
) -> None:
    app = make_app(sqlite_database, rows=2)
    dekctl("schema", "expand").expect(0)
    del dekctl.environ["DEKCTL_KEK"]
    if kek is not None:
        dekctl.environ["DEKCTL_KEK"] = kek
    result = dekctl("wrap").expect(2)
    assert_says(result, "DEKCTL_KEK", "openssl rand -base64 32")
    assert not kek or kek not in result.stderr
    assert app.counts()["plaintext_only"] == 2
