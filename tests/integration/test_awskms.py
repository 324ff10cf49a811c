"""AWS KMS as the provider: against the strict stand-in, and the same story on moto."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from typing import Any

import boto3
import pytest

from dekctl.errors import KMSError, KMSRefusedError, RowRejectedError
from dekctl.kms import AWSKMS, get_kms_provider, set_kms_provider
from dekctl.kms.context import row_context
from dekctl.kms.interface import UnwrapRequest
from dekctl.lifecycle.probe import PROBE_PRIMARY_KEY
from sandbox.moto import MotoServer
from support.app import AppDatabase, Application
from support.cli import Dekctl
from support.kms_standin import Grant, KmsStandin

CONTEXT = {"dekctl:table": "files", "dekctl:pk": "7"}
OTHER = {"dekctl:table": "files", "dekctl:pk": "8"}
DEK = bytes(range(32))


@pytest.fixture
def kek(kms_standin: KmsStandin) -> str:
    """ARN of a new key."""
    return kms_standin.create_key()


@pytest.fixture
def provider(environ: dict[str, str], kek: str) -> Iterator[AWSKMS]:
    made = AWSKMS(kek)
    yield made
    made.close()


def make_alias(standin: KmsStandin, target: str) -> str:
    name = "alias/" + target.rpartition("/")[2][:8]
    standin.kms().create_alias(AliasName=name, TargetKeyId=target)
    return name


# -- the library ---------------------------------------------------------------------------------


def test_what_is_wrapped_opens_with_its_context_only(provider: AWSKMS) -> None:
    wrapped = provider.wrap(DEK, CONTEXT)
    assert provider.unwrap(wrapped, CONTEXT) == DEK
    assert provider.unwrap(memoryview(wrapped), CONTEXT) == DEK
    assert provider.unwrap(provider.wrap(bytearray(DEK), CONTEXT), CONTEXT) == DEK
    for context in (OTHER, None, {}):
        with pytest.raises(RowRejectedError) as caught:
            provider.unwrap(wrapped, context)
        assert caught.value.code == "InvalidCiphertextException"


def test_the_seeds_form_has_no_context(provider: AWSKMS) -> None:
    assert provider.unwrap(provider.wrap(DEK)) == DEK


def test_an_alias_wraps_and_the_arn_is_kept(
    kms_standin: KmsStandin, environ: dict[str, str], kek: str
) -> None:
    provider = AWSKMS(make_alias(kms_standin, kek))
    assert provider.kek_id == kek
    provider.close()


@pytest.mark.parametrize("size", [0, 4097])
def test_a_key_that_kms_cannot_take_is_rejected_alone(provider: AWSKMS, size: int) -> None:
    with pytest.raises(RowRejectedError, match=f"{size} bytes"):
        provider.wrap(bytes(size))
    assert len(provider.unwrap(provider.wrap(bytes(4096)))) == 4096


def test_damaged_blobs_are_the_rows_fault(provider: AWSKMS) -> None:
    wrapped = bytearray(provider.wrap(DEK, CONTEXT))
    wrapped[-1] ^= 1
    answers = provider.unwrap_many(
        [
            UnwrapRequest(blob, provider.key_id, CONTEXT)
            for blob in (bytes(wrapped), b"x", b"y" * 99)
        ]
    )
    assert all(isinstance(answer, RowRejectedError) for answer in answers)


def test_an_unknown_or_disabled_kek_stops_everything(
    kms_standin: KmsStandin, provider: AWSKMS, kek: str, environ: dict[str, str]
) -> None:
    gone = AWSKMS(kek[:-12] + "000000000000")
    with pytest.raises(KMSRefusedError) as caught:
        gone.wrap(DEK)
    assert caught.value.code == "NotFoundException"
    gone.close()
    wrapped = provider.wrap(DEK)
    kms_standin.kms().disable_key(KeyId=kek)
    with pytest.raises(KMSRefusedError) as caught:
        provider.unwrap(wrapped)
    assert caught.value.code == "DisabledException"
    assert "dekctl doctor" in (caught.value.hint or "")


def test_aws_registers_itself_by_name(
    environ: dict[str, str], kek: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DEKCTL_KMS_KEY_ID", kek)
    provider = set_kms_provider("aws")
    assert get_kms_provider() is provider
    assert provider.unwrap(provider.wrap(DEK)) == DEK
    provider.close()
    set_kms_provider("memory")


def test_no_credential_and_no_key_shows_in_a_repr(
    provider: AWSKMS, kms_standin: KmsStandin
) -> None:
    opened, wrapped = provider.generate(32, CONTEXT)
    shown = repr([provider, opened, wrapped, vars(provider)])
    assert opened.plaintext.hex() not in shown
    assert repr(opened.plaintext)[2:20] not in shown
    assert kms_standin.admin.secret_key not in shown


# -- rows of the seed's script -------------------------------------------------------------------


@pytest.fixture
def app(
    sqlite_database: AppDatabase,
    dekctl: Dekctl,
    make_app: Any,
    kms_standin: KmsStandin,
    environ: dict[str, str],
) -> Application:
    dekctl.environ.update(environ)
    made: Application = make_app(sqlite_database, rows=6, env={"provider": "aws", "kek": "unset"})
    return made


def use_kek(dekctl: Dekctl, kek: str) -> None:
    text = (dekctl.folder / "dekctl.toml").read_text()
    lines = [f'kek = "{kek}"' if line.startswith("kek =") else line for line in text.splitlines()]
    dekctl.configure("\n".join(lines))


def write_v1(app: Application, standin: KmsStandin, kek: str, named: dict[int, str | None]) -> None:
    for number, name in named.items():
        blob = standin.kms().encrypt(KeyId=kek, Plaintext=app.deks[(number,)])["CiphertextBlob"]
        app.set((number,), wrapped=blob, version="V1", kek=name)


def test_v1_rows_with_an_alias_a_key_id_an_arn_or_nothing_open_and_are_rewrapped_to_the_arn(
    app: Application, dekctl: Dekctl, kms_standin: KmsStandin, kek: str
) -> None:
    alias = make_alias(kms_standin, kek)
    alias_arn = kek.partition(":key/")[0] + ":" + alias
    use_kek(dekctl, alias)
    dekctl("schema", "expand").expect(0)
    names = {1: alias, 2: kek.rpartition("/")[2], 3: kek, 4: None, 5: alias_arn}
    write_v1(app, kms_standin, kek, names)

    dekctl("migrate").expect(0)
    app.assert_files_open(AWSKMS(alias))
    assert app.rows()[(6,)]["kek_id"] == kek, "the ARN that KMS returned, never an alias"
    assert dekctl.json("rewrap")["changed"] == 5
    assert {(r["kek_id"], r["wrapped_key_version"]) for r in app.rows().values()} == {(kek, "V2")}
    assert dekctl.json("verify")["verified"] == 6
    app.assert_files_open(AWSKMS(alias))


def test_v1_rows_under_an_alias_that_has_moved_open_with_the_generations_terraform_knows(
    app: Application, dekctl: Dekctl, kms_standin: KmsStandin, kek: str
) -> None:
    alias = make_alias(kms_standin, kek)
    use_kek(dekctl, alias)
    dekctl("schema", "expand").expect(0)
    write_v1(app, kms_standin, kek, dict.fromkeys(range(1, 7), alias))
    new = kms_standin.create_key()
    kms_standin.kms().update_alias(AliasName=alias, TargetKeyId=new)

    # Without the outputs the old key is not known: every row fails, none is lost.
    assert dekctl.json("verify", expect=4)["failed"] == 6
    write_outputs(dekctl, app, kms_standin, alias, {"a": kek, "b": new})
    assert dekctl.json("--no-assume-role", "verify")["verified"] == 6
    assert dekctl.json("--no-assume-role", "rewrap")["changed"] == 6
    assert {r["kek_id"] for r in app.rows().values()} == {new}


def write_outputs(
    dekctl: Dekctl, app: Application, standin: KmsStandin, alias: str, keks: dict[str, str]
) -> None:
    """Configure by Terraform's outputs; the last KEK is the active one."""
    names = ("app", "wrapper", "rewrapper", "verifier", "auditor", "key_admin")
    active = list(keks)[-1]
    value = {
        "schema_version": 1,
        "region": standin.region,
        "account_id": standin.account,
        "kek": {
            "arn": keks[active],
            "alias": alias,
            "generations": {
                name: {"arn": arn, "state": "active" if name == active else "retired"}
                for name, arn in keks.items()
            },
        },
        "roles": {name: f"arn:aws:iam::{standin.account}:role/{name}" for name in names},
        "context_name": "encrypted_files",
        "audit": {"trail_arn": None, "bucket": None, "log_group": None},
    }
    (dekctl.folder / "outputs.json").write_text(json.dumps({"dekctl": {"value": value}}))
    dekctl.configure(
        f'[env.test]\ndatabase_url = "{app.database.url}"\nterraform_outputs = "outputs.json"\n'
    )


# -- the whole story, and what stops it ----------------------------------------------------------


def test_each_command_acts_as_the_role_made_for_it(
    app: Application, dekctl: Dekctl, kms_standin: KmsStandin, kek: str
) -> None:
    context = {"dekctl:table": "encrypted_files"}
    grants = {
        "wrapper": ("kms:Encrypt",),
        "verifier": ("kms:Decrypt",),
        "rewrapper": ("kms:ReEncryptFrom", "kms:ReEncryptTo"),
        "auditor": (),
        "app": (),
        "key_admin": (),
    }
    for name, actions in grants.items():
        allowed = [Grant(actions, ("*",), context)] if actions else []
        allowed.append(Grant(("kms:DescribeKey",)))
        kms_standin.put_role(name, allowed)
    new = kms_standin.create_key()
    write_outputs(dekctl, app, kms_standin, "alias/x", {"a": kek})
    dekctl("migrate").expect(0)
    dekctl("scrub", "--yes").expect(0)
    dekctl("schema", "contract", "--yes").expect(0)
    write_outputs(dekctl, app, kms_standin, "alias/x", {"a": kek, "b": new})
    assert dekctl.json("rewrap")["kms_calls"]["ReEncrypt"] == 6
    assert dekctl.json("verify")["kms_calls"] == {"Decrypt": 6}
    [census] = dekctl.json("status")["keks"]
    assert (census["kek_id"], census["generation"]) == (new, "b")
    used = {(call["principal"], call["api"]) for call in kms_standin.journal()}
    used = {(who, api) for who, api in used if api in {"Encrypt", "Decrypt", "ReEncrypt"}}
    assert used == {("wrapper", "Encrypt"), ("verifier", "Decrypt"), ("rewrapper", "ReEncrypt")}
    set_context = {str(c["context"]) for c in kms_standin.journal() if c["api"] == "Encrypt"}
    set_context.remove(str(row_context("encrypted_files", (PROBE_PRIMARY_KEY,))))
    assert len(set_context) == 6, "every row has a context of its own"


@pytest.mark.parametrize("fault", ["unknown", "disabled", "pending deletion", "denied", "nobody"])
def test_a_kek_that_cannot_be_used_ends_with_5_and_changes_nothing(
    app: Application, dekctl: Dekctl, kms_standin: KmsStandin, kek: str, fault: str
) -> None:
    use_kek(dekctl, kek)
    dekctl("schema", "expand").expect(0)
    before = app.rows()
    words = {
        "unknown": "NotFoundException",
        "disabled": "DisabledException",
        "pending deletion": "KMSInvalidStateException",
        "denied": "AccessDeniedException",
        "nobody": "no AWS credentials",
    }
    match fault:
        case "unknown":
            use_kek(dekctl, "alias/nowhere")
        case "disabled":
            kms_standin.kms().disable_key(KeyId=kek)
        case "pending deletion":
            kms_standin.kms().schedule_key_deletion(KeyId=kek, PendingWindowInDays=7)
        case "denied":
            user = kms_standin.put_user("nobody", [])
            dekctl.environ.update(kms_standin.environment(user))
        case _:
            for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
                del dekctl.environ[name]
            dekctl.environ["AWS_SHARED_CREDENTIALS_FILE"] = "/nowhere"
            dekctl.environ["AWS_CONFIG_FILE"] = "/nowhere"
    result = dekctl("wrap").expect(5)
    assert words[fault].lower() in result.stderr.lower(), result.stderr
    assert "hint: " in result.stderr
    assert app.rows() == before
    if fault != "denied":  # each of doctor's questions would wait for IAM to spread, too
        assert dekctl.json("doctor", expect=5)["ok"] is False


def test_an_endpoint_that_does_not_answer_ends_with_5(
    app: Application, dekctl: Dekctl, kek: str
) -> None:
    use_kek(dekctl, kek)
    dekctl("schema", "expand").expect(0)
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))  # bound and not listening: every connection is refused
        dekctl.environ["AWS_ENDPOINT_URL"] = f"http://127.0.0.1:{unused.getsockname()[1]}"
        result = dekctl("wrap").expect(5)
    assert "hint: " in result.stderr
    assert app.counts()["plaintext_only"] == 6


def test_a_row_of_an_unknown_kek_is_set_aside_and_the_others_go_on(
    app: Application, dekctl: Dekctl, kms_standin: KmsStandin, kek: str
) -> None:
    use_kek(dekctl, kek)
    dekctl("migrate").expect(0)
    app.set((2,), kek=kek[:-12] + "000000000000")
    app.set((3,), kek=kms_standin.create_key())  # known to KMS, but it did not wrap this row
    result = dekctl.json("verify", expect=4)
    assert (result["verified"], result["failed"]) == (4, 2)
    assert dekctl.json("scrub", "--yes", expect=4)["changed"] == 4
    assert app.counts() == {"plaintext_only": 0, "both": 2, "wrapped_only": 4, "no_key": 0}


def test_doctor_finds_everything_in_order(
    app: Application, dekctl: Dekctl, kms_standin: KmsStandin, kek: str
) -> None:
    use_kek(dekctl, kek)
    value = dekctl.json("doctor")
    assert value["ok"] is True
    assert "role wrapper" in {check["check"] for check in value["checks"]}


# -- moto ----------------------------------------------------------------------------------------


def test_the_story_on_motos_server(
    sqlite_database: AppDatabase, dekctl: Dekctl, make_app: Any, moto_server: MotoServer
) -> None:
    moto_server.reset()
    credentials = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test"}
    dekctl.environ.update(credentials)
    kms = boto3.client(
        "kms",
        region_name="us-east-1",
        endpoint_url=moto_server.endpoint_url,
        aws_access_key_id="test",
        aws_secret_access_key="test",
    )
    try:
        old, new = (kms.create_key()["KeyMetadata"]["Arn"] for _ in range(2))
        kms.create_alias(AliasName="alias/app-dek", TargetKeyId=old)
        app = make_app(
            sqlite_database,
            rows=20,
            env={
                "provider": "aws",
                "kek": "alias/app-dek",
                "region": "us-east-1",
                "endpoint_url": moto_server.endpoint_url,
            },
        )
        for command in (["migrate"], ["scrub", "--yes"], ["schema", "contract", "--yes"]):
            dekctl(*command).expect(0)
        kms.update_alias(AliasName="alias/app-dek", TargetKeyId=new)
        assert dekctl.json("rewrap")["changed"] == 20
        assert dekctl.json("verify")["verified"] == 20
        assert {row["kek_id"] for row in app.rows().values()} == {new}
    finally:
        kms.close()


def test_an_error_of_kms_holds_no_key(provider: AWSKMS, kms_standin: KmsStandin, kek: str) -> None:
    kms_standin.kms().disable_key(KeyId=kek)
    with pytest.raises(KMSError) as caught:
        provider.wrap(DEK, CONTEXT)
    shown = repr(caught.value) + str(caught.value) + repr(vars(caught.value))
    assert DEK.hex() not in shown
    assert "AAECAwQF" not in shown
