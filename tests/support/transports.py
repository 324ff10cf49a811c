"""What the tests of the two ways to KMS share."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Literal, Protocol

from dekctl.errors import KMSError
from dekctl.kms.aws.boto import BotoTransport
from dekctl.kms.aws.retry import RetryPolicy

if TYPE_CHECKING:
    from dekctl.kms.aws.curl.transport import CurlTransport  # pycurl is optional

    AnyTransport = BotoTransport | CurlTransport

Kind = Literal["boto3", "curl"]
QUICK = RetryPolicy(patience=20, first_contact=20, access_grace=0.3, base=0.01, longest=0.1)
ANSWER = json.dumps({"CiphertextBlob": "d3JhcHBlZA==", "KeyId": "arn:x"}).encode()
SECRET = b"key material 0123456789abcdef..."
REQUEST = {"KeyId": "alias/app-dek", "Plaintext": SECRET, "EncryptionContext": {"a": "b"}}


class Make(Protocol):
    def __call__(self, kind: Kind, url: str, **options: Any) -> AnyTransport: ...


def good(answers: list[dict[str, Any] | KMSError]) -> list[dict[str, Any]]:
    """Return the answers without metadata; fail on any error."""
    for answer in answers:
        if isinstance(answer, KMSError):
            raise answer
    return [
        {name: value for name, value in answer.items() if name != "ResponseMetadata"}
        for answer in answers
        if isinstance(answer, dict)
    ]


def bad(answers: list[dict[str, Any] | KMSError]) -> list[KMSError]:
    assert all(isinstance(answer, KMSError) for answer in answers), "a call should have failed"
    return [answer for answer in answers if isinstance(answer, KMSError)]
