"""A disabled generation closes its own rows only, also where rows do not name their KEK."""

from __future__ import annotations

import json

import boto3
import pytest

from dekctl.config.outputs import read_output
from dekctl.errors import KMSRefusedError, RowRejectedError
from dekctl.kms.aws.provider import AWSKMS
from dekctl.kms.interface import Unwrapped, UnwrapRequest
from support.cli import Dekctl
from support.generations import Generations
from support.kms_standin import KmsStandin

DEK = bytes(range(32))


def as_admin(standin: KmsStandin, *keks: str) -> AWSKMS:
    return AWSKMS(
        keks[-1],
        region=standin.region,
        endpoint_url=standin.endpoint_url,
        session=boto3.Session(
            aws_access_key_id=standin.admin.access_key,
            aws_secret_access_key=standin.admin.secret_key,
            region_name=standin.region,
        ),
        known_keks=keks,
        transport="boto3",
        concurrency=2,
    )


def test_rows_that_name_no_kek_open_although_one_generation_is_disabled(
    kms_standin: KmsStandin,
) -> None:
    kms = kms_standin.kms()
    first, second, active = (kms.create_key()["KeyMetadata"]["Arn"] for _ in range(3))
    blobs = [
        kms.encrypt(KeyId=arn, Plaintext=DEK)["CiphertextBlob"] for arn in (second, first, active)
    ]
    kms.disable_key(KeyId=first)
    provider = as_admin(kms_standin, first, second, active)

    opened = provider.unwrap_many([UnwrapRequest(blob, None, None) for blob in blobs])

    assert isinstance(opened[0], Unwrapped)
    assert opened[0].plaintext == DEK
    assert isinstance(opened[1], RowRejectedError), "its own KEK is disabled: set it aside"
    assert opened[1].code == "DisabledException"
    assert isinstance(opened[2], Unwrapped)
    kms.disable_key(KeyId=second)
    kms.disable_key(KeyId=active)
    with pytest.raises(KMSRefusedError, match="DisabledException"):
        provider.unwrap_many([UnwrapRequest(blobs[2], None, None)])
    provider.close()


def test_disabled_generations_are_tried_last(kms_standin: KmsStandin, dekctl: Dekctl) -> None:
    for alias in kms_standin.kms().list_aliases()["Aliases"]:
        kms_standin.kms().delete_alias(AliasName=alias["AliasName"])
    generations = Generations.begin(kms_standin, dekctl)
    generations.roll()
    generations.states["g1"] = "disabled"
    generations.write()
    arns = generations.arns

    document = json.loads(generations.file.read_text())
    outputs = read_output(document, "outputs.json", "")

    assert outputs.kek_arns() == [arns["g2"], arns["g1"]]
