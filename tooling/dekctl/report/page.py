"""The report: one page for an auditor. The verdict comes first, then what it stands on."""

from __future__ import annotations

import getpass
import socket
from collections import Counter
from collections.abc import Callable
from datetime import datetime
from typing import Any
from xml.etree.ElementTree import Element

from dekctl import __version__
from dekctl.errors import DekctlError
from dekctl.ledger import history, parse_time
from dekctl.lifecycle.rotation import rotation
from dekctl.project import Project
from dekctl.report.charts import stack, steps
from dekctl.report.html import document, table, tag
from dekctl.report.style import STYLE
from dekctl.report.verdict import Point, verdict
from dekctl.wording import counted, printable
from dekctl.workflows import status as status_of

RUNS = 200
"""Maximum runs in the history, newest first."""
ROW_STATES = {
    "plaintext_only": "plaintext only",
    "both": "both",
    "wrapped_only": "wrapped only",
    "no_key": "no key",
}
LEGEND = {
    "KEK": "key encryption key: a KMS key that wraps data keys; generations of one are g1, g2, …",
    "plaintext only": "rows whose data key is stored in plaintext, and in no other form",
    "both": "rows with a plaintext key and its wrapped copy",
    "wrapped only": "rows whose data key is stored wrapped by a KEK alone: the goal",
    "no key": "rows without a data key",
    "V1, V2, V3": "forms of a wrapped key: without encryption context; bound to its row; bound to "
    "its row and wrapped by a branch key, which KMS wraps",
    "quarantine": "rows that a command could not handle; they stay as they are until corrected",
    "abandoned": "the process of a run was killed or lost; rows are those of its last heartbeat",
    "dry run": "a run that wrote nothing",
    "complete verify": "a verify that read every row: each wrapped key was decrypted and compared",
}


def page(
    project: Project,
    audit: dict[str, Any] | None = None,
    spell: Callable[[str], str] = lambda command: command,
) -> tuple[str, bool]:
    """One HTML page that loads nothing: no script, no font, no image from elsewhere.

    ``audit`` is the result of `dekctl audit --json`, ``spell`` writes a command as a reader has to
    type it. Also returns whether everything could be looked at: KMS may not have reported the state
    of a KEK.

    Raises:
        UsageError: a table is not as configured.
        RefusedError: the ledger knows a table as another one.
        DatabaseError: the database refused or cannot be reached.
    """
    status = status_of.status(project)
    ledger = project.ledger if project.ledger.exists() else None
    runs = history.runs(ledger, RUNS) if ledger else []
    entries = status.get("tables", [status])
    verified: dict[str, dict[str, Any] | None] = {}
    for config, entry in zip(project.config.tables, entries, strict=True):
        last = history.last_verified(ledger, config.context_name) if ledger else None
        verified[config.name] = last
        entry["written_since_verify"] = last is not None and _written_since(
            runs, config.context_name, last
        )
    with project.database.transaction() as connection:
        now = project.database.now(connection)
    keks = [kek for entry in entries for kek in (*entry["keks"], *entry["branch_keys"])]
    complete = not any(kek["state_problem"] for kek in keks)
    title = f"dekctl report: {status['env']}"
    body = tag(
        "body",
        tag("h1", title),
        _verdict(verdict(status, verified, audit), spell),
        *_facts(project, runs, now),
        *(part for entry in entries for part in _rows(entry, verified[entry["table"]])),
        *_over_time(runs, [config.context_name for config in project.config.tables]),
        *_keks(project, entries),
        *_next_steps(status),
        *_history(runs),
        *_audit(audit),
        *(part for entry in entries for part in _quarantine(entry)),
        tag("h2", "Words"),
        tag("dl", *(tag(*pair) for pair in _pairs(LEGEND))),
    )
    return document(tag("html", _head(title), body, lang="en")), complete


def _head(title: str) -> Element:
    return tag(
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


def _verdict(points: list[Point], spell: Callable[[str], str]) -> Element:
    left = [point for point in points if not point.holds]
    held = [point for point in points if point.holds]
    heading = f"{counted(len(left), 'point')} open" if left else "Nothing is open"
    parts: list[Element] = [tag("h2", heading)]
    for name, klass, found in (("Open", "bad", left), ("Holds", "good", held)):
        if found:
            parts += [
                tag("h3", name, klass=klass),
                tag("ul", *(_point(point, spell) for point in found)),
            ]
    return tag("section", *parts, klass="verdict open" if left else "verdict")


def _point(point: Point, spell: Callable[[str], str]) -> Element:
    if point.hint is None:
        return tag("li", point.text)
    return tag("li", point.text, ": ", _command(spell(point.hint)))


def _command(text: str) -> Element:
    """A command that is broken between its words only."""
    parts: list[Element | str] = []
    for word in text.split(" "):
        parts += [" ", tag("span", word)]
    return tag("code", *parts[1:])


def _facts(project: Project, runs: list[dict[str, Any]], now: datetime) -> list[Element]:
    outputs = project.outputs if project.uses_aws and not project.env.kek else None
    period = "no runs on record"
    if runs:
        first, last = runs[-1]["started_at"][:16], runs[0]["started_at"][:16]
        period = f"{first} to {last} UTC ({counted(len(runs), 'run')} listed)"
    try:
        user = getpass.getuser()
    except (KeyError, OSError):
        user = "unknown"
    facts = {
        "Environment": project.env.name,
        "AWS account": outputs.account_id if outputs else "no Terraform outputs name it",
        "Region": project.region or "not set",
        "Database": project.database.shown_url,
        "Tables": ", ".join(config.name for config in project.config.tables),
        "Period": period,
        "Made": f"{now:%Y-%m-%d %H:%M:%S} UTC by {user}@{socket.gethostname()}",
        "Version": f"dekctl {__version__}",
    }
    return [tag("h2", "What was looked at"), tag("dl", *(tag(*pair) for pair in _pairs(facts)))]


def _pairs(terms: dict[str, str]) -> list[tuple[str, str]]:
    return [part for term, text in terms.items() for part in (("dt", term), ("dd", text))]


def _rows(entry: dict[str, Any], verified: dict[str, Any] | None) -> list[Element]:
    last = "The ledger has no complete verify."
    if verified:
        failed = (verified["result"] or {}).get("quarantined", 0)
        last = (
            f"Last complete verify: {verified['ended_at'][:19]} UTC by {verified['who']}@"
            f"{verified['host']}, {counted(verified['rows'], 'key')} verified, {failed:,} failed."
        )
    return [
        tag("h2", f"{entry['table']}: stage {entry['stage']}, {counted(entry['rows'], 'row')}"),
        stack(
            f"Rows of {entry['table']} by what they hold",
            [(text, entry[key], key) for key, text in ROW_STATES.items()],
        ),
        tag("p", last),
    ]


def _over_time(runs: list[dict[str, Any]], contexts: list[str]) -> list[Element]:
    """How many rows were wrapped and scrubbed, added up over the runs on record."""
    wrote = [
        (begins, ends, run)
        for run in runs
        if run["operation"] in ("wrap", "scrub", "restore")
        and run["table_name"] in contexts
        and not run["rehearsed"]
        and (begins := parse_time(run["started_at"])) is not None
        and (ends := parse_time(run["ended_at"] or run["heartbeat_at"])) is not None
    ]
    if not wrote:
        return []
    begin, end = min(begins for begins, _, _ in wrote), max(ends for _, ends, _ in wrote)
    span = max((end - begin).total_seconds(), 1.0)
    wrapped = scrubbed = 0
    lines: dict[str, list[tuple[float, int]]] = {"wrap": [], "scrub": []}
    for _, ends, run in sorted(wrote, key=lambda entry: entry[1]):
        at = (ends - begin).total_seconds() / span
        if run["operation"] == "wrap":
            wrapped += run["rows"]
            lines["wrap"].append((at, wrapped))
        else:
            gone = run["rows"] if run["operation"] == "scrub" else -run["rows"]
            scrubbed = max(0, scrubbed + gone)
            lines["scrub"].append((at, scrubbed))
    return [
        tag("h2", "Rows over time"),
        steps(
            "Rows wrapped and scrubbed over time",
            [
                ("wrapped", "kek", lines["wrap"]),
                ("plaintext removed", "wrapped_only", lines["scrub"]),
            ],
            f"{begin:%Y-%m-%d %H:%M}",
            f"{end:%Y-%m-%d %H:%M}",
        ),
    ]


def _keks(project: Project, entries: list[dict[str, Any]]) -> list[Element]:
    rows = [
        [
            entry["table"],
            kek["kek_id"] or "none",
            kek["generation"] or "",
            kek.get("version") or ("branch keys" if "keys" in kek else "none"),
            f"{kek.get('rows', kek.get('keys', 0)):,}",
            kek["state"] or ("not reported" if kek["state_problem"] else "not in KMS"),
            kek["generation_state"] or "",
            _minute(kek["deletion_date"]),
            _minute(kek.get("oldest_wrap")),
            _minute(kek.get("newest_wrap")),
        ]
        for entry in entries
        for kek in (*entry["keks"], *entry["branch_keys"])
    ]
    if not rows:
        return []
    head = ["table", "KEK", "generation", "form", "keys", "state in KMS", "in Terraform"]
    head += ["deletion (UTC)", "oldest wrap (UTC)", "newest wrap (UTC)"]
    return [
        tag("h2", "KEKs"),
        table("Which KEK wraps how many keys", head, rows, {4}, {1}, {7, 8, 9}),
        *_rotations(project, sorted({row[1] for row in rows if row[1].startswith("arn:")})),
    ]


def _minute(text: str | None) -> str:
    """A time in ISO 8601, to the minute."""
    return (text or "")[:16].replace("T", " ")


def _rotations(project: Project, keks: list[str]) -> list[Element]:
    """How each KEK is rotated; what cannot be asked is said."""
    if not project.uses_aws or not keks:
        return []
    lines = []
    for kek in keks:
        try:
            lines.append(rotation(project, kek))
        except DekctlError as error:
            lines.append(f"{kek}: its rotation cannot be read: {error.message}")
    return [tag("h3", "Rotation"), tag("ul", *(tag("li", line) for line in lines), klass="plain")]


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
        table("Settings, and what the rows allow", ["setting", "is", "can be"], rows),
    ]


def _history(runs: list[dict[str, Any]]) -> list[Element]:
    if not runs:
        return [tag("h2", "Runs"), tag("p", "The ledger contains no runs yet.")]
    parts = [tag("h2", "Runs"), _by_kind(runs)]
    head = ["started (UTC)", "operation", "by", "result", "seconds", "rows", "KMS calls", "run"]
    for caption, rehearsed in ((f"Runs, the newest {RUNS} at most", False), ("Dry runs", True)):
        if listed := [_run(run) for run in runs if run["rehearsed"] is rehearsed]:
            parts.append(table(caption, head, listed, {4, 5}, {7}, {0}))
    return parts


def _by_kind(runs: list[dict[str, Any]]) -> Element:
    states = ("finished", "running", "interrupted", "failed", "abandoned")
    rows = []
    for operation in sorted({run["operation"] for run in runs}):
        mine = [run for run in runs if run["operation"] == operation]
        real = [run for run in mine if not run["rehearsed"]]
        count = Counter(run["state"] for run in real)
        rows.append(
            [
                operation,
                f"{len(real):,}",
                *(f"{count[state]:,}" for state in states),
                f"{sum(run['rows'] for run in real):,}",
                f"{len(mine) - len(real):,}",
            ]
        )
    head = ["operation", "runs", *states, "rows", "dry runs"]
    return table("Runs by kind; dry runs are not among them", head, rows, set(range(1, 9)))


def _run(run: dict[str, Any]) -> list[str]:
    calls = (run["result"] or {}).get("kms_calls") or {}
    what = f"{run['operation']} {run['table_name']}"
    if run["shard"]:
        what += f" {run['shard']}"
    result = run["state"] + (f": {run['error']}" if run["error"] else "")
    rows = f"{run['rows']:,}"
    if run["state"] == "abandoned":
        result += f"; last heartbeat {run['heartbeat_at'][11:19]}"
        rows = f"at least {rows}"
    return [
        run["started_at"][:16],
        what,
        f"{run['who']}@{run['host']}",
        result,
        f"{run['seconds']:,.1f}",
        rows,
        ", ".join(f"{count:,} {api}" for api, count in sorted(calls.items())),
        run["run_id"],
    ]


def _written_since(runs: list[dict[str, Any]], context: str, verified: dict[str, Any]) -> bool:
    """Whether a run wrote wrapped keys of a table after it was verified."""
    return any(
        run["table_name"] == context
        and run["operation"] in ("wrap", "rewrap", "rebind", "settle")
        and not run["rehearsed"]
        and run["rows"]
        and run["heartbeat_at"] > verified["started_at"]
        for run in runs
    )


def _audit(audit: dict[str, Any] | None) -> list[Element]:
    if audit is None:
        text = "CloudTrail was not compared with the ledger for this report (--audit FILE)."
        return [tag("h2", "Audit"), tag("p", text)]
    period = f"{audit['since']} to {audit['until']}"
    text = f"{audit['events']:,} events in {audit['files']:,} files of {audit['source']}, {period}."
    parts = [tag("h2", "Audit"), tag("p", text)]
    found = [
        [_minute(finding["time"]), finding["kind"], finding["detail"]]
        for finding in audit["findings"]
    ]
    if found:
        parts.append(
            table("Findings, the first 100", ["time (UTC)", "kind", "finding"], found, times={0, 1})
        )
    else:
        parts.append(tag("p", "No findings."))
    return parts


def _quarantine(entry: dict[str, Any]) -> list[Element]:
    if not entry["quarantine"]:
        return []
    shown = len(entry["quarantine"])
    return [
        tag("h2", f"Quarantine of {entry['table']}: {counted(entry['quarantined'], 'row')}"),
        table(
            f"The first {shown:,}" if shown < entry["quarantined"] else "All rows",
            ["primary key", "operation", "reason", "since (UTC)"],
            [
                [printable(q["pk"]), q["operation"], q["reason"], _minute(q["since"])]
                for q in entry["quarantine"]
            ],
            ids={0},
            times={3},
        ),
    ]
