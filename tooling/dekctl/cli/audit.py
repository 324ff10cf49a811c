"""``dekctl audit``."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import click

from dekctl.audit.run import Audit
from dekctl.audit.run import audit as run_audit
from dekctl.cli.state import State
from dekctl.errors import ExitCode

DAYS = 7
SHOWN = 20


@click.command()
@click.option(
    "--since", type=click.DateTime(), metavar="DATE", help=f"UTC.  [default: {DAYS} days ago]"
)
@click.option("--until", type=click.DateTime(), metavar="DATE", help="UTC.  [default: now]")
@click.option(
    "--events",
    "paths",
    multiple=True,
    type=click.Path(exists=True, path_type=Path),
    metavar="PATH",
    help="CloudTrail's files, or a folder of them, instead of the trail's bucket.",
)
@click.pass_context
def audit(
    ctx: click.Context,
    since: datetime | None,
    until: datetime | None,
    paths: tuple[Path, ...],
) -> None:
    """Match CloudTrail's KMS events with the run ledger and the roles.

    Exit code 4 where there is something to look into: a KEK used by a stranger or for another task
    than the role's, calls that no run made, rows whose calls the trail does not hold, denied calls.
    """
    state: State = ctx.obj
    begins = since or datetime.now(UTC) - timedelta(days=DAYS)
    with state.project() as project:
        result = run_audit(project, begins, until, paths)
    state.terminal.result(result.as_json(), _text(result))
    if result.pending:
        state.terminal.note(
            f"{len(result.pending)} runs ended less than a quarter of an hour ago: CloudTrail may "
            "still deliver; run the same command again later"
        )
    ctx.exit(int(ExitCode.OK if result.clean else ExitCode.ROWS_LEFT))


def _text(result: Audit) -> str:
    value = result.as_json()
    lines = [
        f"audit of {result.env}, {value['since']} to {value['until']}: {value['events']:,} events "
        f"about its KEKs and rows in {value['files']:,} files of {result.source}"
    ]
    if result.trail:
        logging = {True: "is recording", False: "is STOPPED", None: "does not tell its state"}
        delivered = value["trail"]["delivered"]
        lines.append(
            f"  the trail {logging[value['trail']['logging']]}"
            + (f"; last delivery {delivered}" if delivered else "")
        )
    for call in value["calls"]:
        error = f" ({call['error']})" if call["error"] else ""
        lines.append(f"  {call['events']:>12,} {call['api']}{error} by {call['principal']}")
    for stretch in result.work:
        sums = ", ".join(
            f"{stretch.seen[api]:,} of {count:,} {api}" for api, count in stretch.expected.items()
        )
        state = sums if stretch.closed else "killed or at work: its calls cannot be counted"
        lines.append(
            f"  work {', '.join(stretch.operations)} on {stretch.table}, "
            f"{stretch.begins:%Y-%m-%d %H:%M:%S}: {state or 'no KMS call'}"
        )
    for change in value["administration"][-SHOWN:]:
        lines.append(
            f"  changed {change['time']} {change['api']} {change['key']} by {change['principal']}"
        )
    counts = value["counts"]
    if not counts:
        lines.append("nothing to look into" + (" so far" if result.pending else ""))
    for kind, count in counts.items():
        lines.append(f"{kind}: {count:,} to look into")
        shown = [f for f in value["findings"] if f["kind"] == kind][:SHOWN]
        lines += [f"  {f['time'] or ''} {f['detail']}".rstrip() for f in shown]
        if count > len(shown):
            lines.append(f"  … and {count - len(shown):,} more; --json lists the first 100")
    return "\n".join(lines)
