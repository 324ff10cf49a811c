"""A generation is retired once no row, no alias and no backup needs its KEK."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

from support.app import AppDatabase, Application
from support.cli import Dekctl
from support.generations import ALIAS, Generations
from support.kms_standin import KmsStandin
from support.rotation import ROWS, declare_window, make_older


def test_retire_refuses_until_rows_and_alias_have_left(
    app: Application, generations: Generations, dekctl: Dekctl
) -> None:
    refused = dekctl("retire", "g1").expect(3)
    assert f"named by {ROWS} rows" in refused.stderr
    assert f"{ALIAS} still points to it" in refused.stderr
    generations.roll()
    checks = {c["check"]: c["ok"] for c in dekctl.json("retire", "g1", expect=3)["checks"]}
    assert (checks["rows"], checks["alias"]) == (False, True)
    dekctl("rewrap").expect(0)
    done = dekctl.json("retire", "g1")
    assert (done["refused"], done["state"], done["next_state"]) == (False, "retired", "disabled")
    assert 'set state = "disabled" for g1' in done["terraform"]
    assert dekctl.json("retire", generations.arns["g1"])["generation"] == "g1"
    dekctl("retire", "g2").expect(3)


def test_retire_of_the_kek_that_still_wraps_says_what_comes_first(
    app: Application, generations: Generations, dekctl: Dekctl
) -> None:
    refused = dekctl("retire", "g1").expect(3)
    assert "make another KEK the active one, then: dekctl" in refused.stderr


def test_doctor_says_how_to_keep_a_kek_that_is_about_to_be_deleted(
    app: Application, generations: Generations, dekctl: Dekctl
) -> None:
    g1, kms = generations.active, generations.standin.kms()
    generations.roll()
    kms.schedule_key_deletion(KeyId=g1, PendingWindowInDays=30)
    checks = [c for c in dekctl.json("doctor", expect=5)["checks"] if not c["ok"]]
    [pending] = [c for c in checks if c["check"] == "KEK state"]
    assert f"{g1} is PendingDeletion and will be gone on 20" in pending["detail"]
    rescue = f"aws kms cancel-key-deletion --key-id {g1} --region {generations.standin.region}"
    assert f"{rescue}; then enable it" in pending["hint"]
    kms.cancel_key_deletion(KeyId=g1)
    dekctl("doctor").expect(5)  # what was saved is still disabled
    kms.enable_key(KeyId=g1)
    dekctl("doctor").expect(0)


def test_a_row_in_quarantine_keeps_its_kek(
    app: Application, generations: Generations, dekctl: Dekctl
) -> None:
    pk = next(iter(app.rows()))
    app.set(pk, wrapped=b"damaged")
    generations.roll()
    assert dekctl.json("rewrap", expect=4)["quarantined"] == 1
    assert dekctl.json("retire", "g1", expect=3)["rows"] == 1


def test_a_table_that_is_not_there_is_not_an_empty_one(
    sqlite_database: AppDatabase, generations: Generations, dekctl: Dekctl
) -> None:
    sqlite_database.sql("CREATE TABLE another (id INTEGER)")
    env = "\n".join(f'{name} = "{value}"' for name, value in generations.env.items())
    dekctl.configure(f'[table]\n[env.test]\ndatabase_url = "{sqlite_database.url}"\n{env}\n')
    generations.roll()
    refused = dekctl("retire", "g1").expect(3)
    assert "encrypted_files is not in this database" in refused.stderr


def test_retire_waits_for_the_backups(
    app: Application, generations: Generations, dekctl: Dekctl
) -> None:
    declare_window(dekctl)
    generations.roll()
    dekctl("rewrap").expect(0)
    refused = dekctl("retire", "g1").expect(3)
    assert "35 days after" in refused.stderr

    make_older(app, "rewrap")
    assert dekctl.json("retire", "g1")["refused"] is False

    # A row that comes back from a backup and is moved again starts the window anew.
    g1 = generations.arns["g1"]
    bring_back(app, generations.standin, g1, named=g1)
    dekctl("rewrap").expect(0)
    dekctl("retire", "g1").expect(3)


def test_without_a_whole_rewrap_the_window_begins_when_retire_first_finds_no_row(
    app: Application, generations: Generations, dekctl: Dekctl
) -> None:
    declare_window(dekctl)
    generations.roll()
    dekctl("rewrap", "--shard", "1/2").expect(0)
    dekctl("rewrap", "--shard", "2/2").expect(0)
    dekctl("retire", "g1").expect(3)
    notes = app.database.sql("SELECT result FROM dekctl_runs WHERE operation = 'retire'")
    assert [json.loads(text)["rows"] for (text,) in notes] == [0]
    dekctl("retire", "g1").expect(3)
    assert len(app.database.sql("SELECT 1 FROM dekctl_runs WHERE operation = 'retire'")) == 1
    for operation, days in (("rewrap", 37), ("retire", 36)):
        app.database.sql(
            "UPDATE dekctl_runs SET ended_at = :ended WHERE operation = :operation",
            ended=f"{datetime.now(UTC) - timedelta(days=days):%Y-%m-%d %H:%M:%S.000}",
            operation=operation,
        )
    dekctl("retire", "g1").expect(0)


def test_a_run_that_cannot_tell_where_its_rows_came_from_starts_the_window_anew(
    app: Application, generations: Generations, dekctl: Dekctl
) -> None:
    declare_window(dekctl)
    generations.roll()
    dekctl("rewrap").expect(0)
    make_older(app, "rewrap")
    dekctl("retire", "g1").expect(0)
    dekctl("rewrap", "--same-key").expect(0)
    dekctl("retire", "g1").expect(0)  # that one took from g2 only
    app.database.sql(
        "UPDATE dekctl_runs SET result = '{}' WHERE operation = 'rewrap' AND ended_at > :ended",
        ended=f"{datetime.now(UTC) - timedelta(days=1):%Y-%m-%d}",
    )
    dekctl("retire", "g1").expect(3)


def bring_back(app: Application, standin: KmsStandin, kek: str, *, named: str) -> None:
    """Wrap the first row's key by an older KEK again, as from a backup."""
    pk = next(iter(app.rows()))
    v1 = named != kek
    blob = standin.kms().encrypt(
        KeyId=kek,
        Plaintext=app.deks[pk],
        EncryptionContext={}
        if v1
        else {"dekctl:table": "encrypted_files", "dekctl:pk": str(pk[0])},
    )["CiphertextBlob"]
    app.set(pk, wrapped=blob, version="V1" if v1 else "V2", kek=named)


def test_rows_that_named_a_kek_by_its_id_begin_the_window_anew(
    app: Application, generations: Generations, dekctl: Dekctl
) -> None:
    declare_window(dekctl)
    g1 = generations.active
    generations.roll()
    dekctl("rewrap").expect(0)
    make_older(app, "rewrap")
    bring_back(app, generations.standin, g1, named=g1.rpartition("/")[2])
    dekctl("rewrap").expect(0)
    assert "35 days after" in dekctl("retire", "g1").expect(3).stderr


def test_a_killed_rewrap_begins_the_window_anew(
    app: Application, generations: Generations, dekctl: Dekctl
) -> None:
    declare_window(dekctl)
    g1 = generations.active
    generations.roll()
    dekctl("rewrap").expect(0)
    make_older(app, "rewrap")
    bring_back(app, generations.standin, g1, named=g1)
    dekctl("rewrap").expect(0)
    app.database.sql(
        "UPDATE dekctl_runs SET state = 'running', ended_at = NULL, result = '{}', pid = 999999 "
        "WHERE operation = 'rewrap' AND ended_at > :ended",
        ended=f"{datetime.now(UTC) - timedelta(days=1):%Y-%m-%d}",
    )
    assert "35 days after" in dekctl("retire", "g1").expect(3).stderr
    make_older(app, "rewrap")
    make_older(app, "retire")
    dekctl("retire", "g1").expect(0)
