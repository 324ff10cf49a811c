"""The project's pages: their code blocks, and their parts that are generated."""

from __future__ import annotations

import os
import re
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = sorted(
    path
    for pattern in ("*.md", "docs/*.md", "terraform/**/*.md", "examples/**/*.md", "localstack/*.md")
    for path in ROOT.glob(pattern)
    if not any(part.startswith(".") for part in path.relative_to(ROOT).parts)
)
RUN_BY = {
    "docs/application.md": "tests/integration/test_application_page.py",
    "docs/database-grants.md": "tests/integration/test_database_grants.py",
    "docs/odd-tables.md": "tests/integration/test_inspection.py",
    "docs/own-table.md": "tests/integration/test_own_table_page.py",
    "docs/runbook.md": "tests/acceptance/test_runbook.py",
}
"""Pages with a test of their own that runs their blocks.

The commands of all others: tests/acceptance/test_page_blocks.py.
"""
FENCE = re.compile(r"^( *)```([\w{}]*)\n(.*?)^\1```$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True, slots=True)
class Block:
    """A fenced block and where it begins."""

    page: str
    line: int
    language: str
    text: str


def blocks(page: Path) -> list[Block]:
    """The blocks of one page."""
    text = page.read_text(encoding="utf-8")
    return [
        Block(
            str(page.relative_to(ROOT)),
            text.count("\n", 0, found.start()) + 1,
            found[2],
            textwrap.dedent(found[3]),
        )
        for found in FENCE.finditer(text)
    ]


def shell_lines(block: Block) -> Iterator[str]:
    """The lines of a block that somebody types."""
    for line in re.sub(r"\\\n\s*", "", block.text).splitlines():
        if block.language == "console":
            if line.startswith("$ "):
                yield line.removeprefix("$ ")
        elif block.language == "sh" or line.startswith(("dekctl ", "make ")):
            yield line


def assert_part(page: str, name: str, text: str) -> None:
    """Fail unless the part from ``<!-- name -->`` to its end is this text.

    DEKCTL_WRITE_DOCS=1 writes it instead.
    """
    file = DOCS / page
    found = file.read_text()
    begin, end = f"<!-- {name} -->\n", f"<!-- /{name} -->"
    head, rest = found.split(begin)
    _, tail = rest.split(end)
    wanted = f"{head}{begin}\n{text.strip()}\n\n{end}{tail}"
    if os.environ.get("DEKCTL_WRITE_DOCS"):
        file.write_text(wanted)
    assert found == wanted, f"docs/{page} is out of date: run the tests with DEKCTL_WRITE_DOCS=1"


def told(text: str) -> list[str]:
    """The lines that begin with warn or FAIL, each with its hint."""
    lines = text.splitlines()
    hints = {i: line for i, line in enumerate(lines) if line.lstrip().startswith("hint:")}
    return [
        "\n".join(filter(None, (line, hints.get(i + 1))))
        for i, line in enumerate(lines)
        if line.startswith(("warn", "FAIL"))
    ]
