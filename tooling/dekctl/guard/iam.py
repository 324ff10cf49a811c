"""Evaluates policy documents for one request, so that `guard` sees a right that is lost.

Only the parts of the policy language that decide about a key are here: action, resource, principal
and the conditions that bind a key to an encryption context. The caller chooses how a condition
counts that cannot be decided, so that it never hides a lost right. Rules as in "Policy evaluation
logic" of the IAM User Guide: an explicit deny wins, the default is deny.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, NamedTuple, TypeVar

ANY = "\0any"
"""Stands for a value that is certainly there, but differs from request to request."""

_ABSENT = frozenset(
    {
        "kms:viaservice",
        "kms:bypasspolicylockoutsafetycheck",
        "kms:scheduledeletionpendingwindowindays",
        "kms:schedulekeydeletionpendingwindowindays",
        "kms:grantisforawsresource",
        "kms:recipientattestation:imagesha384",
    }
)
"""Condition keys that an application's request for a row never carries."""
_OF_IDENTITIES = frozenset(
    {
        "aws:principalarn",
        "aws:principalaccount",
        "aws:principalorgid",
        "aws:principaltype",
        "aws:userid",
        "aws:username",
        "aws:sourceip",
        "aws:sourcevpc",
        "aws:sourcevpce",
    }
)
"""Condition keys that a request of an AWS service on its own behalf does not carry."""


UNKNOWN = "somebody whom the plan does not show yet"
"""Name of a principal that the plan makes."""
AWS, SERVICE, EVERYBODY = "AWS", "Service", "*"
"""Kinds of principals; a statement may also name others, such as ``Federated``."""


class Principal(NamedTuple):
    """Who a statement names: an ARN or account (``AWS``), a service, or another kind of identity.

    An ARN under ``Federated`` is an identity provider, and never the role of the same name.
    """

    kind: str
    name: str


@dataclass(frozen=True, slots=True)
class Ask:
    """One request: a principal, an IAM action, a resource's ARN, an encryption context.

    A policy that allows a whole account leaves the decision to identity policies. Without
    ``by_account`` such statements do not count: only those that name the principal do.

    ``carried`` are further condition keys of the request: name, and values; no values if the key is
    absent. ``unsure`` are condition keys of which nobody knows. An AWS service (``kind``) calls on
    its own behalf.
    """

    principal: str
    action: str
    key: str
    context: tuple[tuple[str, str], ...] = ()
    by_account: bool = True
    kind: str = AWS
    carried: tuple[tuple[str, tuple[str, ...]], ...] = ()
    unsure: tuple[str, ...] = ()

    def value(self, name: str) -> list[str] | bool | None:
        """Values of a condition key; None where it is absent, False where it is unknown."""
        name = name.lower()
        if name in (unsure.lower() for unsure in self.unsure):
            return False
        pairs = {f"kms:encryptioncontext:{k}".lower(): [v] for k, v in self.context}
        if name.startswith("kms:encryptioncontext:"):
            return pairs.get(name)
        for key, values in self.carried:
            if key.lower() == name:
                return list(values) or None
        if self.kind == SERVICE:
            return self._value_of_service(name)
        account = self.principal.split(":")[4] if self.principal.count(":") >= 5 else ""
        known: dict[str, list[str] | None] = {
            "kms:encryptioncontextkeys": [k for k, _ in self.context] or None,
            "kms:calleraccount": [account],
            "aws:principalaccount": [account],
            "aws:principalarn": [self.principal],
            "aws:viaawsservice": ["false"],
            "kms:encryptionalgorithm": ["SYMMETRIC_DEFAULT"],
            "aws:securetransport": ["true"],
        }
        if name in known:
            return known[name]
        return None if name in _ABSENT else False

    def _value_of_service(self, name: str) -> list[str] | bool | None:
        known: dict[str, list[str] | None] = {
            "kms:encryptioncontextkeys": [k for k, _ in self.context] or None,
            "aws:principalisawsservice": ["true"],
            "aws:principalservicename": [self.principal],
            "aws:viaawsservice": ["false"],
            "aws:securetransport": ["true"],
        }
        if name in known:
            return known[name]
        return None if name in _ABSENT | _OF_IDENTITIES else False


@dataclass(frozen=True, slots=True)
class Statement:
    """One statement of a policy; ``principals`` is None in an identity policy."""

    effect: str
    actions: tuple[str, ...]
    not_actions: tuple[str, ...]
    resources: tuple[str, ...]
    not_resources: tuple[str, ...]
    principals: tuple[Principal, ...] | None
    not_principals: tuple[Principal, ...]
    conditions: tuple[tuple[str, str, tuple[str, ...]], ...]

    def on_any_resource(self) -> Statement:
        """The statement with every resource: that of a trust policy, which names none."""
        return replace(self, resources=("*",))

    def covers(self, ask: Ask) -> bool | None:
        """Whether the statement applies to this request; None if a condition is undecidable."""
        if not (
            _among(self.actions, self.not_actions, lambda p: _like(p.lower(), ask.action.lower()))
            and _among(self.resources, self.not_resources, lambda p: _like(p, ask.key))
            and (
                (self.principals is None and not self.not_principals)
                or _among(
                    self.principals or (),
                    self.not_principals,
                    lambda p: _is(p, ask, by_account=ask.by_account or self.effect == "Deny"),
                )
            )
        ):
            return False
        verdicts = [_holds(*condition, ask) for condition in self.conditions]
        if False in verdicts:
            return False
        return None if None in verdicts else True


def allows(
    statements: Iterable[Statement], ask: Ask, familiar: Callable[[Statement], bool]
) -> bool:
    """Whether the statements together allow a request.

    A statement that cannot be decided counts in favour of the request where it is ``familiar``
    (it stood there before), and against it otherwise.
    """
    allowed = False
    for statement in statements:
        covers = statement.covers(ask)
        if statement.effect == "Deny":
            if covers or (covers is None and not familiar(statement)):
                return False
        elif covers or (covers is None and familiar(statement)):
            allowed = True
    return allowed


@lru_cache(maxsize=1024)  # each rule reads the same documents
def parse_policy(text: str) -> tuple[Statement, ...]:
    """Read a policy document. Raises ValueError where it is not one."""
    try:
        found = json.loads(text).get("Statement", [])
        return tuple(_statement(raw) for raw in (found if isinstance(found, list) else [found]))
    except (AttributeError, TypeError) as error:
        raise ValueError(f"not a policy document ({error})") from error


def trust_statements(text: str | None) -> tuple[Statement, ...]:
    """Read the trust policy of a role, whose statements are about the role alone.

    Raises:
        ValueError: it is not a policy document.
    """
    return tuple(statement.on_any_resource() for statement in parse_policy(text or "{}"))


def _statement(raw: Mapping[str, Any]) -> Statement:
    conditions = tuple(
        (test, variable, tuple(_texts(values)))
        for test, pairs in (raw.get("Condition") or {}).items()
        for variable, values in pairs.items()
    )
    return Statement(
        raw.get("Effect", "Allow"),
        tuple(_texts(raw.get("Action"))),
        tuple(_texts(raw.get("NotAction"))),
        tuple(_texts(raw.get("Resource"))),
        tuple(_texts(raw.get("NotResource"))),
        _principals(raw["Principal"]) if "Principal" in raw else None,
        _principals(raw["NotPrincipal"]) if "NotPrincipal" in raw else (),
        conditions,
    )


def statements_of_data(document: Mapping[str, Any]) -> tuple[Statement, ...]:
    """Read the configuration of an ``aws_iam_policy_document`` that Terraform has yet to render.

    Values that are not known yet (for example a key that does not exist yet) are None there. They
    are left out, because they cannot concern a present key; of a principal, :data:`UNKNOWN` stays.
    """
    return tuple(
        Statement(
            raw.get("effect") or "Allow",
            tuple(_texts(raw.get("actions"))),
            tuple(_texts(raw.get("not_actions"))),
            tuple(_texts(raw.get("resources"))),
            tuple(_texts(raw.get("not_resources"))),
            _data_principals(raw.get("principals")),
            _data_principals(raw.get("not_principals")) or (),
            tuple(
                (c["test"], c["variable"], tuple(_texts(c.get("values"))))
                for c in raw.get("condition") or []
            ),
        )
        for raw in document.get("statement") or []
    )


def _data_principals(blocks: Any) -> tuple[Principal, ...] | None:
    if not blocks:
        return None
    found = [(block.get("type") or AWS, block.get("identifiers")) for block in blocks]
    return tuple(
        Principal(kind, UNKNOWN) if name is None else _principal(kind, str(name))
        for kind, names in found
        for name in (names if isinstance(names, list) else [names])
    )


def _principals(raw: Any) -> tuple[Principal, ...]:
    if isinstance(raw, Mapping):
        return tuple(
            _principal(kind, text) for kind, names in raw.items() for text in _texts(names)
        )
    return tuple(_principal(AWS, text) for text in _texts(raw))


def _principal(kind: str, name: str) -> Principal:
    return Principal(EVERYBODY if name == "*" and kind in (AWS, EVERYBODY) else kind, name)


def _texts(value: Any) -> list[str]:
    values = value if isinstance(value, list) else [value]
    return [str(v).lower() if isinstance(v, bool) else str(v) for v in values if v is not None]


_T = TypeVar("_T")


def _among(wanted: tuple[_T, ...], unwanted: tuple[_T, ...], fits: Callable[[_T], bool]) -> bool:
    if unwanted:
        return not any(fits(pattern) for pattern in unwanted)
    return any(fits(pattern) for pattern in wanted)


def _like(pattern: str, text: str) -> bool:
    return _expression(pattern).fullmatch(text) is not None


@lru_cache(maxsize=4096)
def _expression(pattern: str) -> re.Pattern[str]:
    """IAM's pattern: ``*`` is any text, ``?`` any character. A plan names few, and often."""
    parts = ({"*": ".*", "?": "."}.get(c) or re.escape(c) for c in pattern)
    return re.compile("".join(parts), re.DOTALL)


def _is(named: Principal, ask: Ask, *, by_account: bool) -> bool:
    """Whether a statement's principal is the one that asks, or its whole account."""
    if named.kind == EVERYBODY:
        return True
    if named.kind != ask.kind:
        return False
    if named.name == ask.principal:
        return True
    if not by_account or ask.kind != AWS:
        return False
    account = ask.principal.split(":")[4] if ask.principal.count(":") >= 5 else None
    return account is not None and (
        named.name == account
        or re.fullmatch(rf"arn:aws[a-z-]*:iam::{account}:root", named.name) is not None
    )


_TESTS: dict[str, Callable[[str, str], bool]] = {
    "stringequals": lambda given, value: given == value,
    "stringequalsignorecase": lambda given, value: given.lower() == value.lower(),
    "stringlike": _like,
    "arnequals": _like,
    "arnlike": _like,
    "bool": lambda given, value: given.lower() == value.lower(),
}
_NEGATED = {
    "stringnotequals": "stringequals",
    "stringnotequalsignorecase": "stringequalsignorecase",
    "stringnotlike": "stringlike",
    "arnnotequals": "arnequals",
    "arnnotlike": "arnlike",
}


def _holds(test: str, variable: str, given: tuple[str, ...], ask: Ask) -> bool | None:
    """Whether a condition holds; None where it is undecidable."""
    quantifier, _, operator = test.lower().rpartition(":")
    if_exists = operator.endswith("ifexists")
    operator = operator.removesuffix("ifexists")
    values = ask.value(variable)
    if isinstance(values, bool):
        return None
    if operator == "null":
        return (values is None) == (given == ("true",))
    negated = operator in _NEGATED
    compare = _TESTS.get(_NEGATED.get(operator, operator))
    if compare is None:
        return None
    if values is None:
        return negated or if_exists or quantifier == "forallvalues"
    if ANY in values and not any(g == "*" for g in given):
        return None
    hits = [v == ANY or any(compare(g, v) for g in given) for v in values]
    if negated:
        hits = [not hit for hit in hits]
        return any(hits) if quantifier == "foranyvalue" else all(hits)
    return all(hits) if quantifier == "forallvalues" else any(hits)
