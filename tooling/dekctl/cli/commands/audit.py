"""``dekctl audit``."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import click

from dekctl.audit.run import Audit
from dekctl.audit.run import audit as run_audit
from dekctl.cli.execute import end
from dekctl.cli.registry import Section
from dekctl.cli.state import State
from dekctl.errors import ExitCode
from dekctl.wording import counted

PLACE = Section.EVIDENCE, 1
DAYS = 7
SHOWN = 20


@click.command()
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
@click.pass_obj
def audit(
    state: State,
    since: datetime | None,
    until: datetime | None,
    paths: tuple[Path, ...],
) -> None:
    """Compare CloudTrail's KMS events with the run ledger and the roles.

    Exit code 4 if there are findings: a KEK used by an unknown principal or for a task that is not
    the role's, calls that belong to no run, rows without their calls in the trail, denied calls.
    Also if files of the trail are damaged, since what they held was not looked at.
    """
    begins = since or datetime.now(UTC) - timedelta(days=DAYS)
    with state.project() as project:
        result = run_audit(project, begins, until, paths)
    if result.pending:
        state.terminal.note(
            f"{len(result.pending)} of the runs ended less than 15 minutes ago, so CloudTrail may "
            "not have delivered all events; run the same command again later"
        )
    if result.reading.skipped:
        state.terminal.note(f"skipped, no part of the audit: {result.reading.skipped_text()}")
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
    for window in result.work:
        sums = ", ".join(
            f"{window.seen[api]:,} of {count:,} {api}" for api, count in window.expected.items()
        )
        state = sums if window.closed else "killed or still running: its calls cannot be counted"
        lines.append(
            f"  work {', '.join(window.operations)} on {window.table}, "
            f"{window.begins:%Y-%m-%d %H:%M:%S}: {state or 'no KMS call'}"
        )
    for change in value["administration"][-SHOWN:]:
        lines.append(
            f"  changed {change['time']} {change['api']} {change['key']} by {change['principal']}"
        )
    counts = value["counts"]
    if result.damaged:
        lines.append(f"NOT COMPLETE: {counted(result.damaged, 'file')} of the trail damaged")
    if not counts:
        lines.append("no findings" + (" so far" if result.pending else ""))
    for kind, count in counts.items():
        lines.append(f"{kind}: {count:,} finding{'' if count == 1 else 's'}")
        shown = [f for f in value["findings"] if f["kind"] == kind][:SHOWN]
        lines += [f"  {f['time'] or ''} {f['detail']}".rstrip() for f in shown]
        if count > len(shown):
            lines.append(f"  … and {count - len(shown):,} more; --json lists the first 100")
    return "\n".join(lines)
