"""``dekctl report``."""

from __future__ import annotations

import os
from pathlib import Path

import click

from dekctl.cli.registry import Documented, Section
from dekctl.cli.state import State
from dekctl.errors import UsageError
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
@click.pass_obj
def report(state: State, output: Path) -> None:
    """Write one self-contained HTML page with the state, the history and charts."""
    with state.project() as project:
        text = page(project)
    _write(output, text)
    value = {"operation": "report", "output": str(output), "bytes": len(text.encode())}
    state.terminal.result(value, f"{output}: {value['bytes']:,} bytes")


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
