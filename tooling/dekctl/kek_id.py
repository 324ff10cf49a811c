"""What a stored ``kek_id`` means: rows name ARNs, the seed's rows also key ids and aliases."""

from __future__ import annotations


def key_id_of(kek_id: str) -> str:
    """The key id in an ARN; any other name as it is."""
    return kek_id.rpartition(":key/")[2] if ":key/" in kek_id else kek_id


def is_alias(kek_id: str) -> bool:
    """Whether a KEK is named by an alias, which may point to another key by now."""
    return kek_id.startswith("alias/") or ":alias/" in kek_id


def names(kek_id: str | None, kek: str) -> bool:
    """Whether a row's ``kek_id`` certainly means this KEK.

    A multi-Region key and its replicas share their key id: they are one KEK.
    """
    if kek_id is None:
        return False
    if kek_id == kek:
        return True
    mine, its = key_id_of(kek), key_id_of(kek_id)
    if mine != its or is_alias(kek_id):
        return False
    # An id alone (V1 rows), or the related key in another Region.
    return not kek_id.startswith("arn:") or not kek.startswith("arn:") or mine.startswith("mrk-")


def may_mean(kek_id: str | None, kek: str) -> bool:
    """Whether a row's ``kek_id`` leaves open which KEK it is: none, or an alias."""
    return kek_id is None or (is_alias(kek_id) and kek.startswith("arn:"))


def aliases_like(name: str, kek: str) -> list[str]:
    """The spellings of an alias, as a name and as an ARN beside its KEK's; none of another name."""
    if not is_alias(name):
        return []
    bare = "alias/" + name.rpartition("alias/")[2]
    head, found, _ = kek.partition(":key/")
    return [name, bare, *([f"{head}:{bare}"] if found else [])]


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
