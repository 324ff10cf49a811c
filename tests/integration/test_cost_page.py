"""docs/cost.md: how often each command calls KMS is counted here, and priced as a dry run does."""

from __future__ import annotations

from typing import Any

import pytest

from dekctl.walk.estimate import DOLLARS_PER_CALL, DOLLARS_PER_COPY
from support.app import AppDatabase
from support.cli import Dekctl
from support.generations import Generations
from support.pages import assert_part

ROWS = 6
ROWS_PER_BRANCH_KEY = 3
MILLION = 1_000_000
PER_BRANCH_KEY = 10_000
"""Rows in a million that share a branch key, by default."""

WAY = (
    ("`migrate`", "migrate"),
    ("`migrate` again, after the first deploy", "migrate"),
    ("`scrub`", "scrub --yes"),
    ("`verify`, whenever you like", "verify"),
    ("`rewrap`, after each rotation", "rewrap"),
    ("`rollback --dry-run`, the rehearsal", "rollback --dry-run"),
    ("`restore`", "restore --yes"),
    ("`rollback` of restored rows", "rollback --yes"),
)
MIGRATION = WAY[:3]


def shown(dollars: float) -> str:
    """An amount for people."""
    return f"${dollars:,.2f}" if dollars >= 0.01 else "under 1 cent"


def counted(dekctl: Dekctl, generations: Generations) -> dict[str, int]:
    """The KMS calls of each step of the way."""
    calls = {}
    for name, command in WAY:
        if command == "rewrap":
            generations.roll()
        calls[name] = sum(dekctl.json("--no-assume-role", *command.split())["kms_calls"].values())
    return calls


@pytest.mark.parametrize("wrapping", ["V2", "V3"])
def test_the_page_has_the_calls_that_each_command_makes(
    wrapping: str,
    sqlite_database: AppDatabase,
    make_app: Any,
    generations: Generations,
    dekctl: Dekctl,
) -> None:
    make_app(
        sqlite_database,
        rows=ROWS,
        env=generations.env,
        wrapping=wrapping,
        rows_per_branch_key=ROWS_PER_BRANCH_KEY,
    )
    calls = counted(dekctl, generations)
    shared = 1 if wrapping == "V2" else ROWS_PER_BRANCH_KEY
    rows = MILLION if wrapping == "V2" else MILLION // PER_BRANCH_KEY
    unit = "row" if wrapping == "V2" else f"{PER_BRANCH_KEY:,} rows"
    lines = [
        f"| step | KMS calls per {unit} | KMS, for a million rows | each further trail |",
        "|---|---:|---:|---:|",
    ]
    priced = [*calls.items(), ("**a whole migration**", sum(calls[name] for name, _ in MIGRATION))]
    for name, made in priced:
        each = made * shared / ROWS
        kms, copy = (shown(each * rows * price) for price in (DOLLARS_PER_CALL, DOLLARS_PER_COPY))
        lines.append(f"| {name} | {each:g} | {kms} | {copy} |")
    assert_part("cost.md", wrapping, "\n".join(lines))
