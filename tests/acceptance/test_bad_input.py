"""Bad input gets a clear error with the next command in it, and loses nothing."""

from __future__ import annotations

import json
import socket
from pathlib import Path
from typing import Any

import pytest

from dekctl.config import TableConfig
from dekctl.kms import EnvKMS
from dekctl.reader import RowKeys
from support.app import AppDatabase, Application
from support.cli import Dekctl, Result

ALL_STAGES = ("legacy", "expanded", "wrapped", "scrubbed", "contracted")


def to_stage(dekctl: Dekctl, stage: str) -> None:
    """Bring the table there from the legacy schema."""
    steps = (["schema", "expand"], ["migrate"], ["scrub", "--yes"], ["schema", "contract", "--yes"])
    for step in steps[: ALL_STAGES.index(stage)]:
        dekctl(*step).expect(0)


def assert_says(result: Result, *words: str) -> None:
    """The error names what is wrong, and a hint follows."""
    lines = result.stderr.splitlines()
    assert result.stdout == ""
    assert any(line.startswith("error: ") for line in lines), result.stderr
    assert any(line.startswith("hint: ") for line in lines), result.stderr
    assert "Traceback" not in result.stderr
    for word in words:
        assert word in result.stderr, f"{word!r} is not in: {result.stderr}"


def refused(dekctl: Dekctl, app: Application, *command: str, exit_code: int) -> Result:
    """Run a command that must be refused without a trace in the table."""
    before = app.rows(), dekctl.json("schema", "current")
    result = dekctl(*command).expect(exit_code)
    assert (app.rows(), dekctl.json("schema", "current")) == before
    return result


# -- configuration: exit 2 -----------------------------------------------------------------------


def test_without_a_configuration_the_error_says_how_to_name_one(dekctl: Dekctl) -> None:
    assert_says(dekctl("status").expect(2), "dekctl.toml does not exist", "--config")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[tabel]\n[env.x]\n", ("'tabel'", "did you mean 'table'?")),
        ('[table]\nnmae = "x"\n[env.x]\n', ("'nmae'", "did you mean 'name'?")),
        ('[env.x]\ndatabase_ulr = "x"\n', ("'database_ulr'", "did you mean 'database_url'?")),
        ("[env.x]\nqqqq = 1\n", ("'qqqq'", "known keys are")),
        (
            '[table]\nplaintext_encoding = "base46"\n[env.x]\n',
            ("did you mean 'base64'?", "raw, base64"),
        ),
        ('[env.x]\nprovider = "azure"\n', ("'azure'", "aws, env, memory")),
        ("[table\n", ("not valid TOML",)),
        ("", ("no [env.NAME]",)),
        ("[env.a]\n[env.b]\n", ("no environment is chosen", "--env a")),
        ('[env.x]\ndatabase_url = "env:NOWHERE"\n', ("NOWHERE", "not set")),
        ("[env.x]\n", ("no database_url",)),
        ('[env.x]\ndatabase_url = "not a url"\n', ("not an SQLAlchemy URL",)),
        ('[env.x]\ndatabase_url = "oracle://db"\n', ("'oracle'", "postgresql+psycopg://")),
        ("[table]\nprimary_key = []\n[env.x]\n", ("primary_key", 'primary_key = ["id"]')),
        ('[table]\nkek_column = "id"\n[env.x]\n', ("'id' twice",)),
    ],
)
def test_a_wrong_configuration_is_named(dekctl: Dekctl, text: str, words: tuple[str, ...]) -> None:
    dekctl.configure(text)
    assert_says(dekctl("status").expect(2), *words)


def test_an_unknown_environment_is_named_with_the_nearest(dekctl: Dekctl) -> None:
    dekctl.configure("[env.staging]\n[env.production]\n")
    assert_says(dekctl("--env", "stagin", "status").expect(2), "did you mean 'staging'?")


def test_a_password_in_the_database_url_is_never_shown(dekctl: Dekctl) -> None:
    port = unused_port()
    dekctl.configure(
        f'[env.x]\ndatabase_url = "postgresql+psycopg://app:s3cretword@127.0.0.1:{port}/db"\n'
        'provider = "env"\n'
    )
    for command in (["status"], ["doctor"], ["--debug", "wrap"]):
        result = dekctl(*command).expect(6)
        assert "s3cretword" not in result.stdout + result.stderr


@pytest.mark.parametrize("arguments", [["wrapp"], ["wrap", "--batch-size", "0"], ["wrap", "--qq"]])
def test_a_wrong_command_line_ends_with_2(dekctl: Dekctl, arguments: list[str]) -> None:
    dekctl.configure("[env.x]\n")
    assert_says(dekctl(*arguments).expect(2))


# -- Terraform outputs: exit 2 -------------------------------------------------------------------


def outputs(**changes: Any) -> dict[str, Any]:
    """The Terraform output of the contract."""
    arn = "arn:aws:kms:us-east-1:111122223333:key/1"
    roles = ("app", "wrapper", "rewrapper", "verifier", "auditor", "key_admin")
    value = {
        "schema_version": 1,
        "region": "us-east-1",
        "account_id": "111122223333",
        "kek": {
            "arn": arn,
            "alias": "alias/app-dek",
            "generations": {"2026a": {"arn": arn, "state": "active"}},
        },
        "roles": {role: f"arn:aws:iam::111122223333:role/{role}" for role in roles},
        "context_name": "encrypted_files",
        "audit": {"trail_arn": None, "bucket": None, "log_group": None},
    }
    return {**value, **changes}


@pytest.mark.parametrize(
    ("document", "words"),
    [
        (None, ("cannot read the Terraform outputs", "terraform output -json")),
        ("not json", ("not JSON",)),
        ({}, ("no Terraform output named dekctl", "terraform apply && terraform output")),
        ({"dekctl": {"value": outputs(schema_version=2)}}, ("schema_version 2",)),
        ({"dekctl": {"value": outputs(roles={})}}, ("'app'", "terraform apply")),
        ({"dekctl": {"value": outputs(kek={"arn": "a", "alias": "b"})}}, ("'generations'",)),
        ({"dekctl": {"value": outputs(context_name="other")}}, ("'other'", "context_name")),
    ],
)
def test_missing_or_wrong_terraform_outputs_are_named(
    dekctl: Dekctl, sqlite_database: AppDatabase, document: Any, words: tuple[str, ...]
) -> None:
    Application(sqlite_database).create(3)
    dekctl.configure(
        f'[env.x]\ndatabase_url = "{sqlite_database.url}"\nterraform_outputs = "outputs.json"\n'
    )
    if document is not None:
        text = document if isinstance(document, str) else json.dumps(document)
        (dekctl.folder / "outputs.json").write_text(text)
    assert_says(dekctl("migrate").expect(2), *words)
    assert_says(dekctl("status").expect(2), *words)


def test_a_table_that_the_roles_may_not_use_is_named_before_any_row(
    dekctl: Dekctl, sqlite_database: AppDatabase
) -> None:
    Application(sqlite_database).create(3)
    Application(sqlite_database, TableConfig(name="photos", context_name="photos")).create(3)
    document = {"dekctl": {"value": outputs(context_names=["encrypted_files"])}}
    (dekctl.folder / "outputs.json").write_text(json.dumps(document))
    dekctl.configure(
        '[[table]]\n[[table]]\nname = "photos"\ncontext_name = "photos"\n'
        f'[env.x]\ndatabase_url = "{sqlite_database.url}"\nterraform_outputs = "outputs.json"\n'
    )
    dekctl("schema", "expand").expect(0)
    assert_says(dekctl("wrap").expect(2), "'photos'", "further_context_names", "terraform apply")


def test_a_missing_terraform_root_is_named(dekctl: Dekctl, sqlite_database: AppDatabase) -> None:
    Application(sqlite_database).create(1)
    dekctl.configure(f'[env.x]\ndatabase_url = "{sqlite_database.url}"\nterraform = "nowhere"\n')
    assert_says(dekctl("migrate").expect(2), "nowhere does not exist")


@pytest.mark.parametrize(
    "env",
    [
        'terraform_outputs = "missing.json"\n',
        'region = "us-east-1"\n',
        'provider = "env"\n',
    ],
    ids=["no outputs", "no kek", "no local kek"],
)
def test_migrate_changes_nothing_before_it_has_read_its_configuration(
    dekctl: Dekctl, sqlite_database: AppDatabase, env: str
) -> None:
    app = Application(sqlite_database).create(2)
    before = app.rows()
    del dekctl.environ["DEKCTL_KEK"]
    dekctl.configure(f'[env.x]\ndatabase_url = "{sqlite_database.url}"\n{env}')
    assert_says(dekctl("migrate").expect(2))
    assert app.rows() == before
    assert sqlite_database.sql("SELECT name FROM sqlite_master WHERE name LIKE 'dekctl%'") == []


def test_an_aws_profile_that_does_not_exist_is_named(
    dekctl: Dekctl, sqlite_database: AppDatabase
) -> None:
    Application(sqlite_database).create(1)
    dekctl.configure(
        f'[env.x]\ndatabase_url = "{sqlite_database.url}"\nkek = "alias/x"\nregion = "us-east-1"\n'
    )
    dekctl("schema", "expand").expect(0)
    dekctl.environ["AWS_PROFILE"] = "no-such-profile"
    for command in (["wrap"], ["retire", "alias/x"], ["doctor"]):
        result = dekctl(*command).expect(2)
        assert "no-such-profile" in result.stdout + result.stderr
        assert "aws configure list-profiles" in result.stdout + result.stderr


# -- the table: exit 2 ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("table", "words"),
    [
        ('primary_key = ["uuid"]', ("no column 'uuid'", "its columns are: id,")),
        ('primary_key = ["size"]', ("not a unique key", "its primary key is: id")),
        ('primary_key = ["id", "size"]', ("not a unique key",)),
        ('name = "encrypted_file"', ("the table encrypted_file does not exist",)),
        ('plaintext_column = "key"', ("neither key nor",)),
    ],
)
def test_a_table_that_is_not_as_configured_is_named(
    app_database: AppDatabase, dekctl: Dekctl, table: str, words: tuple[str, ...]
) -> None:
    app = Application(app_database).create(3)
    before = app.rows()
    dekctl.configure(
        f'[table]\n{table}\n[env.x]\ndatabase_url = "{app_database.url}"\nprovider = "env"\n'
    )
    for command in (["status"], ["migrate"], ["wrap"], ["schema", "expand"]):
        assert_says(dekctl(*command).expect(2), *words)
    assert app.rows() == before


# -- the database: exit 6 ------------------------------------------------------------------------


def unused_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@pytest.mark.parametrize(
    "url",
    [
        "postgresql+psycopg://app:word@127.0.0.1:{port}/app",
        "mysql+pymysql://app:word@127.0.0.1:{port}/app",
        "sqlite:////nowhere/at/all/app.db",
    ],
)
def test_an_unreachable_database_ends_with_6(dekctl: Dekctl, url: str) -> None:
    dekctl.configure(
        f'[env.x]\ndatabase_url = "{url.format(port=unused_port())}"\nprovider = "env"\n'
    )
    for command in (["status"], ["wrap"], ["schema", "expand"]):
        assert_says(dekctl(*command).expect(6), "the database")


def test_a_mistyped_sqlite_path_makes_no_empty_database(dekctl: Dekctl, tmp_path: Path) -> None:
    dekctl.configure(f'[env.x]\ndatabase_url = "sqlite:///{tmp_path}/ap.db"\nprovider = "env"\n')
    dekctl("status").expect(6)
    assert not (tmp_path / "ap.db").exists()


# -- the order of things: exit 3 -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("stage", "command", "words"),
    [
        ("legacy", ["wrap"], ("stage legacy", "dekctl migrate")),
        ("legacy", ["verify"], ("stage legacy", "dekctl migrate")),
        ("legacy", ["scrub", "--yes"], ("stage legacy", "dekctl migrate")),
        ("legacy", ["rewrap"], ("stage legacy", "dekctl migrate")),
        ("legacy", ["schema", "contract", "--yes"], ("legacy", "dekctl migrate")),
        ("wrapped", ["schema", "contract", "--yes"], ("still have a plaintext", "dekctl scrub")),
        ("scrubbed", ["schema", "rollback", "--yes"], ("only a wrapped key", "dekctl restore")),
        ("contracted", ["restore", "--yes"], ("stage contracted", "dekctl schema rollback")),
    ],
)
def test_a_step_out_of_order_is_refused_and_changes_nothing(
    sqlite_database: AppDatabase,
    dekctl: Dekctl,
    make_app: Any,
    stage: str,
    command: list[str],
    words: tuple[str, ...],
) -> None:
    app = make_app(sqlite_database, rows=5)
    to_stage(dekctl, stage)
    assert_says(refused(dekctl, app, *command, exit_code=3), *words)


@pytest.mark.parametrize(
    ("stage", "command"),
    [
        ("legacy", ["restore"]),
        ("legacy", ["rollback"]),
        ("legacy", ["schema", "rollback"]),
        ("contracted", ["wrap"]),
        ("contracted", ["scrub"]),
        ("contracted", ["migrate"]),
        ("contracted", ["schema", "expand"]),
    ],
)
def test_where_nothing_is_left_to_do_nobody_is_asked_and_nothing_is_wrong(
    sqlite_database: AppDatabase, dekctl: Dekctl, make_app: Any, stage: str, command: list[str]
) -> None:
    app = make_app(sqlite_database, rows=2)
    to_stage(dekctl, stage)
    before = app.rows()
    done = dekctl(*command).expect(0)  # without --yes and without a terminal
    said = done.stdout + done.stderr
    assert "nothing to do" in said or "back at the legacy schema" in said
    assert app.rows() == before


def test_scrub_contract_and_rollback_are_refused_on_every_database(
    app_database: AppDatabase, dekctl: Dekctl, make_app: Any
) -> None:
    app = make_app(app_database, rows=5)
    dekctl("schema", "expand").expect(0)
    assert_says(refused(dekctl, app, "scrub", "--yes", exit_code=3), "no wrapped key yet")
    dekctl("wrap").expect(0)
    late = app.add(1)
    assert_says(refused(dekctl, app, "scrub", "--yes", exit_code=3), "no wrapped key yet")
    dekctl("wrap").expect(0)
    assert_says(refused(dekctl, app, "schema", "contract", "--yes", exit_code=3), "plaintext")
    dekctl("scrub", "--yes").expect(0)
    assert_says(refused(dekctl, app, "schema", "rollback", "--yes", exit_code=3), "restore")
    assert late[0] in app.rows()


@pytest.mark.parametrize(
    ("stage", "command"),
    [
        ("wrapped", ["scrub"]),
        ("scrubbed", ["schema", "contract"]),
        ("wrapped", ["schema", "rollback"]),
        ("scrubbed", ["restore"]),
        ("contracted", ["rollback"]),
    ],
)
def test_what_destroys_is_not_done_without_a_yes(
    sqlite_database: AppDatabase, dekctl: Dekctl, make_app: Any, stage: str, command: list[str]
) -> None:
    app = make_app(sqlite_database, rows=3)
    to_stage(dekctl, stage)
    assert_says(refused(dekctl, app, *command, exit_code=3), "not confirmed", "--yes")


@pytest.mark.parametrize(
    ("stage", "command"),
    [
        ("legacy", ["scrub"]),
        ("expanded", ["scrub"]),
        ("contracted", ["restore"]),
        ("wrapped", ["schema", "contract"]),
        ("scrubbed", ["schema", "rollback"]),
    ],
)
def test_guards_come_before_the_question(
    sqlite_database: AppDatabase, dekctl: Dekctl, make_app: Any, stage: str, command: list[str]
) -> None:
    app = make_app(sqlite_database, rows=3)
    to_stage(dekctl, stage)
    result = refused(dekctl, app, *command, exit_code=3)
    assert "not confirmed" not in result.stderr


def test_keys_of_the_memory_provider_are_not_scrubbed(
    sqlite_database: AppDatabase, dekctl: Dekctl, make_app: Any
) -> None:
    app = make_app(sqlite_database, rows=3, env={"provider": "memory"})
    dekctl("migrate").expect(0)
    assert_says(refused(dekctl, app, "scrub", "--yes", exit_code=3), "memory provider")


# -- rows: exit 4 --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("encoding", "stored", "words"),
    [
        ("raw", b"fifteen bytes!!", ("15 bytes long", "16, 24, 32")),
        ("raw", b"", ("0 bytes long",)),
        ("base64", "this is not base64", ("not base64", "plaintext_encoding")),
        ("base64", b"c2hvcnQ=", ("5 bytes long",)),
        ("hex", "zz" * 16, ("not hex",)),
        ("hex", b"abc", ("not hex",)),
    ],
)
def test_a_row_with_an_impossible_key_is_set_aside_and_the_others_are_wrapped(
    app_database: AppDatabase,
    dekctl: Dekctl,
    make_app: Any,
    encoding: str,
    stored: bytes | str,
    words: tuple[str, ...],
) -> None:
    storage = "text" if isinstance(stored, str) else "binary"
    app = make_app(app_database, plaintext_encoding=encoding, storage=storage)
    dek = b"0123456789abcdef"
    good = [app.add_dek(dek), app.add_dek(dek)]
    bad = app.add_dek(b"", stored)
    before = app.rows()[bad]

    result = dekctl.json("migrate", expect=4)

    assert (result["changed"], result["quarantined"]) == (2, 1)
    rows = app.rows()
    assert all(rows[pk]["wrapped_key"] is not None for pk in good)
    assert {k: v for k, v in rows[bad].items() if k in before} == before
    status = dekctl.json("status")
    assert status["quarantined"] == 1
    assert all(word in status["quarantine"][0]["reason"] for word in words)
    # Set aside is not forgotten: the next run says so again, and scrub leaves the row alone.
    assert dekctl.json("wrap", expect=4)["quarantined"] == 1
    assert dekctl.json("scrub", "--yes", expect=4)["quarantined"] == 1
    assert app.rows()[bad][app.config.plaintext_column] == before[app.config.plaintext_column]
    dekctl("schema", "contract", "--yes").expect(3)


def test_a_corrected_row_leaves_quarantine(
    sqlite_database: AppDatabase, dekctl: Dekctl, make_app: Any
) -> None:
    app = make_app(sqlite_database, rows=2)
    bad = app.add_dek(b"", b"short")
    dekctl("migrate").expect(4)
    app.deks[bad] = b"0123456789abcdef"
    app.set(bad, plaintext=app.deks[bad])
    assert dekctl.json("wrap", "--retry-quarantined")["changed"] == 1
    assert dekctl.json("status")["quarantined"] == 0
    assert app.counts()["both"] == 3


def test_exchanged_wrapped_keys_make_verify_end_with_4(
    app_database: AppDatabase, dekctl: Dekctl, make_app: Any
) -> None:
    app = make_app(app_database, rows=10)
    for command in (["migrate"], ["scrub", "--yes"]):
        dekctl(*command).expect(0)
    rows = app.rows()
    app.set((3,), wrapped=rows[(7,)]["wrapped_key"])
    app.set((7,), wrapped=rows[(3,)]["wrapped_key"])

    result = dekctl.json("verify", expect=4)

    assert (result["verified"], result["failed"]) == (8, 2)
    assert {row["pk"] for row in result["set_aside"]} == {"3", "7"}
    # Put right again, they leave quarantine with the next verify.
    app.set((3,), wrapped=rows[(3,)]["wrapped_key"])
    app.set((7,), wrapped=rows[(7,)]["wrapped_key"])
    assert dekctl.json("verify")["verified"] == 10
    assert dekctl.json("status")["quarantined"] == 0


def test_a_plaintext_that_no_longer_fits_is_not_scrubbed(
    app_database: AppDatabase, dekctl: Dekctl, make_app: Any
) -> None:
    app = make_app(app_database, rows=4)
    dekctl("migrate").expect(0)
    other = bytes(range(32))
    app.set((2,), plaintext=other)
    assert dekctl.json("scrub", "--yes", expect=4)["quarantined"] == 1
    assert app.rows()[(2,)]["encryption_key"] == other
    assert app.counts()["wrapped_only"] == 3


# -- the local KEK: exit 2 and 5 -----------------------------------------------------------------


@pytest.mark.parametrize("kek", [None, "", "short", "!" * 44])
def test_a_missing_or_wrong_local_kek_is_named_and_not_shown(
    sqlite_database: AppDatabase, dekctl: Dekctl, make_app: Any, kek: str | None
) -> None:
    app = make_app(sqlite_database, rows=2)
    dekctl("schema", "expand").expect(0)
    del dekctl.environ["DEKCTL_KEK"]
    if kek is not None:
        dekctl.environ["DEKCTL_KEK"] = kek
    result = dekctl("wrap").expect(2)
    assert_says(result, "DEKCTL_KEK", "openssl rand -base64 32")
    assert not kek or kek not in result.stderr
    assert app.counts()["plaintext_only"] == 2


def test_rows_of_a_local_kek_that_is_not_at_hand_stop_the_command(
    sqlite_database: AppDatabase, dekctl: Dekctl, make_app: Any
) -> None:
    app = make_app(sqlite_database, rows=2)
    dekctl("migrate").expect(0)
    dekctl.use_env_kek()
    del dekctl.environ["DEKCTL_OLD_KEKS"]
    result = refused(dekctl, app, "scrub", "--yes", exit_code=5)
    assert_says(result, "is not available", "DEKCTL_OLD_KEKS")
    dekctl("verify").expect(5)


def test_a_key_that_the_text_column_cannot_hold_is_set_aside_by_restore(
    app_database: AppDatabase, dekctl: Dekctl, make_app: Any
) -> None:
    """Raw keys in a text column are text; the application may have issued others since."""
    app = make_app(app_database, storage="text")
    pks = [app.add_dek(b"0123456789abcdef"), app.add_dek(b"fedcba9876543210")]
    dekctl("migrate").expect(0)
    dekctl("scrub", "--yes").expect(0)
    row = app.rows()[pks[0]]
    app.deks[pks[0]] = RowKeys(EnvKMS(dekctl.environ), plaintext="read").issue(row, replace=True)
    app.set(pks[0], wrapped=row["wrapped_key"], kek=row["kek_id"], version="V2")

    result = dekctl.json("restore", "--yes", expect=4)

    assert (result["changed"], result["quarantined"]) == (1, 1)
    assert "text" in result["set_aside"][0]["reason"]
    assert dekctl.json("verify")["verified"] == 2


def test_a_number_in_sqlites_key_column_is_set_aside(
    sqlite_database: AppDatabase, dekctl: Dekctl, make_app: Any
) -> None:
    make_app(sqlite_database, rows=2)
    sqlite_database.sql("UPDATE encrypted_files SET encryption_key = 12345 WHERE id = 1")
    assert dekctl.json("migrate", expect=4)["quarantined"] == 1
    wrapped = "SELECT id FROM encrypted_files WHERE wrapped_key IS NOT NULL"
    assert sqlite_database.sql(wrapped) == [(2,)]
    dekctl("scrub", "--yes").expect(4)
    assert sqlite_database.sql("SELECT encryption_key FROM encrypted_files WHERE id = 1") == [
        (12345,)
    ]
