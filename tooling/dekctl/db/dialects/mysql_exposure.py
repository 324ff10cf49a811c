"""MariaDB and MySQL: what keeps no promise of a transaction, and what copies or shows keys."""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy import Connection

from dekctl.db.dialect import Dialect, KeyLog
from dekctl.db.dialects.mysql_session import OWN_WRITE
from dekctl.db.shape import TableShape

UNREACHABLE_SECONDS = 3600.0
"""A long_query_time from which on no statement of dekctl counts as slow."""


class MySQLExposure(Dialect):
    """The part of the dialect that looks at engines, triggers, histories and logs."""

    def not_transactional(self, connection: Connection, table: TableShape) -> list[tuple[str, str]]:
        found = connection.execute(
            sa.text(
                "SELECT t.table_schema, t.table_name, t.engine FROM information_schema.tables AS t "
                "LEFT JOIN information_schema.engines AS e ON e.engine = t.engine "
                "WHERE t.engine IS NOT NULL AND COALESCE(e.transactions, 'NO') <> 'YES' "
                "AND t.table_schema IN (COALESCE(:schema, DATABASE()), DATABASE()) "
                "AND (t.table_name = :name OR LEFT(t.table_name, 7) = 'dekctl_') ORDER BY 2"
            ),
            {"name": table.config.bare_name, "schema": table.config.schema},
        )
        quote = connection.dialect.identifier_preparer.quote
        own = table.config.schema
        return [
            (f"{quote(schema)}.{quote(name)}" if own else quote(name), engine)
            for schema, name, engine in found
        ]

    def copiers(self, connection: Connection, table: TableShape) -> list[str]:
        names = [
            f"the trigger {name}"
            for name, _ in self._triggers(connection, table)
            if name != table.config.trigger
        ]
        return [*names, *(["system versioning"] if self._is_versioned(connection, table) else [])]

    def may_be_rewritten(self, connection: Connection, table: TableShape) -> bool:
        # Who may not create triggers sees none. That our own is seen shows that all are.
        return [
            name == table.config.trigger and f"AND {OWN_WRITE} IS NULL THEN" in body
            for name, body in self._triggers(connection, table)
        ] != [True]

    def _triggers(self, connection: Connection, table: TableShape) -> list[tuple[str, str]]:
        """The triggers on UPDATE: names and bodies."""
        found = connection.execute(
            sa.text(
                "SELECT trigger_name, action_statement FROM information_schema.triggers "
                "WHERE event_object_table = :name AND event_manipulation = 'UPDATE' "
                "AND event_object_schema = COALESCE(:schema, DATABASE()) ORDER BY 1"
            ),
            {"name": table.config.bare_name, "schema": table.config.schema},
        )
        return [(name, body) for name, body in found]

    def history_rows(self, connection: Connection, table: TableShape) -> int | None:
        if not table.has("plaintext") or not self._is_versioned(connection, table):
            return None
        count = f"SELECT count(*) FROM {table.quoted_name}"
        rows = f"WHERE {table.has_value('plaintext')}"
        ever, now = connection.exec_driver_sql(
            f"SELECT ({count} FOR SYSTEM_TIME ALL {rows}), ({count} {rows})"
        ).one()
        return int(ever) - int(now)

    def _is_versioned(self, connection: Connection, table: TableShape) -> bool:
        found = connection.execute(
            sa.text(
                "SELECT table_type FROM information_schema.tables WHERE table_name = :name "
                "AND table_schema = COALESCE(:schema, DATABASE())"
            ),
            {"name": table.config.bare_name, "schema": table.config.schema},
        ).scalar_one_or_none()
        return found == "SYSTEM VERSIONED"

    def key_logs(self, connection: Connection) -> list[KeyLog]:
        found = connection.exec_driver_sql("SHOW GLOBAL VARIABLES")
        values = {str(name): str(value).upper() for name, value in found}
        on = {name for name, value in values.items() if value in ("ON", "1")}
        if values.get("log_output") == "NONE":
            on -= {"general_log", "slow_query_log"}
        if float(values.get("long_query_time", 0)) >= UNREACHABLE_SECONDS:
            on -= {"slow_query_log"}
        logs = (
            ("general_log", "the general log", "SET GLOBAL general_log = OFF"),
            ("slow_query_log", "the slow query log", "SET GLOBAL slow_query_log = OFF"),
            ("server_audit_logging", "the audit plugin", "SET GLOBAL server_audit_logging = OFF"),
            ("log_bin", "the binary log, and with it every replica", None),
        )
        return [KeyLog(name, off) for variable, name, off in logs if variable in on]
