"""``dekctl config``: where each value comes from, what is wrong, and the schema for editors."""

from __future__ import annotations

import os
import tomllib
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from dekctl.config import load_config
from dekctl.config.json_schema import json_schema
from dekctl.errors import UsageError
from support.cli import Dekctl
from support.outputs import outputs

ROOT = Path(__file__).parents[2]
SCHEMA = ROOT / "docs" / "dekctl.schema.json"

THIN = '[env.only]\ndatabase_url = "sqlite:///app.db"\nprovider = "env"\n'


def test_show_says_where_each_value_comes_from(dekctl: Dekctl) -> None:
    (dekctl.folder / "out.json").write_text(outputs())
    dekctl.configure(
        '[table]\nname = "env:TABLE"\nprimary_key = ["tenant", "env:KEY"]\n'
        'kek_by = { column = "tenant", keks = { a = "env:KEK_A", b = "alias/b" } }\n'
        '[env.only]\ndatabase_url = "env:APP_DATABASE"\nterraform_outputs = "out.json"\n'
    )
    dekctl.environ |= {"TABLE": "files", "KEY": "id", "KEK_A": "alias/a"}
    dekctl.environ["AWS_ENDPOINT_URL"] = "http://127.0.0.1:4566"
    found = dekctl.json("config", "show")
    settings = {each["setting"]: each for each in found["settings"]}

    def shown(name: str) -> tuple[Any, ...]:
        return tuple(settings[name][part] for part in ("value", "source", "variables"))

    assert (found["env"], found["env_from"]) == ("only", "the only one in the file")
    assert found["file_from"] == "$DEKCTL_CONFIG"
    assert shown("name") == ("files", "environment", ["TABLE"])
    assert shown("primary_key") == (["tenant", "id"], "environment", ["KEY"])
    keks = {"column": "tenant", "keks": {"a": "alias/a", "b": "alias/b"}}
    assert shown("kek_by") == (keks, "environment", ["KEK_A"])
    assert shown("plaintext_encoding") == ("raw", "default", [])
    assert shown("database_url") == (None, "environment", ["APP_DATABASE"])
    assert shown("region") == ("eu-central-1", "terraform", [])
    assert shown("endpoint_url") == ("http://127.0.0.1:4566", "environment", ["AWS_ENDPOINT_URL"])
    text = dekctl("config", "show").expect(0).stdout
    assert "$APP_DATABASE, which is not set" in text
    assert "arn:aws:kms:eu-central-1:111122223333:key/1111" in text


@pytest.mark.parametrize(
    ("toml", "secret"),
    [
        ('database_url = "postgresql://app:s3cretword@db/app"', "s3cretword"),
        ('database_url = "postgresql://app@db/app?password=s3cretword"', "s3cretword"),
        ('database_url = "app:s3cretword@db"', "s3cretword"),
        ('endpoint_url = "http://me:s3cretword@proxy:80"', "s3cretword"),
        ('kek = "env:DEKCTL_KEK"', "DEKCTL_KEK"),
        ('kek = "env:SOME_KEY"', "SOME_KEY"),
        ('kek = "s3cretwords3cretwords3cretwords3cretwords3c="', "s3cretword"),
        ('region = "env:AWS_SESSION_TOKEN"', "AWS_SESSION_TOKEN"),
    ],
)
def test_no_secret_is_shown(dekctl: Dekctl, toml: str, secret: str) -> None:
    dekctl.environ |= {
        "AWS_SESSION_TOKEN": "0123456789token",
        "SOME_KEY": "q83vAQIDBAUGBwgJCgsMDQ==",
    }
    dekctl.configure(f"[env.x]\n{toml}\n")
    hidden = dekctl.environ.get(secret, secret)
    for arguments in (
        ("config", "show"),
        ("--json", "config", "show"),
        ("config", "check"),
        ("doctor",),
    ):
        done = dekctl(*arguments)
        assert hidden not in done.stdout + done.stderr, arguments


def test_outputs_that_cannot_be_read_are_said_and_the_rest_is_shown(dekctl: Dekctl) -> None:
    dekctl.configure('[env.x]\ndatabase_url = "sqlite:///a.db"\nterraform_outputs = "none.json"\n')
    done = dekctl("config", "show").expect(2)
    assert "sqlite:///a.db" in done.stdout
    assert "Terraform outputs could not be read" in done.stdout


def test_check_looks_at_every_environment_unless_one_is_named(dekctl: Dekctl) -> None:
    dekctl.configure(
        f'{THIN}[env.odd]\ndatabase_url = "oracle://db/app"\nkek = "alias/a"\n'
        '[env.root]\ndatabase_url = "sqlite:///b.db"\nterraform = "root"\n'
        '[env.none]\ndatabase_url = "env:NOT_SET"\n'
    )
    checks = {each["check"]: each for each in dekctl.json("config", "check", expect=2)["checks"]}
    wrong = {name for name, each in checks.items() if not each["ok"]}
    assert wrong == {
        "[env.odd] database_url",
        "[env.root] KEK",
        "[env.none] database_url",
        "[env.none] KEK",
    }
    assert all(checks[name]["hint"] for name in wrong)
    assert dekctl.json("--env", "only", "config", "check")["ok"] is True
    (dekctl.folder / "root").mkdir()
    (dekctl.folder / "root" / "main.tf").write_text("")
    assert dekctl.json("--env", "root", "config", "check")["ok"] is True
    dekctl.environ["DEKCTL_ENV"] = "odd"
    assert len(dekctl.json("config", "check", expect=2)["checks"]) == 3


def test_the_file_is_found_in_a_folder_above(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    below = tmp_path / "a" / "b"
    below.mkdir(parents=True)
    monkeypatch.chdir(below)
    (tmp_path / "dekctl.toml").write_text(THIN + 'terraform_outputs = "out.json"\n')
    config = load_config(environ={})
    assert config.env.terraform_outputs == tmp_path / "out.json"
    (tmp_path / "a" / "dekctl.toml").write_text(THIN.replace("only", "nearer"))
    assert load_config(environ={}).env.name == "nearer"
    monkeypatch.setattr(os, "getuid", lambda: 12345)
    os.chown(tmp_path / "a" / "dekctl.toml", 54321, -1)
    with pytest.raises(UsageError, match="belongs to another user") as caught:
        load_config(environ={})
    assert "--config" in str(caught.value.hint)


def test_without_a_file_the_next_command_is_init(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match="or above it") as caught:
        load_config(environ={})
    assert "dekctl init" in str(caught.value.hint)


def test_the_schema_in_docs_is_that_of_the_model(dekctl: Dekctl) -> None:
    text = dekctl("config", "schema").expect(0).stdout
    if os.environ.get("DEKCTL_WRITE_DOCS"):
        SCHEMA.write_text(text, encoding="utf-8")
    assert SCHEMA.read_text(encoding="utf-8") == text, "run the tests with DEKCTL_WRITE_DOCS=1"


@pytest.mark.parametrize("file", ["dekctl.toml", "examples/flask_app/dekctl.toml"])
def test_our_own_files_fit_the_schema_and_name_it(file: str) -> None:
    text = (ROOT / file).read_text(encoding="utf-8")
    first = text.partition("\n")[0]
    assert (ROOT / file).parent.joinpath(first.removeprefix("#:schema ")).resolve() == SCHEMA
    jsonschema.validate(tomllib.loads(text), json_schema())


@pytest.mark.parametrize(
    "toml",
    [
        '[table]\nnam = "x"\n[env.x]\n',
        '[env.x]\nbackup_retention_days = "soon"\n',
        "[env.x]\nlock_timeout_seconds = 0\n",
        '[table]\nwrapping = "V9"\n[env.x]\n',
        '[table]\nkek_by = { column = "a" }\n[env.x]\n',
        "[table]\ndek_bytes = [0]\n[env.x]\n",
        "[table]\n",
    ],
)
def test_what_dekctl_refuses_the_schema_refuses(tmp_path: Path, toml: str) -> None:
    (tmp_path / "dekctl.toml").write_text(toml)
    with pytest.raises(UsageError):
        load_config(tmp_path / "dekctl.toml", environ={})
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(tomllib.loads(toml), json_schema())
