"""``dekctl residue``: sample known keys before a scrub, look for them in files afterwards."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import click

from dekctl import residue as search
from dekctl.cli.state import State
from dekctl.db.shape import Stage
from dekctl.errors import ExitCode

NOTE_EVERY_SECONDS = 10.0


@click.group()
def residue() -> None:
    """Whether scrubbed keys are still in the database's files.

    Take a sample before the scrub; search data files, WAL, binlogs or dumps afterwards.
    """


@residue.command()
@click.option(
    "--output",
    required=True,
    type=click.Path(dir_okay=False, path_type=Path),
    help="A new file. It holds wrapped keys only: nothing that opens without KMS.",
)
@click.option("--rows", type=click.IntRange(1, 10_000), default=100, show_default=True)
@click.option("--table", "table_name", metavar="NAME", help="This [[table]]; else the first one.")
@click.pass_context
def sample(ctx: click.Context, output: Path, rows: int, table_name: str | None) -> None:
    """Take wrapped keys from all over the table."""
    state: State = ctx.obj
    with state.project() as project:
        config = project.table_configs(table_name)[0]
        table = project.table_at(config, Stage.EXPANDED, Stage.CONTRACTED)
        taken = search.take_sample(table, rows, output)
    value = {"operation": "residue sample", "table": config.name, "rows": taken}
    state.terminal.result(
        {**value, "output": str(output)}, f"{taken:,} wrapped keys of {config.name} in {output}"
    )


@residue.command("search")
@click.option(
    "--sample",
    "sample_file",
    required=True,
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="What `residue sample` wrote.",
)
@click.argument("paths", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.pass_context
def search_files(ctx: click.Context, sample_file: Path, paths: tuple[Path, ...]) -> None:
    """Look for the sampled keys in PATHS: raw, hex and base64. Exit code 4 where one is found."""
    state: State = ctx.obj
    said = time.monotonic()

    def progress(path: Path, done: int) -> None:
        nonlocal said
        if time.monotonic() - said >= NOTE_EVERY_SECONDS:
            said = time.monotonic()
            state.terminal.note(f"{path}: {done / 1e6:,.0f} MB searched")

    with state.project() as project:
        keys = search.open_on_record(project, sample_file)
    results = search.search(keys, paths, progress)
    everywhere: set[int] = set().union(*(found.keys for found in results))
    value: dict[str, Any] = {
        "operation": "residue search",
        "sampled": len(keys),
        "found": len(everywhere),
        "files": len(results),
        "bytes": sum(found.size for found in results),
        "hits": [found.as_json() for found in results if found.keys],
    }
    lines = [
        f"{len(everywhere):,} of {len(keys):,} sampled keys found; {len(results):,} files, "
        f"{value['bytes'] / 1e6:,.1f} MB searched"
    ]
    for found in results:
        if found.keys:
            forms = ", ".join(f"{n:,} {form}" for form, n in found.hits.items() if n)
            lines.append(f"  {found.path}: {len(found.keys):,} keys ({forms})")
    state.terminal.result(value, "\n".join(lines))
    ctx.exit(int(ExitCode.ROWS_LEFT if everywhere else ExitCode.OK))
