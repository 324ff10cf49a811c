"""Small helpers of the tests that ask the stand-in through boto3."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pytest
from botocore.exceptions import ClientError

DEK = bytes(range(32))
CONTEXT = {"dekctl:table": "encrypted_files", "dekctl:pk": "1"}
OTHER_CONTEXT = {"dekctl:table": "encrypted_files", "dekctl:pk": "2"}


def error_of(call: Callable[[], object]) -> ClientError:
    """The error of a call that must be refused."""
    with pytest.raises(ClientError) as caught:
        call()
    return caught.value


def refusal(call: Callable[[], object]) -> str:
    """The error name of a call that must be refused."""
    return str(error_of(call).response["Error"]["Code"])


def status_of(call: Callable[[], object]) -> int:
    """The HTTP status of a call that must be refused."""
    return error_of(call).response["ResponseMetadata"]["HTTPStatusCode"]


def wrapped(kms: Any, kek: str, context: Mapping[str, str] | None = None) -> bytes:
    """A blob of ``DEK``."""
    answer = kms.encrypt(KeyId=kek, Plaintext=DEK, EncryptionContext=context or {})
    blob: bytes = answer["CiphertextBlob"]
    return blob
