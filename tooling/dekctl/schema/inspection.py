"""What will not work on a table, or will surprise, said before anything is changed.

``doctor``, every dry run and the schema steps ask here. What is looked at is :data:`FINDINGS`, one
entry for each kind; the SQL that only one database understands is in ``schema/dialects/``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Literal

from dekctl.db.shape import Stage
from dekctl.db.table import DekTable
from dekctl.errors import RefusedError
from dekctl.schema import kinds
from dekctl.schema.dialects.base import Oddity
from dekctl.schema.kinds import Look

Where = Literal["doctor", "dry run", "expand", "script", "contract"]
"""Who asks: ``script`` is expand with ``--sql``, which somebody else will run."""


EVERYWHERE: frozenset[Where] = frozenset({"doctor", "dry run", "expand", "script"})


@dataclass(frozen=True, slots=True)
class Finding:
    """One kind of oddity."""

    name: str
    reason: str
    """Why it matters, for docs/odd-tables.md."""
    look: Callable[[Look], Iterator[Oddity]] = field(repr=False)
    refuses: frozenset[Where] = frozenset()
    """Where it is an error; elsewhere it is a warning only."""
    stages: tuple[Stage, ...] = (Stage.LEGACY, Stage.EXPANDED)


def inspect(table: DekTable, *, without_trigger: bool = False) -> list[tuple[Finding, Oddity]]:
    """Everything odd about a table, in the order of :data:`FINDINGS`.

    ``without_trigger`` says that it has no row trigger on purpose.

    Raises:
        DatabaseError: the database refused or cannot be reached.
    """
    with table.database.transaction() as connection:
        look = Look(table, connection, without_trigger)
        return [
            (finding, oddity)
            for finding in FINDINGS
            if table.stage in finding.stages
            for oddity in finding.look(look)
        ]


def refuse(table: DekTable, where: Where) -> None:
    """Refuse a step, or a dry run, on a table on which it would not work.

    Raises:
        RefusedError: it would not; nothing was changed.
        DatabaseError: the database refused or cannot be reached.
    """
    for finding, oddity in inspect(table):
        if where in finding.refuses:
            raise RefusedError(oddity.text, hint=oddity.next)


def warnings(table: DekTable, where: Where, *, without_trigger: bool = False) -> list[str]:
    """What refuses nothing here, each in one line with its next command.

    Raises:
        DatabaseError: the database refused or cannot be reached.
    """
    found = inspect(table, without_trigger=without_trigger)
    return [f"{o.text}; {o.next}" for finding, o in found if where not in finding.refuses]


FINDINGS: tuple[Finding, ...] = (
    Finding(
        "plaintext column",
        "dekctl wraps bytes or text.",
        kinds.plaintext_column,
        refuses=EVERYWHERE,
    ),
    Finding(
        "generated columns",
        "What is computed from other columns cannot be removed.",
        kinds.generated_columns,
        refuses=EVERYWHERE,
    ),
    Finding(
        "part of another table",
        "Columns are added to the whole, never to one part.",
        kinds.of_database("part of another table"),
        refuses=EVERYWHERE,
        stages=(Stage.LEGACY,),
    ),
    Finding(
        "rows that nobody can change",
        "A publication of updates needs a replica identity that it can send.",
        kinds.of_database("rows that nobody can change"),
        refuses=EVERYWHERE,
    ),
    Finding(
        "online schema changes",
        "pt-online-schema-change and gh-ost put a copy in the table's place.",
        kinds.of_database("online schema changes"),
        refuses=EVERYWHERE | {"contract"},
    ),
    Finding(
        "storage engine",
        "MyISAM, Aria and MEMORY ignore COMMIT: an interrupted run would leave half a batch.",
        kinds.refusal_of(DekTable.refuse_not_transactional),
        refuses=EVERYWHERE,
        stages=tuple(Stage),
    ),
    Finding(
        "keys that read the same",
        "A key could be exchanged between two rows (SQLite: 1 and '1', or NULL).",
        kinds.refusal_of(DekTable.refuse_ambiguous_key),
        refuses=EVERYWHERE,
        stages=tuple(Stage),
    ),
    Finding(
        "keys on the beginning of a column",
        "Rows are read in the order of the key, and found by it.",
        kinds.of_database("keys on the beginning of a column"),
        refuses=EVERYWHERE,
    ),
    Finding(
        "primary keys that no program can read",
        "The encryption context names the row by its key.",
        kinds.of_database("primary keys that no program can read"),
    ),
    Finding(
        "columns of dekctl's names with other types",
        "They are used as they are, so they must hold what dekctl writes.",
        kinds.unfit_columns,
        refuses=EVERYWHERE,
    ),
    Finding(
        "columns of dekctl's names that are never NULL",
        "NULL is how a row says that it has no wrapped key. An empty `wrapped_key` is none, and "
        "`wrap` would pass it over.",
        kinds.never_null,
        refuses=EVERYWHERE,
    ),
    Finding(
        "CHECKs, domains, generated columns and indexes that forbid NULL",
        "Scrub sets the plaintext to NULL, and the row trigger the wrapped columns. A domain over "
        "bytea or text is otherwise like its base type.",
        kinds.forbidden_null,
        refuses=EVERYWHERE,
    ),
    Finding(
        "foreign keys to the plaintext column",
        "Their tables hold copies of keys, and forbid that scrub sets them to NULL, or follow it.",
        kinds.of_database("foreign keys to the plaintext column"),
        refuses=EVERYWHERE,
    ),
    Finding(
        "tables that cannot be copied",
        "SQLite lets a column be NULL only in a copy of the table, which must lose nothing.",
        kinds.of_database("tables that cannot be copied"),
        refuses=frozenset({"expand", "script"}),
    ),
    Finding(
        "unique indexes on a version or KEK",
        "All rows may share one KEK.",
        kinds.unique_columns,
        refuses=EVERYWHERE,
    ),
    Finding(
        "no room in the row",
        "MariaDB and MySQL count at most 65,535 bytes of declared width in a row, TEXT and BLOB "
        "aside. The wrapped key becomes a BLOB where a VARBINARY does not fit.",
        kinds.no_room,
        refuses=EVERYWHERE,
    ),
    Finding(
        "objects that use the plaintext column",
        "The server refuses to drop a column that is in use, or breaks the object silently.",
        kinds.dependents,
        refuses=frozenset({"contract"}),
    ),
    Finding(
        "indexes on the plaintext column",
        "They are dropped with it, and not restored.",
        kinds.indexes,
        refuses=frozenset({"contract"}),
    ),
    Finding(
        "default of the plaintext column",
        "It is no key, but not NULL either.",
        kinds.plaintext_default,
    ),
    Finding(
        "inherited columns",
        "A column goes from a table that inherits it only with its parent's.",
        kinds.of_database("inherited columns"),
        refuses=frozenset({"contract"}),
    ),
    Finding(
        "publications",
        "Logical replication sends no DDL: columns go to the subscribers first.",
        kinds.publications,
        stages=(Stage.LEGACY, Stage.EXPANDED),
    ),
    Finding(
        "copies of keys",
        "Triggers and histories keep what dekctl removes; a broken constraint shows a row.",
        kinds.copies,
        stages=tuple(Stage),
    ),
    Finding(
        "copies of the table",
        "Online schema changes leave the table as it was before, with its keys.",
        kinds.of_database("copies of the table"),
        stages=tuple(Stage),
    ),
    Finding("subscriptions", "Rows are written by the publisher, too.", kinds.subscriptions),
    Finding(
        "system versioning",
        "MariaDB alters no table whose history it would have to rewrite.",
        kinds.of_database("system versioning"),
        refuses=EVERYWHERE,
    ),
    Finding(
        "row trigger",
        "It empties the wrapped columns where an old application version changes a plaintext.",
        kinds.row_trigger,
        refuses=frozenset({"doctor"}),
        stages=(Stage.EXPANDED,),
    ),
    Finding(
        "row format",
        "Some formats keep long values in the row, or cannot be written.",
        kinds.of_database("row format"),
    ),
    Finding(
        "binlog format",
        "Statements are locked and replicated otherwise than rows.",
        kinds.of_database("binlog format"),
    ),
    Finding(
        "zero dates",
        "A strict session alters no table with such a default.",
        kinds.of_database("zero dates"),
    ),
    Finding(
        "character set of dekctl's own tables",
        "They hold names, primary keys and errors of any script.",
        kinds.of_database("character set of dekctl's own tables"),
        stages=tuple(Stage),
    ),
    Finding(
        "row-level security",
        "A policy would hide rows, so the server refuses to read them.",
        kinds.of_database("row-level security"),
        stages=tuple(Stage),
    ),
    Finding(
        "read-only by default",
        "A role or database may have it, without being a replica.",
        kinds.of_database("read-only by default"),
        refuses=frozenset({"expand"}),
        stages=tuple(Stage),
    ),
    Finding(
        "sessions without triggers",
        "What the row trigger would empty, stays.",
        kinds.of_database("sessions without triggers"),
        stages=(Stage.LEGACY, Stage.EXPANDED),
    ),
    Finding(
        "rights of the database role",
        "The next step would stop where a right is missing.",
        kinds.of_database("rights of the database role"),
        refuses=frozenset({"expand"}),
        stages=(Stage.LEGACY,),
    ),
    Finding(
        "rights of the role that wraps",
        "Another role may own the table.",
        kinds.of_database("rights of the database role"),
        stages=(Stage.EXPANDED,),
    ),
)
"""What is looked at, in the order in which it is said."""
