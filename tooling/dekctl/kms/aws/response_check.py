"""Whether a KMS response is complete: it is stored, and may replace the only copy of a key."""

from __future__ import annotations

from dekctl.kek_id import is_key_arn, is_same_kek
from dekctl.kms.aws.transport import Request, Response

_MEMBERS = {
    "Encrypt": ("KeyId", ("CiphertextBlob",)),
    "Decrypt": ("KeyId", ("Plaintext",)),
    "ReEncrypt": ("DestinationKeyId", ("CiphertextBlob",)),
    "GenerateDataKey": ("KeyId", ("CiphertextBlob", "Plaintext")),
}
"""Which parameter names the key that the response must name too, and the blobs it must have."""


def is_whole(operation: str, request: Request, answer: Response) -> bool:
    """Whether a response can come from KMS: no blob is empty, and the key is the one requested.

    An alias or a key id does not tell which ARN to expect; a key ARN does.
    """
    if operation not in _MEMBERS:
        return True
    parameter, blobs = _MEMBERS[operation]
    if not all(isinstance(answer.get(name), bytes) and answer[name] for name in blobs):
        return False
    size = request.get("NumberOfBytes")
    if size is not None and len(answer["Plaintext"]) != size:
        return False
    asked, key = request.get(parameter), answer.get("KeyId")
    if not isinstance(key, str) or not key:
        return False
    if not isinstance(asked, str) or not is_key_arn(asked):
        return True
    return is_key_arn(key) and is_same_kek(key, asked)
