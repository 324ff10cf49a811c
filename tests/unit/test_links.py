"""Every link between the pages of the project leads somewhere, as `make docs` says of the site."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import dekctl
from support.pages import PAGES, ROOT

LINK = re.compile(r"\]\(([^)\s]+)\)")
NO_CODE = re.compile(r"^( *)```.*?^\1```$|`[^`\n]*`", re.MULTILINE | re.DOTALL)


@cache
def anchors(page: Path) -> set[str]:
    """The names of a page's headings, as a link has them."""
    text = re.sub(r"^( *)```.*?^\1```$", "", page.read_text("utf-8"), flags=re.M | re.S)
    heads = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", head.lower()).strip().replace(" ", "-") for head in heads}


def dead(page: Path) -> Iterator[str]:
    """The links of a page that lead nowhere."""
    for link in LINK.findall(NO_CODE.sub("", page.read_text("utf-8"))):
        if link.startswith(("https:", "http:", "mailto:")):
            continue
        name, _, anchor = link.partition("#")
        target = (page.parent / name).resolve() if name else page
        if not target.exists() or (anchor and anchor not in anchors(target)):
            yield link


def test_no_link_is_dead() -> None:
    assert len(PAGES) > 40
    assert not [f"{page.relative_to(ROOT)}: {link}" for page in PAGES for link in dead(page)]


def test_a_dead_link_is_found(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("# One `two` three\n[a](gone.md) [b](#gone) [`c`](#one-two-three) `[d](gone)`")
    assert list(dead(page)) == ["gone.md", "#gone"]


def test_every_page_that_a_message_names_exists() -> None:
    sources = "\n".join(f.read_text("utf-8") for f in Path(dekctl.__file__).parent.rglob("*.py"))
    named = set(re.findall(r"\bdocs/[\w-]+\.md", sources))
    assert named
    assert not [name for name in named if not (ROOT / name).is_file()]
