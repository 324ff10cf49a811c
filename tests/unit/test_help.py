"""``dekctl --help``: every command once, in whole sentences."""

from __future__ import annotations

import inspect

import click

from dekctl.cli import registry
from dekctl.cli.main import cli


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


def test_the_help_names_every_exit_code() -> None:
    assert all(f"{code} " in str(cli.epilog) for code in (0, 1, 2, 3, 4, 5, 6, 130))
