"""Every code block of every page is run by a test or, here, checked: syntax, commands, options."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import tomllib
from collections.abc import Callable

import jsonschema
import pytest

from dekctl.config import EnvConfig, TableConfig
from dekctl.config.json_schema import json_schema
from dekctl.config.settings import settings_of
from support.pages import PAGES, ROOT, RUN_BY, Block, blocks, shell_lines
from support.typed_commands import commands_of, refuse_unknown

OUTPUT = "text"
"""What is printed, drawn or typed into something else: only its dekctl and make lines are read."""
MENTION = re.compile(r"`((?:dekctl|make) [^`…|]*)`")
ALL = [block for page in PAGES for block in blocks(page)]


def check_toml(block: Block) -> None:
    """A part of dekctl.toml, or findings that were accepted."""
    value = tomllib.loads(block.text)
    value.pop("accepted", None)
    for settings in (TableConfig, EnvConfig):  # settings without their head
        for name in settings_of(settings).keys() & value.keys():
            value.pop(name)
    jsonschema.validate(value, {**json_schema(), "required": []})


CHECKS: dict[str, Callable[[Block], object]] = {
    "json": lambda block: json.loads(block.text),
    "python": lambda block: compile(block.text, block.page, "exec"),
    "toml": check_toml,
}
CHECKED_TOGETHER = {"console", "sh", "hcl", OUTPUT, "", "{toctree}"}
"""By tests of their own, and the last one by the site's build."""


def test_every_block_is_run_or_has_the_syntax_of_its_language() -> None:
    wrong = []
    for block in ALL:
        where = f"{block.page}:{block.line}"
        if block.language not in CHECKS:
            if block.language not in CHECKED_TOGETHER and block.page not in RUN_BY:
                wrong.append(f"{where}: nothing checks {block.language}")
            continue
        try:
            CHECKS[block.language](block)
        except (SyntaxError, ValueError) as error:
            wrong.append(f"{where}: {error}")
        except jsonschema.ValidationError as error:
            wrong.append(f"{where}: {error.message}")
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("page", RUN_BY)
def test_the_test_that_runs_a_page_names_it(page: str) -> None:
    assert page in (ROOT / RUN_BY[page]).read_text(encoding="utf-8")


def test_every_command_that_a_page_shows_exists_with_its_options() -> None:
    wrong, seen = [], 0
    for block in ALL:
        for line in shell_lines(block):
            try:
                for words in commands_of(line):
                    refuse_unknown(words)
                    seen += 1
            except ValueError as error:
                wrong.append(f"{block.page}:{block.line}: {line}\n  {error}")
    for page in PAGES:
        for mention in MENTION.findall(page.read_text(encoding="utf-8")):
            try:
                for words in commands_of(mention):
                    refuse_unknown(words, whole=False)
            except ValueError as error:
                wrong.append(f"{page.relative_to(ROOT)}: `{mention}`\n  {error}")
    assert seen > 190
    assert not wrong, "\n".join(wrong)


def test_bash_reads_every_shell_line() -> None:
    script = "\n".join(line for block in ALL for line in shell_lines(block))
    done = subprocess.run(["bash", "-n"], input=script, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_terraform_reads_every_hcl_block() -> None:
    if (terraform := shutil.which("terraform")) is None:
        pytest.skip("terraform is not on PATH")
    blocks = [block.text for block in ALL if block.language == "hcl"]
    script = "\n".join(f"block {{\n{text}\n}}" for text in blocks)
    done = subprocess.run(
        [terraform, "fmt", "-no-color", "-"],
        input=script,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    "line",
    [
        "dekctl wrap --no-such-option",
        "dekctl migrat",
        "dekctl schema contrct",
        "dekctl retire",
        "dekctl --enviroment x status",
        "dekctl status extra",
        "make no-such-target",
        "make status NO_SUCH=1",
        "make scrub ARGS=--no-such-option",
        "make dekctl ARGS='schema contrct'",
        "env X=1 true && dekctl wrap --rat 5 > out",
    ],
)
def test_what_does_not_exist_is_found(line: str) -> None:
    *_, words = commands_of(line.partition(" >")[0])
    with pytest.raises(ValueError, match=r".+"):
        refuse_unknown(words)
