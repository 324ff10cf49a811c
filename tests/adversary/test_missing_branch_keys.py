"""V3 rows whose branch keys are not to be found: nobody may think that no key is needed."""

from __future__ import annotations

from typing import Any

import pytest
import sqlalchemy as sa

from dekctl.kms import EnvKMS
from support.app import AppDatabase, Application
from support.cli import Dekctl

ROWS = 6
PER_KEY = 4


def migrated(make_app: Any, database: AppDatabase, dekctl: Dekctl, **table: Any) -> Application:
    app: Application = make_app(
        database, rows=ROWS, wrapping="V3", rows_per_branch_key=PER_KEY, **table
    )
    dekctl.json("migrate")
    return app


def test_status_and_retire_count_rows_whose_branch_key_is_not_stored(
    app_database: AppDatabase, dekctl: Dekctl, make_app: Any
) -> None:
    app = migrated(make_app, app_database, dekctl)
    assert dekctl.json("status")["rows_without_branch_key"] == 0
    assert "2 branch keys; every V3 row has its own stored" in dekctl("doctor").expect(0).stdout
    old = EnvKMS(dekctl.environ).kek_id
    first = bytes(app.rows()[1,]["wrapped_key"])[1:17].hex()
    app_database.sql("DELETE FROM dekctl_branch_keys WHERE branch_id = :id", id=first)
    dekctl.use_env_kek()
    dekctl.json("rewrap", expect=4)  # the rows of the other branch key have left the old KEK
    app_database.sql("UPDATE encrypted_files SET kek_id = 'env:1'")

    assert dekctl.json("status")["rows_without_branch_key"] == PER_KEY
    assert "4 rows V3 without their branch key" in dekctl("status").expect(0).stdout
    doctor = dekctl("doctor").expect(3).stdout
    assert "branch keys encrypted_files: 4 rows (V3) without their branch key" in doctor
    dekctl("report", "--output", str(dekctl.folder / "report.html")).expect(0)
    report = (dekctl.folder / "report.html").read_text()
    assert "4 rows (V3) without their branch key cannot be decrypted" in report
    assert "restore dekctl_branch_keys from a backup" in report
    refused = dekctl("retire", old).expect(3)
    assert "4 rows (V3) without their branch key" in refused.stderr
    assert "restore dekctl_branch_keys from a backup" in refused.stderr


@pytest.mark.parametrize("kind", ["dropped", "dropped and made again"])
def test_a_dropped_table_of_branch_keys_is_not_an_empty_one(
    kind: str, sqlite_database: AppDatabase, dekctl: Dekctl, make_app: Any
) -> None:
    migrated(make_app, sqlite_database, dekctl)
    kek = EnvKMS(dekctl.environ).kek_id
    dekctl.use_env_kek()
    sqlite_database.sql("UPDATE encrypted_files SET kek_id = 'env:1'")
    sqlite_database.sql("DROP TABLE dekctl_branch_keys")
    if kind == "dropped and made again":
        dekctl.json("schema", "upgrade")
    assert dekctl.json("status")["rows_without_branch_key"] == ROWS
    assert "6 rows (V3) without their branch key" in dekctl("retire", kek).expect(3).stderr
    for command in ("scrub", "--yes"), ("verify",):
        done = dekctl(*command)
        assert done.exit_code in (2, 4)
        assert "from a backup" in done.stdout + done.stderr
    assert sqlite_database.sql("SELECT count(*) FROM encrypted_files WHERE encryption_key IS NULL")[
        0
    ] == (0,)


def test_printed_sql_makes_a_dropped_table_of_branch_keys_again(
    app_database: AppDatabase, dekctl: Dekctl, make_app: Any
) -> None:
    migrated(make_app, app_database, dekctl)
    made = columns(app_database)
    app_database.sql("DROP TABLE dekctl_branch_keys")
    sql = dekctl("schema", "upgrade", "--sql").expect(0).stdout
    app_database.script(sql)
    assert columns(app_database) == made
    assert "Nothing to do" in dekctl("schema", "upgrade", "--sql").expect(0).stdout
    dekctl.json("wrap", "--dry-run")


def columns(database: AppDatabase) -> list[tuple[str, str, bool]]:
    found = sa.inspect(database.engine).get_columns("dekctl_branch_keys")
    return [(c["name"], str(c["type"]), c["nullable"]) for c in found]


def test_tables_that_changed_places_in_the_file_do_not_hide_the_ledger(
    postgres_database: AppDatabase, dekctl: Dekctl, make_app: Any
) -> None:
    make_app(postgres_database, rows=ROWS, name="one.files", context_name="one")
    make_app(postgres_database, rows=ROWS, name="two.files", context_name="two")
    tables = [
        f'[[table]]\nname = "{name}.files"\ncontext_name = "{name}"\nwrapping = "V3"\n'
        for name in ("one", "two")
    ]
    env = f'[env.test]\ndatabase_url = "{postgres_database.url}"\nprovider = "env"\n'
    dekctl.configure("".join(tables) + env)
    dekctl.json("migrate")
    kek = EnvKMS(dekctl.environ).kek_id

    dekctl.configure("".join(reversed(tables)) + env)
    for command in (
        ("retire", kek),
        ("status",),
        ("verify",),
        ("wrap",),
        ("schema", "expand"),
        ("rollback", "--yes"),
    ):
        refused = dekctl(*command).expect(3)
        assert "dekctl's tables are in the schema one" in refused.stderr
        assert "list one.files first" in refused.stderr
