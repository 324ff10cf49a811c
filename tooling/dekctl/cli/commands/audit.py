"""``dekctl audit``."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import click

from dekctl.audit.run import Audit
from dekctl.audit.run import audit as run_audit
from dekctl.cli.execute import end
from dekctl.cli.registry import Documented, Section
from dekctl.cli.state import State
from dekctl.errors import ExitCode
from dekctl.wording import counted, printable

PLACE = Section.EVIDENCE, 1
DAYS = 7
SHOWN = 20


@click.command(cls=Documented)
@click.option(
    "--since",
    type=click.DateTime(),
    metavar="DATE",
    help=f"Start of the period, in UTC (default: {DAYS} days ago).",
)
@click.option(
    "--until", type=click.DateTime(), metavar="DATE", help="End of the period (default: now)."
)
@click.option(
    "--events",
    "paths",
    multiple=True,
    type=click.Path(exists=True, path_type=Path),
    metavar="PATH",
    help="Read CloudTrail files from this file or folder instead of the trail's bucket.",
)
@click.option(
    "--accept",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Findings that are accepted, each with a reason (default: accepted_findings).",
)
@click.option(
    "--public-keys",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Output of aws cloudtrail list-public-keys (default: ask CloudTrail).",
)
@click.pass_obj
def audit(
    state: State,
    since: datetime | None,
    until: datetime | None,
    paths: tuple[Path, ...],
    accept: Path | None,
    public_keys: Path | None,
) -> None:
    """Compare CloudTrail's events with the run ledger and the roles.

    Verifies the trail's files against CloudTrail's signed digests.

    Exit code 4 if there are findings that are not accepted: an unknown principal that uses a KEK, a
    role that does another role's task, calls that no run explains, runs whose calls are not in the
    trail, denied calls, changes to keys, trail or roles by anyone but the key administrator, files
    of the trail that were removed or altered, and anything that could not be checked.
    """
    begins = since or datetime.now(UTC) - timedelta(days=DAYS)
    with state.project() as project:
        result = run_audit(project, begins, until, paths, accept, public_keys)
    if result.pending:
        state.terminal.note(
            f"{len(result.pending)} of the runs ended less than 15 minutes ago, so CloudTrail may "
            "not have delivered all events; run the same command again later"
        )
    if result.reading.skipped:
        state.terminal.note(f"skipped, no part of the audit: {result.reading.skipped_text()}")
    for text in result.integrity.unchecked:
        state.terminal.note(text)
    if result.expired:
        state.terminal.note(f"no longer accepted, expired: {', '.join(result.expired)}")
    code = ExitCode.OK if result.clean else ExitCode.ROWS_LEFT
    end(state, result.as_json(), _text(result), code)


def _text(result: Audit) -> str:
    value = result.as_json()
    lines = [
        f"audit of {result.env}, {value['since']} to {value['until']}: "
        f"{counted(value['events'], 'event')} about its KEKs and rows in "
        f"{counted(value['files'], 'file')} of {result.source}"
    ]
    if result.trail:
        logging = {True: "is recording", False: "is STOPPED", None: "does not report its state"}
        delivered = value["trail"]["delivered"]
        lines.append(
            f"  the trail {logging[value['trail']['logging']]}"
            + (f"; last delivery {delivered}" if delivered else "")
        )
    for call in value["calls"]:
        error = f" ({call['error']})" if call["error"] else ""
        lines.append(f"  {call['events']:>12,} {call['api']}{error} by {call['principal']}")
    lines += _work(result)
    for change in value["administration"][-SHOWN:]:
        lines.append(
            f"  changed {change['time']} {change['api']} {change['key']} by {change['principal']}"
        )
    if result.integrity.digests:
        checked = value["integrity"]
        lines.append(
            f"  {counted(checked['log_files'], 'log file')} as delivered, by "
            f"{counted(checked['digests'], 'digest')} with "
            f"{counted(checked['signatures'], 'signature')} of CloudTrail"
        )
    if result.integrity.unchecked:
        lines.append(
            "  whether files were removed or altered was not checked in full: see the note"
        )
    if result.damaged:
        lines.append(f"NOT COMPLETE: {counted(result.damaged, 'file')} of the trail damaged")
    # Callers choose primary keys, sessions and names: none may look like another line.
    return "\n".join(printable(line) for line in lines + _findings(result, value))


def _work(result: Audit) -> list[str]:
    lines = []
    for run in result.work:
        sums = ", ".join(
            f"{run.seen[api]:,} of {count:,} {api}" for api, count in run.noted.items()
        )
        state = " (killed)" if run.killed else " (running)" if run.running else ""
        lines.append(f"  run {run.name}{state}: {sums or 'no KMS call'}")
    if len(lines) > SHOWN:
        lines[SHOWN:] = [f"  … and {len(lines) - SHOWN:,} more runs; --json lists all"]
    return lines


def _findings(result: Audit, value: dict[str, Any]) -> list[str]:
    counts = value["counts"]
    lines = [] if counts else ["no findings" + (" so far" if result.pending else "")]
    for kind, count in counts.items():
        lines.append(f"{kind}: {count:,} finding{'' if count == 1 else 's'}")
        shown = [f for f in value["findings"] if f["kind"] == kind][:SHOWN]
        lines += [f"  {f['id']} {f['time'] or ''} {f['detail']}".rstrip() for f in shown]
        if count > len(shown):
            lines.append(f"  … and {count - len(shown):,} more; --json lists the first 100")
    if counts:
        lines.append("what each finding means, and how to accept it: docs/audit.md")
    for finding in value["accepted"]:
        until = f" until {finding['expires']}" if finding["expires"] else ""
        lines.append(
            f"accepted{until}: {finding['id']} {finding['kind']} {finding['detail']}: "
            f"{finding['reason']}"
        )
    return lines
