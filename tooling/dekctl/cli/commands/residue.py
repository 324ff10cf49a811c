"""``dekctl residue``: sample known keys before a scrub, search files for them afterwards."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import click

from dekctl import residue as search
from dekctl.cli.execute import end
from dekctl.cli.registry import InOrder, Section
from dekctl.cli.state import State
from dekctl.db.shape import Stage
from dekctl.errors import ExitCode
from dekctl.wording import counted

PLACE = Section.EVIDENCE, 3
NOTE_EVERY_SECONDS = 10.0


@click.group(cls=InOrder)
def residue() -> None:
    """Search the database's files for scrubbed keys.

    Take a sample before scrub. Afterwards, search data files, WAL, binlogs or dumps for it.
    """


@residue.command()
@click.option(
    "--output",
    required=True,
    type=click.Path(dir_okay=False, path_type=Path),
    help="The file to create. It holds wrapped keys only, which cannot be decrypted without KMS.",
)
@click.option(
    "--rows", type=click.IntRange(1, 10_000), default=100, show_default=True, help="How many rows."
)
@click.option(
    "--table",
    "table_name",
    metavar="NAME",
    help="The [[table]] to sample (default: the first one).",
)
@click.pass_obj
def sample(state: State, output: Path, rows: int, table_name: str | None) -> None:
    """Write a sample of wrapped keys, spread over the table, to a file."""
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
    help="The file that `dekctl residue sample` wrote.",
)
@click.argument("paths", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.pass_obj
def search_files(state: State, sample_file: Path, paths: tuple[Path, ...]) -> None:
    """Search PATHS for the sampled keys, as raw bytes, hex and base64.

    The histories of system-versioned tables are searched too. Exit code 4 if any key is found.
    """
    said = time.monotonic()

    def progress(path: Path, done: int) -> None:
        nonlocal said
        if time.monotonic() - said >= NOTE_EVERY_SECONDS:
            said = time.monotonic()
            state.terminal.note(f"{path}: {done / 1e6:,.0f} MB searched")

    with state.project() as project:
        keys = search.open_on_record(project, sample_file)
        histories = search.in_histories(project)
    results = search.search(keys, paths, progress)
    everywhere: set[int] = set().union(*(found.keys for found in results))
    value: dict[str, Any] = {
        "operation": "residue search",
        "sampled": len(keys),
        "found": len(everywhere),
        "files": len(results),
        "bytes": sum(found.size for found in results),
        "histories": histories,
        "hits": [found.as_json() for found in results if found.keys],
    }
    lines = [
        f"{len(everywhere):,} of {len(keys):,} sampled keys found; "
        f"{counted(len(results), 'file')}, {value['bytes'] / 1e6:,.1f} MB searched"
    ]
    for found in results:
        if found.keys:
            forms = ", ".join(f"{n:,} {form}" for form, n in found.hits.items() if n)
            lines.append(f"  {found.path}: {len(found.keys):,} keys ({forms})")
    for name, rows in histories.items():
        lines.append(f"  the history of {name}: {counted(rows, 'row')} with a plaintext")
    found_any = bool(everywhere) or any(histories.values())
    end(state, value, "\n".join(lines), ExitCode.ROWS_LEFT if found_any else ExitCode.OK)
