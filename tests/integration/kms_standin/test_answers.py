"""The KMS stand-in wraps, unwraps and refuses as KMS does: boto3 against it, over HTTP."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest

from support.kms_standin import Grant, KmsStandin
from support.kms_standin.asking import CONTEXT, DEK, OTHER_CONTEXT, refusal, status_of, wrapped

# Encrypt and Decrypt


def test_a_dek_comes_back_with_its_context(kms: Any, kek: str) -> None:
    answer = kms.encrypt(KeyId=kek, Plaintext=DEK, EncryptionContext=CONTEXT)
    assert answer["KeyId"] == kek
    assert answer["EncryptionAlgorithm"] == "SYMMETRIC_DEFAULT"
    assert "KeyMaterialId" not in answer
    assert len(answer["CiphertextBlob"]) == 184
    opened = kms.decrypt(
        KeyId=kek, CiphertextBlob=answer["CiphertextBlob"], EncryptionContext=CONTEXT
    )
    assert opened["Plaintext"] == DEK
    assert opened["KeyId"] == kek
    assert len(opened["KeyMaterialId"]) == 64


def test_the_same_dek_never_gives_the_same_blob(kms: Any, kek: str) -> None:
    assert wrapped(kms, kek) != wrapped(kms, kek)


@pytest.mark.parametrize(
    "context",
    [{}, OTHER_CONTEXT, {**CONTEXT, "more": "x"}, {"dekctl:table": "encrypted_files"}],
    ids=["none", "another", "more", "less"],
)
def test_another_context_does_not_open_a_blob(kms: Any, kek: str, context: dict[str, str]) -> None:
    blob = wrapped(kms, kek, CONTEXT)
    code = refusal(lambda: kms.decrypt(KeyId=kek, CiphertextBlob=blob, EncryptionContext=context))
    assert code == "InvalidCiphertextException"


def test_contexts_that_look_alike_are_told_apart(kms: Any, kek: str) -> None:
    blob = wrapped(kms, kek, {"a": "b1:c1:d"})
    code = refusal(lambda: kms.decrypt(CiphertextBlob=blob, EncryptionContext={"a": "b", "c": "d"}))
    assert code == "InvalidCiphertextException"


def test_the_order_of_a_context_does_not_matter(kms: Any, kek: str) -> None:
    blob = wrapped(kms, kek, {"a": "1", "b": "ü"})
    assert kms.decrypt(CiphertextBlob=blob, EncryptionContext={"b": "ü", "a": "1"})["Plaintext"]


def test_damage_anywhere_in_a_blob_is_noticed(kms: Any, kek: str) -> None:
    blob = wrapped(kms, kek)
    for position in range(0, len(blob), 7):
        damaged = bytearray(blob)
        damaged[position] ^= 1
        for named in ({}, {"KeyId": kek}):
            code = refusal(lambda: kms.decrypt(CiphertextBlob=bytes(damaged), **named))  # noqa: B023
            assert code == "InvalidCiphertextException", position
    assert refusal(lambda: kms.decrypt(CiphertextBlob=blob[:-1])) == "InvalidCiphertextException"
    assert refusal(lambda: kms.decrypt(CiphertextBlob=b"x")) == "InvalidCiphertextException"


def test_a_plaintext_has_at_most_4096_bytes(kms: Any, kek: str) -> None:
    blob = kms.encrypt(KeyId=kek, Plaintext=bytes(4096))["CiphertextBlob"]
    assert kms.decrypt(CiphertextBlob=blob)["Plaintext"] == bytes(4096)
    code = refusal(lambda: kms.encrypt(KeyId=kek, Plaintext=bytes(4097)))
    assert code == "ValidationException"


def test_a_blob_has_at_most_6144_bytes(kms: Any) -> None:
    assert refusal(lambda: kms.decrypt(CiphertextBlob=bytes(6145))) == "ValidationException"
    assert refusal(lambda: kms.decrypt(CiphertextBlob=bytes(6144))) == "InvalidCiphertextException"


# Names of keys


def test_encrypt_takes_id_arn_alias_and_alias_arn(standin: KmsStandin, kms: Any, kek: str) -> None:
    kms.create_alias(AliasName="alias/names", TargetKeyId=kek)
    alias_arn = f"arn:aws:kms:{standin.region}:{standin.account}:alias/names"
    for name in (kek, kek.rpartition("/")[2], "alias/names", alias_arn):
        assert kms.encrypt(KeyId=name, Plaintext=DEK)["KeyId"] == kek


@pytest.mark.parametrize(
    "name",
    [
        "alias/nobody",
        "00000000-0000-0000-0000-000000000000",
        "arn:aws:kms:us-east-1:111122223333:key/00000000-0000-0000-0000-000000000000",
        "arn:aws:kms:eu-west-1:111122223333:key/00000000-0000-0000-0000-000000000000",
        "arn:aws:kms:us-east-1:999999999999:key/00000000-0000-0000-0000-000000000000",
        "no-key",
    ],
)
def test_a_key_that_is_not_there_is_not_found(kms: Any, name: str) -> None:
    assert refusal(lambda: kms.encrypt(KeyId=name, Plaintext=DEK)) == "NotFoundException"


def test_operations_on_the_key_itself_take_no_alias(kms: Any, kek: str) -> None:
    kms.create_alias(AliasName="alias/no-alias-here", TargetKeyId=kek)
    name = "alias/no-alias-here"
    for operation in (kms.disable_key, kms.get_key_rotation_status, kms.schedule_key_deletion):
        assert refusal(lambda: operation(KeyId=name)) == "NotFoundException"  # noqa: B023


def test_a_malformed_arn_is_refused(kms: Any) -> None:
    code = refusal(lambda: kms.encrypt(KeyId="arn:aws:s3:::bucket", Plaintext=DEK))
    assert code == "InvalidArnException"


def test_another_key_does_not_open_a_blob(standin: KmsStandin, kms: Any, kek: str) -> None:
    blob, other = wrapped(kms, kek), standin.create_key()
    code = refusal(lambda: kms.decrypt(KeyId=other, CiphertextBlob=blob))
    assert code == "IncorrectKeyException"
    code = refusal(
        lambda: kms.re_encrypt(SourceKeyId=other, DestinationKeyId=kek, CiphertextBlob=blob)
    )
    assert code == "IncorrectKeyException"


def test_an_alias_that_has_moved_no_longer_opens_a_blob(
    standin: KmsStandin, kms: Any, kek: str
) -> None:
    kms.create_alias(AliasName="alias/moving", TargetKeyId=kek)
    blob = wrapped(kms, "alias/moving")
    assert kms.decrypt(KeyId="alias/moving", CiphertextBlob=blob)["Plaintext"] == DEK
    kms.update_alias(AliasName="alias/moving", TargetKeyId=standin.create_key())
    code = refusal(lambda: kms.decrypt(KeyId="alias/moving", CiphertextBlob=blob))
    assert code == "IncorrectKeyException"
    assert kms.decrypt(KeyId=kek, CiphertextBlob=blob)["Plaintext"] == DEK


# ReEncrypt


def test_re_encrypt_moves_a_dek_to_another_key_and_context(
    standin: KmsStandin, kms: Any, kek: str
) -> None:
    target = standin.create_key("alias/re-encrypt-target")
    answer = kms.re_encrypt(
        CiphertextBlob=wrapped(kms, kek, CONTEXT),
        SourceKeyId=kek,
        SourceEncryptionContext=CONTEXT,
        DestinationKeyId="alias/re-encrypt-target",
        DestinationEncryptionContext=OTHER_CONTEXT,
    )
    assert (answer["SourceKeyId"], answer["KeyId"]) == (kek, target)
    materials = [
        kms.describe_key(KeyId=arn)["KeyMetadata"]["CurrentKeyMaterialId"] for arn in (kek, target)
    ]
    assert [answer["SourceKeyMaterialId"], answer["DestinationKeyMaterialId"]] == materials
    opened = kms.decrypt(
        KeyId=target, CiphertextBlob=answer["CiphertextBlob"], EncryptionContext=OTHER_CONTEXT
    )
    assert opened["Plaintext"] == DEK


def test_re_encrypt_checks_the_source_context(standin: KmsStandin, kms: Any, kek: str) -> None:
    blob, target = wrapped(kms, kek, CONTEXT), standin.create_key()
    code = refusal(
        lambda: kms.re_encrypt(
            CiphertextBlob=blob,
            SourceKeyId=kek,
            DestinationKeyId=target,
            SourceEncryptionContext=OTHER_CONTEXT,
        )
    )
    assert code == "InvalidCiphertextException"


def test_re_encrypt_needs_a_right_on_either_key(standin: KmsStandin, kms: Any, kek: str) -> None:
    target, blob = standin.create_key(), wrapped(kms, kek)
    for source_action, target_action, expected in (
        ("kms:ReEncryptFrom", "kms:ReEncryptTo", None),
        ("kms:ReEncryptFrom", "kms:ReEncryptFrom", "AccessDeniedException"),
        ("kms:ReEncryptTo", "kms:ReEncryptTo", "AccessDeniedException"),
    ):
        who = standin.put_user(
            "rewrapper", [Grant((source_action,), (kek,)), Grant((target_action,), (target,))]
        )
        arguments = {"CiphertextBlob": blob, "SourceKeyId": kek, "DestinationKeyId": target}
        client: Any = standin.kms(who)
        if expected is None:
            assert client.re_encrypt(**arguments)["KeyId"] == target
        else:
            assert refusal(lambda: client.re_encrypt(**arguments)) == expected  # noqa: B023


# Key states


def uses_of(kms: Any, key: str, other: str, blob: bytes) -> list[Callable[[], object]]:
    other_blob = wrapped(kms, other)
    return [
        lambda: kms.encrypt(KeyId=key, Plaintext=DEK),
        lambda: kms.decrypt(KeyId=key, CiphertextBlob=blob),
        lambda: kms.decrypt(CiphertextBlob=blob),
        lambda: kms.re_encrypt(SourceKeyId=key, DestinationKeyId=other, CiphertextBlob=blob),
        lambda: kms.re_encrypt(SourceKeyId=other, DestinationKeyId=key, CiphertextBlob=other_blob),
        lambda: kms.generate_data_key(KeyId=key, KeySpec="AES_256"),
        lambda: kms.generate_data_key_without_plaintext(KeyId=key, KeySpec="AES_256"),
        lambda: kms.rotate_key_on_demand(KeyId=key),
        lambda: kms.encrypt(KeyId=key, Plaintext=DEK, DryRun=True),
    ]


def test_a_disabled_key_cannot_be_used_until_it_is_enabled(
    standin: KmsStandin, kms: Any, kek: str
) -> None:
    blob, other = wrapped(kms, kek), standin.create_key()
    kms.disable_key(KeyId=kek)
    for use in uses_of(kms, kek, other, blob):
        assert refusal(use) == "DisabledException"
    assert kms.describe_key(KeyId=kek)["KeyMetadata"]["KeyState"] == "Disabled"
    kms.enable_key(KeyId=kek)
    assert kms.decrypt(KeyId=kek, CiphertextBlob=blob)["Plaintext"] == DEK


def test_a_key_that_waits_for_deletion_cannot_be_used(
    standin: KmsStandin, kms: Any, kek: str
) -> None:
    blob, other = wrapped(kms, kek), standin.create_key()
    answer = kms.schedule_key_deletion(KeyId=kek, PendingWindowInDays=7)
    assert (answer["KeyId"], answer["KeyState"]) == (kek, "PendingDeletion")
    assert answer["DeletionDate"].timestamp() == pytest.approx(time.time() + 7 * 86_400, abs=300)
    refused = [
        *uses_of(kms, kek, other, blob),
        lambda: kms.enable_key(KeyId=kek),
        lambda: kms.disable_key(KeyId=kek),
        lambda: kms.schedule_key_deletion(KeyId=kek),
        lambda: kms.create_alias(AliasName="alias/too-late", TargetKeyId=kek),
    ]
    for use in refused:
        assert refusal(use) == "KMSInvalidStateException"
    assert kms.cancel_key_deletion(KeyId=kek)["KeyId"] == kek
    assert kms.describe_key(KeyId=kek)["KeyMetadata"]["KeyState"] == "Disabled"
    assert refusal(lambda: kms.cancel_key_deletion(KeyId=kek)) == "KMSInvalidStateException"


@pytest.mark.parametrize("days", [6, 31])
def test_deletion_waits_7_to_30_days(kms: Any, kek: str, days: int) -> None:
    code = refusal(lambda: kms.schedule_key_deletion(KeyId=kek, PendingWindowInDays=days))
    assert code == "ValidationException"


def test_what_a_destroyed_key_wrapped_is_lost(standin: KmsStandin, kms: Any, kek: str) -> None:
    blob, other = wrapped(kms, kek), standin.create_key()
    standin.destroy_key(kek)
    assert refusal(lambda: kms.describe_key(KeyId=kek)) == "NotFoundException"
    assert refusal(lambda: kms.decrypt(KeyId=kek, CiphertextBlob=blob)) == "NotFoundException"
    assert refusal(lambda: kms.decrypt(CiphertextBlob=blob)) == "AccessDeniedException"
    code = refusal(lambda: kms.decrypt(KeyId=other, CiphertextBlob=blob))
    assert code == "IncorrectKeyException"


# Rotation and data keys


def test_old_blobs_open_after_a_rotation(kms: Any, kek: str) -> None:
    before = kms.decrypt(CiphertextBlob=(old := wrapped(kms, kek)))["KeyMaterialId"]
    assert kms.rotate_key_on_demand(KeyId=kek)["KeyId"] == kek
    opened = kms.decrypt(KeyId=kek, CiphertextBlob=old)
    assert (opened["Plaintext"], opened["KeyMaterialId"]) == (DEK, before)
    after = kms.decrypt(CiphertextBlob=wrapped(kms, kek))["KeyMaterialId"]
    assert after != before
    rotations = kms.list_key_rotations(KeyId=kek, IncludeKeyMaterial="ALL_KEY_MATERIAL")
    assert [each["KeyMaterialId"] for each in rotations["Rotations"]] == [before, after]
    assert [each["KeyMaterialState"] for each in rotations["Rotations"]] == [
        "NON_CURRENT",
        "CURRENT",
    ]
    assert len(kms.list_key_rotations(KeyId=kek)["Rotations"]) == 1
    assert kms.get_key_rotation_status(KeyId=kek)["KeyRotationEnabled"] is False
    # ReEncrypt to the same key moves a blob to the new material.
    moved = kms.re_encrypt(CiphertextBlob=old, SourceKeyId=kek, DestinationKeyId=kek)
    assert (moved["SourceKeyMaterialId"], moved["DestinationKeyMaterialId"]) == (before, after)


def test_a_key_is_rotated_on_demand_25_times_at_most(kms: Any, kek: str) -> None:
    for _ in range(25):
        kms.rotate_key_on_demand(KeyId=kek)
    assert refusal(lambda: kms.rotate_key_on_demand(KeyId=kek)) == "LimitExceededException"


def test_data_keys_come_wrapped(kms: Any, kek: str) -> None:
    answer = kms.generate_data_key(KeyId=kek, KeySpec="AES_256", EncryptionContext=CONTEXT)
    assert len(answer["Plaintext"]) == 32
    assert len(answer["KeyMaterialId"]) == 64
    opened = kms.decrypt(CiphertextBlob=answer["CiphertextBlob"], EncryptionContext=CONTEXT)
    assert opened["Plaintext"] == answer["Plaintext"]
    hidden = kms.generate_data_key_without_plaintext(KeyId=kek, NumberOfBytes=24)
    assert "Plaintext" not in hidden
    assert len(kms.decrypt(CiphertextBlob=hidden["CiphertextBlob"])["Plaintext"]) == 24
    for size in ({}, {"KeySpec": "AES_128", "NumberOfBytes": 16}, {"NumberOfBytes": 1025}):
        assert refusal(lambda: kms.generate_data_key(KeyId=kek, **size)) == "ValidationException"  # noqa: B023
    assert len(kms.generate_random(NumberOfBytes=16)["Plaintext"]) == 16


# Dry runs


def test_a_dry_run_succeeds_by_raising(standin: KmsStandin, kms: Any, kek: str) -> None:
    blob = wrapped(kms, kek, CONTEXT)
    calls: list[Callable[[], object]] = [
        lambda: kms.encrypt(KeyId=kek, Plaintext=DEK, DryRun=True),
        lambda: kms.decrypt(CiphertextBlob=blob, EncryptionContext=CONTEXT, DryRun=True),
        lambda: kms.generate_data_key(KeyId=kek, KeySpec="AES_256", DryRun=True),
        lambda: kms.re_encrypt(
            CiphertextBlob=blob,
            SourceKeyId=kek,
            DestinationKeyId=kek,
            SourceEncryptionContext=CONTEXT,
            DryRun=True,
        ),
        lambda: kms.decrypt(KeyId=kek, DryRun=True, DryRunModifiers=["IGNORE_CIPHERTEXT"]),
    ]
    for call in calls:
        assert refusal(call) == "DryRunOperationException"
        assert status_of(call) == 412


def test_a_dry_run_checks_everything_first(standin: KmsStandin, kms: Any, kek: str) -> None:
    blob = wrapped(kms, kek, CONTEXT)
    code = refusal(lambda: kms.decrypt(KeyId=kek, CiphertextBlob=blob, DryRun=True))
    assert code == "InvalidCiphertextException"
    code = refusal(lambda: kms.decrypt(KeyId="alias/nobody", CiphertextBlob=blob, DryRun=True))
    assert code == "NotFoundException"
    nobody = standin.kms(standin.put_user("no-rights", []))
    code = refusal(lambda: nobody.encrypt(KeyId=kek, Plaintext=DEK, DryRun=True))
    assert code == "AccessDeniedException"


# Aliases and lists


def test_aliases_are_made_moved_listed_and_deleted(standin: KmsStandin, kms: Any, kek: str) -> None:
    kms.create_alias(AliasName="alias/life", TargetKeyId=kek)
    code = refusal(lambda: kms.create_alias(AliasName="alias/life", TargetKeyId=kek))
    assert code == "AlreadyExistsException"
    [listed] = kms.list_aliases(KeyId=kek)["Aliases"]
    assert listed["TargetKeyId"] == kek.rpartition("/")[2]
    kms.delete_alias(AliasName="alias/life")
    assert kms.list_aliases(KeyId=kek)["Aliases"] == []
    assert refusal(lambda: kms.delete_alias(AliasName="alias/life")) == "NotFoundException"
    for name in ("life", "alias/aws/mine", "alias/"):
        code = refusal(lambda: kms.create_alias(AliasName=name, TargetKeyId=kek))  # noqa: B023
        assert code == "InvalidAliasNameException"


def test_lists_come_in_pages(standin: KmsStandin, kms: Any) -> None:
    made = {standin.create_key() for _ in range(5)}
    pages = list(kms.get_paginator("list_keys").paginate(PaginationConfig={"PageSize": 2}))
    assert len(pages) > 2
    assert made <= {key["KeyArn"] for page in pages for key in page["Keys"]}
    assert refusal(lambda: kms.list_keys(Marker="nonsense")) == "InvalidMarkerException"


def test_the_key_policy_can_be_read(kms: Any, kek: str) -> None:
    assert '"kms:*"' in kms.get_key_policy(KeyId=kek, PolicyName="default")["Policy"]
