"""`dekctl guard`: the trail, and values of keys that are known only after the apply."""

from __future__ import annotations

from typing import Any

import pytest

from dekctl.guard.risk import Inputs
from dekctl.guard.rules import find_risks
from dekctl.guard.terraform_plan import parse_plan
from support.plans import arn_of, change, key, key_policy, plan, policy

TRAIL = {
    "name": "t",
    "s3_bucket_name": "b",
    "kms_key_id": arn_of("t1"),
    "enable_logging": True,
    "is_multi_region_trail": True,
    "event_selector": [{"read_write_type": "All", "include_management_events": True}],
}
KEPT = change("aws_cloudtrail", "t", TRAIL, TRAIL)


def trail(unknown: dict[str, Any] | None = None, **values: Any) -> dict[str, Any]:
    """The trail, changed in some values."""
    return change("aws_cloudtrail", "t", TRAIL, TRAIL | values, unknown=unknown)


def selected(*fields: dict[str, Any]) -> dict[str, Any]:
    """The trail with an advanced selector of management events and these fields besides."""
    management = {"field": "eventCategory", "equals": ["Management"]}
    selector = {"field_selector": [management, *fields]}
    return trail(event_selector=[], advanced_event_selector=[selector])


BLINDED = {
    "stops logging": trail(enable_logging=False),
    "logging unknown": trail(enable_logging=None, unknown={"enable_logging": True}),
    "selectors unknown": trail(unknown={"event_selector": [{"read_write_type": True}]}),
    "one Region": trail(is_multi_region_trail=False),
    "another bucket": trail(s3_bucket_name="c"),
    "data events alone": trail(
        event_selector=[],
        advanced_event_selector=[
            {"field_selector": [{"field": "eventCategory", "equals": ["Data"]}]}
        ],
    ),
    "reads alone": selected({"field": "readOnly", "equals": ["true"]}),
    "not KMS": selected({"field": "eventSource", "not_equals": ["kms.amazonaws.com"]}),
    "another service alone": selected({"field": "eventSource", "equals": ["s3.amazonaws.com"]}),
    "some events": selected({"field": "eventName", "equals": ["Decrypt"]}),
    "its key is deleted": change("aws_kms_key", "t", key("t1"), None),
    "its key is disabled": change("aws_kms_key", "t", key("t1"), key("t1", is_enabled=False)),
    "its bucket is deleted": change("aws_s3_bucket", "b", {"bucket": "b"}, None),
    "its bucket's policy is deleted": change(
        "aws_s3_bucket_policy", "b", {"bucket": "b", "policy": policy()}, None
    ),
    "forgotten": change("aws_cloudtrail", "t", TRAIL, None, actions=["forget"]),
}
SEEING = {
    "all management events": selected(),
    "KMS alone": selected({"field": "eventSource", "equals": ["kms.amazonaws.com"]}),
    "reads and writes apart": trail(
        event_selector=[{"read_write_type": "ReadOnly"}, {"read_write_type": "WriteOnly"}]
    ),
    "another bucket's policy": change("aws_s3_bucket_policy", "x", {"bucket": "x"}, None),
}


@pytest.mark.parametrize("changed", BLINDED.values(), ids=BLINDED.keys())
def test_a_trail_that_loses_a_use_of_a_kek_is_a_danger(changed: dict[str, Any]) -> None:
    others = [] if changed["type"] == "aws_cloudtrail" else [KEPT]
    risks = find_risks(Inputs(parse_plan(plan(*others, changed), "plan"), ["encrypted_files"]))
    [found] = [risk for risk in risks if risk.kind == "trail"]
    assert (found.address, found.if_needed) == (changed["address"], False)


@pytest.mark.parametrize("changed", SEEING.values(), ids=SEEING.keys())
def test_a_trail_that_still_sees_every_use_is_no_danger(changed: dict[str, Any]) -> None:
    others = [] if changed["type"] == "aws_cloudtrail" else [KEPT]
    assert find_risks(Inputs(parse_plan(plan(*others, changed), "plan"), ["encrypted_files"])) == []


def unsaid(name: str) -> dict[str, Any]:
    """A key, one value of which the plan does not tell."""
    after = {n: value for n, value in key("k1").items() if n != name}
    return change("aws_kms_key", "kek", key("k1"), after, unknown={name: True})


EXTERNAL = {name: value for name, value in key("k1").items() if name != "is_enabled"} | {
    "enabled": True,
    "valid_to": None,
}
WORSE = {
    "disable": unsaid("is_enabled"),
    "window": unsaid("deletion_window_in_days"),
    "rotation": unsaid("enable_key_rotation"),
    "disable ": change(
        "aws_kms_external_key", "kek", EXTERNAL, EXTERNAL | {"valid_to": "2026-12-01T00:00:00Z"}
    ),
    "delete": change("aws_kms_replica_external_key", "r", EXTERNAL, None),
    "forget": change("aws_kms_key", "kek", key("k1"), None, actions=["forget"]),
}


@pytest.mark.parametrize(("kind", "changed"), WORSE.items(), ids=WORSE.keys())
def test_what_nobody_can_say_of_a_key_counts_as_the_danger(
    kind: str, changed: dict[str, Any]
) -> None:
    risks = find_risks(Inputs(parse_plan(plan(changed), "plan"), ["encrypted_files"]))
    assert [(d.kind, d.kek) for d in risks] == [(kind.strip(), arn_of("k1"))]


def test_a_key_that_may_be_disabled_does_not_hide_a_right_that_goes() -> None:
    after = {**key("k1", policy=key_policy(app=False)), "is_enabled": None}
    changed = change("aws_kms_key", "kek", key("k1"), after, unknown={"is_enabled": True})
    risks = find_risks(Inputs(parse_plan(plan(changed), "plan"), ["encrypted_files"]))
    assert [risk.kind for risk in risks] == ["disable", "decrypt"]


def test_what_terraform_forgets_stays_as_it_is() -> None:
    kek = change("aws_kms_key", "kek", key("k1"), key("k1"))
    target = {"name": "alias/files", "target_key_id": "k1"}
    alias = change("aws_kms_alias", "kek", target, None, actions=["forget"])
    assert find_risks(Inputs(parse_plan(plan(kek, alias), "plan"), ["encrypted_files"])) == []
