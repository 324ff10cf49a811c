"""The environments: local on moto's server, and what the real ones insist on."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sandbox.moto import MotoServer
from tfkit.terraform import (
    TerraformError,
    TerraformMissingError,
    Workspace,
)


@pytest.fixture(scope="module")
def moto() -> Iterator[MotoServer]:
    with MotoServer.start() as server:
        yield server


def _open(directory: Path, environment: str, endpoint_url: str) -> Workspace:
    try:
        workspace = Workspace(directory, f"environments/{environment}", endpoint_url)
        workspace.init()
    except TerraformMissingError as missing:
        pytest.skip(str(missing))
    return workspace


def test_a_real_environment_cannot_do_without_its_trail(tmp_path: Path, moto: MotoServer) -> None:
    # Staging has the same files.
    real = _open(tmp_path, "production", moto.endpoint_url)
    real.write_variables({"audit": None})
    trails = _planned(real.plan(), "aws_cloudtrail")
    assert len(trails) == 1, "null means the defaults here"
    assert trails[0]["is_multi_region_trail"] is True
    real.write_variables({"audit": False})
    with pytest.raises(TerraformError, match="audit"):
        real.plan()


def test_a_real_environment_refuses_another_account(tmp_path: Path, moto: MotoServer) -> None:
    staging = _open(tmp_path, "staging", moto.endpoint_url)
    staging.write_variables({"account_id": "999988887777"})
    with pytest.raises(TerraformError, match="account"):
        staging.plan()


def test_what_would_be_wrong_on_aws_is_told_by_the_plan(tmp_path: Path, moto: MotoServer) -> None:
    staging = _open(tmp_path, "staging", moto.endpoint_url)
    account = "arn:aws:iam::123456789012:role"
    roles = ("app", "wrapper", "rewrapper", "verifier", "auditor", "key_admin")
    staging.write_variables(
        {
            "generations": {"g1": {"state": "active", "multi_regoin": True}},
            "tenants": {"blue": {"generations": {"g1": {"state": "active", "still_wrap": True}}}},
            "trust": {r: {"principals": [f"{account}/ops"]} for r in roles},
            "audit": {"lock_day": 3, "lock_days": 0.5, "existing": {"trail": "x"}},
            "administrator_arns": [
                "arn:aws:iam::999988887777:role/terraform",
                f"{account}/dekctl-staging-app",
                f"{account}/ops",
            ],
        }
    )
    with pytest.raises(TerraformError) as failed:
        staging.plan()
    said = " ".join(str(failed.value).replace("\u2502", " ").split())
    for text in (
        "no generation has: g1.multi_regoin.",
        "no tenant has: blue.g1.still_wrap.",
        "does not have: lock_day, existing.trail.",
        "audit.existing needs trail_arn",
        "lock_days must be a whole number",
        "another account than 123456789012",
        "a role that this module makes",
        "lets act as the application",
    ):
        assert text in said, text


def test_policies_that_would_be_too_long_are_told_before_any_key_exists(
    tmp_path: Path, moto: MotoServer
) -> None:
    local = _open(tmp_path, "local", moto.endpoint_url)
    generations = {"g1": {"state": "retired"}, "g2": {"state": "active"}}
    tenants = {f"tenant-{n}": {"generations": generations} for n in range(26)}
    local.write_variables({"tenants": tenants})
    with pytest.raises(TerraformError, match="tenants_by_key_policy = true"):
        local.plan()


def test_a_second_region_that_cannot_wrap_is_pointed_out(tmp_path: Path, moto: MotoServer) -> None:
    production = _open(tmp_path, "production", moto.endpoint_url)
    old = {"state": "retired", "multi_region": True}
    production.write_variables(
        {"replica_region": "eu-west-1", "generations": {"g1": old, "g2": {"state": "active"}}}
    )
    [failed] = [c for c in production.plan()["checks"] if c["status"] == "fail"]
    assert failed["address"]["to_display"] == "check.the_second_region_can_wrap"


def test_an_emulators_environment_refuses_a_real_account(tmp_path: Path, moto: MotoServer) -> None:
    # Local has the same provider block.
    emulated = _open(tmp_path, "localstack", moto.endpoint_url)
    emulated.write_variables({"account_id": "999988887777"})
    with pytest.raises(TerraformError, match="account"):
        emulated.plan()


def _planned(plan: dict[str, Any], kind: str) -> list[dict[str, Any]]:
    return [c["change"]["after"] for c in plan["resource_changes"] if c["type"] == kind]
