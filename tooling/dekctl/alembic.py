"""For the application's own Alembic history: leave dekctl's tables and columns to dekctl.

In ``env.py`` of the application::

    from dekctl.alembic import include_name, include_object

    context.configure(..., include_name=include_name, include_object=include_object)

Without it, ``alembic revision --autogenerate`` proposes to drop the tables of dekctl, among them
the branch keys, without which no V3 row can be read; and to drop the columns of the wrapped key, or
of the plaintext, that the model does not map (yet, or any more).
"""

from __future__ import annotations

from collections.abc import Callable, MutableMapping
from typing import Any

from dekctl.config import Config, TableConfig

PREFIX = "dekctl_"
"""How the names of all of dekctl's own tables begin."""


def include_name(
    name: str | None, type_: str, parent_names: MutableMapping[Any, Any] | None = None
) -> bool:
    """Whether Alembic looks at something in the database: not at the tables of dekctl.

    It has the form of Alembic's ``include_name``.
    """
    table = (parent_names or {}).get("table_name") if type_ != "table" else name
    return not str(table or "").startswith(PREFIX)


def include_object(
    object_: Any, name: str | None, type_: str, reflected: bool, compare_to: Any
) -> bool:
    """Whether Alembic compares something: not dekctl's columns that the model does not map.

    It has the form of Alembic's ``include_object``, and knows the usual names of one table. For
    other names or tables make one with :func:`include_object_for`.
    """
    return _include(object_, name, type_, reflected, compare_to, (TableConfig(),))


def include_object_for(config: Config) -> Callable[[Any, str | None, str, bool, Any], bool]:
    """:func:`include_object` for the tables of a ``dekctl.toml``."""

    def include(
        object_: Any, name: str | None, type_: str, reflected: bool, compare_to: Any
    ) -> bool:
        return _include(object_, name, type_, reflected, compare_to, config.tables)

    return include


def _include(
    object_: Any,
    name: str | None,
    type_: str,
    reflected: bool,
    compare_to: Any,
    tables: tuple[TableConfig, ...],
) -> bool:
    if type_ == "table":
        return not str(name or "").startswith(PREFIX)
    # Only what autogenerate would drop: it is in the database, and not in the model.
    if type_ != "column" or not reflected or compare_to is not None:
        return True
    for table in tables:
        if object_.table.name == table.bare_name and object_.table.schema == table.schema:
            return name not in {
                table.plaintext_column,
                table.wrapped_column,
                table.version_column,
                table.kek_column,
                table.wrapped_at_column,
            }
    return True
