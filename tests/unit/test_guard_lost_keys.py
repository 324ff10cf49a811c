"""`dekctl guard`: keys that a plan no longer knows, and plans of another environment.

The plans were made by real Terraform after the event, see `support/recorded_plans.py`.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from support.app import AppDatabase, Application
from support.cli import Dekctl
from support.guarded import ROWS, guard
from support.plans import write
from support.recorded_plans import FIRST, PENDING, STATE_RM, edit, recorded


@pytest.fixture
def app(expanded_app: Application) -> Application:
    """Five rows, of which three are wrapped under g1 and two under g2 of the recorded plans."""
    wrap(expanded_app, arn("g1"), "id <= 3")
    wrap(expanded_app, arn("g2"), "id > 3")
    return expanded_app


def outputs() -> dict[str, Any]:
    value: dict[str, Any] = recorded()["prior_state"]["values"]["outputs"]["dekctl"]["value"]
    return value


def arn(generation: str) -> str:
    return str(outputs()["kek"]["generations"][generation]["arn"])


def wrap(app: Application, kek: str | None, which: str = "TRUE") -> None:
    """Let some rows name a KEK; what the blob holds does not matter here."""
    app.database.sql(
        "UPDATE encrypted_files SET wrapped_key = :blob, wrapped_key_version = 'V2', kek_id = :kek "
        f"WHERE {which}",
        blob=b"blob",
        kek=kek,
    )


def test_a_plan_that_changes_nothing_passes(app: Application, dekctl: Dekctl) -> None:
    found = guard(dekctl, recorded(), expect=0)
    assert (found["findings"], found["rows_counted"]) == ([], True)


@pytest.mark.parametrize(
    ("name", "why"), [(PENDING, "found it deleted"), (STATE_RM, "the last outputs name it")]
)
def test_a_key_that_terraform_lost_is_the_first_finding(
    name: str, why: str, app: Application, dekctl: Dekctl
) -> None:
    plan = recorded(name)
    first, *others = guard(dekctl, plan, expect=3)["findings"]
    assert (first["kind"], first["kek_id"], first["rows"]) == ("lost", arn("g1"), 3)
    assert first["generation"] == "g1"
    assert why in first["detail"]
    assert 'generation["g1"]' in first["address"]
    refused = dekctl("guard", "--plan", write(dekctl.folder, plan)).expect(3)
    told = f"aws kms cancel-key-deletion --key-id {arn('g1')} --region eu-central-1"
    assert told in refused.stderr
    assert all(other["kind"] != "lost" for other in others)


def test_a_lost_key_that_no_row_needs_is_no_finding(app: Application, dekctl: Dekctl) -> None:
    wrap(app, arn("g2"))
    assert "lost" not in kinds_of(dekctl, recorded(PENDING))


def test_rows_that_name_no_kek_may_need_a_lost_key(app: Application, dekctl: Dekctl) -> None:
    wrap(app, None, "id = 5")
    first = guard(dekctl, recorded(PENDING), expect=3)["findings"][0]
    assert (first["kind"], first["rows"]) == ("lost", 4)


def test_branch_keys_under_a_lost_key_count(app: Application, dekctl: Dekctl) -> None:
    wrap(app, arn("g2"))
    app.database.sql(
        "INSERT INTO dekctl_branch_keys VALUES "
        "('00', 'encrypted_files', x'00', :kek, '2026-01-01', 10)",
        kek=arn("g1"),
    )
    first = guard(dekctl, recorded(PENDING), expect=3)["findings"][0]
    assert (first["kind"], first["kek_id"]) == ("lost", arn("g1"))


def kinds_of(dekctl: Dekctl, plan: dict[str, Any]) -> list[str]:
    file = write(dekctl.folder, plan)
    found: list[dict[str, Any]] = json.loads(dekctl("--json", "guard", "--plan", file).stdout)[
        "findings"
    ]
    return [finding["kind"] for finding in found]


def test_keys_that_rows_name_are_lost_with_the_state(app: Application, dekctl: Dekctl) -> None:
    found = guard(dekctl, recorded(FIRST), expect=3)["findings"]
    assert {(f["kind"], f["kek_id"], f["rows"]) for f in found} == {
        ("lost", arn("g1"), 3),
        ("lost", arn("g2"), 2),
    }


def test_a_first_apply_without_wrapped_rows_passes(
    sqlite_database: AppDatabase, make_app: Any, dekctl: Dekctl
) -> None:
    make_app(sqlite_database, rows=ROWS, env={"provider": "env"})
    assert guard(dekctl, recorded(FIRST), expect=0)["findings"] == []


def test_a_lost_key_is_refused_without_a_database(dekctl: Dekctl) -> None:
    dekctl.configure('[table]\n[env.test]\ndatabase_url = "sqlite:////nowhere/app.db"\n')
    file = write(dekctl.folder, recorded(PENDING))
    assert "rows cannot be counted" in dekctl("guard", "--plan", file).expect(3).stderr
    passed = dekctl("guard", "--plan", write(dekctl.folder, recorded())).expect(0)
    assert "the rows were not counted" in passed.stderr


# -- another environment ---------------------------------------------------------------------------

Change = dict[str, Any]


def test_a_plan_of_the_environment_agrees(
    sqlite_database: AppDatabase, make_app: Any, dekctl: Dekctl
) -> None:
    configure(sqlite_database, make_app, dekctl, outputs())
    assert guard(dekctl, recorded(), expect=0)["findings"] == []


OTHER = {
    "account": {"account_id": "210987654321"},
    "Region": {"region": "eu-west-1"},
    "alias": {"kek": outputs()["kek"] | {"alias": "alias/dekctl-production"}},
    "KEK": {
        "kek": outputs()["kek"]
        | {
            "arn": "arn:aws:kms:eu-central-1:123456789012:key/other",
            "generations": {
                "g1": {
                    "arn": "arn:aws:kms:eu-central-1:123456789012:key/other",
                    "state": "active",
                }
            },
        }
    },
}


@pytest.mark.parametrize(("what", "changed"), OTHER.items(), ids=OTHER.keys())
def test_a_plan_of_another_environment_is_wrong_usage(
    what: str, changed: Change, sqlite_database: AppDatabase, make_app: Any, dekctl: Dekctl
) -> None:
    configure(sqlite_database, make_app, dekctl, outputs() | changed)
    refused = dekctl("guard", "--plan", write(dekctl.folder, recorded())).expect(2)
    assert "is of another environment" in refused.stderr
    assert what in refused.stderr


def configure(database: AppDatabase, make_app: Any, dekctl: Dekctl, value: dict[str, Any]) -> None:
    """An environment with these Terraform outputs."""
    file = Path(dekctl.folder) / "outputs.json"
    file.write_text(json.dumps({"dekctl": {"value": value}}))
    make_app(database, rows=1, env={"provider": "aws", "terraform_outputs": str(file)})


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("region", "eu-west-1"),
        ("kek", "alias/other"),
        ("kek", "arn:aws:kms:eu-central-1:210987654321:key/k1"),
        ("kek", "arn:aws:kms:us-east-1:123456789012:key/k1"),
        ("kek", "arn:aws:kms:eu-central-1:210987654321:alias/dekctl-staging"),
        ("kek", "arn:aws:kms:us-east-1:123456789012:alias/dekctl-staging"),
    ],
)
def test_a_plan_and_settings_without_outputs_are_compared_too(
    setting: str, value: str, sqlite_database: AppDatabase, make_app: Any, dekctl: Dekctl
) -> None:
    make_app(sqlite_database, rows=1, env={"provider": "aws", setting: value})
    refused = dekctl("guard", "--plan", write(dekctl.folder, recorded())).expect(2)
    assert "is of another environment" in refused.stderr


# -- accepting -------------------------------------------------------------------------------------


def test_only_an_id_accepts_a_finding(app: Application, dekctl: Dekctl) -> None:
    plan = edit(recorded(), 'generation["g1"]', is_enabled=False)
    [finding] = guard(dekctl, plan, expect=3)["findings"]
    file = write(dekctl.folder, plan)
    by_address = dekctl("guard", "--plan", file, "--allow", finding["address"]).expect(2)
    assert finding["id"] in by_address.stderr
    assert guard(dekctl, plan, "--allow", finding["id"], expect=0)["recorded"]


def test_an_id_is_of_what_was_seen(app: Application, dekctl: Dekctl) -> None:
    """Accepted while no row needed the key, or of a resource that looks different by now."""
    plan = edit(recorded(), 'generation["g1"]', is_enabled=False)
    [finding] = guard(dekctl, plan, expect=3)["findings"]
    other = edit(plan, 'generation["g1"]', description="changed too")
    [again] = guard(dekctl, other, expect=3)["findings"]
    assert (again["detail"], again["address"]) == (finding["detail"], finding["address"])
    assert again["id"] != finding["id"]
