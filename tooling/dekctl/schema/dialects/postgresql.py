"""PostgreSQL: the row trigger also keeps a step's finding true until the step ends.

Closed, it refuses harmful rows from the first moment, without blocking other writers. So the step
itself need not look at the rows, and holds its lock only for a moment.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import sqlalchemy as sa
from sqlalchemy import Connection

from dekctl.db import alembic_op as op
from dekctl.db.dialects.postgresql_session import OWN_WRITE
from dekctl.db.table import DekTable
from dekctl.errors import RefusedError
from dekctl.ledger.metadata import named_type
from dekctl.schema.dialects import postgresql_oddities
from dekctl.schema.dialects.base import Dependent, FindOddities, Guard, SchemaDialect, Trigger

_NOT_NULL = "dekctl_rollback_guard"
_CONSTRAINTS = ("dekctl_contract_guard", _NOT_NULL, "dekctl_fence", "dekctl_fence_back")
"""Of a step: today's, then those of older versions, which an interrupted step may have left."""
_ROW_BEFORE_UPDATE = 0b10011
"""Bits of pg_trigger.tgtype."""


class PostgreSQLSchema(SchemaDialect):
    """PostgreSQL 11 or newer; a partitioned table has a row trigger from 13 on."""

    has_guards = True
    has_domains = True
    oddities: ClassVar[Mapping[str, FindOddities]] = {
        "part of another table": postgresql_oddities.partitions,
        "inherited columns": postgresql_oddities.inherited,
        "rows that nobody can change": postgresql_oddities.unchangeable,
        "foreign keys to the plaintext column": postgresql_oddities.references,
        "row-level security": postgresql_oddities.row_security,
        "read-only by default": postgresql_oddities.read_only_default,
        "sessions without triggers": postgresql_oddities.idle_trigger,
        "primary keys that no program can read": postgresql_oddities.unreadable_keys,
        "rights of the database role": postgresql_oddities.rights,
    }

    def lock(self, table: str, others: Sequence[str]) -> list[str]:  # noqa: ARG002
        return [f"LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE"]

    def add_plaintext(self, table: DekTable, metadata: Mapping[str, Any]) -> None:
        name = named_type(metadata["plaintext_type"])
        if name is not None and not op.get_context().as_sql:
            found = op.get_bind().execute(
                sa.text(
                    "WITH RECURSIVE domain AS (SELECT typtype, typbasetype FROM pg_type "
                    "WHERE oid = to_regtype(:name) UNION ALL SELECT t.typtype, t.typbasetype "
                    "FROM pg_type AS t JOIN domain AS d ON t.oid = d.typbasetype) "
                    "SELECT 1 FROM domain WHERE typtype = 'd' AND typbasetype::regtype::text "
                    "IN ('bytea', 'text', 'character varying', 'character')"
                ),
                {"name": name},
            )
            if found.first() is None:
                raise RefusedError(
                    f"the plaintext column of {table.config.name} had the type {name}, says the "
                    f"ledger, but {name} is no type of keys in this database",
                    hint="create that domain again, or restore dekctl_tables from a backup",
                )
        super().add_plaintext(table, metadata)
        # A domain's default comes back here, where it is none of the rows that are there.
        config = table.config
        op.alter_column(
            config.bare_name, config.plaintext_column, schema=config.schema, server_default=None
        )

    # -- what is odd about a table -------------------------------------------------------------

    def dependents(self, connection: Connection, table: DekTable) -> list[Dependent]:
        found = connection.execute(
            sa.text(_DEPENDENTS),
            {"table": table.quoted_name, "column": table.config.plaintext_column},
        )
        own = f"{table.config.trigger} "
        return [
            _dependent(table, kind, name)
            for kind, name in found
            if not (kind == "trigger" and name.startswith(own))
        ]

    def publications(self, connection: Connection, table: DekTable) -> list[str]:
        found = connection.execute(
            sa.text(
                f"{_PARTS} SELECT DISTINCT p.pubname::text FROM pg_publication AS p "
                "CROSS JOIN LATERAL pg_get_publication_tables(p.pubname) AS t "
                "WHERE t.relid IN (SELECT part FROM parts) AND NOT EXISTS ("
                # As JSON, because there are no column lists before 15.
                "SELECT FROM pg_publication_rel AS r WHERE r.prpubid = p.oid "
                "AND r.prrelid = t.relid AND to_jsonb(r) ->> 'prattrs' IS NOT NULL) ORDER BY 1"
            ),
            {"table": table.quoted_name},
        )
        return list(found.scalars())

    def subscriptions(self, connection: Connection, table: DekTable) -> list[str]:
        # The name is the superuser's to see; which tables are filled is everybody's.
        found = connection.execute(
            sa.text(
                "SELECT coalesce(s.subname::text, r.srsubid::text) FROM pg_subscription_rel AS r "
                "LEFT JOIN pg_stat_subscription AS s ON s.subid = r.srsubid AND s.relid IS NULL "
                "WHERE r.srrelid = CAST(:table AS regclass) ORDER BY 1"
            ),
            {"table": table.quoted_name},
        )
        return list(found.scalars())

    # -- the row trigger -----------------------------------------------------------------------

    def open_trigger(self, table: DekTable) -> list[str]:
        return [*self.drop_trigger(table), *_function(table, _emptying(table)), _opened(table)]

    def drop_trigger(self, table: DekTable) -> list[str]:
        return [
            f"DROP TRIGGER IF EXISTS {table.config.trigger} ON {table.quoted_name}",
            f"DROP FUNCTION IF EXISTS {_name(table)}()",
        ]

    def missing_right(self, error: Exception, table: DekTable) -> str | None:
        if getattr(error, "sqlstate", None) != "42501":
            return None
        schema = table.config.schema or "its schema"
        return f"own {table.config.name}, and have CREATE ON SCHEMA {schema}"

    def triggers(self, connection: Connection, table: DekTable) -> list[Trigger]:
        found = connection.execute(
            sa.text(
                "SELECT DISTINCT t.tgname, t.tgtype, t.tgenabled::text, "
                "pg_get_triggerdef(t.oid), p.prosrc, p.proconfig "
                "FROM pg_trigger AS t JOIN pg_proc AS p ON p.oid = t.tgfoid "
                "WHERE NOT t.tgisinternal AND t.tgrelid = CAST(:table AS regclass)"
            ),
            {"table": table.quoted_name},
        )
        return [_trigger(table, *row) for row in found]

    # -- guards --------------------------------------------------------------------------------

    def add_guard(self, table: DekTable, guard: Guard) -> None:
        self.drop_guards(table)
        table.database.run(lambda c: _run(c, _closed(table, guard)), write=True)

    def end_guard(self, table: DekTable) -> None:
        op.execute(f"ALTER TABLE {table.quoted_name} DROP CONSTRAINT IF EXISTS {_NOT_NULL}")

    def spare_scan(self, table: DekTable) -> None:
        """Prove to the server that no plaintext is NULL, so that SET NOT NULL reads no rows.

        The closed trigger comes first, so the constraint never refuses, and shows, a row.
        """
        constraint = f"ALTER TABLE {table.quoted_name} {{}} CONSTRAINT {_NOT_NULL}"
        holds = f"CHECK ({table.has_value('plaintext')}) NOT VALID"
        table.database.run(lambda c: _run(c, [f"{constraint.format('ADD')} {holds}"]), write=True)
        with table.database.transaction(write=True, patient=True) as connection:
            _run(connection, [constraint.format("VALIDATE")])

    def drop_guards(self, table: DekTable) -> None:
        drops = ", ".join(f"DROP CONSTRAINT IF EXISTS {name}" for name in _CONSTRAINTS)
        statements = [f"ALTER TABLE {table.quoted_name} {drops}"]

        def work(connection: Connection) -> None:
            _run(connection, statements)
            if any(trigger.closed for trigger in self.triggers(connection, table)):
                _run(connection, self.drop_trigger(table))

        table.database.run(work, write=True)

    def guard_state(self, connection: Connection, table: DekTable) -> list[tuple[str, ...]] | None:
        # ENABLE TRIGGER after DISABLE TRIGGER leaves another state than ALWAYS, and each change
        # another xmin; a partition that is attached may bring any rows with it.
        found = connection.execute(
            sa.text(
                "WITH RECURSIVE parts AS (SELECT CAST(:table AS regclass)::oid AS part UNION "
                "SELECT inhrelid FROM pg_inherits JOIN parts ON inhparent = part) "
                "SELECT tgenabled::text, part::text, t.xmin::text, p.xmin::text FROM parts "
                "LEFT JOIN pg_trigger AS t ON tgrelid = part AND tgname = :own "
                "LEFT JOIN pg_proc AS p ON p.oid = tgfoid ORDER BY part"
            ),
            {"table": table.quoted_name, "own": table.config.trigger},
        )
        state = [tuple(row) for row in found]
        return state if all(enabled == "A" for enabled, *_ in state) else None

    def guards(self, connection: Connection, table: DekTable) -> list[str]:
        found = connection.execute(
            sa.text(
                "SELECT conname FROM pg_constraint WHERE conname IN :names "
                "AND conrelid = CAST(:table AS regclass)"
            ).bindparams(sa.bindparam("names", _CONSTRAINTS, expanding=True)),
            {"table": table.quoted_name},
        ).scalars()
        closed = [t.name for t in self.triggers(connection, table) if t.closed]
        return sorted([*map(str, found), *closed])


DIALECT = PostgreSQLSchema()

_PARTS = """
WITH RECURSIVE parts AS (SELECT CAST(:table AS regclass)::oid AS part UNION
    SELECT inhrelid FROM pg_inherits JOIN parts ON inhparent = part)
"""
"""The table and its partitions, at every level."""
_DEPENDENTS = f"""
{_PARTS}
SELECT DISTINCT
    CASE WHEN r.oid IS NOT NULL THEN CASE v.relkind WHEN 'm' THEN 'materialized view'
            WHEN 'v' THEN 'view' ELSE 'rule' END
        WHEN g.attname IS NOT NULL THEN 'generated column'
        WHEN p.pubname IS NOT NULL THEN 'publication' ELSE i.type END,
    CASE WHEN v.relkind IN ('m', 'v') THEN v.oid::regclass::text
        WHEN r.oid IS NOT NULL THEN r.rulename::text || ' ON ' || v.oid::regclass::text
        ELSE coalesce(g.attname::text, p.pubname::text, i.identity) END
FROM pg_depend AS d
JOIN pg_attribute AS a ON a.attrelid = d.refobjid AND a.attnum = d.refobjsubid
CROSS JOIN LATERAL pg_identify_object(d.classid, d.objid, d.objsubid) AS i
LEFT JOIN pg_rewrite AS r ON d.classid = 'pg_rewrite'::regclass AND r.oid = d.objid
LEFT JOIN pg_class AS v ON v.oid = r.ev_class
LEFT JOIN pg_attrdef AS f ON d.classid = 'pg_attrdef'::regclass AND f.oid = d.objid
LEFT JOIN pg_attribute AS g ON g.attrelid = d.refobjid AND g.attgenerated <> '' AND (
    g.attnum = f.adnum
    OR d.classid = 'pg_class'::regclass AND d.objid = d.refobjid AND g.attnum = d.objsubid)
LEFT JOIN pg_publication_rel AS pr
    ON d.classid = 'pg_publication_rel'::regclass AND pr.oid = d.objid
LEFT JOIN pg_publication AS p ON p.oid = pr.prpubid
LEFT JOIN pg_trigger AS t ON d.classid = 'pg_trigger'::regclass AND t.oid = d.objid
WHERE d.refclassid = 'pg_class'::regclass AND d.refobjid IN (SELECT part FROM parts)
    -- A partition's copy of a trigger goes with it; before 13 there is no such column.
    AND coalesce(to_jsonb(t) ->> 'tgparentid', '0') = '0'
    AND a.attname = :column AND d.classid <> 'pg_constraint'::regclass
    AND (d.deptype = 'n' OR g.attname IS NOT NULL)
ORDER BY 1, 2
"""
"""A constraint, an index or statistics go with the column; these stay and stop it. Before 15 a
generated column went as well, so it is found whatever its dependency's type."""


def _dependent(table: DekTable, kind: str, name: str) -> Dependent:
    """``name`` is quoted where that is needed, and may be followed by its table."""
    quoted = table.quoted_name
    drops = {
        "generated column": f"ALTER TABLE {quoted} DROP COLUMN {name}",
        "publication": f"ALTER PUBLICATION {name} DROP TABLE {quoted}",
    }
    return Dependent(kind, name, drops.get(kind, f"DROP {kind.upper()} {name}"))


def _name(table: DekTable) -> str:
    """The function's name: beside the table, as the role that changes the table may make it."""
    schema, _, _ = table.quoted_name.rpartition(".")
    return f"{schema}.{table.config.trigger}" if schema else table.config.trigger


def _function(table: DekTable, body: str) -> list[str]:
    """SQL that makes the trigger's function. Who writes to the table need not may execute it."""
    return [
        f"CREATE FUNCTION {_name(table)}() RETURNS trigger LANGUAGE plpgsql "
        f"SET search_path = pg_catalog, pg_temp AS $dekctl${body}$dekctl$",
        f"REVOKE ALL ON FUNCTION {_name(table)}() FROM PUBLIC",
    ]


def _emptying(table: DekTable) -> str:
    emptied = "".join(f" NEW.{column} := NULL;" for column in table.wrapped_columns)
    return f"BEGIN{emptied} RETURN NEW; END"


_REFUSING = (
    "BEGIN RAISE EXCEPTION 'refused: a schema step of dekctl is running on this table' "
    "USING ERRCODE = 'object_in_use', HINT = 'see: dekctl status'; END"
)
"""Nothing of the row: what a CHECK says would contain all of it, keys too."""


def _opened(table: DekTable) -> str:
    """The condition is parsed once, so no search_path of a writer can change what it means.

    Keys are compared by their bytes: two may be equal by a column's collation.
    """
    plaintext, wrapped = table.quoted("plaintext"), table.quoted("wrapped")
    return (
        f"CREATE TRIGGER {table.config.trigger} BEFORE UPDATE ON {table.quoted_name} FOR EACH ROW "
        f'WHEN (NEW.{plaintext}::text COLLATE "C" IS DISTINCT FROM OLD.{plaintext}::text '
        'COLLATE "C" '
        f"AND pg_catalog.octet_length(NEW.{plaintext}) > 0 AND OLD.{wrapped} IS NOT NULL "
        f"AND NOT (NEW.{wrapped} IS DISTINCT FROM OLD.{wrapped}) "
        f"AND pg_catalog.current_setting('{OWN_WRITE}', true) IS DISTINCT FROM 'on') "
        f"EXECUTE PROCEDURE {_name(table)}()"
    )


def _closed(table: DekTable, guard: Guard) -> list[str]:
    """ALWAYS: a replica's apply worker, which runs no other triggers, must not get past it."""
    name = table.config.trigger
    return [
        *DIALECT.drop_trigger(table),
        *_function(table, _REFUSING),
        f"CREATE TRIGGER {name} BEFORE INSERT OR UPDATE ON {table.quoted_name} FOR EACH ROW "
        f"WHEN ({guard.refuses(table, 'NEW.')}) EXECUTE PROCEDURE {_name(table)}()",
        f"ALTER TABLE {table.quoted_name} ENABLE ALWAYS TRIGGER {name}",
    ]


def _trigger(
    table: DekTable, name: str, kind: int, enabled: str, text: str, body: str, settings: list[str]
) -> Trigger:
    mine = name == table.config.trigger
    intact = (
        body == _emptying(table)
        and settings == ["search_path=pg_catalog, pg_temp"]
        and kind == _ROW_BEFORE_UPDATE
        and enabled in "OA"
        and _condition(text) == _condition(_opened(table))
    )
    return Trigger(name, mine and intact, mine and body == _REFUSING)


def _condition(text: str) -> str:
    """A trigger's condition in one spelling: the server adds casts, quotes and parentheses."""
    when = text.partition(" WHEN ")[2].rpartition(" EXECUTE ")[0]
    return re.sub(r'::\w+|pg_catalog\.|[\s()"]', "", when).lower()


def _run(connection: Connection, statements: Sequence[str]) -> None:
    for statement in statements:
        connection.exec_driver_sql(statement)
