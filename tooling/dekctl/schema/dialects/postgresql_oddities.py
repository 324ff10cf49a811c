"""What is odd about a table on PostgreSQL alone; see :mod:`dekctl.schema.inspection`."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from dekctl.db.shape import Stage
from dekctl.db.table import DekTable
from dekctl.schema.dialects.base import Oddity, reference

_UNREADABLE = {
    sa.Date: "{0} < '0001-01-01' OR {0} > '9999-12-31'",
    sa.DateTime: "{0} < '0001-01-01' OR {0} >= '10000-01-01'",
    sa.Numeric: "{0}::text IN ('NaN', 'Infinity', '-Infinity')",
}
"""The values of a type that no program can read, as a condition on a column."""


def unreadable_keys(connection: Connection, table: DekTable) -> Iterator[Oddity]:
    """Primary keys that have no value in a program: ``infinity``, years BC, NaN."""
    for name, column in zip(table.config.primary_key, table.quoted_key, strict=True):
        kind = table.columns[name].base_type
        condition = next((c for k, c in _UNREADABLE.items() if isinstance(kind, k)), None)
        if condition is None:
            continue
        where = condition.format(column)
        # They sort first or last, where an index leads to them at once, if it begins with them.
        ends = f"SELECT min({column}) AS least, max({column}) AS most FROM {table.quoted_name}"
        found = connection.exec_driver_sql(
            f"SELECT 1 FROM ({ends}) AS ends WHERE {condition.format('least')} "
            f"OR {condition.format('most')}"
        ).first()
        if found:
            yield Oddity(
                f"{table.config.name}.{name} has values that no program can read (infinity, NaN, "
                "years before 1 or after 9999), so no key can be bound to those rows: they will be "
                "quarantined",
                f"give them another key; see: SELECT * FROM {table.quoted_name} WHERE {where}",
            )


def partitions(connection: Connection, table: DekTable) -> Iterator[Oddity]:
    """A partition, or a table of a type: it has the columns of something else."""
    found = connection.execute(
        sa.text(
            "SELECT CASE WHEN c.relispartition THEN 'a partition of ' || i.inhparent::regclass "
            "ELSE 'a table of the type ' || c.reloftype::regtype END, "
            "CASE WHEN c.relispartition THEN i.inhparent::regclass::text END "
            "FROM pg_class AS c LEFT JOIN pg_inherits AS i ON i.inhrelid = c.oid "
            "WHERE c.oid = CAST(:table AS regclass) AND (c.relispartition OR c.reloftype <> 0)"
        ),
        {"table": table.quoted_name},
    )
    for what, whole in found:
        yield Oddity(
            f"{table.config.name} is {what}, so no column can be added to it alone",
            f'set name = "{whole}" in [table]'
            if whole
            else f"ALTER TABLE {table.quoted_name} NOT OF",
        )


def inherited(connection: Connection, table: DekTable) -> Iterator[Oddity]:
    """A plaintext column that another table has as well: only there it can be dropped."""
    config = table.config
    found = connection.execute(
        sa.text(
            "SELECT i.inhparent::regclass::text FROM pg_inherits AS i JOIN pg_class AS c "
            "ON c.oid = i.inhrelid JOIN pg_attribute AS a ON a.attrelid = i.inhparent "
            "WHERE c.oid = CAST(:table AS regclass) AND NOT c.relispartition "
            "AND a.attname = :column AND NOT a.attisdropped ORDER BY 1"
        ),
        {"table": table.quoted_name, "column": config.plaintext_column},
    )
    for parent in found.scalars():
        yield Oddity(
            f"{config.name} inherits {config.plaintext_column} from {parent}: contract would be "
            "refused",
            f"before contract: ALTER TABLE {table.quoted_name} NO INHERIT {parent}",
        )


def unchangeable(connection: Connection, table: DekTable) -> Iterator[Oddity]:
    """Rows that the server lets nobody change, as their change could not be published."""
    column = table.quoted("plaintext")
    try:
        with connection.begin_nested():
            connection.exec_driver_sql(
                f"EXPLAIN UPDATE {table.quoted_name} SET {column} = {column}"
            )
    except DBAPIError as error:
        diagnosis: Any = getattr(error.orig, "diag", None)
        if getattr(diagnosis, "source_function", None) != "CheckCmdReplicaIdentity":
            return
        said = " ".join(filter(None, (diagnosis.message_primary, diagnosis.message_detail)))
    else:
        return
    index, is_primary = connection.execute(
        sa.text(
            "SELECT relname, indisprimary FROM pg_index JOIN pg_class ON oid = indexrelid "
            "WHERE indrelid = CAST(:table AS regclass) AND indisunique AND indimmediate "
            "AND indpred IS NULL AND indexprs IS NULL ORDER BY indisprimary DESC, 1 LIMIT 1"
        ),
        {"table": table.quoted_name},
    ).one_or_none() or ("", True)
    identity = "DEFAULT" if is_primary else f"USING INDEX {table.quote(index)}"
    named = re.search(r'"([^"]+)"', diagnosis.message_primary)
    other = named is not None and named[1] != table.config.bare_name  # a partition
    place = table.quote(named[1]) if named is not None and other else table.quoted_name
    yield Oddity(
        f"the server lets nobody change rows of {table.config.name}: {said}",
        f"ALTER TABLE {place} REPLICA IDENTITY {identity}; or change the publication",
    )


def row_security(connection: Connection, table: DekTable) -> Iterator[Oddity]:
    """Policies that would hide rows from the role."""
    hidden, role = connection.execute(
        sa.text("SELECT row_security_active(CAST(:table AS regclass)), quote_ident(current_user)"),
        {"table": table.quoted_name},
    ).one()
    if hidden:
        yield Oddity(
            f"row-level security of {table.config.name} applies to the database role {role}, but "
            "every command that reads rows must see all of them",
            f"ALTER ROLE {role} BYPASSRLS; or run dekctl as the owner of a table without FORCE ROW "
            "LEVEL SECURITY",
        )


_ROLE = "SELECT quote_ident(current_user), quote_ident(current_database()) WHERE "


def read_only_default(connection: Connection, table: DekTable) -> Iterator[Oddity]:  # noqa: ARG001 - as all
    """A primary on which the role's transactions are read-only unless they say otherwise."""
    setting = "current_setting('default_transaction_read_only') = 'on' AND NOT pg_is_in_recovery()"
    for role, database in connection.execute(sa.text(_ROLE + setting)):
        yield Oddity(
            f"transactions of {role} in {database} are read-only by default, so dekctl can write "
            "nothing; a provider may have set that while the disk is full",
            f"ALTER ROLE {role} IN DATABASE {database} SET default_transaction_read_only = off",
        )


def idle_trigger(connection: Connection, table: DekTable) -> Iterator[Oddity]:
    """Sessions in which the row trigger does not run."""
    setting = "current_setting('session_replication_role') = 'replica'"
    for role, database in connection.execute(sa.text(_ROLE + setting)):
        yield Oddity(
            f"session_replication_role of {role} is replica: in such a session the row trigger of "
            f"{table.config.name} does not run, nor do foreign keys",
            f"ALTER ROLE {role} IN DATABASE {database} SET session_replication_role = origin",
        )


def references(connection: Connection, table: DekTable) -> Iterator[Oddity]:
    """Foreign keys of other tables to the plaintext column."""
    found = connection.execute(
        sa.text(
            "SELECT f.conrelid::regclass::text, f.conname FROM pg_constraint AS f "
            "JOIN pg_attribute AS a ON a.attrelid = f.confrelid AND a.attnum = ANY (f.confkey) "
            "WHERE f.contype = 'f' AND f.confrelid = CAST(:table AS regclass) "
            "AND a.attname = :column AND f.conparentid = 0 ORDER BY 1, 2"
        ),
        {"table": table.quoted_name, "column": table.config.plaintext_column},
    )
    for other, name in found:
        yield reference(table, other, name)


def rights(connection: Connection, table: DekTable) -> Iterator[Oddity]:
    """What the role lacks for the next step."""
    owner, is_owner, may_write, schema, may_create, database, may_temp, role = connection.execute(
        sa.text(_RIGHTS), {"table": table.quoted_name}
    ).one()
    name = table.config.name
    if table.stage is Stage.LEGACY:
        if not is_owner:
            yield Oddity(
                f"the database role {role} does not own {name}, which only {owner} may alter",
                f"expand as {owner}, or print the SQL for whoever may: dekctl schema expand --sql",
            )
        if not may_create:
            yield Oddity(
                f"the database role {role} may create nothing in the schema {schema}, where "
                "dekctl's own tables and the trigger's function go",
                f"GRANT USAGE, CREATE ON SCHEMA {schema} TO {role}",
            )
    if not may_write:
        yield Oddity(
            f"the database role {role} may not read and change {name}",
            f"GRANT SELECT, UPDATE ON {table.quoted_name} TO {role}",
        )
    if not may_temp:
        yield Oddity(
            f"the database role {role} may make no temporary tables, through which dekctl writes",
            f"GRANT TEMPORARY ON DATABASE {database} TO {role}",
        )
    for own, needed in connection.execute(sa.text(_LEDGER_RIGHTS), {"table": table.quoted_name}):
        yield Oddity(
            f"the database role {role} may not use {own}, of dekctl's own tables",
            f"GRANT {needed} ON {own} TO {role}",
        )


_RIGHTS = """
SELECT quote_ident(pg_get_userbyid(c.relowner)), pg_has_role(c.relowner, 'USAGE'),
    has_table_privilege(c.oid, 'SELECT') AND has_table_privilege(c.oid, 'UPDATE'),
    quote_ident(n.nspname), has_schema_privilege(n.oid, 'CREATE'),
    quote_ident(current_database()), has_database_privilege(current_database(), 'TEMPORARY'),
    quote_ident(current_user)
FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
WHERE c.oid = CAST(:table AS regclass)
"""
_LEDGER_RIGHTS = """
SELECT c.oid::regclass::text, n.needed FROM pg_class AS c JOIN (VALUES
    ('dekctl_tables', 'SELECT, UPDATE'), ('dekctl_runs', 'SELECT, INSERT, UPDATE'),
    ('dekctl_quarantine', 'SELECT, INSERT, UPDATE, DELETE')) AS n(name, needed)
    ON n.name = c.relname
WHERE c.relkind = 'r' AND c.relnamespace = (
        SELECT relnamespace FROM pg_class WHERE oid = CAST(:table AS regclass))
    AND EXISTS (SELECT 1 FROM unnest(string_to_array(n.needed, ', ')) AS r(right_name)
        WHERE NOT has_table_privilege(c.oid, r.right_name))
ORDER BY 1
"""
"""As docs/database-grants.md lists them."""
