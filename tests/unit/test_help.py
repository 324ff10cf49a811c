"""``dekctl --help``: every command once, in whole sentences."""

from __future__ import annotations

import inspect
import shlex

import click
import pytest
from click.testing import CliRunner

from dekctl.cli import registry
from dekctl.cli.main import cli, global_options_first
from dekctl.cli.manual import EXIT_CODES, MANUAL
from dekctl.errors import ExitCode
from support.reference import every_command


def test_help_lists_every_command_once_with_a_whole_sentence() -> None:
    sections = registry.by_section()
    assert registry.Section.OTHER not in sections, "a command has no PLACE"
    texts = {name: text for found in sections.values() for name, text in found.items()}
    assert sorted(texts) == list(registry.names())
    for name, text in texts.items():
        command = registry.load(name)
        assert inspect.cleandoc(command.help or "") == text, (
            f"{name}: its help is not the docstring of its function"
        )
        members = command.commands.values() if isinstance(command, click.Group) else ()
        for each in (command, *members):
            sentence = each.get_short_help_str(200)
            assert sentence[0].isupper(), each.name
            assert sentence.endswith("."), each.name
            assert all(p.help for p in each.params if isinstance(p, click.Option)), each.name


def test_help_tells_the_two_rollbacks_apart() -> None:
    whole, schema = registry.load("rollback"), registry.load("schema")
    assert isinstance(schema, click.Group)
    step = schema.commands["rollback"]
    assert whole.get_short_help_str(200).startswith("Undo everything")
    assert step.get_short_help_str(200).startswith("Undo one schema step only")
    assert "dekctl schema rollback" in str(whole.help)
    assert "dekctl rollback" in str(step.help)


def test_each_long_help_is_whole_sentences_with_three_examples_and_the_exit_codes() -> None:
    commands = every_command()
    assert set(EXIT_CODES) == set(ExitCode)
    assert set(MANUAL) == set(commands), "cli/manual.py has an entry for each command, and no other"
    for path, command in commands.items():
        shown = CliRunner().invoke(cli, [*path.split(), "--help"], prog_name="dekctl").stdout
        entry = MANUAL[path]
        assert len(entry.examples) == 3, f"{path}: three examples"
        for line, what in entry.examples:
            assert f"    {line}\n        {what}\n" in shown, f"{path}: {line}"
            assert what[0].isupper(), f"{path}: {what}"
            assert what.endswith("."), f"{path}: {what}"
            assert_is_understood(line, path)
        for code in entry.codes:
            assert f"{code.value:>5}  {EXIT_CODES[code]}\n" in shown, f"{path}: {code}"
        for paragraph in inspect.cleandoc(command.help or "").split("\n\n"):
            if paragraph.startswith("\b"):  # lines to copy
                continue
            sentence = paragraph.partition("\n#")[0]  # a line to copy may follow
            assert sentence[-1] in ".:", f"{path}: {paragraph}"
        for param in command.params:
            if isinstance(param, click.Option) and param.help:
                text = param.help.removesuffix(".")
                assert param.help != text, f"{path} {param.name}: a whole sentence ends with a stop"
                assert text[0].isupper() or text.startswith("["), f"{path} {param.name}"


def assert_is_understood(line: str, path: str) -> None:
    """Fail unless an example is a command of this path, with options that exist."""
    words = shlex.split(line.partition(" > ")[0])
    assert words[0] == "dekctl"
    words = global_options_first(cli, words[1:])
    while words and words[0].startswith("--"):
        takes_value = words[0] not in ("--json", "--quiet")
        del words[: 1 + takes_value]
    name, command = "", every_command()
    while words and f"{name} {words[0]}".strip() in command:
        name = f"{name} {words.pop(0)}".strip()
    if path and path != name:
        assert isinstance(command[path], click.Group), f"{line} is no example of {path}"
    context = click.Context(command[name], info_name=name)
    command[name].make_parser(context).parse_args(args=words)


def test_global_options_may_stand_anywhere() -> None:
    given = ["status", "--json", "--table", "x", "--env", "a", "--config=b", "--", "--env"]
    assert global_options_first(cli, given) == [
        *["--json", "--env", "a", "--config=b"],
        *["status", "--table", "x", "--", "--env"],
    ]


@pytest.mark.parametrize(
    ("typed", "meant"),
    [("stauts", "dekctl status"), ("expnd", "dekctl schema expand"), ("warp", "dekctl wrap")],
)
def test_a_mistyped_command_is_told_which_one_may_be_meant(typed: str, meant: str) -> None:
    done = CliRunner().invoke(cli, [typed], prog_name="dekctl")
    assert done.exit_code == 2
    assert f"hint: did you mean: {meant}\n" in done.stderr
    assert (
        "did you mean: dekctl schema contract"
        in CliRunner().invoke(cli, ["schema", "contarct"], prog_name="dekctl").stderr
    )


def test_make_does_not_swallow_the_exit_code() -> None:
    done = CliRunner().invoke(
        cli, ["stauts"], prog_name="dekctl", env={"DEKCTL_MAKE_ENV": "staging"}
    )
    assert "exit code 2 of dekctl" in done.stderr
    assert "did you mean: make status ENV=staging" in done.stderr
