"""The Terraform output of the contract is read whole, or refused with the next command."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest

from dekctl.config import EnvConfig
from dekctl.config.outputs import load_outputs, parse_outputs
from dekctl.config.roles import Role
from dekctl.errors import DekctlError, UsageError

ARN = "arn:aws:kms:eu-central-1:111122223333:key/"
VALUE: dict[str, Any] = {
    "schema_version": 1,
    "region": "eu-central-1",
    "account_id": "111122223333",
    "kek": {
        "arn": ARN + "b",
        "alias": "alias/app-dek",
        "generations": {
            "2026a": {"arn": ARN + "a", "state": "retired"},
            "2026b": {"arn": ARN + "b", "state": "active"},
        },
    },
    "roles": {
        name: f"arn:aws:iam::111122223333:role/{name}"
        for name in ("app", "wrapper", "rewrapper", "verifier", "auditor", "key_admin")
    },
    "context_name": "encrypted_files",
    "audit": {"trail_arn": None, "bucket": None, "log_group": None},
}


def text(value: Any) -> str:
    return json.dumps({"dekctl": {"value": value, "sensitive": False}, "other": {"value": 1}})


def test_the_whole_output_is_read() -> None:
    outputs = parse_outputs(text(VALUE), "file", "staging")
    assert (outputs.region, outputs.kek_arn) == ("eu-central-1", ARN + "b")
    assert [(g.name, g.state) for g in outputs.generations] == [
        ("2026a", "retired"),
        ("2026b", "active"),
    ]
    assert outputs.generation_name(ARN + "a") == "2026a"
    assert outputs.generation_name(ARN + "x") is None
    assert outputs.roles[Role.KEY_ADMIN].endswith("role/key_admin")


def test_the_keks_of_tenants_are_generations_by_tenant() -> None:
    own = {
        "arn": ARN + "t2",
        "alias": "alias/app-dek-acme",
        "generations": {
            "g10": {"arn": ARN + "t2", "state": "active"},
            "g9": {"arn": ARN + "t1", "state": "retired"},
        },
    }
    value = {**VALUE, "tenants": {"acme": own}, "context_names": ["encrypted_files", "photos"]}
    outputs = parse_outputs(text(value), "file", "staging")
    assert [g.name for g in outputs.tenants] == ["acme/g9", "acme/g10"]
    assert outputs.generation_name(ARN + "t1") == "acme/g9"
    assert {ARN + "t1", ARN + "t2"} < set(outputs.kek_arns())
    assert outputs.context_names == ("encrypted_files", "photos")


def paths(value: Any, at: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    if not isinstance(value, dict):
        return [at]
    return [at, *(path for key in value for path in paths(value[key], (*at, key)))]


OPTIONAL = {("kek", "generations", "2026a"), ("kek", "generations", "2026b")}
NEEDED = [
    path
    for path in paths(VALUE)
    if path and path not in OPTIONAL and path[0] != "audit" and path != ("schema_version",)
]


@pytest.mark.parametrize("path", NEEDED, ids=".".join)
def test_each_missing_part_is_named(path: tuple[str, ...]) -> None:
    value = copy.deepcopy(VALUE)
    inner = value
    for key in path[:-1]:
        inner = inner[key]
    del inner[path[-1]]
    with pytest.raises(UsageError) as caught:
        parse_outputs(text(value), "file", "staging")
    assert path[-1] in caught.value.message
    assert caught.value.hint == "run: make apply ENV=staging"


@pytest.mark.parametrize("document", ["", "[]", "{}", '{"dekctl": 1}', '{"dekctl": {"value": 1}}'])
def test_what_is_no_output_is_refused(document: str) -> None:
    with pytest.raises(UsageError):
        parse_outputs(document, "file", "staging")


def test_another_schema_version_and_an_unknown_state_are_refused() -> None:
    with pytest.raises(UsageError, match="schema_version 2"):
        parse_outputs(text({**VALUE, "schema_version": 2}), "file", "x")
    value = copy.deepcopy(VALUE)
    value["kek"]["generations"]["2026a"]["state"] = "gone"
    with pytest.raises(DekctlError, match="'gone'"):
        parse_outputs(text(value), "file", "x")


def test_a_file_is_read_and_nothing_is_read_where_nothing_is_named(tmp_path: Path) -> None:
    file = tmp_path / "outputs.json"
    file.write_text(text(VALUE))
    outputs = load_outputs(EnvConfig("x", terraform_outputs=file))
    assert outputs is not None
    assert outputs.kek_alias == "alias/app-dek"
    assert load_outputs(EnvConfig("x")) is None


def test_without_terraform_the_way_out_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UsageError) as caught:
        load_outputs(EnvConfig("x", terraform=tmp_path))
    assert "terraform_outputs" in str(caught.value.hint)
