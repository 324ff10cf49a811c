"""``dekctl status``."""

from __future__ import annotations

from typing import Any

import click

from dekctl.cli.state import State
from dekctl.lifecycle import census
from dekctl.schema.dialects import postgresql as fence


@click.command()
@click.option("--table", "table_name", metavar="NAME", help="Only this [[table]].")
@click.pass_context
def status(ctx: click.Context, table_name: str | None) -> None:
    """Show the stage, the rows by state, and the census by KEK and version."""
    state: State = ctx.obj
    with state.project() as project:
        value = census.status(project, table_name)
        for config, table in zip(
            project.table_configs(table_name), value.get("tables", [value]), strict=True
        ):
            with project.database.transaction() as connection:
                fences = fence.standing(connection, project.table(config))
            table["fences"] = sorted(fences)
    parts = [_text(table) for table in value.get("tables", [value])]
    if "min_generation" in value:
        parts.append(_floor(value["min_generation"]))
        parts += _door(value["without_context"])
    state.terminal.result(value, state.terminal.exact("\n\n".join(parts)))


def _floor(floor: dict[str, Any]) -> str:
    text = f"min_generation is {floor['configured'] or 'not set'}"
    if not floor["applies"]:
        return text + "; every table names KEKs of its own, for which there is none"
    if below := _counted(floor["rows_below"], floor["branch_keys_below"]):
        text += f"; {below} are older, and readers refuse them: dekctl rewrap"
    foreign = _counted(floor["rows_of_no_generation"], floor["branch_keys_of_no_generation"])
    if foreign:
        return text + (
            f"; it cannot be raised: {foreign} name no generation of this KEK in Terraform: "
            "dekctl rewrap"
        )
    if floor["can_be"] == floor["configured"]:
        return text + ", the oldest generation that rows need"
    return text + f"; it can be {floor['can_be']}"


def _counted(rows: int, branch_keys: int) -> str:
    counts = ((rows, "rows"), (branch_keys, "branch keys"))
    return " and ".join(f"{count:,} {what}" for count, what in counts if count)


def _door(rows: dict[str, Any]) -> list[str]:
    """Whether ``allow_rows_without_context`` is right in Terraform."""
    if rows["rows"] and rows["allowed"] is False:
        return [
            f"{rows['rows']:,} rows have no encryption context (V1), and Terraform lets nobody "
            "open them: set allow_rows_without_context = true, make apply, then: dekctl rewrap"
        ]
    if rows["rows"]:
        return [
            f"{rows['rows']:,} rows have no encryption context (V1) and need "
            "allow_rows_without_context; give them one with: dekctl rewrap"
        ]
    if rows["allowed"]:
        return ["no row needs allow_rows_without_context any more: set it to false, make apply"]
    return []


def _text(table: dict[str, Any]) -> str:
    lines = [
        f"{table['table']}: stage {table['stage']}, {table['rows']:,} rows",
        f"  plaintext only  {table['plaintext_only']:>12,}",
        f"  both            {table['both']:>12,}",
        f"  wrapped only    {table['wrapped_only']:>12,}",
        f"  no key          {table['no_key']:>12,}",
        f"  quarantined     {table['quarantined']:>12,}",
    ]
    for kek in table["keks"]:
        name = f" ({kek['generation']})" if kek["generation"] else ""
        lines.append(f"  {kek['rows']:>12,} rows {kek['version']} under {kek['kek_id']}{name}")
        if kek["oldest_wrap"]:
            lines.append(f"{'':>15}wrapped {kek['oldest_wrap']} to {kek['newest_wrap']}")
    for kek in table["branch_keys"]:
        name = f" ({kek['generation']})" if kek["generation"] else ""
        lines.append(f"  {kek['keys']:>12,} branch keys under {kek['kek_id']}{name}")
    for name in table["fences"]:
        lines.append(
            f"  the constraint {name} refuses writes of the application: a schema step is at work, "
            "or was killed; see: dekctl doctor"
        )
    if table["quarantine"]:
        lines.append("  set aside (once corrected, run the verb again with --retry-quarantined):")
    for row in table["quarantine"]:
        lines.append(f"  set aside by {row['operation']}: {row['pk']}: {row['reason']}")
    return "\n".join(lines)
