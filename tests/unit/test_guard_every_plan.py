"""`dekctl guard`: each kind of plan is refused or passed as docs/guard.md says."""

from __future__ import annotations

import pytest

from dekctl.errors import RefusedError
from dekctl.guard.risk import Inputs
from dekctl.guard.rules import find_risks
from dekctl.guard.terraform_plan import parse_plan
from support.pages import assert_part
from support.plan_kinds import SECTIONS, Edit, as_markdown
from support.recorded_plans import recorded

OUTPUTS = recorded()["prior_state"]["values"]["outputs"]["dekctl"]["value"]


def _id(arn: str | None) -> str:
    """The id of a key; some cases make the KEK a multi-Region key."""
    return (arn or "").rpartition("/")[2].removeprefix("mrk-")


KEKS = {_id(generation["arn"]) for generation in OUTPUTS["kek"]["generations"].values()}
"""Rows need both generations."""
CASES = {name: case for cases in SECTIONS.values() for name, case in cases.items()}


@pytest.mark.parametrize(("edit", "kind"), CASES.values(), ids=CASES.keys())
def test_a_plan_is_refused_or_passed_as_the_page_says(edit: Edit, kind: str | None) -> None:
    document = edit(recorded())
    if kind == "incomplete":
        with pytest.raises(RefusedError, match="not complete"):
            parse_plan(document, "plan")
        return
    risks = find_risks(Inputs(parse_plan(document, "plan"), ["encrypted_files"]))
    counting = [r for r in risks if not r.if_needed or _id(r.kek) in KEKS]
    if kind is None:
        assert counting == []
    else:
        assert counting, "it passes"
        assert counting[0].kind == kind, [(risk.kind, risk.detail) for risk in counting]


def test_the_page_lists_every_kind_of_plan() -> None:
    assert_part("guard.md", "plans", as_markdown())


def test_no_plan_is_listed_twice() -> None:
    assert len(CASES) == sum(len(cases) for cases in SECTIONS.values())
