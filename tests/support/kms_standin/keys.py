"""KMS keys, their materials and aliases, and the ciphertext blobs they make.

A blob has 152 bytes more than its plaintext, as real ones do::

    4 magic | 16 key id | 32 material id | 40 salt | 32 check | 12 nonce | ciphertext | 16 tag

``check`` is a hash over all before it and the key's ARN, so damage to the front is told from
another key's blob. AES-256-GCM authenticates everything before the nonce, and the encryption
context.
"""

from __future__ import annotations

import hashlib
import os
import re
import time
import uuid
from dataclasses import dataclass, field

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from .errors import AwsError
from .parameters import Context

MAGIC = b"\x01\x02\x02\x00"
SALT = 40
HEADER = len(MAGIC) + 16 + 32 + SALT
FRONT = HEADER + 32
NONCE = 12
OVERHEAD = FRONT + NONCE + 16

ENABLED = "Enabled"
DISABLED = "Disabled"
PENDING_DELETION = "PendingDeletion"

_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}|mrk-[0-9a-f]{32}")


@dataclass(frozen=True)
class Material:
    """One generation of a key's material; rotation adds one, and the old ones still decrypt."""

    identifier: bytes
    cipher: AESGCM = field(repr=False)
    created: float

    @classmethod
    def make(cls) -> Material:
        """A fresh random material."""
        return cls(os.urandom(32), AESGCM(AESGCM.generate_key(256)), time.time())


@dataclass
class Key:
    """One KMS key."""

    key_id: str
    arn: str
    description: str
    policy: str
    created: float = field(default_factory=time.time)
    state: str = ENABLED
    deletion_date: float | None = None
    materials: list[Material] = field(default_factory=lambda: [Material.make()])

    def __post_init__(self) -> None:
        self._prefix = MAGIC + uuid.UUID(self.key_id.removeprefix("mrk-")).bytes
        self._arn_bytes = self.arn.encode()

    def require_enabled(self) -> None:
        """Refuse cryptographic use in any other state."""
        if self.state == ENABLED:
            return
        if self.state == DISABLED:
            raise AwsError("DisabledException", f"{self.arn} is disabled.")
        raise pending_deletion(self)

    def seal(self, plaintext: bytes, context: Context) -> bytes:
        """Encrypt under the current material."""
        material = self.materials[-1]
        noise = os.urandom(SALT + NONCE)
        header = self._prefix + material.identifier + noise[:SALT]
        front = header + hashlib.sha256(header + self._arn_bytes).digest()
        nonce = noise[SALT:]
        sealed = material.cipher.encrypt(nonce, plaintext, front + encode_context(context))
        return front + nonce + sealed

    def open(self, blob: bytes, context: Context) -> tuple[bytes, Material]:
        """Decrypt a blob of this key: plaintext, and the material that had made it."""
        identifier = blob[20:52]
        for material in self.materials:
            if material.identifier == identifier:
                break
        else:
            raise invalid_ciphertext()
        nonce, sealed = blob[FRONT : FRONT + NONCE], blob[FRONT + NONCE :]
        aad = blob[:FRONT] + encode_context(context)
        try:
            return material.cipher.decrypt(nonce, sealed, aad), material
        except InvalidTag:
            raise invalid_ciphertext() from None


@dataclass
class Alias:
    """A name for a key; it can move."""

    name: str
    arn: str
    target: str
    created: float = field(default_factory=time.time)
    updated: float = field(default_factory=time.time)


class KeyStore:
    """All keys and aliases of one account in one Region."""

    def __init__(self, account: str, region: str) -> None:
        self.account = account
        self.region = region
        self.keys: dict[str, Key] = {}
        self.aliases: dict[str, Alias] = {}
        self._by_any_name: dict[str, Key] = {}

    def arn(self, resource: str) -> str:
        """ARN of ``key/...`` or ``alias/...``."""
        return f"arn:aws:kms:{self.region}:{self.account}:{resource}"

    def create(self, description: str, policy: str, *, multi_region: bool = False) -> Key:
        """Make a key."""
        number = uuid.uuid4()
        key_id = f"mrk-{number.hex}" if multi_region else str(number)
        key = Key(key_id, self.arn(f"key/{key_id}"), description, policy)
        self.keys[key_id] = key
        self._by_any_name[key_id] = self._by_any_name[key.arn] = key
        return key

    def destroy(self, key: Key) -> None:
        """Delete a key for good, with its aliases."""
        del self.keys[key.key_id], self._by_any_name[key.key_id], self._by_any_name[key.arn]
        for name in [alias.name for alias in self.aliases.values() if alias.target == key.key_id]:
            del self.aliases[name]

    def resolve(self, name: str, *, aliases: bool = True) -> Key:
        """The key of an id, ARN, alias name or alias ARN (the last two only with ``aliases``)."""
        key = self._by_any_name.get(name)
        if key is not None:
            return key
        resource = self._resource(name)
        if resource.startswith("alias/"):
            if not aliases:
                raise AwsError("NotFoundException", f"Invalid keyId {name}")
            return self.keys[self.alias(resource).target]
        if not _UUID.fullmatch(resource):
            raise AwsError("NotFoundException", f"Invalid keyId {name}")
        raise AwsError("NotFoundException", f"Key '{self.arn('key/' + resource)}' does not exist")

    def alias(self, name: str) -> Alias:
        """The alias of a name that starts with ``alias/``."""
        try:
            return self.aliases[name]
        except KeyError:
            message = f"Alias {self.arn(name)} is not found."
            raise AwsError("NotFoundException", message) from None

    def key_of(self, blob: bytes) -> Key:
        """The key that made a blob, told from its unencrypted front.

        Raises:
            AwsError: InvalidCiphertextException if this is no blob of ours or its front is
                damaged, AccessDeniedException if its key is gone.
        """
        if len(blob) <= OVERHEAD or blob[:4] != MAGIC:
            raise invalid_ciphertext()
        number = uuid.UUID(bytes=blob[4:20])
        key_id = f"mrk-{number.hex}" if f"mrk-{number.hex}" in self.keys else str(number)
        arn = self.arn(f"key/{key_id}")
        if hashlib.sha256(blob[:HEADER] + arn.encode()).digest() != blob[HEADER:FRONT]:
            raise invalid_ciphertext()
        key = self.keys.get(key_id)
        if key is None:
            raise AwsError(
                "AccessDeniedException",
                "The ciphertext refers to a customer master key that does not exist, does not "
                "exist in this region, or you are not allowed to access.",
            )
        return key

    def _resource(self, name: str) -> str:
        if not name.startswith("arn:"):
            return name
        parts = name.split(":", 5)
        if len(parts) != 6 or parts[2] != "kms":
            raise AwsError("InvalidArnException", f"Invalid arn {name}")
        if parts[3] != self.region:
            raise AwsError("NotFoundException", f"Invalid arn {parts[3]}")
        if parts[4] != self.account:
            raise AwsError("NotFoundException", f"Key '{name}' does not exist")
        return parts[5].removeprefix("key/")


def encode_context(context: Context) -> bytes:
    """Bytes that no other context has: sorted pairs, each string behind its length."""
    if not context:
        return b""
    text = "".join([f"{len(k)}:{k}{len(v)}:{v}" for k, v in sorted(context.items())])
    return text.encode("utf-8", "surrogatepass")


def invalid_ciphertext() -> AwsError:
    """KMS gives no message with it."""
    return AwsError("InvalidCiphertextException")


def pending_deletion(key: Key) -> AwsError:
    """The answer to a use that PendingDeletion forbids."""
    return AwsError("KMSInvalidStateException", f"{key.arn} is pending deletion.")
