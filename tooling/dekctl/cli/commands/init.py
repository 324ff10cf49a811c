"""``dekctl init``."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import get_args

import click

from dekctl.cli.registry import Documented, Section
from dekctl.cli.state import State
from dekctl.config import Encoding, EnvConfig, TableConfig
from dekctl.db.connect import database_of
from dekctl.db.database import Database
from dekctl.db.shape import Stage
from dekctl.db.table import DekTable
from dekctl.errors import RefusedError, UsageError
from dekctl.ledger.bindings import suggested_name
from dekctl.operations.encoding import refuse_other_encoding
from dekctl.wording import counted, printable
from dekctl.workflows import discovery
from dekctl.workflows.discovery import Candidate
from dekctl.workflows.init import (
    TERRAFORM,
    Answers,
    AWSAccount,
    refuse_existing,
    write,
)

PLACE = Section.CHECK, 0


@click.command(cls=Documented)
@click.option("--table", metavar="NAME", help="The table with the data keys.")
@click.option(
    "--primary-key",
    metavar="COLUMN",
    multiple=True,
    help="Column of a unique key of the table (default: its primary key); repeat it for several.",
)
@click.option("--column", metavar="NAME", help="The column with the raw keys.")
@click.option(
    "--encoding",
    type=click.Choice(get_args(Encoding)),
    help="How the column holds them (default: guessed from a sample).",
)
@click.option(
    "--context-name",
    metavar="NAME",
    help="Part of every encryption context (default: database and table).",
)
@click.option(
    "--database-variable",
    metavar="NAME",
    default="DATABASE_URL",
    show_default=True,
    help="Environment variable that holds the database URL.",
)
@click.option("--account-id", metavar="ID", help="AWS account in which Terraform creates the KEK.")
@click.option(
    "--region", metavar="NAME", help="AWS Region of the KEK (default: $AWS_REGION, if it is set)."
)
@click.option("--kek", metavar="KEK", help="Use this KEK (ARN or alias); write no Terraform root.")
@click.pass_obj
def init(
    state: State,
    table: str | None,
    primary_key: tuple[str, ...],
    column: str | None,
    encoding: Encoding | None,
    context_name: str | None,
    database_variable: str,
    account_id: str | None,
    region: str | None,
    kek: str | None,
) -> None:
    """Write dekctl.toml and a Terraform root for your own table into this folder.

    Reads the tables of the database in $DATABASE_URL, looks at a sample of each column's values
    (which is never shown), and asks for the rest; without a terminal, pass it as options. --env
    names the environment (default: production). Nothing is overwritten, and neither the database
    nor AWS is changed.
    """
    folder = Path.cwd()
    refuse_existing(folder, terraform=kek is None)
    env = _checked("--env", state.env_name or "production", r"[A-Za-z0-9_-]+")
    config = EnvConfig(name=env, database_url=_url(database_variable))
    with database_of(config) as database:
        found = _column(state, database, table, column, encoding)
        described = _table(database, found, primary_key, context_name)
    account, region = _account(account_id, region, kek)
    answers = Answers(
        table=described,
        seen=found.described(),
        env=env,
        variable=database_variable,
        account=account,
        kek=kek,
        region=region,
    )
    written = write(folder, answers)
    following = _next(answers)
    value = {
        "written": [str(path) for path in written],
        "env": env,
        "table": described.name,
        "primary_key": list(described.primary_key),
        "plaintext_column": described.plaintext_column,
        "plaintext_encoding": described.plaintext_encoding,
        "context_name": described.context_name,
        "sampled": found.sampled,
        "fitting": found.fitting,
        "next": following,
    }
    lines = [
        f"{described.name}.{described.plaintext_column}: {found.described()}",
        f"primary key {', '.join(described.primary_key)}; context name {described.context_name}",
        f"written: {', '.join(path.name for path in written)}",
        "next:",
        *(f"  {step}" for step in following),
    ]
    state.terminal.result(value, "\n".join(lines))


def _next(answers: Answers) -> list[str]:
    steps = ["dekctl config show"]
    if answers.account is not None:
        steps = [
            f"edit {TERRAFORM}/terraform.tfvars: who may assume which role",
            f"terraform -chdir={TERRAFORM} init",
            f"terraform -chdir={TERRAFORM} apply",
        ]
    return [*steps, "dekctl doctor", "dekctl migrate --dry-run", "dekctl migrate"]


def _checked(option: str, value: str, pattern: str) -> str:
    if not re.fullmatch(pattern, value):
        raise UsageError(f"{option} must match {pattern}", hint="see: dekctl init --help")
    return value


def _url(variable: str) -> str:
    """The database URL. Never an option: arguments of a process can be seen by others."""
    found = os.environ.get(variable)
    if not found and sys.stdin.isatty():
        found = str(click.prompt("Database URL (not shown)", hide_input=True, err=True))
    if not found:
        raise UsageError(
            f"{variable} is not set, and dekctl init reads the database URL from it",
            hint=f"set it: export {variable}=postgresql+psycopg://user:password@host/database",
        )
    return found


def _column(
    state: State,
    database: Database,
    table: str | None,
    column: str | None,
    encoding: Encoding | None,
) -> Candidate:
    """The column with the keys: named, the only likely one, or the one that a person chooses."""
    if table and column:
        return discovery.examine(database, table, column, encoding)
    names = [table] if table else discovery.table_names(database)
    found = [
        each
        for name in names
        for each in discovery.candidates(database, name)
        if column in (None, each.column)
    ]
    likely = [each for each in found if each.is_likely]
    if not found:
        raise UsageError(
            f"no column with data keys was found in {counted(len(names), 'table')} of "
            f"{database.shown_url} ({discovery.SAMPLE_ROWS} rows of each were sampled)",
            hint="name it: dekctl init --table NAME --column NAME --encoding ENCODING",
        )
    chosen = likely[0] if len(likely) == 1 else None
    if sys.stdin.isatty():
        state.terminal.note("These columns may hold data keys (values are not shown):")
        for each in found:
            note = "" if each.is_likely else "; a hash looks the same"
            name = printable(f"{each.table}.{each.column}")
            state.terminal.note(f"  {name}: {each.described()}{note}")
        by_name = {f"{each.table}.{each.column}": each for each in found}
        default = chosen or (likely or found)[0]
        answer = _choose("Which one?", list(by_name), f"{default.table}.{default.column}")
        chosen = by_name[answer]
    if chosen is None:
        seen = "; ".join(f"{each.table}.{each.column}: {each.described()}" for each in found)
        raise UsageError(
            f"which column holds the data keys? {seen}",
            hint=f"name it: dekctl init --table {found[0].table} --column {found[0].column}",
        )
    return discovery.examine(database, chosen.table, chosen.column, encoding)


def _choose(question: str, names: Sequence[str], default: str) -> str:
    choice = click.Choice(list(names))
    return str(click.prompt(question, type=choice, default=default, show_choices=False, err=True))


def _table(
    database: Database, found: Candidate, key: tuple[str, ...], context_name: str | None
) -> TableConfig:
    """The table as it will be configured, looked at as every command looks at it."""
    key = key or discovery.primary_key(database, found.table)
    if not key:
        raise UsageError(
            f"the table {found.table} has no primary key",
            hint="name a unique key: dekctl init --primary-key COLUMN",
        )
    config = TableConfig(
        name=found.table,
        primary_key=key,
        plaintext_column=found.column,
        plaintext_encoding=found.encoding,
        dek_bytes=found.dek_bytes,
        context_name=context_name or found.table,
        context_name_given=True,
    )
    table = DekTable(database, config)
    if table.stage is not Stage.LEGACY and context_name is None:
        raise RefusedError(
            f"{found.table} has dekctl's columns already, and its keys are bound to a context name",
            hint="use the dekctl.toml that it was expanded with, or name it: dekctl init "
            "--context-name NAME",
        )
    refuse_other_encoding(table)
    if context_name is None:
        default = re.sub(r"[^A-Za-z0-9_.-]", "_", suggested_name(table))[:128]
        context_name = default
        if sys.stdin.isatty():
            text = "Context name, part of every encryption context (it must not change later)"
            context_name = str(click.prompt(text, default=default, err=True))
    _checked("--context-name", context_name, r"[A-Za-z0-9_.-]{1,128}")
    return replace(config, context_name=context_name)


def _account(
    account_id: str | None, region: str | None, kek: str | None
) -> tuple[AWSAccount | None, str | None]:
    """Where Terraform creates the KEK, or the Region of one that exists."""
    region = region or os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION")
    if kek is not None:
        return None, region
    if sys.stdin.isatty():
        account_id = account_id or str(click.prompt("AWS account (12 digits)", err=True))
        region = region or str(click.prompt("AWS Region of the KEK", err=True))
    if not account_id or not region:
        raise UsageError(
            "the Terraform root needs an AWS account and a Region",
            hint="give both: dekctl init --account-id 111122223333 --region eu-central-1; or name "
            "a KEK that exists: dekctl init --kek alias/NAME",
        )
    _checked("--account-id", account_id, r"\d{12}")
    _checked("--region", region, r"[a-z]{2,4}(-[a-z]+)+-\d+")
    return AWSAccount(account_id, region), None
