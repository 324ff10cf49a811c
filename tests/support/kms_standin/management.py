"""The KMS operations that make, describe and change keys and aliases."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from . import parameters
from .errors import AwsError
from .keys import (
    DISABLED,
    ENABLED,
    PENDING_DELETION,
    Alias,
    Key,
    KeyStore,
    Material,
    pending_deletion,
)
from .parameters import Parameters

if TYPE_CHECKING:
    from .operations import Answer, Call

DAY = 86_400
MAX_ROTATIONS_ON_DEMAND = 25
_ALIAS = re.compile(r"alias/[a-zA-Z0-9/_-]{1,250}")


class Management:
    """The operations on keys and aliases; ``table`` maps their names to them."""

    def __init__(self, store: KeyStore) -> None:
        self.store = store
        self.table: dict[str, Callable[[Call, Parameters], Answer]] = {
            "CreateKey": self._create_key,
            "DescribeKey": self._describe_key,
            "ListKeys": self._list_keys,
            "ListAliases": self._list_aliases,
            "CreateAlias": self._create_alias,
            "UpdateAlias": self._update_alias,
            "DeleteAlias": self._delete_alias,
            "EnableKey": self._enable_key,
            "DisableKey": self._disable_key,
            "ScheduleKeyDeletion": self._schedule_key_deletion,
            "CancelKeyDeletion": self._cancel_key_deletion,
            "GetKeyRotationStatus": self._get_key_rotation_status,
            "RotateKeyOnDemand": self._rotate_key_on_demand,
            "ListKeyRotations": self._list_key_rotations,
            "GetKeyPolicy": self._get_key_policy,
        }

    def _create_key(self, call: Call, given: Parameters) -> Answer:
        for member, only in (
            ("KeySpec", "SYMMETRIC_DEFAULT"),
            ("KeyUsage", "ENCRYPT_DECRYPT"),
            ("Origin", "AWS_KMS"),
        ):
            if given.get(member, only) != only:
                raise AwsError("UnsupportedOperationException", f"{member} can be {only} only.")
        description = given.get("Description") or ""
        if not isinstance(description, str):
            raise parameters.wrong_type("Description")
        policy = parameters.optional_text(given, "Policy", 131_072) or _default_policy(self.store)
        call.principal.authorize("kms:CreateKey", "*")
        multi_region = parameters.flag(given, "MultiRegion")
        key = self.store.create(description, policy, multi_region=multi_region)
        call.key = key.arn
        return {"KeyMetadata": self._metadata(key)}

    def _describe_key(self, call: Call, given: Parameters) -> Answer:
        key = self.store.resolve(parameters.text(given, "KeyId"))
        call.key = key.arn
        call.authorize("kms:DescribeKey", key)
        return {"KeyMetadata": self._metadata(key)}

    def _list_keys(self, call: Call, given: Parameters) -> Answer:
        call.principal.authorize("kms:ListKeys", "*")
        keys = [{"KeyId": key.key_id, "KeyArn": key.arn} for key in self.store.keys.values()]
        return _page("Keys", keys, given, 100)

    def _list_aliases(self, call: Call, given: Parameters) -> Answer:
        name = parameters.optional_text(given, "KeyId")
        key = None if name is None else self.store.resolve(name, aliases=False)
        call.principal.authorize("kms:ListAliases", "*")
        aliases = [
            {
                "AliasName": alias.name,
                "AliasArn": alias.arn,
                "TargetKeyId": alias.target,
                "CreationDate": alias.created,
                "LastUpdatedDate": alias.updated,
            }
            for alias in self.store.aliases.values()
            if key is None or alias.target == key.key_id
        ]
        return _page("Aliases", aliases, given, 50)

    def _create_alias(self, call: Call, given: Parameters) -> Answer:
        name = _alias_name(given)
        key = self._managed(call, given, "kms:CreateAlias", member="TargetKeyId")
        if name in self.store.aliases:
            raise AwsError(
                "AlreadyExistsException",
                f"An alias with the name {self.store.arn(name)} already exists",
            )
        if key.state == PENDING_DELETION:
            raise pending_deletion(key)
        self.store.aliases[name] = Alias(name, self.store.arn(name), key.key_id)
        return None

    def _update_alias(self, call: Call, given: Parameters) -> Answer:
        name = _alias_name(given)
        alias = self.store.alias(name)
        call.authorize("kms:UpdateAlias", self.store.keys[alias.target])
        key = self._managed(call, given, "kms:UpdateAlias", member="TargetKeyId")
        if key.state == PENDING_DELETION:
            raise pending_deletion(key)
        alias.target, alias.updated = key.key_id, time.time()
        return None

    def _delete_alias(self, call: Call, given: Parameters) -> Answer:
        name = _alias_name(given)
        key = self.store.keys[self.store.alias(name).target]
        call.key = key.arn
        call.authorize("kms:DeleteAlias", key)
        del self.store.aliases[name]
        return None

    def _enable_key(self, call: Call, given: Parameters) -> Answer:
        key = self._managed(call, given, "kms:EnableKey")
        if key.state == PENDING_DELETION:
            raise pending_deletion(key)
        key.state = ENABLED
        return None

    def _disable_key(self, call: Call, given: Parameters) -> Answer:
        key = self._managed(call, given, "kms:DisableKey")
        if key.state == PENDING_DELETION:
            raise pending_deletion(key)
        key.state = DISABLED
        return None

    def _schedule_key_deletion(self, call: Call, given: Parameters) -> Answer:
        days = parameters.integer(given, "PendingWindowInDays", 7, 30) or 30
        key = self._managed(call, given, "kms:ScheduleKeyDeletion")
        if key.state == PENDING_DELETION:
            raise pending_deletion(key)
        key.state = PENDING_DELETION
        key.deletion_date = time.time() + days * DAY
        return {
            "KeyId": key.arn,
            "DeletionDate": key.deletion_date,
            "KeyState": key.state,
            "PendingWindowInDays": days,
        }

    def _cancel_key_deletion(self, call: Call, given: Parameters) -> Answer:
        key = self._managed(call, given, "kms:CancelKeyDeletion")
        if key.state != PENDING_DELETION:
            raise AwsError("KMSInvalidStateException", f"{key.arn} is not pending deletion.")
        key.state, key.deletion_date = DISABLED, None
        return {"KeyId": key.arn}

    def _get_key_rotation_status(self, call: Call, given: Parameters) -> Answer:
        key = self._managed(call, given, "kms:GetKeyRotationStatus")
        return {"KeyId": key.arn, "KeyRotationEnabled": False}

    def _rotate_key_on_demand(self, call: Call, given: Parameters) -> Answer:
        key = self._managed(call, given, "kms:RotateKeyOnDemand")
        key.require_enabled()
        if len(key.materials) > MAX_ROTATIONS_ON_DEMAND:
            raise AwsError("LimitExceededException", "No on-demand rotation is left for this key.")
        key.materials.append(Material.make())
        return {"KeyId": key.arn}

    def _list_key_rotations(self, call: Call, given: Parameters) -> Answer:
        included = parameters.choice(
            given, "IncludeKeyMaterial", ("ALL_KEY_MATERIAL", "ROTATIONS_ONLY")
        )
        key = self._managed(call, given, "kms:ListKeyRotations")
        rotations: list[dict[str, Any]] = []
        for number, material in enumerate(key.materials):
            entry: dict[str, Any] = {
                "KeyId": key.arn,
                "KeyMaterialId": material.identifier.hex(),
                "KeyMaterialState": ("CURRENT" if material is key.materials[-1] else "NON_CURRENT"),
            }
            if number:
                entry |= {"RotationDate": material.created, "RotationType": "ON_DEMAND"}
            if number or included == "ALL_KEY_MATERIAL":
                rotations.append(entry)
        return _page("Rotations", rotations, given, 100)

    def _get_key_policy(self, call: Call, given: Parameters) -> Answer:
        name = parameters.optional_text(given, "PolicyName", 128) or "default"
        key = self._managed(call, given, "kms:GetKeyPolicy")
        if name != "default":
            raise AwsError("NotFoundException", "No such policy exists")
        return {"Policy": key.policy, "PolicyName": name}

    def _managed(self, call: Call, given: Parameters, action: str, *, member: str = "KeyId") -> Key:
        """The key of an operation that takes no alias, once the caller may do the action."""
        key = self.store.resolve(parameters.text(given, member), aliases=False)
        call.key = key.arn
        call.authorize(action, key)
        return key

    def _metadata(self, key: Key) -> dict[str, Any]:
        metadata: dict[str, Any] = {
            "AWSAccountId": self.store.account,
            "KeyId": key.key_id,
            "Arn": key.arn,
            "CreationDate": key.created,
            "Enabled": key.state == ENABLED,
            "Description": key.description,
            "KeyUsage": "ENCRYPT_DECRYPT",
            "KeyState": key.state,
            "Origin": "AWS_KMS",
            "KeyManager": "CUSTOMER",
            "CustomerMasterKeySpec": "SYMMETRIC_DEFAULT",
            "KeySpec": "SYMMETRIC_DEFAULT",
            "EncryptionAlgorithms": ["SYMMETRIC_DEFAULT"],
            "MultiRegion": key.key_id.startswith("mrk-"),
            "CurrentKeyMaterialId": key.materials[-1].identifier.hex(),
        }
        if key.deletion_date is not None:
            metadata["DeletionDate"] = key.deletion_date
        return metadata


def _page(member: str, items: Sequence[Any], given: Parameters, default: int) -> dict[str, Any]:
    limit = parameters.integer(given, "Limit", 1, 1000) or default
    marker = parameters.optional_text(given, "Marker", 1024) or "0"
    if not marker.isdecimal() or int(marker) > len(items):
        raise AwsError("InvalidMarkerException", "Could not deserialize marker")
    start = int(marker)
    page: dict[str, Any] = {member: list(items[start : start + limit])}
    page["Truncated"] = start + limit < len(items)
    if page["Truncated"]:
        page["NextMarker"] = str(start + limit)
    return page


def _alias_name(given: Parameters) -> str:
    name = parameters.text(given, "AliasName", 256)
    if not _ALIAS.fullmatch(name) or name.startswith("alias/aws/"):
        raise AwsError("InvalidAliasNameException", f"{name} is not a valid alias name")
    return name


def _default_policy(store: KeyStore) -> str:
    statement = {
        "Sid": "Enable IAM User Permissions",
        "Effect": "Allow",
        "Principal": {"AWS": f"arn:aws:iam::{store.account}:root"},
        "Action": "kms:*",
        "Resource": "*",
    }
    return json.dumps({"Version": "2012-10-17", "Id": "key-default-1", "Statement": [statement]})
