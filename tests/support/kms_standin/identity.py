"""Who calls, and what they may do: credentials, principals and their grants."""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from .errors import AwsError
from .parameters import NO_CONTEXT, Context

ADMIN = "standin-admin"
UNKNOWN = "unknown"


@dataclass(frozen=True)
class Grant:
    """Permission for some actions on some keys.

    ``actions`` are IAM names (``kms:Decrypt``, ``sts:AssumeRole``) or ``kms:*`` or ``*``; ``keys``
    are key ARNs (role ARNs for ``sts:AssumeRole``) or ``*``; ``context`` are pairs that the
    request's encryption context must have, like a condition on ``kms:EncryptionContext:name``.
    """

    actions: tuple[str, ...]
    keys: tuple[str, ...] = ("*",)
    context: Mapping[str, str] = field(default_factory=dict)

    def covers(self, action: str, resource: str, context: Context) -> bool:
        """Whether it permits this call."""
        return (
            (action in self.actions or "*" in self.actions or f"{action[:3]}:*" in self.actions)
            and (resource in self.keys or "*" in self.keys)
            and all(context.get(name) == value for name, value in self.context.items())
        )

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Grant:
        """The inverse of ``dataclasses.asdict``."""
        return cls(tuple(data["actions"]), tuple(data["keys"]), dict(data["context"]))


@dataclass
class Principal:
    """A user or role; ``grants`` is None for one that may do everything."""

    name: str
    arn: str
    grants: tuple[Grant, ...] | None
    denied: list[Grant] = field(default_factory=list)

    def authorize(self, action: str, resource: str, context: Context = NO_CONTEXT) -> None:
        """Raise AccessDeniedException unless a grant permits the action and nothing denies it."""
        if self.denied and any(deny.covers(action, resource, context) for deny in self.denied):
            raise self._refusal(
                action, resource, "with an explicit deny in an identity-based policy"
            )
        if self.grants is None or any(g.covers(action, resource, context) for g in self.grants):
            return
        raise self._refusal(
            action, resource, f"because no identity-based policy allows the {action} action"
        )

    def _refusal(self, action: str, resource: str, reason: str) -> AwsError:
        return AwsError(
            "AccessDeniedException",
            f"User: {self.arn} is not authorized to perform: {action} on resource: {resource} "
            f"{reason}",
        )


@dataclass(frozen=True)
class Credentials:
    """One access key; the last four (``expires`` in Unix time) are those of an assumed role."""

    access_key: str
    secret_key: str = field(repr=False)
    principal: str
    token: str | None = field(default=None, repr=False)
    expires: float | None = None
    session_arn: str | None = None
    source_identity: str | None = None


class Directory:
    """All principals and credentials of the account."""

    def __init__(self, account: str, admin_access_key: str, admin_secret_key: str) -> None:
        self.account = account
        self.principals: dict[str, Principal] = {}
        self.credentials: dict[str, Credentials] = {}
        self.unknown = Principal(UNKNOWN, "", ())
        self.put(ADMIN, "user", None)
        self.admin_credentials = self._issue(Credentials(admin_access_key, admin_secret_key, ADMIN))

    def put(self, name: str, kind: str, grants: Iterable[Grant] | None) -> Principal:
        """Make a ``user`` or ``role``, or change the grants of one."""
        allowed = None if grants is None else tuple(grants)
        principal = self.principals.get(name)
        if principal is None:
            arn = f"arn:aws:iam::{self.account}:{kind}/{name}"
            principal = self.principals[name] = Principal(name, arn, allowed)
        else:
            principal.grants = allowed
        return principal

    def access_key(self, principal: Principal) -> Credentials:
        """A new long-lived access key."""
        return self._issue(
            Credentials(_identifier("AKIA"), secrets.token_urlsafe(30), principal.name)
        )

    def session(
        self, principal: Principal, seconds: int, name: str, source_identity: str | None
    ) -> Credentials:
        """Temporary credentials that end after ``seconds``."""
        return self._issue(
            Credentials(
                _identifier("ASIA"),
                secrets.token_urlsafe(30),
                principal.name,
                secrets.token_urlsafe(60),
                time.time() + seconds,
                f"arn:aws:sts::{self.account}:assumed-role/{principal.name}/{name}",
                source_identity,
            )
        )

    def expire_sessions(self) -> None:
        """Let all temporary credentials be expired from now on."""
        for credentials in list(self.credentials.values()):
            if credentials.expires is not None:
                self._issue(replace(credentials, expires=0.0))

    def by_arn(self, arn: str) -> Principal | None:
        """The principal of an ARN."""
        return next((each for each in self.principals.values() if each.arn == arn), None)

    def _issue(self, credentials: Credentials) -> Credentials:
        self.credentials[credentials.access_key] = credentials
        return credentials


def _identifier(prefix: str) -> str:
    return prefix + "".join(secrets.choice("ABCDEFGHIJKLMNOPQRSTUVWXYZ234567") for _ in range(16))
