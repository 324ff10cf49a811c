"""The life of a KEK on the strict KMS: rolls, rewraps, and the end of a generation."""

from __future__ import annotations

import json
import os
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from dekctl.config import load_config
from dekctl.errors import RowRejectedError
from dekctl.kms import AWSKMS, EnvKMS
from dekctl.kms.aws.trials import KekTrials
from dekctl.reader import RowKeys
from support.app import AppDatabase, Application
from support.cli import Dekctl
from support.generations import ALIAS, Generations, session_of
from support.kms_standin import Grant, KmsStandin
from support.live_app import LiveApp
from support.rotation import declare_window, keks, make_older, provider

ROWS = 12
MANY = int(os.environ.get("DEKCTL_ROTATION_ROWS", "20000"))
"""Rows of the large rewrap."""


@pytest.fixture
def app(
    sqlite_database: AppDatabase, make_app: Any, generations: Generations, dekctl: Dekctl
) -> Application:
    """Rows wrapped by g1, without plaintext."""
    made: Application = make_app(
        sqlite_database, rows=ROWS, env=generations.env, wrapped_at_column="wrapped_at"
    )
    dekctl("migrate").expect(0)
    dekctl("scrub", "--yes").expect(0)
    return made


# -- rewrap --------------------------------------------------------------------------------------


def test_rewrap_moves_every_row_by_reencrypt_alone(
    app: Application, generations: Generations, dekctl: Dekctl
) -> None:
    g2 = generations.roll()
    generations.standin.reset_counters()
    moved = dekctl.json("rewrap")
    assert (moved["changed"], moved["kms_calls"], moved["carried_over"]) == (
        ROWS,
        {"ReEncrypt": ROWS},
        0,
    )
    assert "Decrypt" not in generations.standin.counters().calls
    assert keks(app) == {g2}
    app.assert_files_open(provider(generations))
    assert dekctl.json("rewrap")["changed"] == 0


def test_rewrap_names_both_keys_and_both_contexts(
    app: Application, generations: Generations, dekctl: Dekctl
) -> None:
    g1, g2 = generations.active, generations.roll()
    generations.standin.reset_counters()
    dekctl("rewrap", "--limit", "1").expect(0)
    [call] = [c for c in generations.standin.journal() if c["api"] == "ReEncrypt"]
    context = {"dekctl:table": "encrypted_files", "dekctl:pk": "1"}
    assert (call["key"], call["destination_key"]) == (g1, g2)
    assert (call["context"], call["destination_context"]) == (context, context)
    assert call["principal"] == "files-rewrapper"


def test_a_rotated_key_of_the_same_arn_is_seen_and_rewrapped_for(
    app: Application, generations: Generations, dekctl: Dekctl
) -> None:
    kms = generations.standin.kms()
    assert dekctl.json("rewrap", "--same-key", "--dry-run")["changed"] == ROWS
    app.database.sql("UPDATE encrypted_files SET wrapped_at = '2020-01-01 00:00:00'")
    kms.rotate_key_on_demand(KeyId=generations.active)
    checks = {c["check"]: c["detail"] for c in dekctl.json("doctor")["checks"]}
    assert f"{ROWS} rows wrapped before that" in checks["key material"]
    today = f"{datetime.now(UTC):%Y-%m-%d}"

    assert dekctl.json("rewrap")["changed"] == 0  # they are where they should be
    moved = dekctl.json("rewrap", "--wrapped-before", today)
    assert (moved["changed"], moved["kms_calls"]) == (ROWS, {"ReEncrypt": ROWS})
    material = kms.describe_key(KeyId=generations.active)["KeyMetadata"]["CurrentKeyMaterialId"]
    [run] = [r for r in dekctl.json("status")["runs"] if r["result"].get("key_materials")]
    assert run["result"]["key_materials"] == {material: ROWS}
    assert dekctl.json("rewrap", "--wrapped-before", today)["changed"] == 0
    checks = {c["check"]: c["detail"] for c in dekctl.json("doctor")["checks"]}
    assert "no row was wrapped before that" in checks["key material"]
    app.assert_files_open(provider(generations))


def test_wrapped_before_needs_a_column_for_the_time(
    sqlite_database: AppDatabase, make_app: Any, generations: Generations, dekctl: Dekctl
) -> None:
    make_app(sqlite_database, rows=1, env=generations.env)
    dekctl("migrate").expect(0)
    refused = dekctl("rewrap", "--wrapped-before", "2026-01-01").expect(2)
    assert "wrapped_at_column" in refused.stderr
    assert dekctl.json("rewrap", "--same-key")["changed"] == 1


def test_rewrap_can_be_narrowed_to_one_kek(
    app: Application, generations: Generations, dekctl: Dekctl
) -> None:
    generations.roll()
    dekctl("rewrap", "--limit", "5").expect(0)
    g3 = generations.roll()
    assert dekctl.json("rewrap", "--from", "g2")["changed"] == 5
    assert keks(app) == {generations.arns["g1"], g3}
    assert dekctl.json("rewrap", "--from", "g1", "--to", "g2")["changed"] == ROWS - 5


def test_rows_of_the_related_key_of_another_region_are_moved_with_it(
    app: Application, generations: Generations, dekctl: Dekctl
) -> None:
    key_id = "mrk-" + os.urandom(16).hex()
    primary = f"{generations.active.rpartition('/')[0]}/{key_id}"
    generations.roll()
    generations.arns["g1"] = primary
    generations.write()
    app.database.sql(
        "UPDATE encrypted_files SET kek_id = :kek", kek=primary.replace("us-east-1", "eu-west-1")
    )
    assert dekctl.json("rewrap", "--from", "g1", "--dry-run")["changed"] == ROWS
    app.database.sql("UPDATE encrypted_files SET kek_id = :kek WHERE id = 1", kek=key_id)
    assert dekctl.json("rewrap", "--from", "g1", "--dry-run")["changed"] == ROWS
    assert dekctl.json("rewrap", "--from", "g2", "--dry-run")["changed"] == 0


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


def test_from_env_to_aws_and_back_every_key_is_the_same(
    postgres_database: AppDatabase, make_app: Any, generations: Generations, dekctl: Dekctl
) -> None:
    app = make_app(postgres_database, rows=ROWS, env={"provider": "env"})
    dekctl("migrate").expect(0)
    dekctl("scrub", "--yes").expect(0)
    toml = (dekctl.folder / "dekctl.toml").read_text()
    aws = "\n".join(f'{name} = "{value}"' for name, value in generations.env.items())
    dekctl.configure(toml.replace('provider = "env"', aws))

    there = dekctl("--json", "rewrap").expect(0)
    assert (there.json["changed"], there.json["carried_over"]) == (ROWS, ROWS)
    assert "another provider" in there.stderr
    assert there.json["kms_calls"] == {"Encrypt": ROWS, "Decrypt": ROWS}  # each one is checked
    assert keks(app) == {generations.active}
    app.assert_files_open(provider(generations))

    dekctl.configure(toml.replace('provider = "env"', aws.replace('"aws"', '"env"')))
    back = dekctl.json("rewrap")
    assert (back["changed"], back["carried_over"]) == (ROWS, ROWS)
    app.assert_files_open(EnvKMS(dekctl.environ))
    assert dekctl.json("retire", generations.active)["rows"] == 0


def test_a_large_rewrap_makes_no_decrypt_call(
    postgres_database: AppDatabase, make_app: Any, generations: Generations, dekctl: Dekctl
) -> None:
    make_app(postgres_database, rows=MANY, env=generations.env)
    dekctl("schema", "expand").expect(0)
    dekctl("wrap").expect(0)
    g2 = generations.roll()
    rights = {"kms:ReEncryptFrom", "kms:ReEncryptTo", "kms:DescribeKey"}
    generations.standin.put_role("files-rewrapper", [Grant(tuple(rights))])
    generations.standin.reset_counters()
    moved = dekctl.process("--json", "--quiet", "rewrap").expect(0).json
    counters = generations.standin.counters()
    assert (moved["changed"], counters.succeeded["ReEncrypt"]) == (MANY, MANY)
    assert not {"Decrypt", "Encrypt", "GenerateDataKey"} & set(counters.calls)
    assert dekctl.json("status")["keks"][0]["kek_id"] == g2
    print(f"\n{MANY} rows rewrapped in {moved['seconds']} s")  # noqa: T201 - for the run by hand


# -- retire --------------------------------------------------------------------------------------


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


def test_rows_without_a_kek_column_may_need_the_kek(
    app_database: AppDatabase, make_app: Any, generations: Generations, dekctl: Dekctl
) -> None:
    """The seed's script only recommends the column."""
    app = make_app(app_database, rows=ROWS, env=generations.env)
    seed_script(app, generations.standin)
    app.database.sql("ALTER TABLE encrypted_files DROP COLUMN kek_id")
    generations.roll()
    assert dekctl.json("retire", "g1", expect=3)["rows_unclear"] == ROWS


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
    toml = (dekctl.folder / "dekctl.toml").read_text()
    dekctl.configure(toml + "backup_retention_days = 35\n")
    generations.roll()
    dekctl("rewrap").expect(0)
    refused = dekctl("retire", "g1").expect(3)
    assert "35 days after" in refused.stderr

    later = datetime.now(UTC) - timedelta(days=36)
    app.database.sql(
        "UPDATE dekctl_runs SET ended_at = :ended WHERE operation = 'rewrap'",
        ended=f"{later:%Y-%m-%d %H:%M:%S.000}",
    )
    assert dekctl.json("retire", "g1")["refused"] is False

    # A row that comes back from a backup and is moved again starts the window anew.
    pk, row = next(iter(app.rows().items()))
    blob = generations.standin.kms().encrypt(
        KeyId=generations.arns["g1"],
        Plaintext=app.deks[pk],
        EncryptionContext={"dekctl:table": "encrypted_files", "dekctl:pk": str(row["id"])},
    )["CiphertextBlob"]
    app.set(pk, wrapped=blob, kek=generations.arns["g1"])
    dekctl("rewrap").expect(0)
    dekctl("retire", "g1").expect(3)


def test_without_a_whole_rewrap_the_window_begins_when_retire_first_finds_no_row(
    app: Application, generations: Generations, dekctl: Dekctl
) -> None:
    toml = (dekctl.folder / "dekctl.toml").read_text()
    dekctl.configure(toml + "backup_retention_days = 35\n")
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
    toml = (dekctl.folder / "dekctl.toml").read_text()
    dekctl.configure(toml + "backup_retention_days = 35\n")
    generations.roll()
    dekctl("rewrap").expect(0)
    later = datetime.now(UTC) - timedelta(days=36)
    old = "UPDATE dekctl_runs SET ended_at = :ended WHERE operation = 'rewrap'"
    app.database.sql(old, ended=f"{later:%Y-%m-%d %H:%M:%S.000}")
    dekctl("retire", "g1").expect(0)
    dekctl("rewrap", "--same-key").expect(0)
    dekctl("retire", "g1").expect(0)  # that one took from g2 only
    app.database.sql(
        "UPDATE dekctl_runs SET result = '{}' WHERE operation = 'rewrap' AND ended_at > :ended",
        ended=f"{later + timedelta(days=1):%Y-%m-%d %H:%M:%S.000}",
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


def test_a_target_that_nobody_knows_is_an_error_of_usage(app: Application, dekctl: Dekctl) -> None:
    before = app.rows()
    assert "alias/nope" in dekctl("rewrap", "--to", "alias/nope").expect(2).stderr
    assert app.rows() == before


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


# -- min_generation ------------------------------------------------------------------------------


def test_the_reader_refuses_older_generations_once_told(
    app: Application, generations: Generations, dekctl: Dekctl, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in dekctl.environ.items():
        monkeypatch.setenv(name, value)
    kept = dict(next(iter(app.rows().values())))  # a copy, as in a backup
    generations.roll()
    floor = dekctl.json("status")["min_generation"]
    assert (floor["configured"], floor["can_be"]) == (None, "g1")
    dekctl("rewrap").expect(0)
    assert dekctl.json("status")["min_generation"]["can_be"] == "g2"

    file = dekctl.folder / "dekctl.toml"
    keys = RowKeys.from_config(load_config(file, "test"))
    assert keys.read(kept) == app.deks[kept["id"],]
    dekctl.configure(file.read_text() + 'min_generation = "g2"\n')
    keys = RowKeys.from_config(load_config(file, "test"))
    generations.standin.reset_counters()
    with pytest.raises(RowRejectedError, match="min_generation"):
        keys.read(kept)
    assert not generations.standin.counters().calls
    with pytest.raises(RowRejectedError, match="min_generation"):
        keys.read({**kept, "kek_id": ALIAS})  # named by an alias: KMS tells
    row = next(iter(app.rows().values()))
    assert keys.read(row) == app.deks[row["id"],]


def test_a_branch_key_holds_up_min_generation(
    sqlite_database: AppDatabase, make_app: Any, generations: Generations, dekctl: Dekctl
) -> None:
    """Readers refuse a V3 row by its branch key's KEK, whatever the row names."""
    wrapper = Grant(("kms:Encrypt", "kms:GenerateDataKey", "kms:DescribeKey"))
    generations.standin.put_role("files-wrapper", [wrapper])
    app = make_app(sqlite_database, rows=ROWS, env=generations.env, wrapping="V3")
    dekctl("migrate").expect(0)
    g2 = generations.roll()
    app.database.sql("UPDATE encrypted_files SET kek_id = :kek", kek=g2)
    assert dekctl.json("status")["min_generation"]["can_be"] == "g1"
    dekctl.configure((dekctl.folder / "dekctl.toml").read_text() + 'min_generation = "g2"\n')
    floor = dekctl.json("status")["min_generation"]
    assert (floor["rows_below"], floor["branch_keys_below"]) == (0, 1)
    assert "older: 1 branch key," in dekctl("status").expect(0).stdout
    dekctl("rewrap", "--from", "g1").expect(0)
    assert dekctl.json("status")["min_generation"]["can_be"] == "g2"


# -- Regions -------------------------------------------------------------------------------------


def test_the_related_key_of_this_region_opens_a_multi_region_key() -> None:
    here = KekTrials(("alias/x",), "eu-west-1", lambda *_: [], lambda alias: alias)
    primary = "arn:aws:kms:us-east-1:123456789012:key/mrk-1234abcd12ab34cd56ef1234567890ab"
    assert here.candidates(primary) == (primary.replace("us-east-1", "eu-west-1"),)
    single = "arn:aws:kms:us-east-1:123456789012:key/1234abcd-12ab-34cd-56ef-1234567890ab"
    assert here.candidates(single) == (single,)


def test_time_of_wrapping_is_kept(app: Application, tmp_path: Path) -> None:
    started = datetime.now(UTC).replace(tzinfo=None) - timedelta(minutes=5)
    with app.database.engine.connect() as connection:
        times = connection.execute(sa.select(app.now().c.wrapped_at)).scalars().all()
    assert len(times) == ROWS
    assert all(t is not None and t > started for t in times)


def test_a_roll_under_a_running_writer_fails_no_read_on_the_strict_kms(
    postgres_database: AppDatabase, make_app: Any, generations: Generations, dekctl: Dekctl
) -> None:
    app = make_app(postgres_database, rows=200, env=generations.env)
    dekctl("migrate").expect(0)
    dekctl("scrub", "--yes").expect(0)
    kms = AWSKMS(
        ALIAS,
        region=generations.standin.region,
        endpoint_url=generations.standin.endpoint_url,
        session=session_of(generations.standin),
    )
    with LiveApp(app, RowKeys(kms, plaintext="read")) as writer:
        for old in ("g1", "g2"):
            writer.wait_for_reads(5)
            generations.roll()
            writer.wait_for_reads(5)
            assert dekctl.json("rewrap", "--batch-size", "20")["changed"] >= 200
            dekctl("retire", old).expect(0)
            generations.standin.kms().disable_key(KeyId=generations.arns[old])
        writer.wait_for_reads(5)
    assert writer.failures == []
    assert keks(app) == {generations.active}
