"""docs/troubleshooting.md and docs/runbook.md quote messages as the code has them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

import dekctl
from dekctl import errors

ROOT = Path(__file__).parents[2]
ELSEWHERE = "…"
"""What the code fills in."""


@cache
def messages() -> str:
    """The sources of the package, in which each text stands on one line."""
    sources = (file.read_text("utf-8") for file in Path(dekctl.__file__).parent.rglob("*.py"))
    return re.sub(r"""["']\s*\n\s*f?["']""", "", "\n".join(sources))


@cache
def raised() -> list[tuple[type[errors.DekctlError], str]]:
    """Each message that the code gives an error of :mod:`dekctl.errors`, and the error's class."""
    found = re.findall(r"""\b(\w+Error)\(\s*f?["']([^\n]*)""", messages())
    return [(vars(errors)[name], text) for name, text in found if name in vars(errors)]


def quotations(page: str) -> Iterator[str]:
    """What stands in backquotes in the first column of the tables of messages."""
    for table in re.split(r"\n\n", page):
        head, *rows = table.splitlines()
        if re.match(r"\| (message|reason|`dekctl status` says)", head):
            for row in rows[1:]:
                yield from re.findall(r"`([^`]+)`", row.split(" | ")[0])


def pattern(text: str) -> str:
    """The pattern of a message in :func:`messages`."""
    return ".*".join(map(re.escape, text.strip(ELSEWHERE).split(ELSEWHERE)))


@pytest.mark.parametrize("page", ["troubleshooting.md", "runbook.md"])
def test_every_quoted_message_is_in_the_code(page: str) -> None:
    found = list(quotations((ROOT / "docs" / page).read_text(encoding="utf-8")))
    assert len(found) > 15
    for text in found:
        assert re.search(pattern(text), messages()), f"no message is: {text}"


KINDS: dict[str, tuple[type[errors.DekctlError], ...]] = {
    "Exit code 2": (errors.UsageError,),
    "Exit code 3": (errors.RefusedError,),
    "Exit code 4": (errors.RowRejectedError, errors.RowRefusedError),
    "Exit code 5": (errors.KMSError,),
    "Exit code 6": (errors.DatabaseError,),
}


@pytest.mark.parametrize("heading", KINDS)
def test_each_message_stands_under_the_exit_code_that_it_ends_with(heading: str) -> None:
    page = (ROOT / "docs" / "troubleshooting.md").read_text(encoding="utf-8")
    section = page.partition(f"## {heading}")[2].partition("\n## ")[0]
    checked = 0
    for text in quotations(section):
        kinds = {kind for kind, message in raised() if re.search(pattern(text), message)}
        checked += bool(kinds)
        assert not kinds or any(issubclass(kind, KINDS[heading]) for kind in kinds), text
    assert checked > 2


def test_every_class_of_errors_is_named() -> None:
    text = (ROOT / "docs" / "troubleshooting.md").read_text(encoding="utf-8")
    classes = {n for n, c in vars(errors).items() if isinstance(c, type) and n.endswith("Error")}
    # KMSError is only raised as one of its kinds.
    assert {name for name in classes if f"`{name}`" not in text} == {"KMSError"}
