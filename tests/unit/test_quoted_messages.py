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


def quoted(page: str) -> Iterator[str]:
    """What stands in backquotes in the first column of the tables of messages."""
    for table in re.split(r"\n\n", (ROOT / "docs" / page).read_text(encoding="utf-8")):
        head, *rows = table.splitlines()
        if re.match(r"\| (message|reason|`dekctl status` says)", head):
            for row in rows[1:]:
                yield from re.findall(r"`([^`]+)`", row.split(" | ")[0])


@pytest.mark.parametrize("page", ["troubleshooting.md", "runbook.md"])
def test_every_quoted_message_is_in_the_code(page: str) -> None:
    found = list(quoted(page))
    assert len(found) > 15
    for text in found:
        parts = map(re.escape, text.strip(ELSEWHERE).split(ELSEWHERE))
        assert re.search(".*".join(parts), messages()), f"no message is: {text}"


def test_every_class_of_errors_is_named() -> None:
    text = (ROOT / "docs" / "troubleshooting.md").read_text(encoding="utf-8")
    classes = {n for n, c in vars(errors).items() if isinstance(c, type) and n.endswith("Error")}
    # KMSError is only raised as one of its kinds.
    assert {name for name in classes if f"`{name}`" not in text} == {"KMSError"}
