"""``dekctl report``: one page that needs nothing else, true to the rows and the ledger."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

from support.app import AppDatabase
from support.cli import Dekctl
from support.secrets import assert_hidden

VOID = {"meta"}


class Page(HTMLParser):
    """Reads a page: its texts, its attributes, and whether its tags are balanced."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.texts: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.feed(text)
        self.close()
        assert self.open == [], f"left open: {self.open}"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if data.strip():
            self.texts.append(data.strip())


def report(dekctl: Dekctl) -> str:
    file = dekctl.folder / "report.html"
    result = dekctl.json("report", "--output", str(file))
    text = file.read_text(encoding="utf-8")
    assert result["bytes"] == len(text.encode())
    assert_hidden(text, dekctl.all_keys(), "the report")
    return text


def test_the_page_shows_the_rows_the_census_and_every_run(
    app_database: AppDatabase, dekctl: Dekctl, make_app: Any
) -> None:
    app = make_app(app_database, rows=20)
    app.add_dek(bytes(5))
    dekctl("migrate").expect(4)
    dekctl("scrub", "--yes", "--limit", "8").expect(0)
    text = report(dekctl)
    page = Page(text)
    assert "encrypted_files: stage expanded, 21 rows" in page.texts
    assert "wrapped only: 8 (38.1%)" in page.texts
    assert "both: 12 (57.1%)" in page.texts
    assert "plaintext only: 1 (4.8%)" in page.texts
    assert dekctl.json("status")["keks"][0]["kek_id"] in page.texts
    runs = [run["run_id"] for run in dekctl.json("status")["runs"]]
    assert runs
    assert set(runs) <= set(page.texts)
    assert "Quarantine of encrypted_files: 1 row" in page.texts
    assert page.tags.count("svg") == 3


def test_the_page_loads_nothing_and_runs_nothing(
    sqlite_database: AppDatabase, dekctl: Dekctl, make_app: Any
) -> None:
    make_app(sqlite_database, rows=1)
    text = report(dekctl)  # a legacy table: there is no ledger yet
    page = Page(text)
    assert "The ledger contains no runs yet." in page.texts
    assert not {"script", "link", "img", "iframe", "object"} & set(page.tags)
    assert not [a for a in page.attributes if a[0] in {"src", "href", "style", "onload"}]
    assert "default-src 'none'" in text
    assert re.findall(r"https?://[^\"]+", text) == ["http://www.w3.org/2000/svg"] * text.count(
        "<svg"
    )


def test_a_name_is_shown_and_never_becomes_markup(
    sqlite_database: AppDatabase, dekctl: Dekctl, make_app: Any
) -> None:
    app = make_app(sqlite_database, key="text", rows=1)
    pk = ("<script>alert('&amp;')</script>",)
    sqlite_database.sql(
        "INSERT INTO encrypted_files (id, filename, encryption_key, ciphertext) "
        "VALUES (:pk, 'x', x'00', x'00')",
        pk=pk[0],
    )
    dekctl("migrate").expect(4)
    text = report(dekctl)
    assert "<script" not in text
    assert pk[0] in Page(text).texts
    assert len(app.deks) == 1


def test_a_page_that_cannot_be_written_leaves_the_one_before(
    sqlite_database: AppDatabase, dekctl: Dekctl, make_app: Any, tmp_path: Path
) -> None:
    make_app(sqlite_database, rows=1)
    missing = tmp_path / "no" / "report.html"
    result = dekctl("report", "--output", str(missing)).expect(2)
    assert f"cannot write {missing}" in result.stderr
    before = report(dekctl)
    dekctl.configure('[env.test]\ndatabase_url = "sqlite:////nowhere/app.db"\nprovider = "env"\n')
    dekctl("report", "--output", str(dekctl.folder / "report.html")).expect(6)
    assert (dekctl.folder / "report.html").read_text(encoding="utf-8") == before
    assert [file.name for file in dekctl.folder.glob(".*part")] == []
