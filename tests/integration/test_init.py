"""``dekctl init``: what it finds in a database, what it writes, and what it refuses."""

from __future__ import annotations

import hashlib
import os
import pty
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from dekctl.config import load_config
from support.app import AppDatabase, Application
from support.cli import TOOLING, Dekctl
from support.secrets import assert_hidden

MakeApp = Any
ACCOUNT = ("--account-id", "123456789012", "--region", "eu-central-1")


@pytest.fixture(autouse=True)
def here(dekctl: Dekctl, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder, in which the file that is written is found by itself."""
    monkeypatch.chdir(dekctl.folder)
    return dekctl.folder


def own_table(
    dekctl: Dekctl, make_app: MakeApp, database: AppDatabase, **table: Any
) -> Application:
    """A table of somebody's own, and no configuration."""
    app: Application = make_app(database, rows=30, **table)
    (dekctl.folder / "dekctl.toml").unlink()
    dekctl.environ["DATABASE_URL"] = database.url
    return app


@pytest.mark.parametrize(
    ("encoding", "storage"), [("raw", "binary"), ("base64", "text"), ("hex", "binary")]
)
def test_the_only_likely_column_is_found_and_the_result_passes_the_check(
    app_database: AppDatabase,
    dekctl: Dekctl,
    make_app: MakeApp,
    here: Path,
    encoding: str,
    storage: str,
) -> None:
    app = own_table(
        dekctl,
        make_app,
        app_database,
        storage=storage,
        name="documents",
        plaintext_column="contentKey",
        plaintext_encoding=encoding,
        primary_key=("tenant", "id"),
        key="composite",
    )
    found = dekctl.json("--env", "staging", "init", *ACCOUNT)
    assert (found["fitting"], found["sampled"]) == (30, 30)
    text = (here / "dekctl.toml").read_text()
    assert_hidden(text, list(app.deks.values()), "dekctl.toml")
    config = load_config(here / "dekctl.toml", environ={})
    table = config.table
    assert (table.name, table.plaintext_column) == ("documents", "contentKey")
    assert (table.plaintext_encoding, table.primary_key) == (encoding, ("tenant", "id"))
    assert table.context_name.endswith(".documents")
    assert (config.env.name, config.env.terraform) == ("staging", here / "terraform")
    assert app_database.url not in text
    assert dekctl.json("config", "check")["ok"] is True
    assert '"./modules/dekctl"' in (here / "terraform" / "main.tf").read_text()
    assert (here / "terraform" / "modules" / "kek" / "main.tf").is_file()
    again = dekctl("init", *ACCOUNT).expect(3)
    assert "overwrites nothing" in again.stderr
    assert (here / "dekctl.toml").read_text() == text


def test_a_hash_looks_like_a_key_so_somebody_has_to_say(
    sqlite_database: AppDatabase, dekctl: Dekctl, make_app: MakeApp, here: Path
) -> None:
    app = own_table(dekctl, make_app, sqlite_database, plaintext_column="material")
    sqlite_database.sql("ALTER TABLE encrypted_files ADD COLUMN sha256 TEXT")
    for [number] in app.deks:
        digest = hashlib.sha256(b"%d" % number).hexdigest()
        sqlite_database.sql(
            "UPDATE encrypted_files SET sha256 = :d WHERE id = :i", d=digest, i=number
        )
    done = dekctl("init", *ACCOUNT).expect(2)
    assert "encrypted_files.material: 30 of 30" in done.stderr
    assert "encrypted_files.sha256: 30 of 30" in done.stderr
    assert list(here.iterdir()) == []
    named = ("--table", "encrypted_files", "--column", "material")
    dekctl("init", *named, *ACCOUNT).expect(0)
    assert load_config(here / "dekctl.toml", environ={}).table.plaintext_column == "material"


def test_a_kek_that_exists_needs_no_terraform(
    sqlite_database: AppDatabase, dekctl: Dekctl, make_app: MakeApp, here: Path
) -> None:
    own_table(dekctl, make_app, sqlite_database)
    dekctl("init", "--kek", "alias/app", "--region", "eu-west-1").expect(0)
    env = load_config(here / "dekctl.toml", environ={}).env
    assert (env.kek, env.region, env.terraform) == ("alias/app", "eu-west-1", None)
    assert not (here / "terraform").exists()
    assert dekctl.json("config", "check")["ok"] is True


def test_keys_of_another_size_and_a_table_in_a_schema(
    postgres_database: AppDatabase, dekctl: Dekctl, here: Path
) -> None:
    dekctl.environ["DATABASE_URL"] = postgres_database.url
    postgres_database.sql("CREATE SCHEMA vault")
    postgres_database.sql("CREATE TABLE vault.items (sku UUID UNIQUE NOT NULL, pair BYTEA)")
    postgres_database.sql(
        "INSERT INTO vault.items SELECT gen_random_uuid(), sha512(n::text::bytea) "
        "FROM generate_series(1, 40) n"
    )
    named = ("--table", "vault.items", "--column", "pair")
    assert "no primary key" in dekctl("init", *named, *ACCOUNT).expect(2).stderr
    dekctl("init", *named, "--primary-key", "sku", *ACCOUNT).expect(0)
    table = load_config(here / "dekctl.toml", environ={}).table
    assert (table.name, table.primary_key, table.dek_bytes) == ("vault.items", ("sku",), (64,))


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("--table", "nothing", *ACCOUNT), 2, "has no table nothing"),
        (("--table", "encrypted_files", "--column", "no", *ACCOUNT), 2, "has no column 'no'"),
        (("--table", "encrypted_files", "--column", "filename", *ACCOUNT), 2, "cannot be guessed"),
        (("--encoding", "hex", *ACCOUNT), 3, 'plaintext_encoding is "hex"'),
        ((), 2, "--account-id"),
        (("--account-id", "12", "--region", "eu-west-1"), 2, "--account-id"),
        (("--account-id", "123456789012", "--region", "Mars"), 2, "--region"),
        (("--context-name", "a b", *ACCOUNT), 2, "--context-name"),
        (("--database-variable", "NOT_SET", *ACCOUNT), 2, "export NOT_SET="),
    ],
)
def test_what_cannot_be_known_is_asked_for_and_nothing_is_written(
    sqlite_database: AppDatabase,
    dekctl: Dekctl,
    make_app: MakeApp,
    here: Path,
    arguments: tuple[str, ...],
    code: int,
    said: str,
) -> None:
    own_table(dekctl, make_app, sqlite_database, storage="text", plaintext_encoding="base64")
    done = dekctl("init", *arguments).expect(code)
    assert said in done.stderr
    assert "hint: " in done.stderr
    assert list(here.iterdir()) == []


def test_a_table_that_dekctl_manages_already_keeps_its_context_name(
    sqlite_database: AppDatabase, dekctl: Dekctl, make_app: MakeApp, here: Path
) -> None:
    make_app(sqlite_database, rows=3, context_name="ours")
    dekctl("schema", "expand").expect(0)
    (here / "dekctl.toml").unlink()
    dekctl.environ["DATABASE_URL"] = sqlite_database.url
    refused = dekctl("init", *ACCOUNT).expect(3)
    assert "--context-name" in refused.stderr
    dekctl("init", "--context-name", "ours", *ACCOUNT).expect(0)


def test_a_person_is_asked(
    sqlite_database: AppDatabase, dekctl: Dekctl, make_app: MakeApp, here: Path
) -> None:
    own_table(dekctl, make_app, sqlite_database, plaintext_column="material")
    mine, its = pty.openpty()
    os.write(mine, b"\nour.files\n123456789012\neu-west-1\n")  # the column by default
    outside = {k: v for k, v in os.environ.items() if not k.startswith(("AWS_", "DEKCTL_"))}
    done = subprocess.run(
        [sys.executable, "-m", "dekctl", "init"],
        cwd=here,
        env={**outside, **dekctl.environ, "PYTHONPATH": str(TOOLING)},
        stdin=its,
        capture_output=True,
        text=True,
        check=False,
    )
    os.close(mine)
    os.close(its)
    assert done.returncode == 0, done.stderr
    for question in ("Which one?", "Context name", "AWS account", "AWS Region"):
        assert question in done.stderr
    table = load_config(here / "dekctl.toml", environ={}).table
    assert (table.plaintext_column, table.context_name) == ("material", "our.files")
