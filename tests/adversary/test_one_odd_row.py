"""One row that cannot be handled is quarantined by name; it never stops the rows beside it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from dekctl.kms.aws.faults import ErrorClass
from dekctl.kms.aws.retry import RetryPolicy
from support.app import AppDatabase, Application
from support.cli import Dekctl
from support.kms_standin import KmsStandin

ROWS = 6
FROZEN = {
    "sqlite": (
        "CREATE TRIGGER frozen BEFORE UPDATE ON encrypted_files WHEN OLD.id = 3 "
        "BEGIN SELECT RAISE(ABORT, 'archived'); END",
    ),
    "postgresql": (
        "CREATE FUNCTION frozen() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN IF OLD.id = 3 THEN "
        "RAISE EXCEPTION ''%'', OLD; END IF; RETURN NEW; END'",
        "CREATE TRIGGER frozen BEFORE UPDATE ON encrypted_files "
        "FOR EACH ROW EXECUTE FUNCTION frozen()",
    ),
    "mariadb": (
        "CREATE TRIGGER frozen BEFORE UPDATE ON encrypted_files FOR EACH ROW IF OLD.id = 3 THEN "
        "SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = 'archived'; END IF",
    ),
}
SAID = {"sqlite": "a trigger", "postgresql": "SQLSTATE P0001", "mariadb": "a trigger"}


def freeze(database: AppDatabase) -> None:
    for statement in FROZEN[database.kind]:
        database.sql(statement)


def thaw(database: AppDatabase) -> None:
    on = " ON encrypted_files" if database.kind == "postgresql" else ""
    database.sql(f"DROP TRIGGER frozen{on}")
    if database.kind == "postgresql":
        database.sql("DROP FUNCTION frozen()")


def test_a_row_that_a_trigger_refuses_is_quarantined_by_every_verb_that_writes(
    app_database: AppDatabase, dekctl: Dekctl, make_app: Any
) -> None:
    app: Application = make_app(app_database, rows=ROWS)
    before: tuple[tuple[str, ...], ...] = ((), ("migrate",), ("scrub", "--yes"), ("migrate",))
    verbs = (("wrap",), ("scrub", "--yes"), ("restore", "--yes"), ("rewrap", "--same-key"))
    dekctl.json("schema", "expand")
    for prepare, verb in zip(before, verbs, strict=True):
        if prepare:
            dekctl.json(*prepare)
        freeze(app_database)
        done = dekctl.json(*verb, expect=4)
        assert (done["changed"], done["quarantined"]) == (ROWS - 1, 1), verb
        [named] = dekctl.json("status")["quarantine"]
        assert named["pk"] == "3"
        assert SAID[app_database.kind] in named["reason"]
        assert "archived" not in named["reason"]
        thaw(app_database)
        assert dekctl.json(*verb, "--retry-quarantined")["quarantined"] == 0, verb
        assert dekctl.json("status")["quarantined"] == 0
    assert app.database.sql("SELECT count(*) FROM encrypted_files") == [(ROWS,)]


def test_rollback_names_the_row_that_a_trigger_refuses_and_keeps_its_wrapped_key(
    app_database: AppDatabase, dekctl: Dekctl, make_app: Any
) -> None:
    app: Application = make_app(app_database, rows=ROWS)
    dekctl.json("migrate")
    dekctl.json("scrub", "--yes")
    freeze(app_database)
    ended = dekctl("rollback", "--yes").expect(4)
    assert "3: the database refused to change it" in ended.stdout + ended.stderr
    assert app.counts() == {"plaintext_only": 0, "both": ROWS - 1, "wrapped_only": 1, "no_key": 0}
    thaw(app_database)
    dekctl("rollback", "--yes").expect(0)


def test_the_reason_names_the_constraint_and_no_value(
    app_database: AppDatabase, dekctl: Dekctl, make_app: Any
) -> None:
    if app_database.kind == "sqlite":
        pytest.skip("SQLite cannot add a CHECK to a table")
    make_app(app_database, rows=ROWS)
    dekctl.json("schema", "expand")
    app_database.sql(
        "ALTER TABLE encrypted_files ADD CONSTRAINT not_the_third "
        "CHECK (wrapped_key IS NULL OR id <> 3)"
    )
    [named] = dekctl.json("wrap", expect=4)["set_aside"]
    assert named["pk"] == "3"
    assert "on not_the_third" in named["reason"]


def test_a_trigger_that_refuses_every_row_stops_the_run_and_quarantines_none(
    app_database: AppDatabase, dekctl: Dekctl, make_app: Any
) -> None:
    make_app(app_database, rows=ROWS)
    dekctl.json("schema", "expand")
    for statement in FROZEN[app_database.kind]:
        app_database.sql(statement.replace("OLD.id = 3", "OLD.id > 0"))
    ended = dekctl("wrap").expect(6)
    assert "the first 6 rows were all rejected; 1: the database refused" in ended.stderr
    assert dekctl.json("status")["quarantined"] == 0
    assert dekctl.json("wrap", "--keep-going", expect=4)["quarantined"] == ROWS


def test_workers_quarantine_a_row_that_a_trigger_refuses(
    postgres_database: AppDatabase, dekctl: Dekctl, make_app: Any
) -> None:
    make_app(postgres_database, rows=ROWS)
    dekctl.json("schema", "expand")
    freeze(postgres_database)
    done = dekctl.process("--json", "wrap", "--workers", "2").expect(4).json
    assert (done["changed"], [row["pk"] for row in done["set_aside"]]) == (ROWS - 1, ["3"])


# -- KEKs that are none of ours -------------------------------------------------------------------


@pytest.fixture
def kek(kms_standin: KmsStandin, monkeypatch: pytest.MonkeyPatch) -> str:
    """The environment's own KEK; refusals are not waited for."""
    limit = RetryPolicy.limit

    def impatient(policy: RetryPolicy, fault: ErrorClass, *, contacted: bool) -> float:
        return 0.2 if fault is ErrorClass.GRACE else limit(policy, fault, contacted=contacted)

    monkeypatch.setattr(RetryPolicy, "limit", impatient)
    for alias in kms_standin.kms().list_aliases()["Aliases"]:
        kms_standin.kms().delete_alias(AliasName=alias["AliasName"])
    return kms_standin.create_key("alias/ours")


def on_standin(
    make_app: Any, database: AppDatabase, dekctl: Dekctl, standin: KmsStandin
) -> Application:
    dekctl.environ.update(standin.environment())
    env = {
        "provider": "aws",
        "kek": "alias/ours",
        "region": standin.region,
        "endpoint_url": standin.endpoint_url,
    }
    app: Application = make_app(database, rows=ROWS, env=env)
    return app


OTHER_KEKS: dict[str, Callable[[str], str]] = {
    "env": lambda _: "env:0123456789abcdef",
    "memory": lambda _: "memory:dev",
    "another account": lambda kek: kek.replace("111122223333", "999988887777"),
    "another Region": lambda kek: kek.replace("us-east-1", "eu-north-1"),
    "no Region": lambda kek: kek.replace("us-east-1", "nowhere at all"),
    "too few parts": lambda _: "arn:aws:key/abc",
    "not of KMS": lambda kek: kek.replace(":kms:", ":s3:"),
    "cut off": lambda kek: kek[:40],
    "nonsense": lambda _: "ключ" * 600,
}


@pytest.mark.parametrize("name", [*OTHER_KEKS, "disabled"])
def test_a_row_of_a_kek_that_is_none_of_ours_is_quarantined(
    sqlite_database: AppDatabase,
    dekctl: Dekctl,
    make_app: Any,
    kms_standin: KmsStandin,
    kek: str,
    name: str,
) -> None:
    app = on_standin(make_app, sqlite_database, dekctl, kms_standin)
    dekctl.json("migrate")
    dekctl.json("scrub", "--yes")
    if name == "disabled":
        odd = kms_standin.create_key()
        kms_standin.kms().disable_key(KeyId=odd)
    else:
        odd = OTHER_KEKS[name](kek)
    assert odd != kek
    [(blob,)] = app.database.sql("SELECT wrapped_key FROM encrypted_files WHERE id = 3")
    # Nor is it a key of ours in disguise.
    app.database.sql(
        "UPDATE encrypted_files SET kek_id = :kek, wrapped_key = :blob WHERE id = 3",
        kek=odd,
        blob=blob[:-1] + bytes([blob[-1] ^ 1]),
    )
    for verb in (
        ("verify",),
        ("rewrap", "--same-key", "--retry-quarantined"),
        ("restore", "--yes"),
    ):
        done = dekctl.json(*verb, expect=4)
        assert [row["pk"] for row in done["set_aside"]] == ["3"], verb
        assert done.get("verified", done["changed"]) == ROWS - 1, verb
    if name == "memory":  # scrub refuses a table with a KEK that ends with a process
        dekctl("scrub", "--yes").expect(3)
    else:
        assert dekctl.json("scrub", "--yes")["changed"] == ROWS - 1
    ended = dekctl("rollback", "--yes").expect(4)
    assert "3: " in ended.stdout + ended.stderr


def test_the_right_to_our_own_kek_is_missed_by_all_and_stops_the_run(
    sqlite_database: AppDatabase, dekctl: Dekctl, make_app: Any, kms_standin: KmsStandin, kek: str
) -> None:
    on_standin(make_app, sqlite_database, dekctl, kms_standin)
    dekctl.json("migrate")
    kms_standin.kms().disable_key(KeyId=kek)
    assert "DisabledException" in dekctl("verify").expect(5).stderr
    assert dekctl.json("status")["quarantined"] == 0


def test_rows_that_all_name_one_refused_kek_stop_the_run_and_are_not_quarantined(
    sqlite_database: AppDatabase, dekctl: Dekctl, make_app: Any, kms_standin: KmsStandin, kek: str
) -> None:
    app = on_standin(make_app, sqlite_database, dekctl, kms_standin)
    dekctl.json("migrate")
    other = kms_standin.create_key()
    kms_standin.kms().disable_key(KeyId=other)
    app.database.sql("UPDATE encrypted_files SET kek_id = :kek", kek=other)
    ended = dekctl("verify").expect(5)
    assert other in ended.stderr
    assert dekctl.json("status")["quarantined"] == 0
    assert dekctl.json("verify", "--keep-going", expect=4)["failed"] == ROWS


def test_a_key_whose_context_is_longer_than_kms_takes_is_quarantined(
    sqlite_database: AppDatabase, dekctl: Dekctl, kms_standin: KmsStandin, kek: str
) -> None:
    dekctl.environ.update(kms_standin.environment())
    dekctl.configure(
        f'[env.test]\ndatabase_url = "{sqlite_database.url}"\nprovider = "aws"\n'
        f'kek = "{kek}"\nregion = "{kms_standin.region}"\n'
        f'endpoint_url = "{kms_standin.endpoint_url}"\n'
    )
    sqlite_database.sql("CREATE TABLE encrypted_files (id TEXT PRIMARY KEY, encryption_key BLOB)")
    for key in ("a", "b" * 8192, "c"):
        sqlite_database.sql(
            "INSERT INTO encrypted_files VALUES (:id, :dek)", id=key, dek=bytes(range(32))
        )
    dekctl.hidden.append(bytes(range(32)))
    done = dekctl.json("migrate", expect=4)
    assert done["changed"] == 2
    [named] = done["set_aside"]
    assert named["pk"] == "b" * 8192
    assert "KMS takes 8,192" in named["reason"]


NO_DATES = {
    "date": ("infinity", "-infinity", "0044-03-15 BC"),
    "timestamp": ("infinity", "-infinity", "0044-03-15 12:00:00 BC"),
    "timestamptz": ("infinity", "-infinity", "20000-01-01 00:00:00+00"),
    "numeric": ("NaN",),
}


@pytest.mark.parametrize("kind", NO_DATES)
def test_a_primary_key_that_no_program_can_read_is_quarantined(
    postgres_database: AppDatabase, dekctl: Dekctl, kind: str
) -> None:
    good = ("1", "2") if kind == "numeric" else ("2024-01-01", "2024-01-02")
    postgres_database.sql(f"CREATE TABLE encrypted_files (id {kind}, encryption_key bytea)")
    postgres_database.sql("ALTER TABLE encrypted_files ADD PRIMARY KEY (id)")
    for number, key in enumerate((*good, *NO_DATES[kind])):
        dek = bytes([number]) + bytes(range(31))
        dekctl.hidden.append(dek)
        postgres_database.sql(
            f"INSERT INTO encrypted_files VALUES (CAST('{key}' AS {kind}), :dek)", dek=dek
        )
    url = postgres_database.url
    dekctl.configure(f'[env.test]\ndatabase_url = "{url}"\nprovider = "env"\n')
    done = dekctl.json("migrate", "--batch-size", "1", expect=4)
    assert done["changed"] == 2
    assert {row["pk"] for row in done["set_aside"]} == set(NO_DATES[kind])
    assert dekctl.json("scrub", "--yes", expect=4)["changed"] == 2
    assert dekctl.json("restore", "--yes")["changed"] == 2
    assert dekctl.json("rewrap", "--same-key")["changed"] == 2
    assert {row["pk"] for row in dekctl.json("status")["quarantine"]} == set(NO_DATES[kind])
    dekctl("rollback", "--yes").expect(0)
