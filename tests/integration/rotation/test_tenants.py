"""Several tables and tenants, each with a KEK of its own, and the erasure of one tenant."""

from __future__ import annotations

import json
import os
from typing import Any

import pytest

from dekctl.config import TableConfig, load_config
from dekctl.errors import UsageError
from dekctl.reader import RowKeys
from support.app import AppDatabase, Application
from support.cli import Dekctl
from support.generations import Generations
from support.kms_standin import Grant
from support.rotation import ROWS, declare_window, make_older, provider


@pytest.fixture
def tenants(
    sqlite_database: AppDatabase, make_app: Any, generations: Generations, dekctl: Dekctl
) -> tuple[Application, dict[str, str]]:
    """Rows of two tenants, each with a KEK of its own; and their ARNs."""
    arns = {
        name: generations.standin.create_key(f"alias/{name}-{os.urandom(4).hex()}")
        for name in ("acme", "globex")
    }
    app: Application = make_app(sqlite_database, rows=ROWS, env=generations.env)
    app.database.sql("ALTER TABLE encrypted_files ADD COLUMN tenant VARCHAR(20)")
    app.database.sql(
        "UPDATE encrypted_files SET tenant = CASE WHEN id % 3 = 0 THEN 'acme' ELSE 'globex' END"
    )
    name_keks(dekctl, arns)
    return app, arns


def name_keks(dekctl: Dekctl, arns: dict[str, str]) -> None:
    """Write ``kek_by`` into the configuration."""
    lines = [
        line
        for line in (dekctl.folder / "dekctl.toml").read_text().splitlines()
        if not line.startswith("kek_by")
    ]
    keks = ", ".join(f'"{name}" = "{arn}"' for name, arn in arns.items())
    lines.insert(1, f'kek_by = {{ column = "tenant", keks = {{ {keks} }} }}')
    dekctl.configure("\n".join(lines) + "\n")


def test_every_tenant_s_rows_are_wrapped_by_its_own_kek(
    tenants: tuple[Application, dict[str, str]], generations: Generations, dekctl: Dekctl
) -> None:
    app, arns = tenants
    dekctl("migrate").expect(0)
    assert all(row["kek_id"] == arns[row["tenant"]] for row in app.rows().values())
    census = {k["kek_id"]: k["rows"] for k in dekctl.json("status")["keks"]}
    assert census == {arns["acme"]: ROWS // 3, arns["globex"]: ROWS - ROWS // 3}
    assert dekctl.json("rewrap")["changed"] == 0

    arns["acme"] = generations.standin.create_key()  # one tenant's KEK is rolled
    name_keks(dekctl, arns)
    moved = dekctl.json("rewrap")
    assert (moved["changed"], moved["kms_calls"]) == (ROWS // 3, {"ReEncrypt": ROWS // 3})
    assert all(row["kek_id"] == arns[row["tenant"]] for row in app.rows().values())
    app.assert_files_open(provider(generations), list(arns.values()))
    assert "would mix them" in dekctl("rewrap", "--to", "g1").expect(2).stderr


def test_a_row_of_an_unknown_tenant_is_set_aside(
    tenants: tuple[Application, dict[str, str]], dekctl: Dekctl
) -> None:
    app, arns = tenants
    app.database.sql("UPDATE encrypted_files SET tenant = 'initech' WHERE id = 1")
    assert dekctl.json("migrate", expect=4)["quarantined"] == 1
    name_keks(dekctl, {**arns, "*": arns["globex"]})
    assert dekctl.json("wrap", "--retry-quarantined")["changed"] == 1


def test_the_application_issues_new_keys_under_the_tenant_s_kek(
    tenants: tuple[Application, dict[str, str]],
    dekctl: Dekctl,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    _, arns = tenants
    for name, value in dekctl.environ.items():
        monkeypatch.setenv(name, value)
    keys = RowKeys.from_config(load_config(dekctl.folder / "dekctl.toml", "test"))
    row: dict[str, Any] = {"id": 77, "tenant": "acme"}
    dek = keys.issue(row)
    assert row["kek_id"] == arns["acme"]
    assert keys.read(row) == dek


def test_a_tenant_is_erased_only_with_every_row_accounted_for(
    tenants: tuple[Application, dict[str, str]], dekctl: Dekctl
) -> None:
    app, arns = tenants
    dekctl("migrate").expect(0)
    dekctl("retire", arns["acme"]).expect(3)  # its rows need it
    refused = dekctl.json("retire", arns["acme"], "--erase", "acme", expect=3)
    assert [c["check"] for c in refused["checks"] if not c["ok"]] == ["plaintexts"]
    dekctl("scrub", "--yes").expect(0)
    assert dekctl.json("retire", arns["acme"], "--erase", "acme")["rows"] == ROWS // 3

    app.database.sql("UPDATE encrypted_files SET tenant = 'globex' WHERE id = 3")
    refused = dekctl.json("retire", arns["acme"], "--erase", "acme", expect=3)
    assert [c["check"] for c in refused["checks"] if not c["ok"]] == ["rows"]
    app.database.sql("UPDATE encrypted_files SET tenant = 'acme' WHERE id IN (1, 3)")
    refused = dekctl.json("retire", arns["acme"], "--erase", "acme", expect=3)
    assert [c["check"] for c in refused["checks"] if not c["ok"]] == ["rows elsewhere"]
    dekctl("rewrap").expect(0)
    dekctl("retire", arns["acme"], "--erase", "acme").expect(0)


def test_no_tenant_s_kek_gets_the_branch_keys_of_all_tenants(
    sqlite_database: AppDatabase, make_app: Any, generations: Generations, dekctl: Dekctl
) -> None:
    """A table of V3 that gets a KEK for each tenant; the rewrap that separates them is stopped."""
    wrapper = Grant(("kms:Encrypt", "kms:GenerateDataKey", "kms:DescribeKey"))
    generations.standin.put_role("files-wrapper", [wrapper])
    app = make_app(sqlite_database, rows=ROWS, env=generations.env, wrapping="V3")
    app.database.sql("ALTER TABLE encrypted_files ADD COLUMN tenant VARCHAR(20)")
    app.database.sql(
        "UPDATE encrypted_files SET tenant = CASE WHEN id <= 4 THEN 'acme' ELSE 'globex' END"
    )
    dekctl("migrate").expect(0)
    dekctl("scrub", "--yes").expect(0)
    toml = (dekctl.folder / "dekctl.toml").read_text()
    dekctl.configure(toml.replace('wrapping = "V3"\n', ""))
    arns = {name: generations.standin.create_key() for name in ("acme", "globex")}
    name_keks(dekctl, arns)
    dekctl("rewrap", "--limit", "4").expect(0)
    assert app.database.sql("SELECT DISTINCT kek_id FROM dekctl_branch_keys") == [
        (generations.active,)
    ]
    dekctl("retire", arns["acme"], "--erase", "acme").expect(0)

    app.database.sql("UPDATE dekctl_branch_keys SET kek_id = :kek", kek=arns["acme"])
    refused = dekctl.json("retire", arns["acme"], "--erase", "acme", expect=3)
    assert [c["check"] for c in refused["checks"] if not c["ok"]] == ["branch keys"]
    assert refused["branch_keys"] == 1


def test_a_tenant_s_row_of_a_shared_branch_key_holds_up_its_erasure(
    tenants: tuple[Application, dict[str, str]], dekctl: Dekctl
) -> None:
    app, arns = tenants
    dekctl("migrate").expect(0)
    dekctl("scrub", "--yes").expect(0)
    app.database.sql("UPDATE encrypted_files SET wrapped_key_version = 'V3' WHERE id = 3")
    refused = dekctl.json("retire", arns["acme"], "--erase", "acme", expect=3)
    assert "rows elsewhere" in [c["check"] for c in refused["checks"] if not c["ok"]]


@pytest.mark.parametrize("together", [True, False], ids=["others left it", "it came from another"])
def test_an_erasure_waits_for_the_backups_of_rows_that_changed_their_kek(
    tenants: tuple[Application, dict[str, str]],
    generations: Generations,
    dekctl: Dekctl,
    together: bool,
) -> None:
    app, arns = tenants
    if together:
        name_keks(dekctl, {"*": arns["acme"]})
    dekctl("migrate").expect(0)
    dekctl("scrub", "--yes").expect(0)
    declare_window(dekctl)
    make_older(app, "scrub")
    if together:
        name_keks(dekctl, arns)
    else:
        arns["acme"] = generations.standin.create_key()
        name_keks(dekctl, arns)
    dekctl("rewrap").expect(0)
    refused = dekctl.json("retire", arns["acme"], "--erase", "acme", expect=3)
    assert [c["check"] for c in refused["checks"] if not c["ok"]] == ["backups"]
    make_older(app, "rewrap")
    dekctl("retire", arns["acme"], "--erase", "acme").expect(0)

    # Another tenant's roll does not concern this one.
    arns["globex"] = generations.standin.create_key()
    name_keks(dekctl, arns)
    dekctl("rewrap").expect(0)
    dekctl("retire", arns["acme"], "--erase", "acme").expect(0)


def test_an_erasure_without_a_ledger_cannot_know_the_backups(
    tenants: tuple[Application, dict[str, str]], dekctl: Dekctl
) -> None:
    app, arns = tenants
    dekctl("migrate").expect(0)
    dekctl("scrub", "--yes").expect(0)
    declare_window(dekctl)
    app.database.sql("DROP TABLE dekctl_runs")
    refused = dekctl("retire", arns["acme"], "--erase", "acme").expect(3)
    assert "there is no ledger, so what backups contain is unknown" in refused.stderr


def table_with_a_kek_of_its_own(
    database: AppDatabase, generations: Generations, dekctl: Dekctl
) -> tuple[Application, Application, str]:
    """A table under the active KEK, and one under a KEK of its own; and that one's ARN."""
    own = generations.standin.create_key()
    files = Application(database).create(ROWS)
    photos = Application(
        database, TableConfig(name="photos", context_name="photos", kek=own)
    ).create(5)
    dekctl.applications += [files, photos]
    env = "\n".join(f'{name} = "{value}"' for name, value in generations.env.items())
    tables = f'[[table]]\n[[table]]\nname = "photos"\ncontext_name = "photos"\nkek = "{own}"\n'
    dekctl.configure(f'{tables}[env.test]\ndatabase_url = "{database.url}"\n{env}\n')
    return files, photos, own


def test_several_tables_each_with_a_kek_of_its_own(
    sqlite_database: AppDatabase, generations: Generations, dekctl: Dekctl
) -> None:
    files, photos, own = table_with_a_kek_of_its_own(sqlite_database, generations, dekctl)
    dekctl("migrate").expect(0)
    status = dekctl.json("status")
    assert {k["kek_id"]: k["rows"] for k in status["keks"]} == {generations.active: ROWS, own: 5}
    assert "still wraps photos" in dekctl("retire", own).expect(3).stderr
    dekctl("scrub", "--yes").expect(0)
    g2 = generations.roll()
    assert dekctl.json("rewrap")["changed"] == ROWS
    assert (files.keks(), photos.keks()) == ({g2}, {own})
    dekctl("retire", "g1").expect(0)


def test_no_min_generation_is_dropped_in_silence_where_tenants_have_keks(
    tenants: tuple[Application, dict[str, str]],
    generations: Generations,
    dekctl: Dekctl,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    _, arns = tenants
    dekctl("migrate").expect(0)
    outputs = json.loads(generations.file.read_text())
    outputs["dekctl"]["value"]["tenants"] = {
        name: {
            "alias": f"alias/files-{name}",
            "generations": {"g1": {"arn": arn, "state": "active"}},
        }
        for name, arn in arns.items()
    }
    generations.file.write_text(json.dumps(outputs))
    floor = dekctl.json("status")["min_generation"]
    assert (floor["applies"], floor["can_be"], floor["rows_of_no_generation"]) == (False, None, 0)
    assert "every table names its own KEKs" in dekctl("status").expect(0).stdout

    for name, value in dekctl.environ.items():
        monkeypatch.setenv(name, value)
    file = dekctl.folder / "dekctl.toml"
    RowKeys.from_config(load_config(file, "test"))
    dekctl.configure(file.read_text() + 'min_generation = "g1"\n')
    with pytest.raises(UsageError, match="names KEKs of its own"):
        RowKeys.from_config(load_config(file, "test"))


def test_tables_with_keks_of_their_own_do_not_hold_up_min_generation(
    sqlite_database: AppDatabase, generations: Generations, dekctl: Dekctl
) -> None:
    table_with_a_kek_of_its_own(sqlite_database, generations, dekctl)
    dekctl("migrate").expect(0)
    generations.roll()
    dekctl("rewrap").expect(0)
    floor = dekctl.json("status")["min_generation"]
    assert (floor["can_be"], floor["rows_of_no_generation"]) == ("g2", 0)


def test_an_erasure_counts_alike_on_every_database(
    app_database: AppDatabase, make_app: Any, generations: Generations, dekctl: Dekctl
) -> None:
    arns = {name: generations.standin.create_key() for name in ("acme", "globex")}
    app = make_app(app_database, rows=ROWS, env=generations.env)
    app.database.sql("ALTER TABLE encrypted_files ADD COLUMN tenant VARCHAR(20)")
    app.database.sql("UPDATE encrypted_files SET tenant = 'acme'")
    name_keks(dekctl, arns)
    before = dekctl.json("retire", arns["acme"], "--erase", "acme", expect=3)
    assert next(c["check"] for c in before["checks"] if not c["ok"]) == "plaintexts"
    dekctl("migrate").expect(0)
    dekctl("scrub", "--yes").expect(0)
    declare_window(dekctl)
    refused = dekctl.json("retire", arns["acme"], "--erase", "acme", expect=3)
    assert [c["check"] for c in refused["checks"] if not c["ok"]] == ["backups"]
    make_older(app, "scrub")
    assert dekctl.json("retire", arns["acme"], "--erase", "acme")["rows"] == ROWS
