"""Rewrapping rows on the strict KMS: which rows move, by which calls, and under whose name."""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from dekctl.kms import AWSKMS, EnvKMS
from dekctl.kms.aws.trials import KekTrials
from dekctl.reader import RowKeys
from support.app import AppDatabase, Application
from support.cli import Dekctl
from support.generations import ALIAS, Generations, session_of
from support.kms_standin import Grant
from support.live_app import LiveApp
from support.rotation import ROWS, provider

MANY = int(os.environ.get("DEKCTL_ROTATION_ROWS", "20000"))
"""Rows of the large rewrap."""


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
    assert app.keks() == {g2}
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
    assert app.keks() == {generations.arns["g1"], g3}
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
    assert app.keks() == {generations.active}
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


def test_a_target_that_nobody_knows_is_an_error_of_usage(app: Application, dekctl: Dekctl) -> None:
    before = app.rows()
    assert "alias/nope" in dekctl("rewrap", "--to", "alias/nope").expect(2).stderr
    assert app.rows() == before


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
    assert app.keks() == {generations.active}
