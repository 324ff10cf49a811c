"""The report's content: the state of the rows, the KEKs, the quarantine, and every run."""

from __future__ import annotations

from collections import Counter
from typing import Any
from xml.etree.ElementTree import Element

from dekctl import __version__
from dekctl.ledger import parse_time
from dekctl.ledger.history import runs as runs_of
from dekctl.lifecycle import census
from dekctl.lifecycle.usage import BRANCH_KEY_HINT
from dekctl.project import Project
from dekctl.report.charts import bars, stack
from dekctl.report.html import document, table, tag
from dekctl.wording import counted, printable

RUNS = 200
"""Maximum runs in the history, newest first."""
DRAWN = 25
"""Maximum runs in the chart."""
ROW_STATES = {
    "plaintext_only": "plaintext only",
    "both": "both",
    "wrapped_only": "wrapped only",
    "no_key": "no key",
}

STYLE = """
:root { color-scheme: light dark; --ink: #1c2430; --dim: #5b6675; --line: #d5dbe3; --page: #fff;
  --a: #c2573f; --b: #c79a2c; --c: #2f7d6b; --d: #9aa4af; --e: #2f6f9f; }
@media (prefers-color-scheme: dark) { :root { --ink: #e4e9f0; --dim: #9aa7b8; --line: #36404d;
  --page: #161b22; --a: #e0795f; --b: #dcb44c; --c: #4fae97; --d: #6c7886; --e: #5fa3d4; } }
body { font: 15px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--page);
  max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.5rem; margin-bottom: 0; } h2 { font-size: 1.15rem; margin-top: 2.2rem; }
p.dim { color: var(--dim); margin-top: .2rem; }
svg { width: 100%; height: auto; font: 12px system-ui, sans-serif; } svg text { fill: var(--ink); }
.plaintext_only, .failed, .abandoned { fill: var(--a); } .both, .interrupted { fill: var(--b); }
.wrapped_only, .finished { fill: var(--c); } .no_key, .dry { fill: var(--d); }
.kek, .running { fill: var(--e); }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-size: .88rem; }
caption { text-align: left; color: var(--dim); padding: .3rem 0; }
th, td { text-align: left; padding: .3rem .6rem .3rem 0; border-bottom: 1px solid var(--line);
  vertical-align: top; overflow-wrap: anywhere; }
.number { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
"""


def page(project: Project) -> str:
    """One HTML page that loads nothing: no script, no font, no image from elsewhere.

    Raises:
        UsageError: a table is not as configured.
        DatabaseError: the database refused or cannot be reached.
    """
    status = census.status(project)
    ledger = project.ledger if project.ledger.exists() else None
    runs = runs_of(ledger, RUNS) if ledger else []
    with project.database.transaction() as connection:
        now = project.database.now(connection)
    title = f"dekctl: {status['env']}"
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        # Nothing may be loaded or run, whatever the name of a row or a user.
        tag(
            "meta",
            http_equiv="Content-Security-Policy",
            content="default-src 'none'; style-src 'unsafe-inline'",
        ),
        tag("title", title),
        tag("style", STYLE),
    )
    tables = status.get("tables", [status])
    body = tag(
        "body",
        tag("h1", title),
        tag("p", f"As of {now:%Y-%m-%d %H:%M:%S} UTC, by dekctl {__version__}.", klass="dim"),
        *(part for entry in tables for part in _table(entry)),
        *_next_steps(status),
        *_history(runs),
    )
    return document(tag("html", head, body, lang="en"))


def _table(entry: dict[str, Any]) -> list[Element]:
    parts = [
        tag("h2", f"{entry['table']}: stage {entry['stage']}, {counted(entry['rows'], 'row')}"),
        stack(
            f"Rows of {entry['table']} by what they hold",
            [(text, entry[key], key) for key, text in ROW_STATES.items()],
        ),
    ]
    if entry["keks"]:
        parts += [
            tag("h2", f"Which KEK wraps the rows of {entry['table']}"),
            bars(
                "Rows by KEK and version",
                [(_kek(kek), kek["rows"], "kek") for kek in entry["keks"]],
            ),
            _scroll(
                table(
                    "Census",
                    ["KEK", "generation", "version", "rows", "oldest wrap", "newest wrap"],
                    [
                        [
                            kek["kek_id"] or "none",
                            kek["generation"] or "",
                            kek["version"] or "none",
                            f"{kek['rows']:,}",
                            kek["oldest_wrap"] or "",
                            kek["newest_wrap"] or "",
                        ]
                        for kek in entry["keks"]
                    ],
                    {3},
                )
            ),
        ]
    if entry["branch_keys"]:
        parts.append(
            table(
                "Branch keys (V3)",
                ["KEK", "generation", "branch keys"],
                [
                    [kek["kek_id"], kek["generation"] or "", f"{kek['keys']:,}"]
                    for kek in entry["branch_keys"]
                ],
                {2},
            )
        )
    if lost := entry["rows_without_branch_key"]:
        text = f"{counted(lost, 'row')} (V3) without their branch key cannot be decrypted"
        parts.append(tag("p", f"{text}: {BRANCH_KEY_HINT}."))
    if entry["quarantine"]:
        shown = len(entry["quarantine"])
        parts += [
            tag("h2", f"Quarantine of {entry['table']}: {counted(entry['quarantined'], 'row')}"),
            _scroll(
                table(
                    f"The first {shown:,}" if shown < entry["quarantined"] else "All rows",
                    ["primary key", "operation", "reason", "since (UTC)"],
                    [
                        [printable(q["pk"]), q["operation"], q["reason"], q["since"]]
                        for q in entry["quarantine"]
                    ],
                    set(),
                )
            ),
        ]
    return parts


def _kek(kek: dict[str, Any]) -> str:
    name = kek["generation"] or (kek["kek_id"] or "no KEK").rpartition("/")[2]
    return f"{name} {kek['version'] or ''}".strip()


def _next_steps(status: dict[str, Any]) -> list[Element]:
    """What the settings of Terraform and dekctl.toml can be changed to."""
    if "min_generation" not in status:
        return []
    floor, door = status["min_generation"], status["without_context"]
    rows = [
        [
            "min_generation",
            floor["configured"] or "not set",
            floor["can_be"] or ("not yet: rows name no generation" if floor["applies"] else "-"),
        ],
        [
            "allow_rows_without_context",
            {True: "true", False: "false", None: "unknown"}[door["allowed"]],
            f"needed by {counted(door['rows'], 'row')}" if door["rows"] else "false",
        ],
    ]
    return [
        tag("h2", "Settings"),
        table("Settings, and what the rows allow", ["setting", "is", "can be"], rows, set()),
    ]


def _history(runs: list[dict[str, Any]]) -> list[Element]:
    if not runs:
        return [tag("h2", "History"), tag("p", "The ledger contains no runs yet.")]
    states = Counter(run["state"] for run in runs)
    summary = ", ".join(f"{count:,} {state}" for state, count in states.most_common())
    drawn = [run for run in runs if _rows(run)][:DRAWN]
    parts = [tag("h2", "History"), tag("p", f"The newest {counted(len(runs), 'run')}: {summary}.")]
    if drawn:
        parts.append(
            bars(
                "Rows that the newest runs changed or proved",
                [
                    (
                        f"{run['started_at'][:16]} {run['operation']}",
                        _rows(run),
                        "dry" if run["result"].get("dry_run", run["dry_run"]) else run["state"],
                    )
                    for run in drawn
                ],
                " rows",
            )
        )
    head = ["started (UTC)", "operation", "user", "result", "seconds", "rows", "KMS calls", "run"]
    listed = table("Runs in the ledger", head, [_run(run) for run in runs], {4, 5, 6})
    return [*parts, _scroll(listed)]


def _run(run: dict[str, Any]) -> list[str]:
    begun, ended = parse_time(run["started_at"]), parse_time(run["ended_at"])
    seconds = f"{(ended - begun).total_seconds():,.1f}" if begun and ended else ""
    calls = (run["result"] or {}).get("kms_calls") or {}
    what = f"{run['operation']} {run['table_name']}"
    if run["shard"]:
        what += f" {run['shard']}"
    return [
        run["started_at"][:19],
        what,
        f"{run['who']}@{run['host']}",
        run["state"] + (f": {run['error']}" if run["error"] else ""),
        seconds,
        f"{_rows(run):,}",
        ", ".join(f"{count:,} {api}" for api, count in sorted(calls.items())),
        run["run_id"],
    ]


def _rows(run: dict[str, Any]) -> int:
    result = run["result"] or {}
    return int(max(result.get("changed", 0), result.get("proved", 0)))


def _scroll(inside: Element) -> Element:
    return tag("div", inside, klass="scroll")
