"""What else on a table may copy or show its keys: triggers, a history, constraints of others."""

from __future__ import annotations

import re
import warnings

import sqlalchemy as sa

from dekctl.db.table import DekTable


def exposures(table: DekTable) -> list[str]:
    """Warnings about what may copy or show keys when rows of this table are written."""
    return [*filter(None, (table.copies_of_rows(), _constraints(table), _referred(table)))]


def _referred(table: DekTable) -> str | None:
    """The plaintext column may refer to a table that has the same keys."""
    config = table.config
    with table.database.transaction() as connection:
        found = sa.inspect(connection).get_foreign_keys(config.bare_name, schema=config.schema)
    places = [
        f"{key['referred_table']}.{other}"
        for key in found
        for own, other in zip(key["constrained_columns"], key["referred_columns"], strict=False)
        if own == config.plaintext_column
    ]
    if not places:
        return None
    return (
        f"{config.plaintext_column} of {config.name} refers to {', '.join(places)}, where the same "
        "keys are: dekctl removes none there; remove them after scrub"
    )


def _constraints(table: DekTable) -> str | None:
    """A server quotes the values that break a constraint: a UNIQUE the key, a CHECK the row."""
    config = table.config
    bare, schema = config.bare_name, config.schema
    keys = {config.plaintext_column, config.wrapped_column}
    with table.database.transaction() as connection, warnings.catch_warnings():
        warnings.simplefilter("ignore", sa.exc.SAWarning)  # about indexes that it does not know
        inspector = sa.inspect(connection)
        unique = inspector.get_unique_constraints(bare, schema=schema)
        indexes = inspector.get_indexes(bare, schema=schema)
        checks = inspector.get_check_constraints(bare, schema=schema)
    covered = {each["name"]: {*each["column_names"]} for each in unique}
    for each in indexes:
        if each["unique"]:
            covered[each["name"]] = {name for name in each["column_names"] if name}
    found = [f"UNIQUE {name or 'index'}" for name, columns in covered.items() if keys & columns]
    found += [
        f"CHECK {check['name'] or check['sqltext']}"
        for check in checks
        if keys & set(re.findall(r"\w+", check["sqltext"]))
    ]
    if not found:
        return None
    return (
        f"{', '.join(dict.fromkeys(found))} of {config.name} covers a column of keys: the "
        "server shows the value, or the whole row, in its log and to the application when a write "
        "breaks it; drop it before you go on if you can"
    )
