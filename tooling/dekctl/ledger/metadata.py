"""What the ledger keeps about a table for a rollback, checked whenever it is read.

Whoever may change the table ``dekctl_tables`` must not reach DDL with it: a type, or a column's
definition, is taken only if it is one by a strict grammar, and names only if [table] has them.
"""

from __future__ import annotations

import json
import re
from typing import Any

from dekctl.errors import RefusedError
from dekctl.ledger.column_definition import KINDS, is_definition

PARTS = (
    "plaintext_column",
    "wrapped_column",
    "version_column",
    "kek_column",
    "wrapped_at_column",
)
"""The settings in ``[table]`` that name the columns that dekctl uses."""

_NAME = r'(?:[a-z_][a-z0-9_$]*|"(?:[^"\0]|"")+")'
_TYPE = re.compile(
    rf"(?i:{KINDS})(?:\([0-9]{{1,10}}\))?(?: CHARACTER SET \w+)?(?: COLLATE (?:\w+|{_NAME}))?"
    rf"|(?P<named>{_NAME}(?:\.{_NAME})?)"
)


def parse_metadata(table_name: str, text: str) -> dict[str, Any]:
    """Parse and check what the ledger has about a table.

    Raises:
        RefusedError: it is not what ``schema expand`` writes.
    """
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        found = None
    problem = _problem(found)
    if problem is not None:
        raise RefusedError(
            f"the ledger's entry for {table_name} cannot be used: {problem}",
            hint="who changed it? Restore that row of dekctl_tables from a backup, or delete it, "
            "then: dekctl schema expand",
        )
    return dict(found)


def _problem(found: Any) -> str | None:
    """What is wrong with an entry; None for a good one. Shows nothing of it but a column's name."""
    if not isinstance(found, dict):
        return "it is no JSON object"
    kind, definition = found.get("plaintext_type"), found.get("plaintext_definition")
    if not (isinstance(kind, str) and is_type(kind)):
        return "plaintext_type is no type of a key"
    if definition is not None and not (isinstance(definition, str) and is_definition(definition)):
        return "plaintext_definition is no definition of a column"
    if not isinstance(found.get("plaintext_nullable"), bool):
        return "plaintext_nullable is neither true nor false"
    if not isinstance(found.get("plaintext_after"), str | None):
        return "plaintext_after is no name"
    columns = found.get("columns", {})
    if not (
        isinstance(columns, dict)
        and set(columns) <= set(PARTS)
        and all(isinstance(name, str) for name in columns.values())
    ):
        return "columns are not those of [table]"
    added = found.get("added")
    if not (isinstance(added, list) and all(isinstance(name, str) for name in added)):
        return "added is no list of columns"
    if "columns" in found:
        own = {name for part, name in columns.items() if part != "plaintext_column"}
        for name in added:
            if name not in own:
                return f"added lists {name!r}, which is no column of dekctl's"
    return None


def is_type(text: str, *, named: bool = True) -> bool:
    """Whether a text is a type of a column of keys, by its form; ``named`` takes domains, too."""
    found = _TYPE.fullmatch(text)
    return found is not None and (named or found["named"] is None)


def named_type(kind: str) -> str | None:
    """The name of a type that is none of the database's own, such as a domain; None for those."""
    found = _TYPE.fullmatch(kind)
    return found["named"] if found else None
