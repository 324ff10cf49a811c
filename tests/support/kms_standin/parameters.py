"""Reads the members of a KMS request and refuses what the API reference does not allow."""

from __future__ import annotations

import binascii
from collections.abc import Mapping
from typing import Any

from .errors import AwsError, invalid

Parameters = Mapping[str, Any]
Context = dict[str, str]

MAX_PLAINTEXT = 4096
MAX_BLOB = 6144
MAX_KEY_ID = 2048
NO_CONTEXT: Context = {}


def text(given: Parameters, member: str, maximum: int = MAX_KEY_ID) -> str:
    """A string that must be there."""
    value = optional_text(given, member, maximum)
    if value is None:
        raise invalid(member, "not be null")
    return value


def optional_text(given: Parameters, member: str, maximum: int = MAX_KEY_ID) -> str | None:
    """A string of 1 to ``maximum`` characters, or None if it is not there."""
    value = given.get(member)
    if value is None:
        return None
    if not isinstance(value, str):
        raise wrong_type(member)
    if not value:
        raise invalid(member, "have length greater than or equal to 1")
    if len(value) > maximum:
        raise invalid(member, f"have length less than or equal to {maximum}")
    return value


def blob(given: Parameters, member: str, maximum: int) -> bytes:
    """A blob of 1 to ``maximum`` bytes that must be there."""
    value = given.get(member)
    if value is None:
        raise invalid(member, "not be null")
    if not isinstance(value, str):
        raise wrong_type(member)
    try:
        data = binascii.a2b_base64(value, strict_mode=True)
    except (binascii.Error, ValueError):
        raise wrong_type(member) from None
    if not data:
        raise invalid(member, "have length greater than or equal to 1")
    if len(data) > maximum:
        raise invalid(member, f"have length less than or equal to {maximum}")
    return data


def context(given: Parameters, member: str = "EncryptionContext") -> Context:
    """An encryption context; empty if it is not there."""
    value = given.get(member)
    if value is None:
        return NO_CONTEXT
    if not isinstance(value, dict):
        raise wrong_type(member)
    for item in value.values():
        if not isinstance(item, str):
            raise wrong_type(member)
    return value


def flag(given: Parameters, member: str) -> bool:
    """A boolean; False if it is not there."""
    value = given.get(member)
    if value is None:
        return False
    if not isinstance(value, bool):
        raise wrong_type(member)
    return value


def integer(given: Parameters, member: str, low: int, high: int) -> int | None:
    """An integer from ``low`` to ``high``, or None if it is not there."""
    value = given.get(member)
    if value is None:
        return None
    if not isinstance(value, int) or isinstance(value, bool):
        raise wrong_type(member)
    if value < low:
        raise invalid(member, f"have value greater than or equal to {low}")
    if value > high:
        raise invalid(member, f"have value less than or equal to {high}")
    return value


def choice(given: Parameters, member: str, allowed: tuple[str, ...]) -> str | None:
    """One of the allowed words, or None if it is not there."""
    value = optional_text(given, member)
    if value is not None and value not in allowed:
        raise invalid(member, f"satisfy enum value set: [{', '.join(allowed)}]")
    return value


def ignore_ciphertext(given: Parameters) -> bool:
    """Whether a dry run asks to check permissions alone, without a blob."""
    modifiers = given.get("DryRunModifiers")
    if modifiers is None:
        return False
    if modifiers not in ([], ["IGNORE_CIPHERTEXT"]):
        raise invalid("DryRunModifiers", "satisfy enum value set: [IGNORE_CIPHERTEXT]")
    if modifiers and not flag(given, "DryRun"):
        raise AwsError("ValidationException", "DryRunModifiers needs DryRun to be true")
    return bool(modifiers)


def wrong_type(member: str) -> AwsError:
    """The answer to a member that is not what its shape says."""
    return AwsError("SerializationException", f"{member} has the wrong type")
