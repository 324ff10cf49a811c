"""docs/commands.md is what the commands say of themselves; it is committed, as many read it there.

DEKCTL_WRITE_DOCS=1 writes it.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

import dekctl
from dekctl.cli.manual import VARIABLES
from support import reference
from support.pages import assert_part

PARTS: dict[str, Callable[[], str]] = {
    "codes": reference.exit_codes,
    "global options": reference.global_options,
    "commands": reference.commands,
    "variables": reference.variables,
}


@pytest.mark.parametrize("part", PARTS)
def test_the_page_is_what_the_commands_say(part: str) -> None:
    assert_part("commands.md", part, PARTS[part]())


def test_every_environment_variable_of_the_code_is_in_the_help() -> None:
    sources = Path(dekctl.__file__).parent.rglob("*.py")
    named = {
        name
        for source in sources
        for name in re.findall(r'"((?:DEKCTL|AWS|TF)_[A-Z_]+)"', source.read_text())
    }
    assert "DEKCTL_CONFIG" in named
    # Hidden by `config show`; boto3 reads them with the other credentials.
    credentials = {"AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"}
    assert named - credentials <= {name for names in VARIABLES for name in names.split(", ")}
