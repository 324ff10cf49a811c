"""What the ARN of a KMS key tells."""

from __future__ import annotations


def is_key_arn(kek_id: str) -> bool:
    """Tell a key's ARN from a key id, an alias or an alias's ARN."""
    return kek_id.startswith("arn:") and ":key/" in kek_id


def is_multi_region(kek_id: str) -> bool:
    """Whether the key is, or may be, one of several with the same id and material."""
    return ":key/mrk-" in kek_id


def in_region(kek_arn: str, region: str) -> str:
    """The ARN that a multi-Region key has in another Region.

    The two share their key id (AWS KMS Developer Guide, "Multi-Region keys").
    """
    parts = kek_arn.split(":")
    parts[3] = region
    return ":".join(parts)


def foreign_region(kek_id: str, home: str | None) -> str | None:
    """A key's Region where ``home`` has neither the key nor a replica of it, else None."""
    if home is None or not is_key_arn(kek_id) or is_multi_region(kek_id):
        return None
    region = kek_id.split(":")[3]
    return None if region == home else region


def same_key(arn: str, other: str) -> bool:
    """Whether two key ARNs mean one KEK; a multi-Region key and its replicas are one."""
    if arn == other:
        return True
    return is_multi_region(arn) and is_key_arn(other) and in_region(arn, "") == in_region(other, "")
