"""A command that must be refused: what it says, and that nothing changed."""

from __future__ import annotations

from support.app import Application
from support.cli import Dekctl, Result

ALL_STAGES = ("legacy", "expanded", "wrapped", "scrubbed", "contracted")


def to_stage(dekctl: Dekctl, stage: str) -> None:
    """Bring the table there from the legacy schema."""
    steps = (["schema", "expand"], ["migrate"], ["scrub", "--yes"], ["schema", "contract", "--yes"])
    for step in steps[: ALL_STAGES.index(stage)]:
        dekctl(*step).expect(0)


def assert_says(result: Result, *words: str) -> None:
    """The error names what is wrong, and a hint follows."""
    lines = result.stderr.splitlines()
    assert result.stdout == ""
    assert any(line.startswith("error: ") for line in lines), result.stderr
    assert any(line.startswith("hint: ") for line in lines), result.stderr
    assert "Traceback" not in result.stderr
    for word in words:
        assert word in result.stderr, f"{word!r} is not in: {result.stderr}"


def refused(dekctl: Dekctl, app: Application, *command: str, exit_code: int) -> Result:
    """Run a command that must be refused without a trace in the table."""
    before = app.rows(), dekctl.json("schema", "current")
    result = dekctl(*command).expect(exit_code)
    assert (app.rows(), dekctl.json("schema", "current")) == before
    return result
