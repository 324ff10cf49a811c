"""The columns of a wrapped key in a SQLAlchemy model, and a check of models at start-up.

::

    class File(KeyColumns, Base):          # from ``schema expand`` on, beside old versions
        __tablename__ = "encrypted_files"
        id: Mapped[int] = mapped_column(primary_key=True)

    class File(WrappedKeyColumns, Base):   # with plaintext = "refuse": without the plaintext
        ...

    keys.check(File)                       # at start-up: names a column that is missing

Loading a row decrypts nothing: only ``keys.read(file)`` does.
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from sqlalchemy.exc import NoInspectionAvailable, SQLAlchemyError
from sqlalchemy.orm import Mapped, Mapper, mapped_column

from dekctl.config import PlaintextUse, TableConfig
from dekctl.errors import DatabaseError, UsageError


def _text(length: int) -> sa.types.TypeEngine[str]:
    """The type that ``schema expand`` gives a text column, so that Alembic sees no difference."""
    return sa.String(length).with_variant(sa.Text(), "sqlite")


class WrappedKeyColumns:
    """A mixin with the columns that hold a wrapped key, as ``schema expand`` adds them."""

    wrapped_key: Mapped[bytes | None] = mapped_column(
        sa.LargeBinary().with_variant(sa.VARBINARY(6144), "mysql", "mariadb")
    )
    wrapped_key_version: Mapped[str | None] = mapped_column(_text(10))
    kek_id: Mapped[str | None] = mapped_column(_text(255))


class KeyColumns(WrappedKeyColumns):
    """The same with the plaintext, for binary columns of raw keys; map another kind by hand."""

    encryption_key: Mapped[bytes | None] = mapped_column(
        sa.LargeBinary().with_variant(sa.VARBINARY(255), "mysql", "mariadb")
    )


def needed_columns(table: TableConfig, use: PlaintextUse) -> list[str]:
    """The columns that a model needs."""
    names = [*table.primary_key, table.wrapped_column, table.version_column, table.kek_column]
    if use != "refuse":
        names.append(table.plaintext_column)
    names += [table.wrapped_at_column] if table.wrapped_at_column else []
    names += [table.kek_by.column] if table.kek_by else []
    return names


def check_model(model: type[Any], table: TableConfig, use: PlaintextUse) -> None:
    """Check that a model maps what a reader needs; no statement is run.

    Raises:
        UsageError: it is no model, or of another table, or columns are missing or NOT NULL.
    """
    try:
        mapper: Mapper[Any] = sa.inspect(model)
    except NoInspectionAvailable:
        raise UsageError(
            f"{model!r} is not a mapped class", hint="pass the class of the model"
        ) from None
    columns = {
        column.name: column
        for each in mapper.tables
        if isinstance(each, sa.Table) and each.name == table.bare_name
        for column in each.columns
    }
    refuse_other_table(mapper, table)
    mapped = {column.name for attr in mapper.column_attrs for column in attr.columns}
    lacking = [n for n in needed_columns(table, use) if n not in columns or n not in mapped]
    if lacking:
        raise UsageError(
            f"{model.__name__} does not map {', '.join(lacking)}",
            hint='add the mixin KeyColumns (WrappedKeyColumns with plaintext = "refuse"), or map '
            "the columns by hand",
        )
    may_be_empty = set(needed_columns(table, use)) - set(table.primary_key)
    strict = [
        n for n in sorted(may_be_empty) if not columns[n].nullable and not _is_owner(n, table)
    ]
    if strict:
        raise UsageError(
            f"{model.__name__} maps {', '.join(strict)} as NOT NULL",
            hint="a row has no key before it gets one: make it Mapped[... | None]",
        )


def refuse_other_table(mapper: Mapper[Any], table: TableConfig) -> None:
    """Check that a model is of the table: a new key is bound to its name.

    Raises:
        UsageError: it is not.
    """
    if all(getattr(each, "name", None) != table.bare_name for each in mapper.tables):
        raise UsageError(
            f"{mapper.class_.__name__} is not a model of the table {table.name}",
            hint="correct name in [table] of dekctl.toml, or pass the table to RowKeys.from_config",
        )


def check_database(engine: sa.Engine, table: TableConfig, use: PlaintextUse) -> None:
    """Check that the table in the database has what a reader needs.

    Raises:
        UsageError: columns are missing.
        DatabaseError: the database refused or cannot be reached.
    """
    try:
        found = sa.inspect(engine).get_columns(table.bare_name, schema=table.schema)
    except SQLAlchemyError as error:
        raise DatabaseError(
            f"cannot look at the columns of {table.name}: {type(error).__name__}",
            hint="see the cause",
        ) from error
    known = {column["name"] for column in found}
    lacking = [name for name in needed_columns(table, use) if name not in known]
    if lacking:
        raise UsageError(
            f"the table {table.name} has no {', '.join(lacking)}",
            hint="run: dekctl schema expand"
            if table.wrapped_column in lacking
            else "check [table] of dekctl.toml",
        )


def _is_owner(name: str, table: TableConfig) -> bool:
    return table.kek_by is not None and name == table.kek_by.column
