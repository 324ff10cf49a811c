"""What makes a table odd, and what is to be said about it."""

from __future__ import annotations

from dataclasses import dataclass

PG = "CREATE TABLE encrypted_files (id INT PRIMARY KEY, encryption_key BYTEA NOT NULL{})"
MARIADB = (
    "CREATE TABLE encrypted_files (id INT PRIMARY KEY, encryption_key VARBINARY(64) NOT NULL{})"
)
SQLITE = "CREATE TABLE encrypted_files (id INTEGER PRIMARY KEY, encryption_key BLOB NOT NULL{})"


@dataclass(frozen=True)
class Odd:
    """A table: its database, what makes it, what doctor must say, the exit code of expand."""

    kind: str
    made_by: tuple[str, ...]
    said: str
    expand: int = 0
    named: bool = True

    @property
    def word(self) -> str:
        """warn or FAIL, as doctor must begin the line."""
        return "FAIL" if self.expand else "warn"
