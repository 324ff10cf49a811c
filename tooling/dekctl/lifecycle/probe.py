"""Asks KMS with DryRun whether a role may do its work, before anything is changed."""

from __future__ import annotations

from typing import Any

from dekctl.config.roles import Role
from dekctl.errors import KMSError
from dekctl.kms.aws.assume_role import RoleRefusedError
from dekctl.kms.aws.provider import AWSKMS
from dekctl.kms.context import row_context
from dekctl.project import Project

PROBE_PRIMARY_KEY = "dekctl doctor"
"""Takes the place of a row's primary key in the encryption context of a probe."""


def probe(
    project: Project,
    role: Role,
    operation: str,
    *,
    kek: str | None = None,
    context_name: str | None = None,
) -> str:
    """Ask KMS whether a role may call an operation with a KEK; returns how it is known.

    KMS answers a permitted dry run with DryRunOperationException. An emulator that ignores the
    flag does the work, on a key of zeros that nobody uses.

    Args:
        project: the project; its provider is AWS.
        role: the role.
        operation: an API name, as in "Encrypt".
        kek: the KEK; None for the active one.
        context_name: that of a table; None for the first one.

    Raises:
        KMSError: KMS refused or cannot be reached.
    """
    name = context_name or project.config.table.context_name
    context = row_context(name, (PROBE_PRIMARY_KEY,))
    kms = project.aws(role)
    try:
        return _ask(project, kms, operation, kek or project.kek(), context)
    except RoleRefusedError as error:
        # Only the application should be able to assume its role.
        if role is Role.APP and error.code == "AccessDenied":
            return "not checked: only the application can assume it"
        raise
    finally:
        kms.close()


def _ask(project: Project, kms: AWSKMS, operation: str, key: str, context: dict[str, str]) -> str:
    request: dict[str, Any] = {"DryRun": True}
    if operation == "Encrypt":
        request |= {"KeyId": key, "Plaintext": bytes(32), "EncryptionContext": context}
    elif operation == "GenerateDataKey":
        request |= {"KeyId": key, "NumberOfBytes": 32, "EncryptionContext": context}
    else:
        # Decrypt and ReEncrypt need a blob; KMS checks permissions before it decrypts.
        request |= {"CiphertextBlob": _blob(project, context)}
        if operation == "Decrypt":
            request |= {"KeyId": key, "EncryptionContext": context}
        else:
            request |= {
                "SourceKeyId": key,
                "DestinationKeyId": key,
                "SourceEncryptionContext": context,
                "DestinationEncryptionContext": context,
            }
    try:
        kms.call(operation, request)
    except KMSError as error:
        if error.code == "DryRunOperationException":
            return f"may {operation} (KMS dry run)"
        raise
    return f"may {operation} (tested with a real call: this endpoint ignores DryRun)"


def _blob(project: Project, context: dict[str, str]) -> bytes:
    """A wrapped key of zeros, made as the wrapper, for the dry runs that need one."""
    kms = project.aws(Role.WRAPPER)
    try:
        return kms.wrap(bytes(32), context)
    finally:
        kms.close()
