"""The project's pages, and their parts that are generated, from ``<!-- name -->`` to its end."""

from __future__ import annotations

import os
from pathlib import Path

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = sorted(
    path
    for pattern in ("*.md", "docs/*.md", "terraform/**/*.md", "examples/**/*.md", "localstack/*.md")
    for path in ROOT.glob(pattern)
    if not any(part.startswith(".") for part in path.relative_to(ROOT).parts)
)


def assert_part(page: str, name: str, text: str) -> None:
    """Fail unless the part of a page is this text; DEKCTL_WRITE_DOCS=1 writes it instead."""
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
