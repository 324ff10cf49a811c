"""What a stored ``kek_id`` means, and when two of them mean the same KEK.

Rows name the ARN that KMS returned. Rows of an earlier script may hold a bare key id or an alias.
"""

from __future__ import annotations

import re
from typing import NamedTuple

ARN_PREFIX = "arn:"
ENV_PREFIX = "env:"
MEMORY_PREFIX = "memory:"

_ENV_KEK = re.compile(rf"{ENV_PREFIX}[0-9a-f]{{16}}")
_KEY = ":key/"
_KEY_ARN = re.compile(r"arn:[^:]+:kms:[^:]+:[^:]*:key/.+", re.DOTALL)
_ALIAS = "alias/"
_MULTI_REGION = "mrk-"


class _KeyArn(NamedTuple):
    partition: str
    region: str
    account: str
    key_id: str


def is_same_kek(kek_id: str | None, kek: str) -> bool:
    """Whether a stored ``kek_id`` certainly means this KEK.

    A multi-Region key and its replicas are one KEK: they share partition, account and key id (AWS
    KMS Developer Guide, "Multi-Region keys"). A bare key id means the key of that id, whatever its
    account. An alias means nothing for certain: it may have moved since the row was written.
    """
    if kek_id is None:
        return False
    if kek_id == kek:
        return True
    if is_alias(kek_id) or is_alias(kek):
        return False
    stored, wanted = _parse(kek_id), _parse(kek)
    if stored is None or wanted is None:
        return key_id_of(kek_id) == key_id_of(kek)
    return stored.key_id.startswith(_MULTI_REGION) and stored == wanted._replace(
        region=stored.region
    )


def could_be(kek_id: str | None, kek: str) -> bool:
    """Whether a stored ``kek_id`` leaves open which KEK it is (none, or an alias)."""
    return kek_id is None or (is_alias(kek_id) and kek.startswith(ARN_PREFIX))


def key_id_of(kek_id: str) -> str:
    """The key id in a key's ARN; any other name unchanged."""
    return kek_id.rpartition(_KEY)[2] if _KEY in kek_id else kek_id


def is_alias(kek_id: str) -> bool:
    """Whether a KEK is named by an alias, which may point to another key by now."""
    return kek_id.startswith(_ALIAS) or f":{_ALIAS}" in kek_id


def alias_spellings(name: str, kek: str) -> list[str]:
    """Every way to write an alias of ``kek``: as given, bare, and as an ARN; empty for a non-alias.

    The ARN is the one in the account and Region of ``kek``.
    """
    if not is_alias(name):
        return []
    bare = _ALIAS + name.rpartition(_ALIAS)[2]
    head, found, _ = kek.partition(_KEY)
    return [name, bare, *([f"{head}:{bare}"] if found else [])]


def is_key_arn(kek_id: str) -> bool:
    """Whether it is a key's ARN, not a key id, an alias or an alias's ARN."""
    return _KEY_ARN.fullmatch(kek_id) is not None


def is_malformed(kek_id: str) -> bool:
    """Whether it begins like an ARN and is neither a KMS key's nor an alias's."""
    return kek_id.startswith(ARN_PREFIX) and not (is_key_arn(kek_id) or is_alias(kek_id))


def is_env_kek(text: str) -> bool:
    """Whether it names a KEK of the ``env`` provider, not an environment variable to read."""
    return _ENV_KEK.fullmatch(text) is not None


def is_multi_region(kek_id: str) -> bool:
    """Whether a key ARN is that of a multi-Region key, so that replicas of it may exist."""
    return f"{_KEY}{_MULTI_REGION}" in kek_id


def replica_suffix(kek_id: str) -> str | None:
    """How the ARNs of a multi-Region key and its replicas end, from the account on; else None."""
    arn = _parse(kek_id)
    if arn is None or not arn.key_id.startswith(_MULTI_REGION):
        return None
    return f":{arn.account}{_KEY}{arn.key_id}"


def in_region(kek_arn: str, region: str) -> str:
    """The ARN that a multi-Region key has in another Region."""
    parts = kek_arn.split(":")
    parts[3] = region
    return ":".join(parts)


def foreign_region(kek_id: str, home: str | None) -> str | None:
    """The Region of a key that neither is in ``home`` nor can have a replica there, else None."""
    if home is None or not is_key_arn(kek_id) or is_multi_region(kek_id):
        return None
    region = kek_id.split(":")[3]
    return None if region == home else region


def _parse(kek_id: str) -> _KeyArn | None:
    """Split ``arn:PARTITION:kms:REGION:ACCOUNT:key/ID``; None for any other name."""
    parts = kek_id.split(":")
    if not is_key_arn(kek_id) or len(parts) != 6:
        return None
    return _KeyArn(parts[1], parts[3], parts[4], key_id_of(kek_id))
