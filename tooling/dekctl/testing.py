"""For the tests of an application: keys without a cloud, and a check that no plaintext is stored.

Once dekctl is installed, every test has the fixture :func:`memory_keys`: this module is a pytest
plugin. Nothing of pytest is imported in production. ::

    def test_upload(memory_keys, session):
        upload(session, memory_keys, b"content")
        assert_no_plaintext_keys(session, File)
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    import sqlalchemy as sa
    from sqlalchemy.orm import Session

    from dekctl.config import TableConfig
    from dekctl.reader import RowKeys


@pytest.fixture
def dekctl_table() -> TableConfig:
    """The table of :func:`memory_keys`; override it where yours has other names."""
    from dekctl.config import TableConfig  # noqa: PLC0415 - the plugin costs other tests nothing

    return TableConfig()


@pytest.fixture
def memory_keys(dekctl_table: TableConfig) -> Iterator[RowKeys]:
    """A :class:`dekctl.reader.RowKeys` whose KEK is in memory, of this test alone.

    It is also what ``RowKeys()`` and ``RowKeys.from_config`` with ``provider = "memory"`` use
    during the test.
    """
    from dekctl.kms import InMemoryKMS  # noqa: PLC0415 - the plugin costs other tests nothing
    from dekctl.kms.chosen import choose, choose_again, chosen  # noqa: PLC0415
    from dekctl.reader import RowKeys  # noqa: PLC0415

    before = chosen()
    keys = RowKeys(choose(InMemoryKMS("test")), dekctl_table)
    yield keys
    keys.close()
    choose_again(before)


def assert_no_plaintext_keys(
    where: Session | sa.Connection | sa.Engine, model: type[Any], table: TableConfig | None = None
) -> None:
    """Assert that no row of a model's table has a plaintext key. No key is shown.

    Args:
        where: a session, whose changes are flushed first; a connection; or an engine.
        model: the mapped class. It need not map the plaintext column any more.
        table: names of the columns; by default the usual ones.

    Raises:
        AssertionError: rows have a plaintext; their number is told.
    """
    import sqlalchemy as sa  # noqa: PLC0415 - the plugin costs other tests nothing
    from sqlalchemy.orm import Session  # noqa: PLC0415

    from dekctl.config import TableConfig  # noqa: PLC0415

    names = table or TableConfig()
    if isinstance(where, sa.Engine):
        with where.connect() as connection:
            assert_no_plaintext_keys(connection, model, names)
        return
    if isinstance(where, Session):
        where.flush()
        connection = where.connection(bind_arguments={"mapper": sa.inspect(model)})
    else:
        connection = where
    found = sa.inspect(connection).get_columns(names.bare_name, schema=names.schema)
    if not any(column["name"] == names.plaintext_column for column in found):
        return
    column: sa.ColumnClause[Any] = sa.column(names.plaintext_column)
    target = sa.table(names.bare_name, column, schema=names.schema)
    query = sa.select(sa.func.count()).select_from(target).where(column.is_not(None))
    count = connection.execute(query).scalar_one()
    assert count == 0, f"{count} rows of {names.name} have a plaintext key"
