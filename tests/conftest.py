"""Fixtures: throw-away servers for the session, one database for each test."""

from __future__ import annotations

import itertools
import json
import shutil
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import hypothesis
import pytest
import sqlalchemy as sa

from dekctl.config import TableConfig
from sandbox.mariadb import MariaDBServer
from sandbox.moto import MotoServer
from sandbox.postgres import PostgresServer
from support.app import AppDatabase, Application, Kind
from support.cli import Dekctl
from support.generations import Generations
from support.kms_standin import KmsStandin
from support.quick import keep_servers_in_memory, share_what_libraries_make


def pytest_configure() -> None:
    """Settings of libraries, Hypothesis and signals."""
    share_what_libraries_make()
    keep_servers_in_memory()
    # A machine that is busy is no reason to fail.
    hypothesis.settings.register_profile(
        "dekctl", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
    )
    hypothesis.settings.load_profile("dekctl")
    # Tests interrupt processes. A background job of a shell ignores Ctrl-C, and so would they.
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


LONGEST = (
    "test_rotation_terraform",
    "test_crashes",
    "test_own_table_page",
    "test_terraform",
    "test_state_machine",
    "test_application",
    "test_privileges",
    "test_cluster",
    "test_workers",
)
"""Files whose tests run first, so that at the end no process waits for a long one."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the long tests first."""

    def place(item: pytest.Item) -> int:
        name = item.path.stem
        return next((n for n, start in enumerate(LONGEST) if name.startswith(start)), len(LONGEST))

    items.sort(key=place)


_numbers = itertools.count(1)


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresServer]:
    """A PostgreSQL server; the test is skipped where none is installed."""
    found, reason = PostgresServer.find()
    if found is None:
        pytest.skip(reason)
    with PostgresServer.start() as server:
        yield server


@pytest.fixture(scope="session")
def mariadb_server() -> Iterator[MariaDBServer]:
    """A MariaDB server; the test is skipped where none is installed."""
    found, reason = MariaDBServer.find()
    if found is None:
        pytest.skip(reason)
    with MariaDBServer.start() as server:
        yield server


@pytest.fixture(scope="session")
def moto_server() -> Iterator[MotoServer]:
    """moto's server; the test is skipped where it is not installed."""
    found, reason = MotoServer.find()
    if found is None:
        pytest.skip(reason)
    with MotoServer.start() as server:
        yield server


@pytest.fixture(scope="session")
def _standin() -> Iterator[KmsStandin]:
    with KmsStandin.start() as standin:
        yield standin


@pytest.fixture
def kms_standin(_standin: KmsStandin) -> Iterator[KmsStandin]:
    """The strict KMS, without faults at the start and the end of every test."""
    _standin.clear_faults()
    _standin.reset_counters()
    yield _standin
    _standin.clear_faults()


@pytest.fixture
def environ(kms_standin: KmsStandin, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """AWS settings for this process that lead to the stand-in."""
    variables = kms_standin.environment()
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    return variables


@pytest.fixture
def sqlite_database(tmp_path: Path) -> Iterator[AppDatabase]:
    """A new SQLite file."""
    yield from _database("sqlite", f"sqlite:///{tmp_path / 'app.db'}")


@pytest.fixture
def postgres_database(postgres_server: PostgresServer) -> Iterator[AppDatabase]:
    """A new database on PostgreSQL."""
    name = f"app_{next(_numbers)}"
    yield from _database("postgresql", postgres_server.create_database(name))
    postgres_server.sql(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
def mariadb_database(mariadb_server: MariaDBServer) -> Iterator[AppDatabase]:
    """A new database on MariaDB."""
    name = f"app_{next(_numbers)}"
    yield from _database("mariadb", mariadb_server.create_database(name))
    mariadb_server.sql(f"DROP DATABASE {name}")


@pytest.fixture(params=["sqlite", "postgresql", "mariadb"])
def app_database(request: pytest.FixtureRequest) -> AppDatabase:
    """A new database on each kind of server in turn."""
    return _database_of(request)


@pytest.fixture(params=["postgresql", "mariadb"])
def server_database(request: pytest.FixtureRequest) -> AppDatabase:
    """A new database on each server in turn: not on SQLite, which has none."""
    return _database_of(request)


def _database_of(request: pytest.FixtureRequest) -> AppDatabase:
    fixtures = {
        "sqlite": "sqlite_database",
        "postgresql": "postgres_database",
        "mariadb": "mariadb_database",
    }
    database = request.getfixturevalue(fixtures[request.param])
    assert isinstance(database, AppDatabase)
    return database


@pytest.fixture
def dekctl(tmp_path: Path) -> Dekctl:
    """dekctl in a folder of its own, with a KEK for the env provider."""
    folder = tmp_path / "project"
    folder.mkdir()
    runner = Dekctl(folder)
    runner.use_env_kek()
    runner.environ["DEKCTL_PROCESSORS"] = "5"  # workers are started whatever machine this is
    return runner


@pytest.fixture
def generations(kms_standin: KmsStandin, dekctl: Dekctl) -> Generations:
    """A KEK with one generation on the strict KMS, and the Terraform outputs that name it."""
    for alias in kms_standin.kms().list_aliases()["Aliases"]:
        kms_standin.kms().delete_alias(AliasName=alias["AliasName"])
    return Generations.begin(kms_standin, dekctl)


MakeApp = Callable[..., Application]


@pytest.fixture
def make_app(dekctl: Dekctl) -> MakeApp:
    """Make an application's table and the ``dekctl.toml`` for it. ::

        app = make_app(database, rows=20, key="composite", primary_key=("tenant", "id"))

    Keywords of :class:`Application` and of :class:`TableConfig` are taken; ``provider`` and other
    keys of ``[env.test]`` by ``env={...}``.
    """

    def make(
        database: AppDatabase,
        *,
        rows: int = 0,
        env: dict[str, Any] | None = None,
        key: Any = "integer",
        storage: Any = "binary",
        **table: Any,
    ) -> Application:
        app = Application(database, TableConfig(**table), key=key, storage=storage)
        app.create(rows)
        dekctl.applications.append(app)
        dekctl.configure(toml(database, table, env or {}))
        return app

    return make


@pytest.fixture(scope="session")
def _expanded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Application]:
    folder = tmp_path_factory.mktemp("expanded")
    runner = Dekctl(folder)
    runner.use_env_kek()
    for database in _database("sqlite", f"sqlite:///{folder / 'app.db'}"):
        app = Application(database).create(5)
        runner.configure(toml(database, {}, {}))
        runner("schema", "expand").expect(0)
        yield app


@pytest.fixture
def expanded_app(
    _expanded: Application, sqlite_database: AppDatabase, dekctl: Dekctl
) -> Application:
    """Five rows in SQLite, expanded and not wrapped yet: a copy of a file that was made once."""
    files = (str(each.engine.url.database) for each in (_expanded.database, sqlite_database))
    shutil.copy(*files)
    app = Application(sqlite_database, deks=dict(_expanded.deks))
    dekctl.applications.append(app)
    dekctl.configure(toml(sqlite_database, {}, {}))
    return app


def toml(database: AppDatabase, table: dict[str, Any], env: dict[str, Any]) -> str:
    """The text of a ``dekctl.toml`` for one table and the environment ``test``."""
    values = {"database_url": database.url, "provider": "env", **env}
    lines = ["[table]", *(f"{name} = {_value(v)}" for name, v in table.items())]
    lines += ["[env.test]", *(f"{name} = {_value(v)}" for name, v in values.items())]
    return "\n".join(lines) + "\n"


def _value(value: Any) -> str:
    """A TOML value: JSON's strings, numbers and lists are TOML's too."""
    return json.dumps(list(value) if isinstance(value, tuple) else value, ensure_ascii=False)


def _database(kind: Kind, url: str) -> Iterator[AppDatabase]:
    # No pool: a connection left open would hold up a schema step, and the end of the database.
    engine = sa.create_engine(url, poolclass=sa.NullPool, hide_parameters=True)
    try:
        yield AppDatabase(kind, url, engine)
    finally:
        engine.dispose()
