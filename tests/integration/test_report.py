"""``dekctl report``: one page that needs nothing else, true to the rows and the ledger."""

from __future__ import annotations

import html
import json
import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from support.app import AppDatabase
from support.cli import Dekctl
from support.generations import Generations
from support.kms_standin import KmsStandin
from support.secrets import assert_hidden

VOID = {"meta"}
WIDTHS = (390, 1121, 1440)
BROWSER = shutil.which("chromium") or shutil.which("google-chrome")
MEASURE = """
const wrong = [], root = document.documentElement;
if (innerWidth !== WIDTH) wrong.push("the page is " + innerWidth + " wide");
if (root.scrollWidth > innerWidth) wrong.push("the page scrolls sideways: " + root.scrollWidth);
const boxes = [];
for (const each of document.querySelectorAll("h1,h2,h3,p,li,dt,dd,caption,th,td,code span")) {
  const box = each.getBoundingClientRect();
  if (!box.width || !each.textContent.trim()) continue;
  const words = document.createRange(); words.selectNodeContents(each);
  const inside = words.getBoundingClientRect();
  if (inside.right > innerWidth + 1 || each.scrollWidth > each.clientWidth + 1 && each.clientWidth)
    wrong.push("cut: " + each.textContent);
  if (!each.children.length) boxes.push([each, inside]);
}
for (const [one, a] of boxes) for (const [other, b] of boxes)
  if (one !== other && a.left < b.right - 1 && b.left < a.right - 1
      && a.top < b.bottom - 2 && b.top < a.bottom - 2)
    wrong.push("overlap: " + one.textContent + " / " + other.textContent);
const out = document.createElement("pre"); out.id = "wrong";
out.textContent = JSON.stringify([...new Set(wrong)]); document.body.replaceChildren(out);
"""
"""Finds text that is cut or overlaps other text, and leaves what it found as the page."""
FRAME = """<!DOCTYPE html><meta charset="utf-8"><body>
<iframe width="{width}" height="4000" style="border: 0" srcdoc="{page}" onload="
  document.body.replaceChildren(this.contentDocument.getElementById('wrong'))"></iframe>
"""
"""A browser without a screen has no narrow windows, but narrow frames."""


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


def report(dekctl: Dekctl, *options: str, expect: int = 0) -> str:
    file = dekctl.folder / "report.html"
    result = dekctl.json("report", "--output", str(file), *options, expect=expect)
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
    titles = {"Rows of encrypted_files by what they hold", "Rows wrapped and scrubbed over time"}
    assert titles <= set(page.texts)


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


AUDIT = {
    **{"operation": "audit", "env": "test", "source": "s3://trail", "files": 3, "events": 42},
    **{"since": "2026-11-01T00:00:00Z", "until": "2026-11-08T00:00:00Z", "pending": []},
    "counts": {"denied": 1},
    "findings": [
        {
            "id": "x",
            "kind": "denied",
            "time": "2026-11-02T03:04:05Z",
            "event_id": "e",
            "detail": "Decrypt by arn:aws:iam::111122223333:role/some-other-role was denied",
        }
    ],
}


def whole_story(
    database: AppDatabase, dekctl: Dekctl, make_app: Any, standin: KmsStandin
) -> Generations:
    """Something of everything that a page can show."""
    generations = Generations.begin(standin, dekctl)
    app = make_app(database, rows=9, env=generations.env, wrapped_at_column="wrapped_at")
    app.add_dek(bytes(5))
    dekctl.json("migrate", "--dry-run", expect=4)
    dekctl.json("schema", "expand")
    dekctl.json("wrap", "--dry-run", expect=4)
    dekctl.json("wrap", expect=4)
    dekctl.json("scrub", "--yes", "--limit", "6")
    generations.roll()
    dekctl.json("rewrap", "--limit", "4")
    database.sql(
        "UPDATE dekctl_runs SET state = 'running', ended_at = NULL, pid = 1, "
        "process_started = process_started || 'x' WHERE operation = 'rewrap'"
    )
    (dekctl.folder / "audit.json").write_text(json.dumps(AUDIT))
    return generations


def test_the_verdict_comes_first_and_names_what_is_open(
    sqlite_database: AppDatabase, dekctl: Dekctl, make_app: Any, kms_standin: KmsStandin
) -> None:
    whole_story(sqlite_database, dekctl, make_app, kms_standin)
    audit = str(dekctl.folder / "audit.json")
    page = Page(report(dekctl, "--audit", audit))
    said = " ".join(page.texts)
    assert said.index("points open") < said.index("What was looked at")
    for point in (
        "encrypted_files: 1 row with a plaintext key and no wrapped key",
        "encrypted_files: 3 rows with a plaintext key beside the wrapped one",
        "encrypted_files: 1 row in quarantine",
        "encrypted_files: no complete verify is on record",
        "encrypted_files: 5 keys under the retired generation g1",
        "is abandoned",
        "audit of 2026-11-01 to 2026-11-08: 1 of kind denied",
        "encrypted_files: KMS reports every KEK in use as enabled",
        "111122223333",
        "us-east-1",
        "at least 4",
        "Decrypt by arn:aws:iam::111122223333:role/some-other-role was denied",
    ):
        assert point in said, point
    # Dry runs have a table of their own.
    runs = said.partition("Runs, the newest")[2].partition("Dry runs")[0]
    assert runs.count("wrap encrypted_files") == 2  # one is "rewrap encrypted_files"
    other = dekctl.folder / "other.json"
    other.write_text(json.dumps({**AUDIT, "env": "production"}))
    refused = dekctl("report", "--output", "x.html", "--audit", str(other)).expect(2)
    assert "is no result of an audit of test" in refused.stderr


def test_nothing_is_open_only_where_everything_was_looked_at(
    sqlite_database: AppDatabase, dekctl: Dekctl, make_app: Any, kms_standin: KmsStandin
) -> None:
    generations = Generations.begin(kms_standin, dekctl)
    make_app(sqlite_database, rows=3, env=generations.env)
    dekctl.json("migrate")
    dekctl.json("scrub", "--yes")
    (dekctl.folder / "audit.json").write_text(json.dumps({**AUDIT, "counts": {}, "findings": []}))
    audit = str(dekctl.folder / "audit.json")
    assert "Nothing is open" in report(dekctl, "--audit", audit)
    unchecked = {"digests": 0, "signatures": 0, "log_files": 0, "unchecked": ["no digest files"]}
    (dekctl.folder / "copy.json").write_text(
        json.dumps({**AUDIT, "counts": {}, "findings": [], "integrity": unchecked})
    )
    of_a_copy = report(dekctl, "--audit", str(dekctl.folder / "copy.json"))
    assert "audit of 2026-11-01 to 2026-11-08: no digest files" in of_a_copy
    assert "Nothing is open" not in of_a_copy
    assert "CloudTrail was not compared with the ledger" in report(dekctl)
    dekctl.json("rewrap", "--same-key")
    assert "rows were written after the last complete verify" in report(dekctl, "--audit", audit)
    text = (dekctl.folder / "dekctl.toml").read_text()
    dekctl.configure(text.replace(kms_standin.endpoint_url, "http://127.0.0.1:1"))
    dark = report(dekctl, "--audit", audit, expect=5)
    assert "KMS did not report the state of g1" in dark
    assert "Nothing is open" not in dark


@pytest.mark.skipif(BROWSER is None, reason="chromium is not installed")
def test_no_text_is_cut_and_none_overlaps_on_any_width(
    sqlite_database: AppDatabase,
    dekctl: Dekctl,
    make_app: Any,
    kms_standin: KmsStandin,
    tmp_path: Path,
) -> None:
    whole_story(sqlite_database, dekctl, make_app, kms_standin)
    text = report(dekctl, "--audit", str(dekctl.folder / "audit.json"))
    policy = re.search(r"<meta http-equiv=[^>]*>", text)
    assert policy is not None
    for width in WIDTHS:
        script = f"<script>{MEASURE.replace('WIDTH', str(width))}</script></body>"
        framed = text.replace(policy[0], "").replace("</body>", script)
        file = tmp_path / f"{width}.html"
        file.write_text(FRAME.format(width=width, page=html.escape(framed)), encoding="utf-8")
        done = subprocess.run(
            [
                *(str(BROWSER), "--headless", "--no-sandbox", "--disable-gpu", "--dump-dom"),
                *(f"--user-data-dir={tmp_path / 'browser'}", "--window-size=1600,2000"),
                file.as_uri(),
            ],
            capture_output=True,
            text=True,
            timeout=120,
            check=True,
        )
        found = re.search(r'<pre id="wrong">(.*?)</pre>', done.stdout, re.DOTALL)
        assert found is not None, done.stderr
        assert json.loads(html.unescape(found[1])) == [], f"at a width of {width}"
