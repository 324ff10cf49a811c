"""``dekctl report``."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import click

from dekctl.cli.execute import end
from dekctl.cli.registry import Documented, Section
from dekctl.cli.state import State
from dekctl.errors import ExitCode, UsageError
from dekctl.report.page import page

PLACE = Section.EVIDENCE, 2


@click.command(cls=Documented)
@click.option(
    "--output",
    required=True,
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="The file to write; an existing file is replaced.",
)
@click.option(
    "--audit",
    "audit_file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Take the audit's findings from FILE, made by: dekctl audit --json > FILE.",
)
@click.pass_obj
def report(state: State, output: Path, audit_file: Path | None) -> None:
    """Write one self-contained HTML page for an auditor: the verdict, then the evidence for it.

    Exit code 5 if KMS does not report the state of a KEK; the page is still written, and says so.
    """
    with state.project() as project:
        audit = _audit(audit_file, project.env.name) if audit_file else None
        text, complete = page(project, audit, state.terminal.exact)
    _write(output, text)
    value = {"operation": "report", "output": str(output), "bytes": len(text.encode())}
    value["complete"] = complete
    if not complete:
        state.terminal.note("KMS did not report the state of every KEK; the page names them")
    code = ExitCode.OK if complete else ExitCode.KMS
    end(state, value, f"{output}: {value['bytes']:,} bytes", code)


def _audit(file: Path, env: str) -> dict[str, Any]:
    """The result of an audit of this environment.

    Raises:
        UsageError: it is none.
    """
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
        known = found["operation"] == "audit" and found["env"] == env
    except (ValueError, OSError, LookupError, TypeError):
        known = False
    if not known:
        raise UsageError(
            f"{file} is no result of an audit of {env}",
            hint="make it with: dekctl audit --json > FILE",
        )
    return dict(found)


def _write(output: Path, text: str) -> None:
    """Replace the file as a whole: if the disk is full, the old one remains.

    It is its owner's alone: it names KEKs, people, hosts and rows.
    """
    part = output.with_name(f".{output.name}.part")
    try:
        part.unlink(missing_ok=True)  # of a process that was killed
        descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
        part.replace(output)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise UsageError(
            f"cannot write {output}: {error.strerror}",
            hint="name a file in an existing folder: dekctl report --output FILE",
        ) from None
