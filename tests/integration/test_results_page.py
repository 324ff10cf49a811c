"""docs/results.md: the fields of each result, as commands print them, and every metric."""

from __future__ import annotations

import json
import re
from typing import Any

from dekctl.cli.metrics import HELP
from support.app import AppDatabase
from support.cli import Dekctl
from support.pages import DOCS, assert_part
from support.reference import table

PAGE = "results.md"


def documented(part: str) -> set[str]:
    """The names in the first column of a part of the page."""
    text = (DOCS / PAGE).read_text().split(f"<!-- {part} -->")[1].split("<!-- /")[0]
    rows = [line.split(" | ")[0] for line in text.splitlines() if line.startswith("| `")]
    return set(re.findall(r"`(\w+)`", "".join(rows)))


def test_the_page_has_the_fields_that_are_printed(
    sqlite_database: AppDatabase, dekctl: Dekctl, make_app: Any
) -> None:
    make_app(sqlite_database, rows=3)
    dekctl.json("schema", "expand")
    done = dekctl("--json", "--log-format", "json", "wrap").expect(0)
    assert documented("rows") == set(done.json)
    lines = [json.loads(line) for line in done.stderr.splitlines()]
    assert documented("lines") == {name for line in lines for name in line}
    status = dekctl.json("status")
    assert documented("status") == set(status)
    assert documented("run") == set(status["runs"][0])


def test_the_page_has_every_metric() -> None:
    names = {f"`{name}`": text.removesuffix(".") for name, text in HELP.items()}
    assert_part(PAGE, "metrics", table("metric | what it shows", names))
