"""Plans of `terraform/environments/staging` that real Terraform made, recorded in tests/data/plans.

`staging.json` changes nothing. The others hold only the resources that differ: the first apply, a
third generation, and plans after something happened outside of Terraform. Record them again with
``PYTHONPATH=tooling:tests python -m support.recorded_plans`` (needs Terraform and minutes).
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import boto3

from sandbox.moto import MotoServer
from tfkit.terraform import Workspace

FOLDER = Path(__file__).parents[1] / "data" / "plans"
FIRST, ROTATION = "first", "rotation"
PENDING, STATE_RM = "pending-deletion", "state-rm"

Plan = dict[str, Any]
Values = dict[str, Any]


def recorded(name: str = "staging") -> Plan:
    """A recorded plan, as ``terraform show -json`` prints it; the caller may change it."""
    plan: Plan = json.loads(_text(name))
    return plan


@cache
def _text(name: str) -> str:
    """The whole plan: a file leaves out what is as before, or as in staging.json."""
    plan: Plan = json.loads((FOLDER / "staging.json").read_text())
    if name != "staging":
        other = json.loads((FOLDER / f"{name}.json").read_text())
        changed = {change["address"] for change in other["resource_changes"]}
        kept = [c for c in plan["resource_changes"] if c["address"] not in changed]
        plan |= other | {"resource_changes": kept + other["resource_changes"]}
    for resource in plan["resource_changes"]:
        change = resource["change"]
        change.setdefault("after", change["before"])
        change.setdefault("after_unknown", {})
    return json.dumps(plan)


def change_of(plan: Plan, address: str) -> dict[str, Any]:
    """The ``change`` of the one resource whose address ends like this."""
    [found] = [r for r in plan["resource_changes"] if r["address"].endswith(address)]
    change: dict[str, Any] = found["change"]
    return change


def edit(plan: Plan, address: str, **values: Any) -> Plan:
    """Update a resource in place. A value that is a function makes the new value from the old."""
    change = change_of(plan, address)
    for name, value in values.items():
        change["after"][name] = value(change["after"].get(name)) if callable(value) else value
    change["actions"] = ["update"]
    return plan


def unknown(plan: Plan, address: str, *names: str) -> Plan:
    """Make values of a resource known only after the apply."""
    change = change_of(plan, address)
    for name in names:
        change["after"].pop(name, None)
        change["after_unknown"][name] = True
    change["actions"] = ["update"]
    return plan


def delete(plan: Plan, address: str) -> Plan:
    """Delete a resource."""
    change_of(plan, address).update(actions=["delete"], after=None)
    return plan


def replace(plan: Plan, address: str, **values: Any) -> Plan:
    """Delete a resource and create it again with some other values."""
    edit(plan, address, **values)
    change_of(plan, address)["actions"] = ["delete", "create"]
    return plan


def create(plan: Plan, type_: str, **values: Any) -> Plan:
    """Add a new resource."""
    return _add(plan, type_, ["create"], None, values)


def existing(plan: Plan, type_: str, before: Values, after: Values | None) -> Plan:
    """Add a resource that exists; it is deleted if ``after`` is None."""
    actions = ["delete"] if after is None else ["no-op"] if before == after else ["update"]
    return _add(plan, type_, actions, before, after)


def _add(
    plan: Plan, type_: str, actions: list[str], before: Values | None, after: Values | None
) -> Plan:
    plan["resource_changes"].append(
        {
            "address": f"{type_}.added",
            "mode": "managed",
            "type": type_,
            "name": "added",
            "change": {"actions": actions, "before": before, "after": after, "after_unknown": {}},
        }
    )
    return plan


def statements(change: Callable[[list[Any]], None]) -> Callable[[str], str]:
    """Edit the statements of a policy's text."""

    def edited(text: str) -> str:
        document = json.loads(text)
        change(document["Statement"])
        return json.dumps(document)

    return edited


# -- recording -----------------------------------------------------------------------------------


def _trimmed(plan: Plan) -> Plan:
    kept = {name: plan[name] for name in ("format_version", "terraform_version", "complete")}
    changes = [_resource(raw) for raw in plan["resource_changes"]]
    return kept | {
        "planned_values": {},
        "prior_state": {"values": {"outputs": plan["prior_state"]["values"].get("outputs", {})}},
        "configuration": {"root_module": _module(plan["configuration"]["root_module"])},
        "resource_drift": [_resource(raw) for raw in plan.get("resource_drift", [])],
        "resource_changes": changes,
    }


def _resource(raw: dict[str, Any]) -> dict[str, Any]:
    change = {name: raw["change"][name] for name in ("actions", "before", "after", "after_unknown")}
    # moto forgets the period of a rotation.
    for values in (change["before"], change["after"]):
        if values and "rotation_period_in_days" in values:
            values["rotation_period_in_days"] = 365
    if change["before"] == change["after"] and not change["after_unknown"]:
        change = {"actions": ["no-op"], "before": change["before"]}
    names = ("address", "module_address", "mode", "type", "name", "index")
    return {name: raw[name] for name in names if name in raw} | {"change": change}


def _module(module: dict[str, Any]) -> dict[str, Any]:
    """Of the configuration, only what the policies are made from."""
    resources = [
        {
            "type": resource["type"],
            "name": resource["name"],
            "expressions": {"policy": resource["expressions"]["policy"]},
        }
        for resource in module.get("resources", [])
        if "policy" in resource.get("expressions", {})
    ]
    calls = {
        name: {"module": _module(call["module"])}
        for name, call in module.get("module_calls", {}).items()
    }
    return {"resources": resources, "module_calls": calls}


def _write(name: str, plan: Plan, base: Plan | None = None) -> None:
    if base is not None:
        changes = [c for c in plan["resource_changes"] if c not in base["resource_changes"]]
        kept = {"resource_drift": plan["resource_drift"], "resource_changes": changes}
        if plan["prior_state"] != base["prior_state"]:
            kept["prior_state"] = plan["prior_state"]
        plan = kept
    head = {name: value for name, value in plan.items() if name != "resource_changes"}
    lines = ",\n".join(json.dumps(c, sort_keys=True) for c in plan["resource_changes"])
    text = f'{json.dumps(head)[:-1]}, "resource_changes": [\n{lines}\n]}}\n'
    json.loads(text)
    (FOLDER / f"{name}.json").write_text(text)


def record() -> None:
    """Apply staging to moto's server, and record its plans."""
    with MotoServer.start() as moto, tempfile.TemporaryDirectory() as folder:
        workspace = Workspace(Path(folder), "environments/staging", moto.endpoint_url)
        workspace.init()
        generations = {"g1": {"state": "retired"}, "g2": {"state": "active"}}
        variables = {"generations": generations, "allow_branch_keys": True}
        workspace.write_variables(variables)
        first = _trimmed(workspace.plan())
        workspace.apply()
        workspace.apply()
        base = _trimmed(workspace.plan())
        _write("staging", base)
        _write(FIRST, first, base)
        third = {
            "g1": {"state": "retired"},
            "g2": {"state": "retired", "still_wraps": True},
            "g3": {"state": "active"},
        }
        workspace.write_variables(variables | {"generations": third})
        _write(ROTATION, _trimmed(workspace.plan()), base)
        workspace.write_variables(variables)
        kms = boto3.client(
            "kms",
            endpoint_url=moto.endpoint_url,
            region_name="eu-central-1",
            aws_access_key_id="test",
            aws_secret_access_key="test",
        )
        arn = workspace.output()["kek"]["generations"]["g1"]["arn"]
        key = arn.rpartition("/")[2]
        kms.schedule_key_deletion(KeyId=key, PendingWindowInDays=30)
        _write(PENDING, _trimmed(workspace.plan()), base)
        kms.cancel_key_deletion(KeyId=key)
        kms.enable_key(KeyId=key)
        workspace.run("state", "rm", 'module.dekctl.module.kek.aws_kms_key.generation["g1"]')
        _write(STATE_RM, _trimmed(workspace.plan()), base)


if __name__ == "__main__":
    record()
