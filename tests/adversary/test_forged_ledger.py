"""Whoever may change dekctl's tables puts SQL there, or an application's column."""

from __future__ import annotations

import json
from typing import Any

import pytest
import sqlalchemy as sa

from dekctl.errors import RefusedError
from dekctl.kms import EnvKMS
from dekctl.ledger.metadata import parse_metadata
from support.app import AppDatabase, Application
from support.cli import Dekctl

ROWS = 3
DROP = "DROP COLUMN wrapped_key"
CONTEXT = "encrypted_files"


def forge(database: AppDatabase, **facts: Any) -> None:
    """Change what the ledger says about the table; ``None`` removes a fact."""
    [(text,)] = database.sql("SELECT facts FROM dekctl_tables")
    forged = {name: fact for name, fact in (json.loads(text) | facts).items() if fact is not None}
    database.sql("UPDATE dekctl_tables SET facts = :facts", facts=json.dumps(forged))


def contracted(make_app: Any, database: AppDatabase, dekctl: Dekctl) -> Application:
    app: Application = make_app(database, rows=ROWS)
    dekctl.json("migrate")
    dekctl.json("scrub", "--yes")
    dekctl.json("schema", "contract", "--yes")
    return app


def columns(app: Application) -> set[str]:
    return {c["name"] for c in sa.inspect(app.database.engine).get_columns("encrypted_files")}


@pytest.mark.parametrize(
    "forged",
    [
        {"plaintext_type": f"BYTEA, {DROP}", "plaintext_definition": None},
        {"plaintext_type": "BLOB; DROP TABLE encrypted_files"},
        {"plaintext_type": "BLOB DEFAULT (load_extension('x'))"},
        {"plaintext_definition": f"varbinary(64), {DROP}"},
        {"plaintext_definition": f"varbinary(64) COMMENT 'a\\', {DROP}, ALGORITHM=COPY -- '"},
        {"plaintext_definition": f"varbinary(64) /*M!100301 , {DROP} */"},
        {"plaintext_definition": "varbinary(64) CHECK (sleep(9))"},
    ],
    ids=lambda forged: str(next(iter(forged.values())))[:40],
)
def test_a_type_of_the_ledger_is_a_type_and_nothing_else(
    app_database: AppDatabase, dekctl: Dekctl, make_app: Any, forged: dict[str, Any]
) -> None:
    app = contracted(make_app, app_database, dekctl)
    before = columns(app)
    forge(app_database, **forged)
    for command in ("schema rollback --yes", "rollback --yes", "status"):
        refused = dekctl(*command.split()).expect(3)
        assert f"the ledger's entry for {CONTEXT} cannot be used" in refused.stderr
    assert columns(app) == before


@pytest.mark.parametrize(
    "forged",
    [
        {"added": ["wrapped_key", "wrapped_key_version", "kek_id", "filename"]},
        {"added": ["filename"], "columns": None},
        {"added": ["id"], "columns": {"wrapped_at_column": "id"}},
        {"added": ["encryption_key"]},
    ],
    ids=["added", "an older ledger", "named there", "the plaintext"],
)
def test_a_column_of_the_application_is_not_dropped_because_the_ledger_says_so(
    app_database: AppDatabase, dekctl: Dekctl, make_app: Any, forged: dict[str, Any]
) -> None:
    app = make_app(app_database, rows=ROWS)
    dekctl.json("migrate")
    before = columns(app)
    forge(app_database, **forged)
    dekctl("schema", "rollback", "--yes").expect(3)
    assert columns(app) == before
    app.assert_files_open(EnvKMS(dekctl.environ))


@pytest.mark.parametrize(
    "kind", ["CREATE DOMAIN forged AS int", "CREATE TYPE forged AS (a int)"], ids=["int", "row"]
)
def test_a_type_that_holds_no_keys_is_not_restored(
    postgres_database: AppDatabase, dekctl: Dekctl, make_app: Any, kind: str
) -> None:
    app = contracted(make_app, postgres_database, dekctl)
    postgres_database.sql(kind)
    forge(postgres_database, plaintext_type="forged")
    refused = dekctl("schema", "rollback", "--yes").expect(3)
    assert "forged is no type of keys" in refused.stderr
    assert "encryption_key" not in columns(app)


@pytest.mark.parametrize(
    "text",
    [
        "no JSON",
        "[]",
        "{}",
        '{"plaintext_type": 7, "plaintext_nullable": false, "added": []}',
        '{"plaintext_type": "BLOB", "plaintext_nullable": "no", "added": []}',
        '{"plaintext_type": "BLOB", "plaintext_nullable": true, "added": "kek_id"}',
        '{"plaintext_type": "BLOB", "plaintext_nullable": true, "added": [], "columns": ["a"]}',
        '{"plaintext_type": "BLOB", "plaintext_nullable": true, "added": [], "columns": '
        '{"other_column": "a"}}',
        '{"plaintext_type": "BLOB", "plaintext_nullable": true, "added": [], "plaintext_after": 7}',
    ],
)
def test_an_entry_of_another_form_is_refused_and_names_the_table(text: str) -> None:
    with pytest.raises(RefusedError, match="entry for photos cannot be used"):
        parse_metadata("photos", text)


@pytest.mark.parametrize(
    "kind",
    [
        "BYTEA",
        "VARCHAR(64)",
        'VARCHAR(64) COLLATE "de_DE"',
        "VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin",
        "raw_key",
        'app."Raw key"',
    ],
)
def test_types_that_a_key_has_are_taken(kind: str) -> None:
    facts = {"plaintext_type": kind, "plaintext_nullable": True, "added": []}
    assert parse_metadata("photos", json.dumps(facts)) == facts
