"""Two tables in one project: what concerns both is looked for in both, and in the right place."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.pool import StaticPool

from dekctl.branch_keys.table import branch_keys_table
from dekctl.config import TableConfig, load_config
from dekctl.errors import RowRejectedError
from dekctl.kms import EnvKMS
from dekctl.lifecycle.erase import check_erasure
from dekctl.project import Project
from dekctl.reader import RowKeys
from support.app import AppDatabase, Application
from support.cli import Dekctl
from support.generations import Generations
from support.plans import ACCOUNT, change, key, plan, write

KEK = "arn:aws:kms:eu-west-1:111122223333:key/11111111-2222-3333-4444-555555555555"


def test_the_reader_finds_the_branch_keys_beside_the_first_table(tmp_path: Path) -> None:
    file = tmp_path / "dekctl.toml"
    file.write_text(
        '[[table]]\nname = "one.files"\n[[table]]\nname = "two.files"\ncontext_name = "two"\n'
        f'[env.test]\nregion = "eu-west-1"\nkek = "{KEK}"\n'
    )
    engine = sa.create_engine("sqlite://", poolclass=StaticPool)
    with engine.begin() as connection:
        for schema in ("one", "two"):
            connection.exec_driver_sql(f"ATTACH DATABASE ':memory:' AS {schema}")
        branch_keys_table("one").create(connection)

    keys = RowKeys.from_config(load_config(file), "two.files", engine=engine)
    row = {"id": 1, "wrapped_key": b"\x03" + bytes(60), "wrapped_key_version": "V3", "kek_id": KEK}
    with pytest.raises(RowRejectedError, match="is missing"):  # not: no such table
        keys.read(row)
    engine.dispose()


def test_plaintexts_of_a_table_at_its_legacy_schema_hold_up_an_erasure(
    sqlite_database: AppDatabase, tmp_path: Path
) -> None:
    file = tmp_path / "dekctl.toml"
    file.write_text(
        f'[table]\nname = "files"\nkek_by = {{ column = "tenant", keks = {{ acme = "{KEK}" }} }}\n'
        f'[env.test]\ndatabase_url = "{sqlite_database.url}"\nregion = "eu-west-1"\n'
    )
    sqlite_database.sql(
        "CREATE TABLE files (id INTEGER PRIMARY KEY, tenant TEXT, encryption_key BLOB)"
    )
    for tenant in ("acme", "acme", "globex"):
        sqlite_database.sql(
            "INSERT INTO files (tenant, encryption_key) VALUES (:tenant, :key)",
            tenant=tenant,
            key=bytes(32),
        )

    with Project(load_config(file)) as project:
        checks = {c.name: c for c in check_erasure(project, KEK, "acme", 0)}
        nobody = {c.name: c for c in check_erasure(project, KEK, "initech", 0)}

    assert not checks["plaintexts"].ok
    assert checks["plaintexts"].detail.startswith("acme has 2 plaintext keys")
    assert all(check.ok for check in nobody.values())


def test_a_table_that_is_no_longer_configured_stops_retire_and_guard(
    sqlite_database: AppDatabase, generations: Generations, dekctl: Dekctl
) -> None:
    files = Application(sqlite_database).create(3)
    photos = Application(sqlite_database, TableConfig(name="photos", context_name="photos"))
    dekctl.applications += [files, photos.create(5)]
    env = "\n".join(f'{name} = "{value}"' for name, value in generations.env.items())
    tail = f'[env.test]\ndatabase_url = "{sqlite_database.url}"\n{env}\n'
    both = '[[table]]\n[[table]]\nname = "photos"\ncontext_name = "photos"\n'
    dekctl.configure(both + tail)
    dekctl("migrate").expect(0)
    dekctl.configure("[[table]]\n" + tail)
    generations.roll()
    dekctl("rewrap").expect(0)

    arn = generations.arns["g1"]
    gone = key(arn.rpartition("/")[2], arn=arn)
    file = write(dekctl.folder, plan(change("aws_kms_key", "kek", gone, None)))
    made = Path(file)  # for the account and the active KEK of the environment
    text = made.read_text().replace(ACCOUNT, arn.split(":")[4])
    made.write_text(text.replace(f"{arn.rpartition('/')[0]}/k1", generations.arns["g2"]))
    for command in (("retire", "g1"), ("guard", "--plan", file)):
        refused = dekctl(*command).expect(3)
        assert "context_name 'photos'" in refused.stderr
        assert "put the table back" in refused.stderr
    dekctl.configure(both + tail)
    assert dekctl.json("retire", "g1", expect=3)["rows"] == 5


def test_branch_keys_of_a_table_that_is_no_longer_configured_stop_retire(
    sqlite_database: AppDatabase, make_app: Any, dekctl: Dekctl
) -> None:
    app = make_app(sqlite_database, rows=3, wrapping="V3")
    dekctl("migrate").expect(0)
    old = next(iter(app.rows().values()))["kek_id"]
    dekctl.use_env_kek()
    dekctl("rewrap").expect(0)
    dekctl("retire", old).expect(0)
    sqlite_database.sql(
        "UPDATE dekctl_branch_keys SET context_name = 'photos', kek_id = :kek", kek=old
    )
    assert "context_name 'photos'" in dekctl("retire", old).expect(3).stderr


def two_applications(
    database: AppDatabase, dekctl: Dekctl, make_app: Any
) -> tuple[Application, Application]:
    """Three rows in one table, two in another; both are configured."""
    first = make_app(database, rows=3)
    second = make_app(database, rows=2, name="attachments", context_name="attachments")
    dekctl.configure(
        '[[table]]\nname = "encrypted_files"\n[[table]]\nname = "attachments"\n'
        'context_name = "attachments"\n'
        f'[env.test]\ndatabase_url = "{database.url}"\nprovider = "env"\n'
    )
    return first, second


def test_two_tables_share_one_ledger_and_go_together(
    app_database: AppDatabase, dekctl: Dekctl, make_app: Any
) -> None:
    first, second = two_applications(app_database, dekctl, make_app)
    assert dekctl.json("migrate")["changed"] == 5
    status = dekctl.json("status")
    assert (status["rows"], len(status["tables"])) == (5, 2)
    dekctl("scrub", "--yes", "--table", "attachments").expect(0)
    # One table is not ready: neither is contracted.
    assert "encrypted_files" in dekctl("schema", "contract", "--yes").expect(3).stderr
    assert {t["stage"] for t in dekctl.json("status")["tables"]} == {"expanded"}
    dekctl("scrub", "--yes").expect(0)
    dekctl("schema", "contract", "--yes").expect(0)
    for app in (first, second):
        app.assert_files_open(EnvKMS(dekctl.environ))
    # A blob of one table does not open in the other.
    swapped = second.rows()[(1,)]["wrapped_key"]
    first.set((1,), wrapped=swapped)
    assert dekctl.json("verify", expect=4)["failed"] == 1


def test_tables_at_different_stages_do_not_hold_up_one_another(
    app_database: AppDatabase, dekctl: Dekctl, make_app: Any
) -> None:
    first, second = two_applications(app_database, dekctl, make_app)
    ready = [["migrate"], ["scrub", "--yes"], ["schema", "contract", "--yes"]]
    for step in ready:
        dekctl(*step, "--table", "encrypted_files").expect(0)

    # The second table comes later; the first has no work left.
    for step in ready:
        said = dekctl(*step).expect(0)
    assert {t["stage"] for t in dekctl.json("status")["tables"]} == {"contracted"}

    # A rollback that ended between two tables goes on with the other, and may be said again.
    dekctl("rollback", "--yes", "--table", "encrypted_files").expect(0)
    for _ in range(2):
        said = dekctl("rollback", "--yes").expect(0)
        assert "back at the legacy schema" in said.stdout
    dekctl("schema", "rollback", "--yes").expect(0)
    assert {t["stage"] for t in dekctl.json("status")["tables"]} == {"legacy"}
    for app in (first, second):
        app.assert_files_open(EnvKMS(dekctl.environ))
