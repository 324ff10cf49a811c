"""docs/threat-model.md: every test that it names is there."""

from __future__ import annotations

import re
from pathlib import Path

TESTS = Path(__file__).parents[1]
PAGE = TESTS.parent / "docs" / "threat-model.md"


def test_every_test_that_the_page_names_exists() -> None:
    named = re.findall(
        r"`((?:unit|integration|acceptance|adversary)/[\w/]+\.py)(?:::(\w+))?`", PAGE.read_text()
    )
    assert len(named) > 30
    missing = [
        f"{file}::{test}"
        for file, test in named
        if not (TESTS / file).is_file()
        or (test and f"def {test}(" not in (TESTS / file).read_text())
    ]
    assert not missing, "correct docs/threat-model.md, or write the test"


def test_every_adversary_has_a_line() -> None:
    text = PAGE.read_text()
    files = {f"adversary/{file.name}" for file in (TESTS / "adversary").glob("test_*.py")}
    unnamed = {file for file in files if file not in text}
    assert unnamed <= {
        "adversary/test_missing_branch_keys.py",
        "adversary/test_told_as_what_it_is.py",
    }
