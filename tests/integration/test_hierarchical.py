"""Hierarchical wrapping (V3): branch keys, their rows, another KEK, and the ways in and out."""

from __future__ import annotations

from typing import Any

import boto3
import pytest
import sqlalchemy as sa
from sqlalchemy.orm import DeclarativeBase, Mapped, Session

from dekctl.branch_keys.table import BranchTable, branch_keys_table
from dekctl.errors import DatabaseError, RowRejectedError
from dekctl.kms import AWSKMS, EnvKMS
from dekctl.kms.branch.keys import BranchKeys
from dekctl.kms.branch_key import BranchKey
from dekctl.kms.context import row_context
from dekctl.kms.interface import UnwrapRequest, Wrapped, WrapRequest
from dekctl.reader import RowKeys
from support.app import AppDatabase, Application
from support.cli import Dekctl
from support.kms_standin import KmsStandin

ROWS = 25
ROWS_PER_KEY = 10
BRANCHES = 3


def branches(app: Application) -> list[dict[str, Any]]:
    table = branch_keys_table(app.config.schema)
    with app.database.engine.connect() as connection:
        return [dict(row) for row in connection.execute(sa.select(table)).mappings()]


def versions(app: Application) -> set[str]:
    return {row["wrapped_key_version"] for row in app.rows().values()}


def keks(app: Application) -> set[str]:
    return {row["kek_id"] for row in app.rows().values()}


def make(make_app: Any, database: AppDatabase, **env: Any) -> Application:
    app: Application = make_app(
        database, rows=ROWS, wrapping="V3", rows_per_branch_key=ROWS_PER_KEY, env=env
    )
    return app


def on_standin(
    make_app: Any, database: AppDatabase, dekctl: Dekctl, standin: KmsStandin
) -> Application:
    dekctl.environ |= standin.environment()
    kek = standin.create_key()
    return make(make_app, database, provider="aws", kek=kek, region=standin.region)


def provider_of(standin: KmsStandin, kek: str) -> AWSKMS:
    session = boto3.Session(
        aws_access_key_id=standin.admin.access_key,
        aws_secret_access_key=standin.admin.secret_key,
        region_name=standin.region,
    )
    return AWSKMS(kek, session=session, endpoint_url=standin.endpoint_url)


def test_v3_rows_go_the_whole_way_on_every_database(
    app_database: AppDatabase, dekctl: Dekctl, make_app: Any
) -> None:
    app = make(make_app, app_database)
    provider = EnvKMS(dekctl.environ)
    dekctl.json("schema", "expand")

    assert dekctl.json("wrap")["changed"] == ROWS
    assert versions(app) == {"V3"}
    assert len(branches(app)) == BRANCHES
    assert dekctl.json("verify")["verified"] == ROWS
    status = dekctl.json("status")
    assert status["keks"][0]["version"] == "V3"
    [under] = status["branch_keys"]
    assert (under["kek_id"], under["keys"]) == (provider.kek_id, BRANCHES)
    assert f"{BRANCHES} branch keys under {provider.kek_id}" in dekctl("status").expect(0).stdout
    assert dekctl.json("scrub", "--yes")["changed"] == ROWS
    app.assert_files_open(provider)

    old = provider.kek_id
    dekctl.use_env_kek()
    provider = EnvKMS(dekctl.environ)
    blobs = {pk: row["wrapped_key"] for pk, row in app.rows().items()}
    assert dekctl.json("rewrap")["changed"] == ROWS
    assert keks(app) == {provider.kek_id} != {old}
    assert {row["kek_id"] for row in branches(app)} == {provider.kek_id}
    assert blobs == {pk: row["wrapped_key"] for pk, row in app.rows().items()}
    app.assert_files_open(provider)

    dekctl.json("schema", "contract", "--yes")
    assert dekctl.json("verify")["verified"] == ROWS
    dekctl.json("rollback", "--yes")
    app.assert_files_open()


def test_kms_is_called_once_for_each_branch_key_and_not_for_rows(
    sqlite_database: AppDatabase, dekctl: Dekctl, make_app: Any, kms_standin: KmsStandin
) -> None:
    app = on_standin(make_app, sqlite_database, dekctl, kms_standin)
    dekctl.json("schema", "expand")

    assert dekctl.json("wrap")["kms_calls"] == {"GenerateDataKey": BRANCHES}
    assert dekctl.json("verify")["kms_calls"] == {"Decrypt": BRANCHES}
    contexts = [call["context"] for call in kms_standin.journal() if call["context"]]
    assert len(contexts) == 2 * BRANCHES
    assert {tuple(sorted(context)) for context in contexts} == {("dekctl:branch", "dekctl:table")}

    target = kms_standin.create_key()
    calls = dekctl.json("rewrap", "--to", target)["kms_calls"]
    assert calls == {"ReEncrypt": 2 * BRANCHES}, "each one, and the proof that its new copy opens"
    assert keks(app) == {target}
    app.assert_files_open(provider_of(kms_standin, target))


def test_each_table_has_its_own_number_of_rows_a_branch_key(
    sqlite_database: AppDatabase, dekctl: Dekctl, make_app: Any
) -> None:
    make_app(sqlite_database, rows=ROWS)
    make_app(sqlite_database, rows=ROWS, name="photos", context_name="photos")
    dekctl.configure(
        '[[table]]\nname = "encrypted_files"\nwrapping = "V3"\n'
        '[[table]]\nname = "photos"\ncontext_name = "photos"\nwrapping = "V3"\n'
        f"rows_per_branch_key = {ROWS_PER_KEY}\n"
        f'[env.test]\ndatabase_url = "{sqlite_database.url}"\nprovider = "env"\n'
    )
    dekctl.json("migrate")
    files, photos = dekctl.json("status")["tables"]
    assert [len(files["branch_keys"]), files["branch_keys"][0]["keys"]] == [1, 1]
    assert photos["branch_keys"][0]["keys"] == BRANCHES


def test_rewrap_moves_rows_between_v2_and_v3(
    app_database: AppDatabase, dekctl: Dekctl, make_app: Any
) -> None:
    app = make_app(app_database, rows=ROWS)
    provider = EnvKMS(dekctl.environ)
    dekctl.json("schema", "expand")
    dekctl.json("wrap")
    assert versions(app) == {"V2"}

    done = dekctl("--json", "rewrap", "--hierarchical").expect(0)
    assert (done.json["changed"], done.json["carried_over"]) == (ROWS, 0)
    assert "rows that change between V2 and V3" in done.stderr
    assert "another provider" not in done.stderr
    assert versions(app) == {"V3"}
    app.assert_files_open(provider)

    assert dekctl.json("rewrap")["changed"] == ROWS
    assert versions(app) == {"V2"}
    app.assert_files_open(provider)
    assert dekctl.json("rewrap")["changed"] == 0


def test_a_kek_that_wraps_only_a_branch_key_is_still_counted_as_in_use(
    sqlite_database: AppDatabase, dekctl: Dekctl, make_app: Any
) -> None:
    """A rewrap that died after the branch keys: rows name the old KEK, the keys need the new."""
    app = make(make_app, sqlite_database)
    old = EnvKMS(dekctl.environ).kek_id
    dekctl.json("schema", "expand")
    dekctl.json("wrap")
    dekctl.use_env_kek()
    new = EnvKMS(dekctl.environ)

    store = BranchTable(_run(app), None)
    BranchKeys(new, store).rewrap_all(app.config.context_name)

    assert keks(app) == {old}
    assert store.keks(app.config.context_name) == {new.kek_id: BRANCHES}
    app.assert_files_open(new)
    assert dekctl.json("rewrap")["changed"] == ROWS
    assert keks(app) == {new.kek_id}


def test_a_v3_key_opens_for_its_own_row_only(
    sqlite_database: AppDatabase, dekctl: Dekctl, make_app: Any
) -> None:
    app = make(make_app, sqlite_database)
    dekctl.json("schema", "expand")
    dekctl.json("wrap")
    rows = app.rows()
    app.set((1,), wrapped=rows[2,]["wrapped_key"])

    verified = dekctl.json("verify", expect=4)
    assert (verified["verified"], verified["failed"]) == (ROWS - 1, 1)
    assert verified["set_aside"][0]["pk"] == "1"


@pytest.mark.parametrize("at", [0, 5, 20, -1], ids=["format", "branch id", "nonce", "tag"])
def test_a_damaged_v3_key_is_set_aside(
    at: int, sqlite_database: AppDatabase, dekctl: Dekctl, make_app: Any
) -> None:
    app = make(make_app, sqlite_database)
    dekctl.json("schema", "expand")
    dekctl.json("wrap")
    blob = bytearray(app.rows()[1,]["wrapped_key"])
    blob[at] ^= 1
    app.set((1,), wrapped=bytes(blob))
    assert dekctl.json("verify", expect=4)["failed"] == 1


def test_a_disabled_kek_closes_v3_rows(
    sqlite_database: AppDatabase, dekctl: Dekctl, make_app: Any, kms_standin: KmsStandin
) -> None:
    app = on_standin(make_app, sqlite_database, dekctl, kms_standin)
    dekctl.json("schema", "expand")
    dekctl.json("wrap")
    kms_standin.kms().disable_key(KeyId=keks(app).pop())
    done = dekctl("verify").expect(5)
    assert "DisabledException" in done.stderr


def test_the_reader_finds_the_branch_keys_by_the_session_of_the_row(
    sqlite_database: AppDatabase, dekctl: Dekctl, make_app: Any
) -> None:
    app = make(make_app, sqlite_database)
    dekctl.json("schema", "expand")
    dekctl.json("wrap")

    keys, model = RowKeys(EnvKMS(dekctl.environ), app.config), v3_models(app)
    with Session(app.database.engine) as session:
        found = {file.id: keys.read(file) for file in session.scalars(sa.select(model))}
    assert found == {pk[0]: dek for pk, dek in app.deks.items()}


def v3_models(app: Application) -> type[Any]:
    class Base(DeclarativeBase):
        pass

    class File(Base):
        __table__ = app.now().to_metadata(Base.metadata)
        id: Mapped[int]
        filename: Mapped[str]

    return File


def test_reading_a_v3_row_leaves_the_transaction_of_the_application_alone(
    sqlite_database: AppDatabase, dekctl: Dekctl, make_app: Any
) -> None:
    app = make(make_app, sqlite_database)
    dekctl.json("migrate")
    model, provider = v3_models(app), EnvKMS(dekctl.environ)
    for pool in ({"poolclass": sa.StaticPool}, {"pool_size": 1, "max_overflow": 0}):
        engine = sa.create_engine(sqlite_database.url, hide_parameters=True, **pool)
        keys = RowKeys(provider, app.config)
        with Session(engine) as session:
            row: Any = session.scalars(sa.select(model)).first()
            row.filename = "not committed"
            session.flush()
            assert keys.read(row) == app.deks[row.id,]
            session.rollback()
            assert row.filename != "not committed"
        engine.dispose()


def test_a_branch_key_that_cannot_be_read_is_an_error_of_the_database(
    sqlite_database: AppDatabase, dekctl: Dekctl, make_app: Any
) -> None:
    app = make(make_app, sqlite_database)
    dekctl.json("migrate")
    sqlite_database.sql("DROP TABLE dekctl_branch_keys")
    keys, model = RowKeys(EnvKMS(dekctl.environ), app.config), v3_models(app)
    with Session(sqlite_database.engine) as session:
        row: Any = session.scalars(sa.select(model)).first()
        with pytest.raises(DatabaseError, match="OperationalError") as caught:
            keys.read(row)
    assert "dekctl_branch_keys" in (caught.value.hint or "")


def test_a_reader_that_refuses_old_keks_takes_a_v3_row_as_soon_as_it_has_moved(
    sqlite_database: AppDatabase, dekctl: Dekctl, make_app: Any
) -> None:
    app = make(make_app, sqlite_database)
    dekctl.json("schema", "expand")
    dekctl.json("wrap")
    dekctl.use_env_kek()
    new = EnvKMS(dekctl.environ)
    keys = RowKeys(new, app.config, keks=[new.kek_id], engine=app.database.engine)
    with pytest.raises(RowRejectedError, match="not among"):
        keys.read(app.rows()[1,])
    dekctl.json("rewrap")
    assert keys.read(app.rows()[1,]) == app.deks[1,]


class WrongAnswers(EnvKMS):
    """Gives for every key that moves a blob that opens to nothing."""

    def rewrap_many(self, requests: Any) -> Any:
        return [
            answer if isinstance(answer, RowRejectedError) else Wrapped(bytes(60), answer.kek_id)
            for answer in super().rewrap_many(requests)
        ]


def test_a_branch_key_is_not_replaced_by_a_copy_that_does_not_open(
    sqlite_database: AppDatabase, dekctl: Dekctl, make_app: Any
) -> None:
    app = make(make_app, sqlite_database)
    dekctl.json("schema", "expand")
    dekctl.json("wrap")
    before = branches(app)
    dekctl.use_env_kek()

    keys = BranchKeys(WrongAnswers(dekctl.environ), BranchTable(_run(app), None))
    assert len(keys.rewrap_all(app.config.context_name).failed) == BRANCHES
    assert branches(app) == before


def test_rows_under_a_damaged_branch_key_are_set_aside_and_the_others_move(
    sqlite_database: AppDatabase, dekctl: Dekctl, make_app: Any
) -> None:
    app = make(make_app, sqlite_database)
    dekctl.json("schema", "expand")
    dekctl.json("wrap")
    old = EnvKMS(dekctl.environ).kek_id
    first = app.rows()[1,]["wrapped_key"][1:17].hex()
    damage(app, first)
    dekctl.use_env_kek()

    moved = dekctl.json("rewrap", expect=4)
    assert (moved["changed"], moved["quarantined"]) == (ROWS - ROWS_PER_KEY, ROWS_PER_KEY)
    assert first in moved["set_aside"][0]["reason"]
    assert {row["branch_id"] for row in branches(app) if row["kek_id"] == old} == {first}


def test_many_rows_under_one_damaged_branch_key_are_no_wrong_setting(
    sqlite_database: AppDatabase, dekctl: Dekctl, make_app: Any
) -> None:
    app = make_app(sqlite_database, rows=300, wrapping="V3", rows_per_branch_key=200)
    dekctl.json("schema", "expand")
    dekctl.json("wrap")
    damage(app, app.rows()[1,]["wrapped_key"][1:17].hex())
    dekctl.use_env_kek()
    moved = dekctl.json("rewrap", "--batch-size", "100", expect=4)
    assert (moved["changed"], moved["quarantined"]) == (100, 200)


def test_a_damaged_branch_key_that_no_row_uses_holds_nothing_up(
    sqlite_database: AppDatabase, dekctl: Dekctl, make_app: Any
) -> None:
    app = make(make_app, sqlite_database)
    dekctl.json("schema", "expand")
    dekctl.json("wrap")
    store = BranchTable(_run(app), None)
    store.add(BranchKey("f" * 32, app.config.context_name, b"?", branches(app)[0]["kek_id"], 10))
    dekctl.use_env_kek()

    done = dekctl("rewrap").expect(0)
    assert "1 branch key cannot be moved" in done.stderr
    assert keks(app) == {EnvKMS(dekctl.environ).kek_id}


def damage(app: Application, branch_id: str) -> None:
    table = branch_keys_table(app.config.schema)
    with app.database.engine.begin() as connection:
        connection.execute(
            table.update().where(table.c.branch_id == branch_id).values(wrapped=b"damaged")
        )


class Stock:
    """A store of branch keys in memory that says what happened in what order."""

    def __init__(self) -> None:
        self.keys: dict[str, BranchKey] = {}

    def add(self, key: BranchKey) -> None:
        self.keys[key.branch_id] = key

    def get(self, branch_ids: Any) -> dict[str, BranchKey]:
        return {i: self.keys[i] for i in branch_ids if i in self.keys}

    def page(self, *_: object) -> list[BranchKey]:
        raise AssertionError("nothing is moved here")

    def not_stored(self, *_: object) -> set[str]:
        raise AssertionError("no row is written here")

    def replace(self, *_: object) -> bool:
        raise AssertionError("nothing is moved here")


def requests(count: int) -> list[WrapRequest]:
    return [WrapRequest(bytes(32), row_context("t", (i,)), hierarchical=True) for i in range(count)]


def test_a_branch_key_wraps_no_more_rows_than_allowed(dekctl: Dekctl) -> None:
    stock = Stock()
    keys = BranchKeys(EnvKMS(dekctl.environ), stock, rows_per_key={"t": 10})
    blobs = []
    for count in (7, 7, 7):
        blobs += [answer.blob for answer in keys.wrap_many(requests(count))]  # type: ignore[union-attr]  # a rejection fails here
    uses = [sum(blob[1:17].hex() == i for blob in blobs) for i in stock.keys]
    assert sorted(uses) == [1, 10, 10]
    assert len({blob[17:29] for blob in blobs}) == 21, "a nonce came twice"


def test_a_branch_key_is_not_used_for_longer_than_an_hour(dekctl: Dekctl) -> None:
    now = [0.0]
    stock = Stock()
    keys = BranchKeys(EnvKMS(dekctl.environ), stock, clock=lambda: now[0])
    keys.wrap_many(requests(1))
    now[0] = 3599.0
    keys.wrap_many(requests(1))
    assert len(stock.keys) == 1
    now[0] = 3601.0
    keys.wrap_many(requests(1))
    assert len(stock.keys) == 2


def test_an_opened_branch_key_is_asked_for_again_after_an_hour(dekctl: Dekctl) -> None:
    now = [0.0]
    stock = Stock()
    provider = EnvKMS(dekctl.environ)
    [wrapped] = BranchKeys(provider, stock).wrap_many(requests(1))
    assert not isinstance(wrapped, RowRejectedError)
    request = UnwrapRequest(wrapped.blob, wrapped.kek_id, row_context("t", (0,)), True)

    keys = BranchKeys(provider, stock, clock=lambda: now[0])
    assert not isinstance(keys.unwrap_many([request])[0], RowRejectedError)
    stock.keys.clear()
    assert not isinstance(keys.unwrap_many([request])[0], RowRejectedError)
    now[0] = 3601.0
    assert isinstance(keys.unwrap_many([request])[0], RowRejectedError)


def _run(app: Application) -> Any:
    def run(work: Any, *, write: bool = False) -> Any:
        with app.database.engine.begin() as connection:
            return work(connection)

    return run


def test_a_dry_run_says_what_both_ways_of_wrapping_cost(
    sqlite_database: AppDatabase, dekctl: Dekctl, make_app: Any
) -> None:
    make(make_app, sqlite_database)
    estimate = dekctl.json("wrap", "--dry-run")["estimate"]
    assert (estimate["V2"]["kms_calls"], estimate["V3"]["kms_calls"]) == (ROWS, BRANCHES)
    assert (estimate["version"], estimate["kms_calls"]) == ("V3", BRANCHES)
    said = dekctl("wrap", "--dry-run").expect(0).stdout
    assert "V2" in said
    assert "V3" in said


@pytest.mark.parametrize(
    ("first", "then"),
    [
        (["wrap"], ["rewrap", "--hierarchical"]),
        (["wrap"], ["rewrap", "--same-key"]),
        (["wrap", "--hierarchical"], ["rewrap"]),
        (["wrap", "--hierarchical"], ["rewrap", "--hierarchical", "--to", "TARGET"]),
    ],
    ids=["V2 to V3", "V2 to V2", "V3 to V2", "V3 to another KEK"],
)
def test_the_dry_run_of_a_rewrap_tells_the_calls_that_it_makes(
    sqlite_database: AppDatabase,
    dekctl: Dekctl,
    make_app: Any,
    kms_standin: KmsStandin,
    first: list[str],
    then: list[str],
) -> None:
    dekctl.environ |= kms_standin.environment()
    make_app(
        sqlite_database,
        rows=ROWS,
        rows_per_branch_key=ROWS_PER_KEY,
        env={"provider": "aws", "kek": kms_standin.create_key(), "region": kms_standin.region},
    )
    dekctl.json("schema", "expand")
    dekctl.json(*first)
    target = kms_standin.create_key()
    command = [target if word == "TARGET" else word for word in then]

    estimate = dekctl.json(*command, "--dry-run")["estimate"]
    calls = dekctl.json(*command)["kms_calls"]
    assert estimate["kms_calls"] == sum(calls.values()), calls


def test_the_dry_run_of_a_move_from_another_provider_counts_wrapping_and_the_check(
    sqlite_database: AppDatabase, dekctl: Dekctl, make_app: Any, kms_standin: KmsStandin
) -> None:
    make_app(sqlite_database, rows=ROWS)
    dekctl.json("schema", "expand")
    dekctl.json("wrap")
    dekctl.environ |= kms_standin.environment()
    dekctl.configure(
        f'[env.test]\ndatabase_url = "{sqlite_database.url}"\nprovider = "aws"\n'
        f'kek = "{kms_standin.create_key()}"\nregion = "{kms_standin.region}"\n'
    )
    estimate = dekctl.json("rewrap", "--dry-run")["estimate"]
    assert dekctl.json("rewrap")["kms_calls"] == {"Encrypt": ROWS, "Decrypt": ROWS}
    assert estimate["kms_calls"] == 2 * ROWS


def test_the_dry_run_of_several_tables_adds_up_one_estimate_for_each(
    sqlite_database: AppDatabase, dekctl: Dekctl, make_app: Any
) -> None:
    make_app(sqlite_database, rows=ROWS)
    make_app(sqlite_database, rows=5, name="photos", context_name="photos")
    dekctl.configure(
        '[[table]]\nname = "encrypted_files"\nwrapping = "V3"\n'
        '[[table]]\nname = "photos"\ncontext_name = "photos"\n'
        f'[env.test]\ndatabase_url = "{sqlite_database.url}"\nprovider = "env"\n'
    )
    estimate = dekctl.json("wrap", "--dry-run")["estimate"]
    assert (estimate["version"], estimate["kms_calls"]) == ("mixed", 1 + 5)
    assert (estimate["V2"]["kms_calls"], estimate["V3"]["kms_calls"]) == (ROWS + 5, 2)
    said = dekctl("wrap", "--dry-run").expect(0).stdout
    assert "this run, each table as configured: 6 KMS calls" in said


def test_retire_counts_a_kek_that_only_branch_keys_need(
    sqlite_database: AppDatabase, dekctl: Dekctl, make_app: Any
) -> None:
    app = make(make_app, sqlite_database)
    old = EnvKMS(dekctl.environ)
    dekctl.json("schema", "expand")
    dekctl.json("wrap")
    dekctl.use_env_kek()
    new = EnvKMS(dekctl.environ)
    BranchKeys(new, BranchTable(_run(app), None)).rewrap_all(app.config.context_name)

    assert dekctl.json("retire", new.kek_id, expect=3)["branch_keys"] == BRANCHES
    assert dekctl("retire", old.kek_id).expect(3)
    dekctl.json("rewrap")
    assert dekctl("retire", old.kek_id).expect(0)


def test_branch_keys_of_the_related_key_of_another_region_are_moved_with_it(
    sqlite_database: AppDatabase, dekctl: Dekctl, make_app: Any, kms_standin: KmsStandin
) -> None:
    dekctl.environ |= kms_standin.environment()
    related = kms_standin.kms().create_key(MultiRegion=True)["KeyMetadata"]["Arn"]
    app = make(make_app, sqlite_database, provider="aws", kek=related, region=kms_standin.region)
    dekctl.json("schema", "expand")
    dekctl.json("wrap")
    elsewhere = related.replace(kms_standin.region, "eu-west-1")
    for table in ("encrypted_files", "dekctl_branch_keys"):
        app.database.sql(f"UPDATE {table} SET kek_id = :kek", kek=elsewhere)
    target = kms_standin.create_key()
    assert dekctl.json("rewrap", "--from", related, "--to", target)["changed"] == ROWS
    assert {row["kek_id"] for row in branches(app)} == keks(app) == {target}
