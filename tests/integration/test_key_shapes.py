"""Primary keys and names of every kind: walked once, written back, or refused when configured."""

from __future__ import annotations

import json
import uuid
import warnings
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.orm import DeclarativeBase, Session

from dekctl.config import TableConfig
from dekctl.errors import DekctlError, UsageError
from dekctl.kms import EnvKMS
from dekctl.operations.scrub import ScrubRows
from dekctl.reader import RowKeys
from support.app import AppDatabase
from support.cli import Dekctl

DEK = bytes(range(32))

COLUMNS = (
    "encryption_key {binary} NOT NULL, wrapped_key {blob}, "
    "wrapped_key_version VARCHAR(10), kek_id VARCHAR(255)"
)
BINARY = {"sqlite": "BLOB", "postgresql": "BYTEA", "mariadb": "VARBINARY(32)"}
BLOB = {"sqlite": "BLOB", "postgresql": "BYTEA", "mariadb": "VARBINARY(6144)"}


def configure(dekctl: Dekctl, database: AppDatabase, **table: Any) -> None:
    lines = [f"{name} = {json.dumps(value)}" for name, value in table.items()]
    dekctl.configure(
        "[table]\n" + "\n".join(lines) + f'\n[env.test]\ndatabase_url = "{database.url}"\n'
        'provider = "env"\n'
    )


def migrate_and_scrub(dekctl: Dekctl, rows: int) -> None:
    """Wrap, prove and scrub in pages of one and two rows, so that every key is compared."""
    dekctl.hidden.append(DEK)
    assert dekctl.json("migrate", "--batch-size", "1")["changed"] == rows
    shards = [dekctl.json("verify", "--shard", f"{i}/2")["verified"] for i in (1, 2)]
    assert sum(shards) == rows
    assert dekctl.json("scrub", "--yes", "--batch-size", "2")["changed"] == rows


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
    columns = COLUMNS.format(binary="BYTEA", blob="BYTEA")
    postgres_database.sql(f"CREATE TABLE encrypted_files (id {kind} PRIMARY KEY, {columns})")
    for value in values:
        literal = value.replace(":", r"\:")
        postgres_database.sql(
            f"INSERT INTO encrypted_files (id, encryption_key) VALUES ({literal}, :dek)", dek=DEK
        )
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
    columns = COLUMNS.format(binary="VARBINARY(32)", blob="VARBINARY(6144)")
    mariadb_database.sql(f"CREATE TABLE encrypted_files (id {kind} PRIMARY KEY, {columns})")
    for value in values:
        literal = value.replace(":", r"\:")
        mariadb_database.sql(
            f"INSERT INTO encrypted_files (id, encryption_key) VALUES ({literal}, :dek)", dek=DEK
        )
    configure(dekctl, mariadb_database)
    migrate_and_scrub(dekctl, len(values))


@pytest.mark.parametrize("kind", ["ENUM('sad','ok','happy')", "SET('sad','ok','happy')"])
def test_a_key_that_is_sorted_otherwise_than_compared_is_refused(
    mariadb_database: AppDatabase, dekctl: Dekctl, kind: str
) -> None:
    # Pages of such a key would leave rows out without a word.
    columns = COLUMNS.format(binary="VARBINARY(32)", blob="VARBINARY(6144)")
    mariadb_database.sql(f"CREATE TABLE encrypted_files (id {kind} PRIMARY KEY, {columns})")
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
    columns = COLUMNS.format(binary="BLOB", blob="BLOB").replace(" NOT NULL", "")
    sqlite_database.sql(f"CREATE TABLE encrypted_files (id {kind}, {columns})")
    for value in values:
        literal = value.replace(":", r"\:")
        sqlite_database.sql(
            f"INSERT INTO encrypted_files (id, encryption_key) VALUES ({literal}, :dek)", dek=DEK
        )
    configure(dekctl, sqlite_database)
    migrate_and_scrub(dekctl, len(values))


MOMENT = datetime(2026, 1, 2, 3, 4, 5, 678901)
ISSUED: dict[str, list[tuple[str, Any]]] = {
    "postgresql": [
        ("smallint", -7),
        ("numeric(30,2)", Decimal("1.5")),
        ("uuid", uuid.UUID(int=10)),
        ("text", "ä:%"),
        ("char(8)", "new"),
        ("citext", "Abc"),
        ("date", date(2026, 1, 2)),
        ("timestamp", MOMENT),
        ("timestamptz", MOMENT.replace(tzinfo=UTC)),
        ("bytea", b"\x00\xff"),
    ],
    "mariadb": [
        ("BIGINT UNSIGNED", 18446744073709551615),
        ("DECIMAL(30,2)", Decimal("1.5")),
        ("BINARY(4)", b"\x01\0\0\xff"),
        ("CHAR(8)", "new "),  # not padded, but cut
        ("UUID", "FFFFFFFF-0000-4000-8000-000000000001"),  # stored in small letters
        ("VARCHAR(40)", "ä:%"),
        ("DATETIME(6)", MOMENT),
        ("DATE", date(2026, 1, 2)),
    ],
    "sqlite": [
        ("INTEGER", -1),
        ("TEXT", "ä:%"),
        ("CHAR(8)", "new"),
        ("BLOB", b"\x00\xff"),
        ("DATETIME", MOMENT),
        ("DATE", date(2026, 1, 2)),
    ],
}


@pytest.mark.parametrize(
    ("app_database", "kind", "value"),
    [(database, kind, value) for database, kinds in ISSUED.items() for kind, value in kinds],
    indirect=["app_database"],
)
def test_a_key_issued_for_a_row_of_any_shape_opens_in_dekctl_and_in_the_application(
    app_database: AppDatabase, dekctl: Dekctl, kind: str, value: Any
) -> None:
    model = model_of_key(app_database, dekctl, kind)
    keys = RowKeys(EnvKMS(dekctl.environ), TableConfig())
    with Session(app_database.engine, expire_on_commit=False) as session:
        session.add(row := model(id=value))
        session.flush()
        dek = keys.issue(row)
        dekctl.hidden.append(dek)
        assert keys.read(row) == dek, "the session still holds the key as it was written"
        session.commit()

    assert dekctl.json("verify")["verified"] == 1
    with Session(app_database.engine) as session:
        assert keys.read(session.scalars(sa.select(model)).one()) == dek


@pytest.mark.parametrize(
    ("app_database", "kind", "value"),
    [
        ("postgresql", "numeric(30,2)", Decimal("1.555")),
        ("postgresql", "timestamp(3)", MOMENT),
        ("mariadb", "BINARY(4)", b"\x01"),
        ("mariadb", "DATETIME", MOMENT),
    ],
    indirect=["app_database"],
)
def test_no_key_is_issued_for_a_row_that_its_own_key_does_not_find(
    app_database: AppDatabase, dekctl: Dekctl, kind: str, value: Any
) -> None:
    model = model_of_key(app_database, dekctl, kind)
    with Session(app_database.engine) as session:
        session.add(row := model(id=value))
        session.flush()
        with pytest.raises(DekctlError, match="truncates, rounds or pads"):
            RowKeys(EnvKMS(dekctl.environ)).issue(row)


UUID_COLUMNS = [
    ("postgresql", "uuid", str),
    ("postgresql", "char(32)", lambda value: value.hex),
    ("mariadb", "UUID", str),
    ("mariadb", "CHAR(32)", lambda value: value.hex),
    ("sqlite", "CHAR(32)", lambda value: value.hex),
]


@pytest.mark.parametrize(("app_database", "kind", "text"), UUID_COLUMNS, indirect=["app_database"])
def test_a_uuid_in_a_mapping_counts_as_its_column_stores_it(
    app_database: AppDatabase, dekctl: Dekctl, kind: str, text: Any
) -> None:
    model_of_key(app_database, dekctl, kind)
    value = uuid.uuid4()
    keys = RowKeys(EnvKMS(dekctl.environ), engine=app_database.engine)
    row: dict[str, Any] = {"id": value, "encryption_key": None}
    dek = keys.issue(row)
    app_database.sql(
        "INSERT INTO encrypted_files (id, wrapped_key, wrapped_key_version, kek_id) "
        "VALUES (:id, :wrapped_key, :wrapped_key_version, :kek_id)",
        **{name: v for name, v in row.items() if name not in {"encryption_key", "id"}},
        id=text(value),
    )
    assert dekctl.json("verify")["verified"] == 1
    assert keys.read(row) == dek


def test_a_uuid_in_a_mapping_is_refused_where_its_column_may_hold_any_text(
    app_database: AppDatabase, dekctl: Dekctl
) -> None:
    model_of_key(app_database, dekctl, "VARCHAR(40)")
    with pytest.raises(UsageError, match="how the database stores it"):
        RowKeys(EnvKMS(dekctl.environ), engine=app_database.engine).issue({"id": uuid.uuid4()})


def model_of_key(database: AppDatabase, dekctl: Dekctl, kind: str) -> type[Any]:
    """A model of an expanded table whose primary key has this type."""
    if kind == "citext":
        try:
            database.sql("CREATE EXTENSION citext")
        except Exception:
            pytest.skip("PostgreSQL's contrib package is not installed")
    columns = COLUMNS.format(binary=BINARY[database.kind], blob=BLOB[database.kind])
    columns = columns.replace(" NOT NULL", "")
    database.sql(f"CREATE TABLE encrypted_files (id {kind} PRIMARY KEY, {columns})")
    configure(dekctl, database)
    dekctl("schema", "expand").expect(0)

    class Base(DeclarativeBase):
        pass

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", sa.exc.SAWarning)  # types that SQLAlchemy does not know

        class File(Base):
            __table__ = sa.Table("encrypted_files", Base.metadata, autoload_with=database.engine)

    return File


@pytest.mark.parametrize("kind", ["PRIMARY KEY", "TEXT PRIMARY KEY"])
def test_keys_of_different_types_that_read_the_same_are_refused(
    sqlite_database: AppDatabase, dekctl: Dekctl, kind: str
) -> None:
    # 1 and '1', or '1' and x'31': two rows to SQLite, one encryption context.
    columns = COLUMNS.format(binary="BLOB", blob="BLOB").replace(" NOT NULL", "")
    sqlite_database.sql(f"CREATE TABLE encrypted_files (id {kind}, {columns})")
    for value in ("'1'", "1" if kind == "PRIMARY KEY" else "x'31'"):
        sqlite_database.sql(
            f"INSERT INTO encrypted_files (id, encryption_key) VALUES ({value}, :dek)", dek=DEK
        )
    configure(dekctl, sqlite_database)
    assert "different kinds of values" in dekctl("migrate").expect(3).stderr
    sqlite_database.sql("DELETE FROM encrypted_files WHERE typeof(id) = 'text'")
    assert dekctl.json("migrate")["changed"] == 1


def test_a_key_that_each_session_reads_in_its_own_zone_is_refused(
    mariadb_database: AppDatabase, dekctl: Dekctl
) -> None:
    columns = COLUMNS.format(binary="VARBINARY(32)", blob="VARBINARY(6144)")
    mariadb_database.sql(
        f"CREATE TABLE encrypted_files (tenant INT, at TIMESTAMP NOT NULL, {columns}, "
        "PRIMARY KEY (tenant, at))"
    )
    configure(dekctl, mariadb_database, primary_key=["tenant", "at"])
    assert "time zone" in dekctl("migrate").expect(2).stderr


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
    columns = COLUMNS.format(binary=BINARY[database.kind], blob=BLOB[database.kind])
    database.sql(
        "CREATE TABLE encrypted_files (id INTEGER PRIMARY KEY, ext VARCHAR(20) NOT NULL, "
        f"deleted INTEGER NOT NULL, {columns})"
    )
    database.sql(NO_KEYS[index])
    configure(dekctl, database, primary_key=["ext"])
    assert "not a unique key" in dekctl("migrate").expect(2).stderr


def test_an_index_that_could_not_be_built_is_no_primary_key(
    postgres_database: AppDatabase, dekctl: Dekctl
) -> None:
    columns = COLUMNS.format(binary=BINARY["postgresql"], blob=BLOB["postgresql"])
    postgres_database.sql(
        f"CREATE TABLE encrypted_files (id INTEGER PRIMARY KEY, ext INTEGER NOT NULL, {columns})"
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
    columns = COLUMNS.format(binary=BINARY["postgresql"], blob=BLOB["postgresql"])
    postgres_database.sql(f"CREATE TABLE encrypted_files (id INTEGER PRIMARY KEY, {columns})")
    postgres_database.sql("CREATE TABLE archived () INHERITS (encrypted_files)")
    configure(dekctl, postgres_database)
    assert "rows of archived (INHERITS)" in dekctl("migrate").expect(2).stderr


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
    columns = COLUMNS.format(binary=BINARY[app_database.kind], blob=BLOB[app_database.kind])
    columns = columns.replace(" NOT NULL", "")  # SQLite could not copy a collation
    app_database.sql(f"CREATE TABLE encrypted_files (id {kind} PRIMARY KEY, {columns})")
    app_database.sql(
        "INSERT INTO encrypted_files (id, encryption_key) VALUES ('alice', :dek)", dek=DEK
    )
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
    kind = app_database.kind
    columns = COLUMNS.format(binary=BINARY[kind], blob=BLOB[kind])
    app_database.sql(
        f"CREATE TABLE encrypted_files (tenant VARCHAR(20) NOT NULL, part INTEGER NOT NULL, "
        f"id BIGINT NOT NULL, {columns}, PRIMARY KEY (tenant, part, id))"
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


def test_a_schema_qualified_table_works(
    postgres_database: AppDatabase, dekctl: Dekctl, make_app: Any
) -> None:
    app = make_app(postgres_database, rows=4, name="Vault Files.encrypted_files")
    for command in (["migrate"], ["scrub", "--yes"], ["schema", "contract", "--yes"], ["verify"]):
        dekctl(*command).expect(0)
    assert app.counts()["wrapped_only"] == 4
    [(schema,)] = postgres_database.sql(
        "SELECT table_schema FROM information_schema.tables WHERE table_name = 'dekctl_runs'"
    )
    assert schema == "Vault Files"
    dekctl("rollback", "--yes").expect(0)


def test_a_table_in_another_database_of_mariadb_works(
    mariadb_database: AppDatabase, dekctl: Dekctl, make_app: Any
) -> None:
    app = make_app(mariadb_database, rows=4, name="other_place.encrypted_files")
    try:
        for command in (["migrate"], ["scrub", "--yes"], ["schema", "contract", "--yes"]):
            dekctl(*command).expect(0)
        assert app.counts()["wrapped_only"] == 4
        dekctl("rollback", "--yes").expect(0)
    finally:
        mariadb_database.sql("DROP DATABASE other_place")


def test_an_unknown_schema_is_named(sqlite_database: AppDatabase, dekctl: Dekctl) -> None:
    configure(dekctl, sqlite_database, name="nowhere.encrypted_files")
    sqlite_database.sql("CREATE TABLE t (id INTEGER)")
    assert "nowhere" in dekctl("status").expect(2).stderr


ODD_NAMES = {
    "name": "Order-Files ü",
    "primary_key": ("Select",),
    "plaintext_column": "enc key'\"",
    "wrapped_column": "WrappedKey",
    "version_column": "from",
    "kek_column": "kek-id (ü)",
}


def test_names_with_spaces_quotes_upper_case_and_reserved_words_work(
    app_database: AppDatabase, dekctl: Dekctl, make_app: Any
) -> None:
    app = make_app(app_database, rows=4, **ODD_NAMES)
    for command in (
        ["migrate", "--batch-size", "1"],
        ["scrub", "--yes"],
        ["schema", "contract", "--yes"],
        ["verify", "--shard", "1/2"],
        ["rewrap"],
    ):
        dekctl(*command).expect(0)
    assert app.counts()["wrapped_only"] == 4
    dekctl("rollback", "--yes").expect(0)
    assert {r["enc key'\""] for r in app.rows().values()} == set(app.deks.values())


@pytest.mark.parametrize("name", ["enc:key", "100%", "a\\b", "a`b", "a\x01b"])
@pytest.mark.parametrize("key", ["plaintext_column", "primary_key", "name"])
def test_names_that_no_driver_takes_safely_are_refused_when_configured(
    sqlite_database: AppDatabase, dekctl: Dekctl, key: str, name: str
) -> None:
    configure(dekctl, sqlite_database, **{key: [name] if key == "primary_key" else name})
    result = dekctl("status").expect(2)
    assert key in result.stderr
    assert "hint: " in result.stderr
