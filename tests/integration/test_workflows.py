"""The workflows as an application calls them: values and callbacks, nothing printed."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

from dekctl.config import load_config
from dekctl.errors import ExitCode, InterruptError, RefusedError
from dekctl.project import Project
from dekctl.walk.options import RowOptions
from dekctl.walk.progress import Moment
from dekctl.walk.run import run_rows
from dekctl.workflows import migrate, plaintext, rollback, schema, status
from support.app import AppDatabase
from support.cli import Dekctl


@pytest.fixture
def project(
    sqlite_database: AppDatabase,
    dekctl: Dekctl,
    make_app: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> Project:
    """A project over a legacy table of three rows, without a command line."""
    make_app(sqlite_database, rows=3)
    for name, value in dekctl.environ.items():
        monkeypatch.setenv(name, value)
    return Project(load_config(dekctl.folder / "dekctl.toml"))


def test_an_application_migrates_and_goes_back_without_a_word_printed(
    project: Project, capfd: pytest.CaptureFixture[str]
) -> None:
    seen: list[Moment] = []
    run = partial(run_rows, progress=seen.append)
    with project:
        migrated = migrate.migrate(project, RowOptions(), run)
        assert migrated.exit_code is ExitCode.OK
        assert [result.operation for result in migrated.runs] == ["wrap", "verify"]
        assert migrated.as_json()["steps"]["schema"][0]["expanded"] is True
        scrubbed = plaintext.scrub(project, RowOptions(), run)
        assert (scrubbed.counts.changed, status.status(project)["wrapped_only"]) == (3, 3)
        [contracted] = schema.run_step(project, "contract", run=run)
        assert (contracted.stage, contracted.changed) == ("contracted", True)
        back = rollback.rollback(project, RowOptions(), run)
        assert back.as_json()["stage"] == "legacy"
    ended = [moment for moment in seen if moment.ended]
    # wrap, verify, scrub, restore, and the proof that the wrapped keys may go
    assert [moment.operation for moment in ended] == [
        "wrap",
        "verify",
        "scrub",
        "restore",
        "verify",
    ]
    assert all((moment.done, moment.total) == (3, 3) for moment in ended)
    assert all(not moment.total_is_estimated for moment in seen)
    assert [moment.done for moment in seen if not moment.ended][:2] == [0, 3]
    assert capfd.readouterr() == ("", "")


def no() -> None:
    """Decline."""
    raise RefusedError("not confirmed")


@pytest.mark.parametrize(
    "command",
    [
        lambda project: plaintext.scrub(project, RowOptions(), confirm=no),
        lambda project: plaintext.restore(project, RowOptions(), confirm=no),
        lambda project: rollback.rollback(project, RowOptions(), confirm=no),
        lambda project: schema.run_step(project, "rollback", confirm=no),
    ],
    ids=["scrub", "restore", "rollback", "schema rollback"],
)
def test_who_does_not_confirm_changes_nothing(
    project: Project, command: Callable[[Project], object]
) -> None:
    with project:
        migrate.migrate(project, RowOptions())
        before = status.status(project)
        with pytest.raises(RefusedError, match="not confirmed"):
            command(project)
        after = status.status(project)
    assert {**after, "runs": []} == {**before, "runs": []}


def test_an_interrupted_proof_drops_nothing(project: Project) -> None:
    with project:
        migrate.migrate(project, RowOptions())
        project.cancel.set()
        with pytest.raises(InterruptError, match="interrupted while"):
            schema.run_step(project, "rollback")
        assert status.status(project)["both"] == 3
