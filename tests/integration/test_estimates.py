"""The KMS calls that a dry run announces are those that the run makes."""

from __future__ import annotations

from typing import Any

import pytest

from support.app import AppDatabase
from support.cli import Dekctl
from support.hierarchical import BRANCHES, ROWS, ROWS_PER_KEY, make
from support.kms_standin import KmsStandin


def test_a_dry_run_says_what_both_ways_of_wrapping_cost(
    sqlite_database: AppDatabase, dekctl: Dekctl, make_app: Any
) -> None:
    make(make_app, sqlite_database)
    estimate = dekctl.json("wrap", "--dry-run")["estimate"]
    assert (estimate["V2"]["kms_calls"], estimate["V3"]["kms_calls"]) == (ROWS, BRANCHES)
    assert (estimate["version"], estimate["kms_calls"]) == ("V3", BRANCHES)
    said = dekctl("wrap", "--dry-run").expect(0).stdout
    assert "V2" in said
    assert "V3" in said


@pytest.mark.parametrize(
    ("first", "then"),
    [
        (["wrap"], ["rewrap", "--hierarchical"]),
        (["wrap"], ["rewrap", "--same-key"]),
        (["wrap", "--hierarchical"], ["rewrap"]),
        (["wrap", "--hierarchical"], ["rewrap", "--hierarchical", "--to", "TARGET"]),
    ],
    ids=["V2 to V3", "V2 to V2", "V3 to V2", "V3 to another KEK"],
)
def test_the_dry_run_of_a_rewrap_tells_the_calls_that_it_makes(
    sqlite_database: AppDatabase,
    dekctl: Dekctl,
    make_app: Any,
    kms_standin: KmsStandin,
    first: list[str],
    then: list[str],
) -> None:
    dekctl.environ |= kms_standin.environment()
    make_app(
        sqlite_database,
        rows=ROWS,
        rows_per_branch_key=ROWS_PER_KEY,
        env={"provider": "aws", "kek": kms_standin.create_key(), "region": kms_standin.region},
    )
    dekctl.json("schema", "expand")
    dekctl.json(*first)
    target = kms_standin.create_key()
    command = [target if word == "TARGET" else word for word in then]

    estimate = dekctl.json(*command, "--dry-run")["estimate"]
    calls = dekctl.json(*command)["kms_calls"]
    assert estimate["kms_calls"] == sum(calls.values()), calls


def test_the_dry_run_of_a_move_from_another_provider_counts_wrapping_and_the_check(
    sqlite_database: AppDatabase, dekctl: Dekctl, make_app: Any, kms_standin: KmsStandin
) -> None:
    make_app(sqlite_database, rows=ROWS)
    dekctl.json("schema", "expand")
    dekctl.json("wrap")
    dekctl.environ |= kms_standin.environment()
    dekctl.configure(
        f'[env.test]\ndatabase_url = "{sqlite_database.url}"\nprovider = "aws"\n'
        f'kek = "{kms_standin.create_key()}"\nregion = "{kms_standin.region}"\n'
    )
    estimate = dekctl.json("rewrap", "--dry-run")["estimate"]
    assert dekctl.json("rewrap")["kms_calls"] == {"Encrypt": ROWS, "Decrypt": ROWS}
    assert estimate["kms_calls"] == 2 * ROWS


def test_the_dry_run_of_several_tables_adds_up_one_estimate_for_each(
    sqlite_database: AppDatabase, dekctl: Dekctl, make_app: Any
) -> None:
    make_app(sqlite_database, rows=ROWS)
    make_app(sqlite_database, rows=5, name="photos", context_name="photos")
    dekctl.configure(
        '[[table]]\nname = "encrypted_files"\nwrapping = "V3"\n'
        '[[table]]\nname = "photos"\ncontext_name = "photos"\n'
        f'[env.test]\ndatabase_url = "{sqlite_database.url}"\nprovider = "env"\n'
    )
    estimate = dekctl.json("wrap", "--dry-run")["estimate"]
    assert (estimate["version"], estimate["kms_calls"]) == ("mixed", 1 + 5)
    assert (estimate["V2"]["kms_calls"], estimate["V3"]["kms_calls"]) == (ROWS + 5, 2)
    said = dekctl("wrap", "--dry-run").expect(0).stdout
    assert "this run, each table as configured: 6 KMS calls" in said
