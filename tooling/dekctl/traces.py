"""What may still hold a scrubbed key on each database, and the statement that helps.

None of these erases a key for certain. The cure for a key that may have been seen is to encrypt the
data anew under another one.
"""

from __future__ import annotations

from dataclasses import dataclass

from dekctl.db.table import DekTable


@dataclass(frozen=True, slots=True)
class Trace:
    """A place that may hold the bytes, and what helps there (a statement, or what to do)."""

    place: str
    help: str


BACKUPS = Trace(
    "backups, snapshots, dumps and replicas taken before now",
    "let them expire, and set backup_retention_days so that `retire` waits for them",
)
DEVICE = Trace(
    "the block device under the files",
    "encrypted volumes; a rewritten file frees its old blocks without erasing them",
)


def traces(table: DekTable) -> list[Trace]:
    """Where keys of this table may still be after a scrub, on its database."""
    name = table.quoted_name
    match table.database.dialect.name:
        case "postgresql":
            own = [
                Trace(
                    "dead rows in the table's file, until they are overwritten",
                    f"VACUUM (FULL, ANALYZE) {name}; -- rewrites it, and locks it meanwhile",
                ),
                Trace(
                    "WAL segments on disk and in the archive",
                    "CHECKPOINT; SELECT pg_switch_wal(); -- then let the archive expire",
                ),
            ]
        case "mysql":
            own = [
                Trace(
                    "free space in the table's pages (each key was overwritten in its place first)",
                    f"OPTIMIZE TABLE {name}; -- rewrites the table",
                ),
                Trace(
                    "the binary log",
                    "FLUSH BINARY LOGS; PURGE BINARY LOGS BEFORE NOW(); -- once replicas have it",
                ),
                Trace(
                    "the undo and redo logs",
                    "they are overwritten by later writes; "
                    "SET GLOBAL innodb_undo_log_truncate = ON shortens the first",
                ),
            ]
        case _:
            own = [
                Trace(
                    "the write-ahead log, and free pages from before secure_delete was on",
                    "PRAGMA secure_delete = ON; VACUUM; PRAGMA wal_checkpoint(TRUNCATE);",
                ),
            ]
    return [*own, BACKUPS, DEVICE]
