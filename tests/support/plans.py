"""Small Terraform plans, in the form of ``terraform show -json``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

ACCOUNT = "123456789012"
APP = f"arn:aws:iam::{ACCOUNT}:role/files-app"
WRAPPER = f"arn:aws:iam::{ACCOUNT}:role/files-wrapper"
ROLES = ("app", "wrapper", "rewrapper", "verifier", "auditor", "key_admin")


def arn_of(key_id: str, region: str = "us-east-1") -> str:
    """ARN of a key."""
    return f"arn:aws:kms:{region}:{ACCOUNT}:key/{key_id}"


def policy(*statements: dict[str, Any]) -> str:
    """A policy document."""
    return json.dumps({"Version": "2012-10-17", "Statement": list(statements)})


def allow(
    principal: str | None, action: str, resource: str = "*", context: str | None = "encrypted_files"
) -> dict[str, Any]:
    """A statement that allows one action, bound to a context unless that is None."""
    statement: dict[str, Any] = {"Effect": "Allow", "Action": action, "Resource": resource}
    if principal:
        statement["Principal"] = {"AWS": principal}
    if context:
        statement["Condition"] = {
            "StringEquals": {"kms:EncryptionContext:dekctl:table": context},
            "Null": {"kms:EncryptionContextKeys": "false"},
        }
    else:
        statement["Condition"] = {"Null": {"kms:EncryptionContextKeys": "true"}}
    return statement


def key_policy(*more: dict[str, Any], app: bool = True, writers: bool = True) -> str:
    """The policy of a KEK."""
    statements = [allow(APP, "kms:Decrypt")] if app else []
    if writers:
        statements += [allow(APP, "kms:GenerateDataKey"), allow(WRAPPER, "kms:Encrypt")]
    return policy(*statements, *more)


def key(key_id: str, **values: Any) -> dict[str, Any]:
    """Values of an ``aws_kms_key``."""
    return {
        "arn": arn_of(key_id),
        "key_id": key_id,
        "is_enabled": True,
        "enable_key_rotation": True,
        "deletion_window_in_days": 30,
        "policy": key_policy(),
        **values,
    }


def change(
    type_: str,
    name: str,
    before: dict[str, Any] | None,
    after: dict[str, Any] | None,
    *,
    unknown: dict[str, Any] | None = None,
    actions: list[str] | None = None,
) -> dict[str, Any]:
    """One entry of ``resource_changes``."""
    if actions is None:
        if before is None:
            actions = ["create"]
        elif after is None:
            actions = ["delete"]
        else:
            actions = ["no-op"] if before == after and not unknown else ["update"]
    return {
        "address": f"{type_}.{name}",
        "mode": "managed",
        "type": type_,
        "name": name,
        "change": {
            "actions": actions,
            "before": before,
            "after": after,
            "after_unknown": unknown or {},
        },
    }


def plan(
    *changes: dict[str, Any], active: str = "k1", generations: dict[str, str] | None = None
) -> dict[str, Any]:
    """A plan; ``generations`` are those of the last apply, by name: the key id.

    A key of a generation that is not among the changes stays as it is.
    """
    names = generations or {"g1": "k1"}
    told = {_key_id(entry) for entry in changes}
    kept = [
        change("aws_kms_key", f"kept_{name}", key(key_id), key(key_id))
        for name, key_id in names.items()
        if key_id not in told
    ]
    outputs = {
        "schema_version": 1,
        "region": "us-east-1",
        "account_id": ACCOUNT,
        "context_name": "encrypted_files",
        "kek": {
            "arn": arn_of(active),
            "alias": "alias/files",
            "generations": {
                name: {"arn": arn_of(key_id), "state": "active" if key_id == active else "retired"}
                for name, key_id in names.items()
            },
        },
        "roles": {r: f"arn:aws:iam::{ACCOUNT}:role/files-{r.replace('_', '-')}" for r in ROLES},
        "audit": {"trail_arn": None, "bucket": None, "log_group": None},
    }
    return {
        "format_version": "1.2",
        "planned_values": {},
        "resource_changes": [*kept, *changes],
        "prior_state": {"values": {"outputs": {"dekctl": {"value": outputs}}}},
        "configuration": {"root_module": {}},
    }


def _key_id(entry: dict[str, Any]) -> Any:
    return (entry["change"]["before"] or {}).get("key_id")


def write(folder: Path, document: dict[str, Any]) -> str:
    """Write a plan. Returns its path."""
    file = folder / "plan.json"
    file.write_text(json.dumps(document))
    return str(file)
