"""Rows that an earlier script wrote: an alias or no KEK at all, and no encryption context."""

from __future__ import annotations

from typing import Any

import pytest

from dekctl.kms import AWSKMS
from support.app import AppDatabase, Application
from support.cli import Dekctl
from support.generations import ALIAS, Generations, session_of
from support.kms_standin import KmsStandin
from support.rotation import ROWS, declare_window, make_older, provider


def seed_script(app: Application, standin: KmsStandin) -> None:
    """The seed's own loop, on the seed's own columns: an alias as kek_id, V1, no context."""
    kms = AWSKMS(
        ALIAS,
        region=standin.region,
        endpoint_url=standin.endpoint_url,
        session=session_of(standin),
    )
    blob = {"sqlite": "BLOB", "postgresql": "BYTEA", "mariadb": "VARBINARY(6144)"}
    app.database.sql(
        f"ALTER TABLE encrypted_files ADD COLUMN wrapped_key {blob[app.database.kind]}"
    )
    app.database.sql("ALTER TABLE encrypted_files ADD COLUMN wrapped_key_version VARCHAR(10)")
    app.database.sql("ALTER TABLE encrypted_files ADD COLUMN kek_id VARCHAR(255)")
    for pk, row in app.rows().items():
        if row["encryption_key"] is not None:
            wrapped = kms.wrap(bytes(row["encryption_key"]))
            app.set(pk, wrapped=wrapped, version="V1", kek=ALIAS)


@pytest.mark.parametrize("kind", ["sqlite", "postgres"])
def test_rows_of_the_seed_s_script_are_taken_over(
    kind: str,
    make_app: Any,
    generations: Generations,
    dekctl: Dekctl,
    request: pytest.FixtureRequest,
) -> None:
    database = request.getfixturevalue(f"{kind}_database")
    app = make_app(database, rows=ROWS, env=generations.env)
    seed_script(app, generations.standin)
    dekctl("schema", "expand").expect(0)
    assert dekctl.json("verify")["verified"] == ROWS
    refused = dekctl("retire", "g1").expect(3)
    assert f"{ROWS} rows with an alias or no KEK" in refused.stderr

    g2 = generations.roll()  # the alias has moved: only trying tells which key it was
    assert dekctl.json("rewrap", "--version", "V2")["changed"] == 0
    generations.standin.reset_counters()
    assert dekctl.json("rewrap", "--version", "V1")["changed"] == ROWS
    assert "Decrypt" not in generations.standin.counters().calls
    status = dekctl.json("status")
    assert [(k["kek_id"], k["version"], k["rows"]) for k in status["keks"]] == [(g2, "V2", ROWS)]
    assert dekctl.json("verify")["verified"] == ROWS
    app.assert_files_open(provider(generations))
    assert dekctl.json("retire", "g1")["refused"] is False


def test_status_says_whether_rows_still_need_to_be_opened_without_a_context(
    sqlite_database: AppDatabase, make_app: Any, generations: Generations, dekctl: Dekctl
) -> None:
    app = make_app(sqlite_database, rows=3, env=generations.env)
    seed_script(app, generations.standin)
    dekctl("schema", "expand").expect(0)
    assert dekctl.json("status")["without_context"] == {"rows": 3, "allowed": False}
    assert "set allow_rows_without_context = true" in dekctl("status").expect(0).stdout
    generations.allows_v1 = True
    generations.write()
    assert "no encryption context (V1): 3 rows" in dekctl("status").expect(0).stdout
    dekctl("rewrap").expect(0)
    assert "set it to false" in dekctl("status").expect(0).stdout
    generations.allows_v1 = False
    generations.write()
    assert "allow_rows_without_context" not in dekctl("status").expect(0).stdout


def test_rows_without_a_kek_column_may_need_the_kek(
    app_database: AppDatabase, make_app: Any, generations: Generations, dekctl: Dekctl
) -> None:
    """The seed's script only recommends the column."""
    app = make_app(app_database, rows=ROWS, env=generations.env)
    seed_script(app, generations.standin)
    app.database.sql("ALTER TABLE encrypted_files DROP COLUMN kek_id")
    generations.roll()
    assert dekctl.json("retire", "g1", expect=3)["rows_unclear"] == ROWS


def test_a_rewrap_from_one_kek_leaves_open_what_rows_with_an_alias_need(
    sqlite_database: AppDatabase, make_app: Any, generations: Generations, dekctl: Dekctl
) -> None:
    app = make_app(sqlite_database, rows=ROWS, env=generations.env)
    seed_script(app, generations.standin)
    dekctl("schema", "expand").expect(0)
    declare_window(dekctl)
    generations.roll()
    assert dekctl.json("rewrap", "--from", "g1")["changed"] == 0
    make_older(app, "rewrap")
    assert dekctl.json("rewrap")["changed"] == ROWS
    assert "35 days after" in dekctl("retire", "g1").expect(3).stderr


def test_rows_that_name_an_alias_are_moved_by_that_alias_and_pointed_out_otherwise(
    sqlite_database: AppDatabase, make_app: Any, generations: Generations, dekctl: Dekctl
) -> None:
    app = make_app(sqlite_database, rows=4, env=generations.env)
    seed_script(app, generations.standin)
    g1 = generations.active
    app.set((4,), kek=f"{g1.partition(':key/')[0]}:{ALIAS}")
    app.set((3,), kek=None)
    dekctl("schema", "expand").expect(0)
    for dry in (["--dry-run"], []):
        said = dekctl("rewrap", "--from", "g1", *dry).expect(0).stderr
        assert "dekctl rewrap --version V1" in said
    assert dekctl.json("rewrap", "--from", ALIAS)["changed"] == 3
    assert [row["kek_id"] for _, row in sorted(app.rows().items())] == [g1, g1, None, g1]
    assert "--version V1" in dekctl("rewrap", "--from", "g1").expect(0).stderr
    assert dekctl.json("rewrap", "--version", "V1")["changed"] == 1
    assert "--version V1" not in dekctl("rewrap", "--from", "g1").expect(0).stderr
