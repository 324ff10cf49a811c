"""Roles that ask for an external id, and the application's role, which is nobody else's."""

from __future__ import annotations

from typing import Any

from support.app import AppDatabase
from support.cli import Dekctl
from support.generations import Generations
from support.kms_standin import Grant


def _role(generations: Generations, name: str) -> str:
    return f"arn:aws:iam::{generations.standin.account}:role/files-{name}"


def test_the_external_id_is_sent(
    sqlite_database: AppDatabase, make_app: Any, generations: Generations, dekctl: Dekctl
) -> None:
    standin = generations.standin
    asking = Grant(("sts:AssumeRole",), context={"sts:ExternalId": "shared"})
    dekctl.environ |= standin.environment(standin.put_user("operator", [asking]))
    make_app(sqlite_database, rows=1, env=generations.env)
    assert "external_id" in dekctl("doctor").expect(5).stdout
    config = dekctl.folder / "dekctl.toml"
    config.write_text(config.read_text() + 'external_id = "shared"\n')
    dekctl("doctor").expect(0)


def test_doctor_does_not_mind_that_the_applications_role_is_not_its_own(
    sqlite_database: AppDatabase, make_app: Any, generations: Generations, dekctl: Dekctl
) -> None:
    make_app(sqlite_database, rows=1, env=generations.env)
    standin = generations.standin
    standin.deny("standin-admin", "sts:AssumeRole", key=_role(generations, "app"))
    checks = {c["check"]: c for c in dekctl.json("doctor")["checks"]}
    assert checks["role app"]["ok"]
    assert checks["role app"]["detail"] == "not checked: only the application can assume it"
    standin.deny("standin-admin", "sts:AssumeRole", key=_role(generations, "verifier"))
    refused = dekctl("--json", "doctor").expect(5)
    assert "cannot assume" in refused.stdout
