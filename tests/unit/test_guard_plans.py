"""`dekctl guard`: files that are no plan, and plans that are not whole."""

from __future__ import annotations

from typing import Any

import pytest

from support.cli import Dekctl
from support.plans import change, key, plan, write


def _key_with(text: str) -> dict[str, Any]:
    return {"resource_changes": [change("aws_kms_key", "k", key("k1", policy=text), key("k1"))]}


@pytest.mark.parametrize(
    "part",
    [
        {"resource_changes": [{}]},
        {"resource_changes": ["a"]},
        {"resource_changes": {}},
        {"resource_changes": None},
        {"resource_changes": [change("aws_kms_key", "k", key("k1"), None) | {"change": None}]},
        _key_with("not json"),
        _key_with('{"Statement": ["x"]}'),
        _key_with("[]"),
    ],
)
def test_a_plan_with_something_else_in_it_is_refused_as_wrong_usage(
    part: dict[str, Any], dekctl: Dekctl
) -> None:
    dekctl.configure('[table]\n[env.test]\ndatabase_url = "sqlite:////nowhere/app.db"\n')
    file = write(dekctl.folder, {"format_version": "1.2", "planned_values": {}, **part})
    assert "terraform show -json" in dekctl("guard", "--plan", file).expect(2).stderr


def test_a_plan_of_a_part_is_refused(dekctl: Dekctl) -> None:
    file = write(dekctl.folder, {**plan(), "complete": False})
    assert "is not complete" in dekctl("guard", "--plan", file).expect(3).stderr


def test_what_is_no_plan_is_refused_as_wrong_usage(dekctl: Dekctl) -> None:
    file = dekctl.folder / "plan.json"
    for text in ("{}", "no JSON", '{"format_version": "1.2", "planned_values": {}, "errored": 1}'):
        file.write_text(text)
        dekctl("guard", "--plan", str(file)).expect(2)
    dekctl("guard", "--plan", str(dekctl.folder / "none.json")).expect(2)


def test_an_import_says_what_it_overwrites(dekctl: Dekctl) -> None:
    dekctl.configure('[table]\n[env.test]\ndatabase_url = "sqlite:////nowhere/app.db"\n')
    before = key("k1", description="ours", tags={}, enable_key_rotation=False)
    after = before | {"description": "dekctl", "tags": {"Name": "k"}, "enable_key_rotation": True}
    imported = change("aws_kms_key", "k", before, after)
    imported["change"]["importing"] = {"id": "k1"}
    file = write(dekctl.folder, {**plan(), "resource_changes": [imported]})
    told = dekctl("--json", "guard", "--plan", file).expect(0)
    assert f"imports k1 as {imported['address']}; overwrites: description, " in told.stderr
    [found] = told.json["imports"]
    assert found["overwrites"] == ["description", "enable_key_rotation"]
