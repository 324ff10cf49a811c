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


def _row_calls(generations: Generations) -> list[dict[str, Any]]:
    """The calls on rows since the last look."""
    calls = [c for c in generations.standin.journal() if c["api"] in {"Encrypt", "Decrypt"}]
    generations.standin.reset_counters()
    return calls


def test_a_run_is_known_by_its_sessions(
    sqlite_database: AppDatabase, make_app: Any, generations: Generations, dekctl: Dekctl
) -> None:
    generations.source_identity = True
    generations.write()
    make_app(sqlite_database, rows=3, env=generations.env)
    config = dekctl.folder / "dekctl.toml"
    sqlite_database.sql("CREATE TABLE others (id INTEGER PRIMARY KEY, encryption_key BLOB)")
    sqlite_database.sql("INSERT INTO others SELECT id, encryption_key FROM encrypted_files")
    both = '[[table]]\nname = "others"\n[[table]]\n'
    both = both.replace('"others"\n', '"others"\ncontext_name = "others"\n')
    config.write_text(config.read_text().replace("[table]\n", both, 1))
    dekctl("schema", "expand").expect(0)
    generations.standin.reset_counters()
    dekctl("wrap").expect(0)
    calls = _row_calls(generations)
    entered = "SELECT table_name, run_id FROM dekctl_runs WHERE operation = 'wrap'"
    runs = dict(sqlite_database.sql(entered))
    assert runs.keys() == {"others", "encrypted_files"}
    for table, run in runs.items():
        mine = [c for c in calls if c["context"]["dekctl:table"] == table]
        assert len(mine) >= 3
        assert {c["session"] for c in mine} == {f"dekctl-{run}"}
        assert {c["source_identity"] for c in mine} == {f"dekctl-{run}"}
    # Each worker process assumes the roles by itself, for the same run.
    done = dekctl.process("--json", "verify", "--table", "others", "--workers", "2").expect(0).json
    assert done["kms_calls"]["Decrypt"] == 3
    assert {c["session"] for c in _row_calls(generations)} == {f"dekctl-{done['run_id']}"}


def test_who_may_not_set_a_source_identity_is_told_how_to_go_without(
    sqlite_database: AppDatabase, make_app: Any, generations: Generations, dekctl: Dekctl
) -> None:
    generations.source_identity = True
    generations.write()
    standin = generations.standin
    user = standin.put_user("operator", [Grant(("sts:AssumeRole",))])
    dekctl.environ |= standin.environment(user)
    make_app(sqlite_database, rows=1, env=generations.env)
    dekctl("schema", "expand").expect(0)
    refused = dekctl("wrap").expect(5).stderr
    assert "sts:SetSourceIdentity" in refused
    assert "source_identity = false" in refused
    config = dekctl.folder / "dekctl.toml"
    config.write_text(config.read_text() + "source_identity = false\n")
    dekctl("wrap").expect(0)
