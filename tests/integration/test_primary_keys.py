"""Primary keys of every kind: each row is walked once and written back, or the key is refused."""

from __future__ import annotations

from typing import Any

import pytest
import sqlalchemy as sa

from dekctl.operations.scrub import ScrubRows
from support.app import AppDatabase
from support.cli import Dekctl
from support.key_shapes import DEK, columns, configure, insert, migrate_and_scrub

POSTGRESQL_KEYS = {
    "smallint": ["-32768", "0", "32767"],
    "bigint": ["-9223372036854775808", "0", "9223372036854775807"],
    "numeric(30,2)": ["1", "1.5", "123456789012345678901234567.25"],
    "numeric": ["1", "1e40", "1234567890123456789012345678901234567.1"],
    "uuid": ["'00000000-0000-0000-0000-000000000001'", "'ffffffff-ffff-ffff-ffff-ffffffffffff'"],
    "text": ["''", "'a'", "'A'", "'ä:%'", "'quote '' \" \\'", "'z'"],
    "char(8)": ["'a'", "'ab '", "'b'"],
    "citext": ["'Abc'", "'abd'", "'B'"],
    "mood": ["'sad'", "'ok'", "'happy'"],
    "date": ["'2020-01-01'", "'2020-01-02'"],
    "timestamp": ["'2020-01-01 00:00:00'", "'2020-01-01 00:00:00.000001'"],
    "timestamptz": ["'2020-01-01 00:00:00+02'", "'2020-01-01 00:00:00.5Z'"],
    "bytea": ["'\\x00'", "'\\x0001'", "'\\xff'"],
    "inet": ["'10.0.0.1'", "'10.0.0.2'", "'::1'"],
}
REFUSED = {"inet"}


@pytest.mark.parametrize("kind", POSTGRESQL_KEYS)
def test_each_type_of_postgresql_works_as_a_primary_key_or_is_refused(
    postgres_database: AppDatabase, dekctl: Dekctl, kind: str
) -> None:
    values = POSTGRESQL_KEYS[kind]
    if kind == "mood":
        postgres_database.sql("CREATE TYPE mood AS ENUM ('sad', 'ok', 'happy')")
    if kind == "citext":
        try:
            postgres_database.sql("CREATE EXTENSION citext")
        except Exception:
            pytest.skip("PostgreSQL's contrib package is not installed")
    others = columns(postgres_database)
    postgres_database.sql(f"CREATE TABLE encrypted_files (id {kind} PRIMARY KEY, {others})")
    insert(postgres_database, values)
    configure(dekctl, postgres_database)
    if kind in REFUSED:
        result = dekctl("migrate").expect(2)
        assert "primary_key" in result.stderr
        assert postgres_database.sql("SELECT count(*) FROM encrypted_files") == [(len(values),)]
        return
    migrate_and_scrub(dekctl, len(values))


MARIADB_KEYS = {
    "BIGINT": ["-9223372036854775808", "0", "9223372036854775807"],
    "BIGINT UNSIGNED": ["0", "18446744073709551615"],
    "DECIMAL(30,2)": ["1", "1.5"],
    "BINARY(16)": ["X'00000000000000000000000000000000'", "X'FF0000000000000000000000000000EE'"],
    "VARBINARY(20)": ["''", "X'00'", "X'0000'", "X'27255C3A'"],
    "CHAR(36)": [
        "'00000000-0000-4000-8000-000000000001'",
        "'ffffffff-0000-4000-8000-000000000001'",
    ],
    "UUID": ["'00000000-0000-4000-8000-000000000001'", "'ffffffff-0000-4000-8000-000000000001'"],
    "VARCHAR(40)": ["''", "'a'", "'B'", "'ä:%'", "'quote '' \" '", "'zz'"],
    "VARCHAR(40) CHARACTER SET latin1": ["'a'", "'ä'", "'z'"],
    "DATETIME(6)": ["'2020-01-01 00:00:00'", "'2020-01-01 00:00:00.000001'"],
    "DATE": ["'2020-01-01'", "'2020-01-02'"],
}


@pytest.mark.parametrize("kind", MARIADB_KEYS)
def test_each_type_of_mariadb_works_as_a_primary_key(
    mariadb_database: AppDatabase, dekctl: Dekctl, kind: str
) -> None:
    values = MARIADB_KEYS[kind]
    others = columns(mariadb_database)
    mariadb_database.sql(f"CREATE TABLE encrypted_files (id {kind} PRIMARY KEY, {others})")
    insert(mariadb_database, values)
    configure(dekctl, mariadb_database)
    migrate_and_scrub(dekctl, len(values))


@pytest.mark.parametrize("kind", ["ENUM('sad','ok','happy')", "SET('sad','ok','happy')"])
def test_a_key_that_is_sorted_otherwise_than_compared_is_refused(
    mariadb_database: AppDatabase, dekctl: Dekctl, kind: str
) -> None:
    # Pages of such a key would leave rows out without a word.
    others = columns(mariadb_database)
    mariadb_database.sql(f"CREATE TABLE encrypted_files (id {kind} PRIMARY KEY, {others})")
    configure(dekctl, mariadb_database)
    assert "sorted in one order" in dekctl("migrate").expect(2).stderr


SQLITE_KEYS = {
    "INTEGER PRIMARY KEY": ["-9223372036854775808", "-1", "0", "9223372036854775807"],
    "TEXT PRIMARY KEY": ["''", "'a'", "'A'", "'ä:%'", "'quote '' \" '"],
    "TEXT COLLATE NOCASE PRIMARY KEY": ["'a'", "'B'", "'c'"],
    "BLOB PRIMARY KEY": ["X''", "X'00'", "X'FF'"],
    "DATETIME PRIMARY KEY": ["'2020-01-01 00:00:00.000000'", "'2020-01-02 00:00:00.000000'"],
}


@pytest.mark.parametrize("kind", SQLITE_KEYS)
def test_each_type_of_sqlite_works_as_a_primary_key(
    sqlite_database: AppDatabase, dekctl: Dekctl, kind: str
) -> None:
    values = SQLITE_KEYS[kind]
    others = columns(sqlite_database, nullable=True)
    sqlite_database.sql(f"CREATE TABLE encrypted_files (id {kind}, {others})")
    insert(sqlite_database, values)
    configure(dekctl, sqlite_database)
    migrate_and_scrub(dekctl, len(values))


@pytest.mark.parametrize("kind", ["PRIMARY KEY", "TEXT PRIMARY KEY"])
def test_keys_of_different_types_that_read_the_same_are_refused(
    sqlite_database: AppDatabase, dekctl: Dekctl, kind: str
) -> None:
    # 1 and '1', or '1' and x'31': two rows to SQLite, one encryption context.
    others = columns(sqlite_database, nullable=True)
    sqlite_database.sql(f"CREATE TABLE encrypted_files (id {kind}, {others})")
    insert(sqlite_database, ["'1'", "1" if kind == "PRIMARY KEY" else "x'31'"])
    configure(dekctl, sqlite_database)
    assert "different kinds of values" in dekctl("migrate").expect(3).stderr
    sqlite_database.sql("DELETE FROM encrypted_files WHERE typeof(id) = 'text'")
    assert dekctl.json("migrate")["changed"] == 1


def test_a_key_that_each_session_reads_in_its_own_zone_is_refused(
    mariadb_database: AppDatabase, dekctl: Dekctl
) -> None:
    others = columns(mariadb_database)
    mariadb_database.sql(
        f"CREATE TABLE encrypted_files (tenant INT, at TIMESTAMP NOT NULL, {others}, "
        "PRIMARY KEY (tenant, at))"
    )
    configure(dekctl, mariadb_database, primary_key=["tenant", "at"])
    assert "time zone" in dekctl("migrate").expect(2).stderr


INSENSITIVE = {
    "sqlite": ("TEXT COLLATE NOCASE", "'ALICE'"),
    "postgresql": ("VARCHAR(20) COLLATE insensitive", "'ALICE'"),
    "mariadb": ("VARCHAR(20)", "'alice '"),  # it pads, too
}


def test_a_row_whose_key_is_respelled_between_proof_and_write_keeps_its_plaintext(
    app_database: AppDatabase, dekctl: Dekctl, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A collation finds the row again, but the wrapped key opens with the old spelling only."""
    kind, respelled = INSENSITIVE[app_database.kind]
    if app_database.kind == "postgresql":
        if not app_database.sql("SELECT 1 FROM pg_collation WHERE collprovider = 'i'"):
            pytest.skip("this PostgreSQL is built without ICU, as those in wheels are")
        app_database.sql(
            "CREATE COLLATION insensitive (provider = icu, locale = 'und-u-ks-level2', "
            "deterministic = false)"
        )
    others = columns(app_database, nullable=True)  # SQLite could not copy a collation
    app_database.sql(f"CREATE TABLE encrypted_files (id {kind} PRIMARY KEY, {others})")
    insert(app_database, ["'alice'"])
    configure(dekctl, app_database)
    dekctl.hidden.append(DEK)
    dekctl("migrate").expect(0)
    work, respelt = ScrubRows.work, list[bool]()

    def meddling(self: ScrubRows, rows: Any) -> Any:
        verdicts = work(self, rows)
        if not respelt:
            respelt.append(True)
            app_database.sql(f"UPDATE encrypted_files SET id = {respelled}")
        return verdicts

    monkeypatch.setattr(ScrubRows, "work", meddling)
    assert dekctl.json("scrub", "--yes", expect=4)["changed"] == 0
    [(stored,)] = app_database.sql("SELECT encryption_key FROM encrypted_files")
    assert bytes(stored) == DEK


def test_a_composite_key_is_walked_by_its_whole_order(
    app_database: AppDatabase, dekctl: Dekctl
) -> None:
    others = columns(app_database)
    app_database.sql(
        f"CREATE TABLE encrypted_files (tenant VARCHAR(20) NOT NULL, part INTEGER NOT NULL, "
        f"id BIGINT NOT NULL, {others}, PRIMARY KEY (tenant, part, id))"
    )
    keys = [(t, p, i) for t in ("a", "b", "c:%") for p in (-1, 0) for i in (1, 2)]
    for tenant, part, number in keys:
        app_database.sql(
            "INSERT INTO encrypted_files (tenant, part, id, encryption_key) "
            "VALUES (:t, :p, :i, :d)",
            t=tenant,
            p=part,
            i=number,
            d=DEK,
        )
    configure(dekctl, app_database, primary_key=["tenant", "part", "id"])
    migrate_and_scrub(dekctl, len(keys))


NO_KEYS = {
    "partial": "CREATE UNIQUE INDEX u ON encrypted_files (ext) WHERE deleted = 0",
    "expression": "CREATE UNIQUE INDEX u ON encrypted_files (lower(ext))",
}


@pytest.mark.parametrize("index", NO_KEYS)
@pytest.mark.parametrize("fixture", ["sqlite_database", "postgres_database"])
def test_an_index_that_is_not_unique_over_all_rows_is_no_primary_key(
    request: pytest.FixtureRequest, dekctl: Dekctl, fixture: str, index: str
) -> None:
    database: AppDatabase = request.getfixturevalue(fixture)
    others = columns(database)
    database.sql(
        "CREATE TABLE encrypted_files (id INTEGER PRIMARY KEY, ext VARCHAR(20) NOT NULL, "
        f"deleted INTEGER NOT NULL, {others})"
    )
    database.sql(NO_KEYS[index])
    configure(dekctl, database, primary_key=["ext"])
    assert "not a unique key" in dekctl("migrate").expect(2).stderr


def test_an_index_that_could_not_be_built_is_no_primary_key(
    postgres_database: AppDatabase, dekctl: Dekctl
) -> None:
    others = columns(postgres_database)
    postgres_database.sql(
        f"CREATE TABLE encrypted_files (id INTEGER PRIMARY KEY, ext INTEGER NOT NULL, {others})"
    )
    for number in (1, 2):
        postgres_database.sql(
            "INSERT INTO encrypted_files (id, ext, encryption_key) VALUES (:id, 7, :dek)",
            id=number,
            dek=DEK,
        )
    in_no_transaction = postgres_database.engine.execution_options(isolation_level="AUTOCOMMIT")
    with in_no_transaction.connect() as connection, pytest.raises(sa.exc.IntegrityError):
        connection.exec_driver_sql("CREATE UNIQUE INDEX CONCURRENTLY u ON encrypted_files (ext)")
    configure(dekctl, postgres_database, primary_key=["ext"])
    assert "not a unique key" in dekctl("migrate").expect(2).stderr


def test_a_table_whose_children_have_rows_of_their_own_is_refused(
    postgres_database: AppDatabase, dekctl: Dekctl
) -> None:
    others = columns(postgres_database)
    postgres_database.sql(f"CREATE TABLE encrypted_files (id INTEGER PRIMARY KEY, {others})")
    postgres_database.sql("CREATE TABLE archived () INHERITS (encrypted_files)")
    configure(dekctl, postgres_database)
    assert "rows of archived (INHERITS)" in dekctl("migrate").expect(2).stderr
