"""What a person reads when something is left to do: the next command, as it must be typed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click
import pytest

from dekctl.cli.hints import Place
from dekctl.cli.terminal import Terminal
from support.app import AppDatabase
from support.cli import Dekctl
from support.pages import ROOT


def test_a_hint_repeats_the_environment_that_was_chosen(
    sqlite_database: AppDatabase, dekctl: Dekctl, make_app: Any
) -> None:
    make_app(sqlite_database, rows=1)
    env = "test"
    refused = dekctl("--env", env, "scrub", "--yes").expect(3)
    assert f"hint: expand the schema first: dekctl --env {env} migrate" in refused.stderr


def test_every_hint_and_note_repeats_the_options_that_were_given(
    sqlite_database: AppDatabase, dekctl: Dekctl, make_app: Any
) -> None:
    app = make_app(sqlite_database, rows=2)
    file = dekctl.folder / "another name.toml"
    (dekctl.folder / "dekctl.toml").rename(file)
    given = ("--config", str(file), "--env", "test", "--no-assume-role")
    again = f"dekctl --env test --config '{file}' --no-assume-role"

    assert f"{again} migrate" in dekctl(*given, "scrub", "--yes").expect(3).stderr
    app.set((2,), plaintext=b"x")
    dekctl(*given, "schema", "expand").expect(0)
    assert f"{again} wrap --retry-quarantined" in dekctl(*given, "wrap").expect(4).stderr
    kek = dekctl.json(*given, "status")["keks"][0]["kek_id"]
    retired = dekctl("--json", *given, "retire", kek).expect(3)
    [rows] = [c for c in retired.json["checks"] if c["check"] == "rows"]
    assert f"{again} rewrap" in rows["hint"]
    assert f"{again} rewrap" in retired.stderr
    sqlite_database.sql("DELETE FROM dekctl_version_encrypted_files")
    assert f"{again} schema expand" in dekctl(*given, "doctor").expect(3).stdout
    for result in (retired, dekctl(*given, "doctor")):
        assert f"{again} --env" not in result.stdout + result.stderr


def test_prose_is_no_command() -> None:
    text = "use the Terraform modules and the dekctl of one release, then: dekctl wrap --stale"
    shown = text.replace("dekctl w", "dekctl --env x w")
    assert Terminal(place=Place("--env x")).exact(text) == shown


@pytest.mark.parametrize(
    ("text", "place", "shown"),
    [
        (
            "move them with: dekctl rewrap --from g1; then: dekctl retire g1",
            Place(table="files"),
            "move them with: dekctl rewrap --from g1 --table files; then: dekctl retire g1",
        ),
        (
            "dekctl verify; where they differ, keep both: dekctl settle --prove PROGRAM (see x)",
            Place("--env x", table="a b"),
            "dekctl --env x verify --table 'a b'; where they differ, keep both: "
            "dekctl --env x settle --prove PROGRAM --table 'a b' (see x)",
        ),
        (
            "then: dekctl rewrap --from g1 and wait, dekctl retire g1, dekctl schema contract.",
            Place("--env staging", make_env="staging"),
            "then: make rewrap ENV=staging ARGS='--from g1' and wait, make retire ENV=staging "
            "KEK=g1, make contract ENV=staging.",
        ),
        (
            "dekctl schema expand --adopt 'BLOB NOT NULL'; or dekctl report --output FILE",
            Place("--env staging --no-assume-role", make_env="staging"),
            "make dekctl ENV=staging ARGS='schema expand --adopt '\"'\"'BLOB NOT NULL'\"'\"' "
            "--no-assume-role'; or make report ENV=staging REPORT=FILE ARGS=--no-assume-role",
        ),
        ("run: make apply", Place(make_env="staging"), "run: make apply ENV=staging"),
        (
            "set it in terraform/environments/prod, then: make apply ENV=prod",
            Place(terraform="infra/keys", env="prod"),
            "set it in infra/keys, then: terraform -chdir=infra/keys apply",
        ),
        (
            "run: make apply ENV=prod",
            Place(outputs="/srv/out.json", env="prod"),
            "run: terraform apply && terraform output -json > /srv/out.json",
        ),
        (
            "accept it: --allow x (make apply ALLOW=x)",
            Place(terraform="infra", env="prod"),
            "accept it: --allow x",
        ),
    ],
)
def test_a_command_is_written_for_where_the_person_stands(
    text: str, place: Place, shown: str
) -> None:
    assert place.runnable(text) == shown


def test_a_page_is_named_by_where_it_is(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    text = "run: dekctl rebind (see docs/rebind.md); not infra/docs/rebind.md"
    monkeypatch.chdir(ROOT)
    assert Place().runnable(text) == text
    monkeypatch.chdir(tmp_path)
    assert Place().runnable(text) == text.replace("(see ", f"(see {ROOT}/")


@pytest.mark.parametrize(
    "arguments", [["wrapp"], ["--nope", "wrap"], ["wrap", "--limit", "0"], ["schema", "nope"]]
)
def test_errors_of_usage_are_json_lines_where_these_are_asked_for(
    dekctl: Dekctl, arguments: list[str]
) -> None:
    for option in (["--log-format", "json"], ["--log-format=json"]):
        [line] = dekctl(*option, *arguments).expect(2).stderr.splitlines()
        assert (json.loads(line)["level"], json.loads(line)["exit_code"]) == ("error", 2)


def test_an_interrupted_question_is_a_json_line_where_these_are_asked_for(
    sqlite_database: AppDatabase, dekctl: Dekctl, make_app: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_app(sqlite_database, rows=1)
    dekctl("migrate").expect(0)

    def interrupted(*_: Any, **__: Any) -> bool:
        raise click.Abort

    monkeypatch.setattr(Terminal, "confirm", interrupted)
    [line] = dekctl("--log-format", "json", "scrub").expect(130).stderr.splitlines()
    assert json.loads(line)["message"] == "interrupted"


def test_a_rehearsed_wrap_finds_the_keys_that_cannot_be_wrapped(
    sqlite_database: AppDatabase, dekctl: Dekctl, make_app: Any
) -> None:
    make_app(sqlite_database, rows=3)
    sqlite_database.sql("UPDATE encrypted_files SET encryption_key = x'00' WHERE id = 2")
    rehearsed = dekctl.json("wrap", "--dry-run", expect=4)
    assert (rehearsed["changed"], rehearsed["quarantined"]) == (2, 1)
    assert "1 bytes long" in rehearsed["set_aside"][0]["reason"]


def test_a_corrected_row_leaves_quarantine_by_the_command_that_is_named(
    sqlite_database: AppDatabase, dekctl: Dekctl, make_app: Any
) -> None:
    make_app(sqlite_database, rows=3)
    dekctl("schema", "expand").expect(0)
    sqlite_database.sql("UPDATE encrypted_files SET encryption_key = x'00' WHERE id = 2")
    assert "dekctl wrap --retry-quarantined" in dekctl("wrap").expect(4).stderr
    sqlite_database.sql("UPDATE encrypted_files SET encryption_key = zeroblob(32) WHERE id = 2")
    again = dekctl("wrap").expect(4)
    assert "--retry-quarantined" in again.stdout
    assert dekctl.json("wrap", "--retry-quarantined")["changed"] == 1


@pytest.mark.parametrize("command", [["retire"], ["rewrap", "--from"]])
def test_a_kek_that_nobody_knows_is_an_error_and_no_success(
    sqlite_database: AppDatabase, dekctl: Dekctl, make_app: Any, command: list[str]
) -> None:
    make_app(sqlite_database, rows=1)
    dekctl("migrate").expect(0)
    assert "nonsense" in dekctl(*command, "nonsense").expect(2).stderr


def test_a_local_kek_that_is_not_at_hand_cannot_be_declared_retired(
    sqlite_database: AppDatabase, dekctl: Dekctl, make_app: Any
) -> None:
    make_app(sqlite_database, rows=1)
    dekctl("migrate").expect(0)
    refused = dekctl("retire", "env:0000000000000000").expect(2)
    assert "no KEK env:0000000000000000 is configured" in refused.stderr


def test_scrub_does_not_end_well_while_a_quarantined_row_has_its_plaintext(
    sqlite_database: AppDatabase, dekctl: Dekctl, make_app: Any
) -> None:
    make_app(sqlite_database, rows=3)
    sqlite_database.sql("UPDATE encrypted_files SET encryption_key = x'00' WHERE id = 2")
    dekctl("migrate").expect(4)
    scrubbed = dekctl.json("scrub", "--yes", expect=4)
    assert (scrubbed["changed"], scrubbed["quarantined"]) == (2, 1)
