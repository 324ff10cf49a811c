"""What is odd about a table on MariaDB or MySQL alone; see :mod:`dekctl.schema.inspection`."""

from __future__ import annotations

import re
from collections.abc import Iterator

import sqlalchemy as sa
from sqlalchemy import Connection

from dekctl.db.shape import Stage
from dekctl.db.table import DekTable
from dekctl.schema.dialects.base import Oddity, reference

_GRANT = re.compile(r"GRANT (.+?) ON (?:TABLE )?(\S+) TO ", re.IGNORECASE)
_COLUMNS = re.compile(r"\([^)]*\)")
_LEDGER_TABLES = re.compile(r"dekctl_(?:tables|runs|quarantine|branch_keys)")


def _names(table: DekTable) -> dict[str, str | None]:
    return {"name": table.config.bare_name, "schema": table.config.schema}


def prefix_keys(connection: Connection, table: DekTable) -> Iterator[Oddity]:
    """A key over the beginning of a column: no page can be read by it, and no row found."""
    found = connection.execute(
        sa.text(
            "SELECT index_name, column_name, sub_part FROM information_schema.statistics "
            "WHERE table_name = :name AND table_schema = COALESCE(:schema, DATABASE()) "
            "AND non_unique = 0 AND sub_part IS NOT NULL AND (index_name = 'PRIMARY' OR NOT EXISTS "
            "(SELECT 1 FROM information_schema.statistics AS p WHERE p.index_name = 'PRIMARY' "
            "AND p.table_name = :name AND p.table_schema = COALESCE(:schema, DATABASE())))"
        ),
        _names(table),
    )
    for index, column, length in found:
        if column in table.config.primary_key:
            yield Oddity(
                f"the key {index} of {table.config.name} covers only the first {length} characters "
                f"of {column}, so no page of rows can be read by it",
                "make the key cover the whole column (a VARCHAR), or set primary_key in [table] to "
                "another unique key",
            )


_COPY = re.compile(r"_+{name}_(?:[0-9]+_)?(?:new|old|gho|del)")


def schema_changes(connection: Connection, table: DekTable) -> Iterator[Oddity]:
    """An online schema change that runs: the copy that it puts in place lacks what changes here."""
    config, triggers = table.config, table.database.dialect.copiers(connection, table)
    tool = ""
    if any(name.startswith("the trigger pt_osc_") for name in triggers):
        tool, left = "pt-online-schema-change", "its triggers (pt_osc_…)"
    elif _tables(connection, table, f"_{config.bare_name}_ghc"):
        tool, left = "gh-ost", f"the tables _{config.bare_name}_ghc and _{config.bare_name}_gho"
    if tool:
        yield Oddity(
            f"{tool} changes {config.name}, or left {left} behind: the table that it puts in "
            "place lacks what dekctl changes meanwhile, wrapped keys included",
            f"let it finish; if none runs, drop {left}",
        )


def copied_tables(connection: Connection, table: DekTable) -> Iterator[Oddity]:
    """Tables that online schema changes left behind, with the same keys."""
    config = table.config
    name = re.escape(config.bare_name)
    pattern = re.compile(_COPY.pattern.replace("{name}", name), re.IGNORECASE)
    found = connection.execute(
        sa.text(
            "SELECT table_name FROM information_schema.columns WHERE column_name = :column "
            "AND table_schema = COALESCE(:schema, DATABASE()) ORDER BY 1"
        ),
        {"column": config.plaintext_column, "schema": config.schema},
    )
    for name in found.scalars():
        if pattern.fullmatch(name):
            yield Oddity(
                f"{name}, which an online schema change may have left, has the column "
                f"{config.plaintext_column}, too: dekctl removes no key there",
                f"DROP TABLE {table.quote(name)}",
            )


def read_only_default(connection: Connection, table: DekTable) -> Iterator[Oddity]:  # noqa: ARG001 - as all
    """Sessions whose transactions are read-only unless they say otherwise."""
    for name in ("tx_read_only", "transaction_read_only"):  # MariaDB's, and MySQL's
        if _variable(connection, name) == "ON":
            yield Oddity(
                f"transactions are read-only by default ({name}), so dekctl can write nothing",
                f"SET GLOBAL {name} = OFF",
            )
            return


def references(connection: Connection, table: DekTable) -> Iterator[Oddity]:
    """Foreign keys of other tables to the plaintext column."""
    found = connection.execute(
        sa.text(
            "SELECT table_name, constraint_name FROM information_schema.key_column_usage "
            "WHERE referenced_table_name = :name AND referenced_column_name = :column "
            "AND referenced_table_schema = COALESCE(:schema, DATABASE()) ORDER BY 1, 2"
        ),
        {**_names(table), "column": table.config.plaintext_column},
    )
    for other, name in found:
        yield reference(table, other, name)


def histories(connection: Connection, table: DekTable) -> Iterator[Oddity]:
    """System versioning under which MariaDB alters no table."""
    if "system versioning" not in table.database.dialect.copiers(connection, table):
        return
    if _variable(connection, "system_versioning_alter_history") != "KEEP":
        yield Oddity(
            f"{table.config.name} is system-versioned, and MariaDB refuses to alter it",
            f"drop its history, which holds copies of keys: ALTER TABLE {table.quoted_name} DROP "
            "SYSTEM VERSIONING; or keep it for now: SET GLOBAL system_versioning_alter_history = "
            "KEEP",
        )


def row_formats(connection: Connection, table: DekTable) -> Iterator[Oddity]:
    """Formats that keep little beside the row, or cannot be written."""
    row_format = connection.execute(
        sa.text(
            "SELECT row_format FROM information_schema.tables WHERE table_name = :name "
            "AND table_schema = COALESCE(:schema, DATABASE())"
        ),
        _names(table),
    ).scalar_one_or_none()
    mend = f"ALTER TABLE {table.quoted_name} ROW_FORMAT=DYNAMIC"
    if row_format in ("Compact", "Redundant"):
        yield Oddity(
            f"{table.config.name} has ROW_FORMAT={row_format.upper()}, which keeps 768 bytes of "
            "every long column in the row's page: a wide row may have no room for a wrapped key",
            f"if rows are wide: {mend}",
        )
    if row_format == "Compressed" and _variable(connection, "innodb_read_only_compressed") == "ON":
        yield Oddity(
            f"{table.config.name} has ROW_FORMAT=COMPRESSED, and innodb_read_only_compressed is "
            "ON: nobody can write to it",
            f"{mend}; or SET GLOBAL innodb_read_only_compressed = OFF",
        )


def binlog_formats(connection: Connection, table: DekTable) -> Iterator[Oddity]:
    """Statement-based replication, which locks more and sends the statements."""
    if _variable(connection, "log_bin") != "ON":
        return
    if _variable(connection, "binlog_format") == "STATEMENT":
        yield Oddity(
            f"binlog_format is STATEMENT: dekctl reads and writes {table.config.name} under "
            "REPEATABLE READ, whose gap locks hold up the application's inserts, and each replica "
            "runs every statement again",
            "SET GLOBAL binlog_format = ROW",
        )


def zero_dates(connection: Connection, table: DekTable) -> Iterator[Oddity]:
    """Defaults with which only a lenient session can alter a table."""
    found = connection.execute(
        sa.text(
            "SELECT column_name FROM information_schema.columns WHERE table_name = :name "
            "AND table_schema = COALESCE(:schema, DATABASE()) "
            "AND column_default REGEXP '^.?[0-9]{4}-(00|[0-9]{2}-00)' ORDER BY ordinal_position"
        ),
        _names(table),
    ).scalars()
    quote = connection.dialect.identifier_preparer.quote
    for column in found:
        yield Oddity(
            f"{table.config.name}.{column} has a default with a zero date: dekctl's session and "
            "the scripts of --sql allow it, but any other ALTER TABLE under NO_ZERO_DATE is "
            "refused (error 1067)",
            f"ALTER TABLE {table.quoted_name} ALTER COLUMN {quote(column)} DROP DEFAULT",
        )


def ledger_charsets(connection: Connection, table: DekTable) -> Iterator[Oddity]:
    """Tables of dekctl's own that an older dekctl made in the database's character set."""
    found = connection.execute(
        sa.text(
            "SELECT table_schema, table_name, table_collation FROM information_schema.tables "
            "WHERE table_schema IN (COALESCE(:schema, DATABASE()), DATABASE()) "
            "AND LEFT(table_name, 7) = 'dekctl_' AND table_collation NOT LIKE :good ORDER BY 2"
        ),
        {**_names(table), "good": "utf8mb4%"},
    )
    quote = connection.dialect.identifier_preparer.quote
    for schema, name, collation in found:
        place = f"{quote(schema)}." if table.config.schema else ""
        if _LEDGER_TABLES.fullmatch(name):
            yield Oddity(
                f"{name}, of dekctl's own tables, is in {collation.partition('_')[0]}, which "
                "cannot hold every name, primary key or error",
                f"ALTER TABLE {place}{quote(name)} CONVERT TO CHARACTER SET utf8mb4",
            )


def rights(connection: Connection, table: DekTable) -> Iterator[Oddity]:
    """What the account lacks for the next step."""
    grants = [str(row[0]) for row in connection.exec_driver_sql("SHOW GRANTS")]
    if any(" ON " not in grant for grant in grants) and not getattr(
        connection.dialect, "is_mariadb", False
    ):
        return  # of a role, whose rights MySQL does not list here: the server will say it
    database = table.config.schema or connection.exec_driver_sql("SELECT DATABASE()").scalar_one()
    needed = {"SELECT", "INSERT", "UPDATE", "DELETE", "CREATE TEMPORARY TABLES"}
    if table.stage is Stage.LEGACY:
        needed |= {"ALTER", "CREATE"}
    missing = sorted(needed - _granted(grants, str(database), table.config.bare_name))
    if missing:
        account = connection.exec_driver_sql("SELECT CURRENT_USER()").scalar_one()
        quote = connection.dialect.identifier_preparer.quote
        user, _, host = str(account).rpartition("@")
        yield Oddity(
            f"the database account {account} lacks {', '.join(missing)} on {database}, where "
            f"{table.config.name} and dekctl's own tables are",
            f"GRANT {', '.join(missing)} ON {quote(database)}.* TO {quote(user)}@{quote(host)}"
            if table.stage is Stage.LEGACY
            else "grant them table by table, as docs/database-grants.md shows",
        )


def _granted(grants: list[str], database: str, table: str) -> set[str]:
    """The rights on a table. Those on one table alone count, too: they may be all that is meant."""
    found: set[str] = set()
    for grant in grants:
        if not (match := _GRANT.match(grant)):
            continue
        where = [part.strip("`") for part in match[2].split(".", 1)]
        if where[0] != "*" and not _is_like(database, where[0]):
            continue
        if where[-1] not in ("*", table) and not where[-1].startswith("dekctl_"):
            continue
        rights = {right.strip().upper() for right in _COLUMNS.sub("", match[1]).split(",")}
        if "ALL PRIVILEGES" in rights or "ALL" in rights:
            return {"SELECT", "INSERT", "UPDATE", "DELETE", "CREATE TEMPORARY TABLES",
                    "ALTER", "CREATE"}  # fmt: skip
        found |= rights
    return found


def _is_like(name: str, pattern: str) -> bool:
    """Whether a database's name is one of a GRANT, where _ and % are wildcards."""
    parts = re.findall(r"\\.|[%_]|.", pattern)
    wild = {"%": ".*", "_": "."}
    return re.fullmatch("".join(wild.get(p) or re.escape(p[-1]) for p in parts), name) is not None


def _tables(connection: Connection, table: DekTable, name: str) -> bool:
    return sa.inspect(connection).has_table(name, schema=table.config.schema)


def _variable(connection: Connection, name: str) -> str | None:
    query = sa.text("SHOW VARIABLES WHERE variable_name = :name")
    row = connection.execute(query, {"name": name}).first()
    return str(row[1]).upper() if row else None
