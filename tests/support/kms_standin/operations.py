"""The KMS operations: parameters in, answer out, errors as the API reference names them.

Checks come in KMS's order: the shape of the request, the key, the permission, the key's state, the
blob; a dry run passes all of them before it raises.
"""

from __future__ import annotations

import binascii
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from . import parameters
from .errors import AwsError
from .identity import Principal
from .keys import Key, KeyStore, Material
from .management import Management
from .parameters import MAX_BLOB, MAX_PLAINTEXT, NO_CONTEXT, Context, Parameters

Answer = dict[str, Any] | bytes | None
"""An answer's members, or its body; None has no body."""
SYMMETRIC = "SYMMETRIC_DEFAULT"
KEY_SPECS = {"AES_256": 32, "AES_128": 16}


class Call:
    """One request as the journal keeps it; it never holds a plaintext."""

    __slots__ = (
        "api",
        "context",
        "destination_context",
        "destination_key",
        "error",
        "key",
        "principal",
        "session",
        "source_identity",
    )

    def __init__(self, api: str, principal: Principal) -> None:
        self.api = api
        self.principal = principal
        self.session: str | None = None
        self.source_identity: str | None = None
        self.key: str | None = None
        self.context: Context = NO_CONTEXT
        self.destination_key: str | None = None
        self.destination_context: Context = NO_CONTEXT
        self.error: str | None = None

    def authorize(self, action: str, key: Key, context: Context = NO_CONTEXT) -> None:
        """Check the caller's permission."""
        self.principal.authorize(action, key.arn, context)


class Operations:
    """Dispatches a KMS operation by its name."""

    def __init__(self, store: KeyStore) -> None:
        self.store = store
        self._table: dict[str, Callable[[Call, Parameters], Answer]] = {
            "Encrypt": self._encrypt,
            "Decrypt": self._decrypt,
            "ReEncrypt": self._re_encrypt,
            "GenerateDataKey": self._generate_data_key,
            "GenerateDataKeyWithoutPlaintext": self._generate_data_key_without_plaintext,
            "GenerateRandom": self._generate_random,
            **Management(store).table,
        }

    def run(self, call: Call, given: Parameters) -> Answer:
        """Do what ``call.api`` says; raises AwsError."""
        operation = self._table.get(call.api)
        if operation is None:
            raise AwsError("UnknownOperationException")
        return operation(call, given)

    def _encrypt(self, call: Call, given: Parameters) -> Answer:
        plaintext = parameters.blob(given, "Plaintext", MAX_PLAINTEXT)
        key, context = self._sealing_key(call, given, "kms:Encrypt")
        _stop_if_dry_run(given)
        return _words(
            CiphertextBlob=_base64(key.seal(plaintext, context)),
            KeyId=key.arn,
            EncryptionAlgorithm=SYMMETRIC,
        )

    def _decrypt(self, call: Call, given: Parameters) -> Answer:
        _symmetric_only(given, "EncryptionAlgorithm")
        _no_enclave(given)
        call.context = parameters.context(given)
        opened = self._open(call, given, "KeyId", "kms:Decrypt")
        _stop_if_dry_run(given)
        key, plaintext, material = opened.proven()
        return _words(
            KeyId=key.arn,
            Plaintext=_base64(plaintext),
            EncryptionAlgorithm=SYMMETRIC,
            KeyMaterialId=material.identifier.hex(),
        )

    def _re_encrypt(self, call: Call, given: Parameters) -> Answer:
        _symmetric_only(given, "SourceEncryptionAlgorithm")
        _symmetric_only(given, "DestinationEncryptionAlgorithm")
        call.context = parameters.context(given, "SourceEncryptionContext")
        call.destination_context = parameters.context(given, "DestinationEncryptionContext")
        destination = self.store.resolve(parameters.text(given, "DestinationKeyId"))
        call.destination_key = destination.arn
        opened = self._open(call, given, "SourceKeyId", "kms:ReEncryptFrom", destination)
        _stop_if_dry_run(given)
        source, plaintext, material = opened.proven()
        return _words(
            CiphertextBlob=_base64(destination.seal(plaintext, call.destination_context)),
            SourceKeyId=source.arn,
            KeyId=destination.arn,
            SourceEncryptionAlgorithm=SYMMETRIC,
            DestinationEncryptionAlgorithm=SYMMETRIC,
            SourceKeyMaterialId=material.identifier.hex(),
            DestinationKeyMaterialId=destination.materials[-1].identifier.hex(),
        )

    def _generate_data_key(self, call: Call, given: Parameters) -> Answer:
        return self._new_data_key(call, given, "kms:GenerateDataKey", show=True)

    def _generate_data_key_without_plaintext(self, call: Call, given: Parameters) -> Answer:
        return self._new_data_key(call, given, "kms:GenerateDataKeyWithoutPlaintext", show=False)

    def _new_data_key(self, call: Call, given: Parameters, action: str, *, show: bool) -> Answer:
        _no_enclave(given)
        spec = parameters.choice(given, "KeySpec", tuple(KEY_SPECS))
        size = parameters.integer(given, "NumberOfBytes", 1, 1024)
        if (spec is None) == (size is None):
            raise AwsError(
                "ValidationException", "Please specify either number of bytes or key spec."
            )
        key, context = self._sealing_key(call, given, action)
        _stop_if_dry_run(given)
        plaintext = os.urandom(size or KEY_SPECS[spec or "AES_256"])
        answer = {
            "CiphertextBlob": _base64(key.seal(plaintext, context)),
            "KeyId": key.arn,
            "KeyMaterialId": key.materials[-1].identifier.hex(),
        }
        if show:
            answer["Plaintext"] = _base64(plaintext)
        return answer

    def _generate_random(self, call: Call, given: Parameters) -> Answer:
        _no_enclave(given)
        size = parameters.integer(given, "NumberOfBytes", 1, 1024)
        if size is None:
            raise AwsError("ValidationException", "NumberOfBytes is required.")
        call.principal.authorize("kms:GenerateRandom", "*")
        return {"Plaintext": _base64(os.urandom(size))}

    def _sealing_key(self, call: Call, given: Parameters, action: str) -> tuple[Key, Context]:
        _symmetric_only(given, "EncryptionAlgorithm")
        call.context = context = parameters.context(given)
        key = self.store.resolve(parameters.text(given, "KeyId"))
        call.key = key.arn
        call.authorize(action, key, context)
        key.require_enabled()
        return key, context

    def _open(
        self,
        call: Call,
        given: Parameters,
        key_member: str,
        action: str,
        destination: Key | None = None,
    ) -> _Opened:
        """Check and decrypt the blob; with a destination also the right to encrypt to that."""
        bare = parameters.ignore_ciphertext(given)
        blob = b"" if bare else parameters.blob(given, "CiphertextBlob", MAX_BLOB)
        named = parameters.optional_text(given, key_member)
        if named is not None:
            key = self.store.resolve(named)
        elif bare:
            raise AwsError("ValidationException", f"{key_member} is required without a ciphertext.")
        else:
            key = self.store.key_of(blob)
        call.key = key.arn
        call.authorize(action, key, call.context)
        if destination is not None:
            call.authorize("kms:ReEncryptTo", destination, call.destination_context)
        key.require_enabled()
        if destination is not None:
            destination.require_enabled()
        if bare:
            return _Opened(key, None)
        if named is not None and self._maker(blob) is not key:
            raise AwsError(
                "IncorrectKeyException",
                "The key ID in the request does not identify a CMK that can perform this "
                "operation.",
            )
        return _Opened(key, key.open(blob, call.context))

    def _maker(self, blob: bytes) -> Key | None:
        try:
            return self.store.key_of(blob)
        except AwsError as error:
            if error.code == "AccessDeniedException":  # its key is gone: certainly another one
                return None
            raise


@dataclass(slots=True)
class _Opened:
    key: Key
    content: tuple[bytes, Material] | None = field(repr=False)

    def proven(self) -> tuple[Key, bytes, Material]:
        """Key, plaintext and material; only a dry run can come without a blob."""
        if self.content is None:
            raise AwsError("KMSInternalException")
        return self.key, *self.content


def _stop_if_dry_run(given: Parameters) -> None:
    if parameters.flag(given, "DryRun"):
        raise AwsError(
            "DryRunOperationException",
            "The request would have succeeded, but the DryRun option is set.",
        )


def _symmetric_only(given: Parameters, member: str) -> None:
    if given.get(member, SYMMETRIC) != SYMMETRIC:
        raise AwsError("InvalidKeyUsageException", f"{member} does not fit the key's spec.")


def _no_enclave(given: Parameters) -> None:
    if given.get("Recipient") is not None:
        raise AwsError("UnsupportedOperationException", "Recipient is for Nitro Enclaves only.")


def _words(**members: str) -> bytes:
    """A JSON object of strings that need no escapes, a few times faster than the json module."""
    return ("{" + ",".join([f'"{k}":"{v}"' for k, v in members.items()]) + "}").encode()


def _base64(data: bytes) -> str:
    return binascii.b2a_base64(data, newline=False).decode()
