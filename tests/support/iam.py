"""Decides what IAM policy documents allow, for one account.

It covers what this project's policies use and raises on everything else, so that a policy it does
not understand fails a test instead of passing one. It is no proof by AWS: it is the documented
evaluation logic, written down a second time.

Logic, as AWS documents it for one account: an explicit deny anywhere wins. Otherwise a key policy
that allows the caller by ARN is enough. One that allows the account's root hands the decision to
the caller's identity policies. Nothing else allows.
"""

from __future__ import annotations

import fnmatch
import functools
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

Statement = Mapping[str, Any]
Document = Mapping[str, Any]

ARN_PARTS = 6
PRINCIPAL = re.compile(r"\d{12}|arn:aws:iam::\d{12}:(root|(role|user)/[\w+=,.@/-]+)")
KNOWN_ELEMENTS = {"Sid", "Effect", "Principal", "Action", "Resource", "Condition"}


class UnknownPolicyError(Exception):
    """The policy uses something this evaluator does not know."""


@dataclass(frozen=True)
class Request:
    """One call: who, what, on which key, with which condition keys."""

    principal: str
    action: str
    resource: str
    #: Condition keys in lower case, each with its values; a missing key is absent.
    context: Mapping[str, Sequence[str]] = field(default_factory=dict)


def kms_request(
    principal: str,
    action: str,
    key: str,
    encryption_context: Mapping[str, str] | None,
    **conditions: str,
) -> Request:
    """A KMS call as IAM sees it, with the condition keys KMS derives from the context.

    ``conditions`` are further condition keys of KMS, such as ``ViaService="s3.amazonaws.com"``.
    """
    context: dict[str, Sequence[str]] = {"aws:principalarn": [principal]}
    context |= {f"kms:{name}".lower(): [value] for name, value in conditions.items()}
    if encryption_context:
        context["kms:encryptioncontextkeys"] = list(encryption_context)
        for name, value in encryption_context.items():
            context[f"kms:encryptioncontext:{name}".lower()] = [value]
    return Request(principal, action, key, context)


def is_allowed(request: Request, *, identity: Document | None, key_policy: Document) -> bool:
    """Whether the call goes through.

    Args:
        request: the call.
        identity: the policy of the calling role; None where it has none.
        key_policy: the policy of the key that is called.

    Raises:
        UnknownPolicyError: a document has an element, operator or principal that is not known here.
    """
    identity_effects = _effects(request, identity, needs_principal=False)
    key_effects = _effects(request, key_policy, needs_principal=True)
    if "Deny" in identity_effects or "Deny" in key_effects:
        return False
    delegated = "Delegate" in key_effects
    return "Allow" in key_effects or (delegated and "Allow" in identity_effects)


def _effects(request: Request, document: Document | None, *, needs_principal: bool) -> set[str]:
    if document is None:
        return set()
    _refuse_unknown_document(document, needs_principal=needs_principal)
    effects = set()
    for statement in _many(document["Statement"]):
        if not _applies(request, statement):
            continue
        effect = statement["Effect"]
        if needs_principal:
            reach = _principal(statement["Principal"], request.principal)
            if reach is None:
                continue
            effect = "Delegate" if effect == "Allow" and reach == "account" else effect
        effects.add(effect)
    return effects


_known: dict[tuple[int, bool], Document] = {}
"""Documents that were looked through; kept, so that none gets the id of another one."""


def _refuse_unknown_document(document: Document, *, needs_principal: bool) -> None:
    """Look through a document once. It must not change afterwards."""
    if (id(document), needs_principal) in _known:
        return
    if document.get("Version") != "2012-10-17":
        raise UnknownPolicyError(f"policy version {document.get('Version')!r}")
    # All before any is matched, so that one that does not apply today is not passed over.
    for statement in _many(document["Statement"]):
        _refuse_unknown(statement, needs_principal=needs_principal)
    _known[id(document), needs_principal] = document


def _refuse_unknown(statement: Statement, *, needs_principal: bool) -> None:
    sid = statement.get("Sid")
    unknown = set(statement) - KNOWN_ELEMENTS
    if unknown:
        raise UnknownPolicyError(f"element {sorted(unknown)} in {sid}")
    if statement["Effect"] not in ("Allow", "Deny"):
        raise UnknownPolicyError(f"effect {statement['Effect']!r} in {sid}")
    if "${" in json.dumps(statement):
        raise UnknownPolicyError(f"a policy variable in {sid}")
    if ("Principal" in statement) is not needs_principal:
        raise UnknownPolicyError(f"principal missing or out of place in {sid}")
    if needs_principal:
        _refuse_unknown_principal(statement["Principal"])
    for pattern in (*_many(statement["Action"]), *_many(statement["Resource"])):
        _like("", pattern)
    for operator, keys in statement.get("Condition", {}).items():
        for key, values in keys.items():
            for sample in ({}, {key.lower(): ["0"]}):  # absent and present
                _condition(operator, key, _many(values), sample)


def _refuse_unknown_principal(principal: Any) -> None:
    if principal == "*":
        return
    if not isinstance(principal, Mapping) or set(principal) - {"AWS", "Service"}:
        raise UnknownPolicyError(f"principal {principal}")
    for arn in _many(principal.get("AWS", [])):
        if arn != "*" and not PRINCIPAL.fullmatch(arn):
            raise UnknownPolicyError(f"principal {arn!r}")


def _applies(request: Request, statement: Statement) -> bool:
    action = request.action.lower()
    return (
        any(_like(action, a.lower()) for a in _many(statement["Action"]))
        and any(_like(request.resource, r) for r in _many(statement["Resource"]))
        and all(
            _condition(operator, key, _many(values), request.context)
            for operator, keys in statement.get("Condition", {}).items()
            for key, values in keys.items()
        )
    )


def _principal(principal: Any, caller: str) -> str | None:
    """``exact``, ``account`` (decided by identity policies) or None where it is somebody else."""
    if principal == "*":
        return "exact"
    account = caller.split(":")[4]
    reach = None
    for arn in _many(principal.get("AWS", [])):
        if arn in ("*", caller):
            return "exact"
        if arn in (account, f"arn:aws:iam::{account}:root"):
            reach = "account"
    return reach


def _condition(
    operator: str, key: str, wanted: Sequence[str], context: Mapping[str, Sequence[str]]
) -> bool:
    present = context.get(key.lower())
    if operator == "Null":
        return (present is None) == _true(_one(wanted))
    quantifier, _, plain = operator.rpartition(":")
    tests: dict[str, Callable[[str], bool]] = {
        "StringEquals": lambda value: value in wanted,
        "StringLike": lambda value: any(_like(value, w) for w in wanted),
        "ArnEquals": lambda value: any(_like_arn(value, w) for w in wanted),
        "ArnLike": lambda value: any(_like_arn(value, w) for w in wanted),
        "Bool": lambda value: (value.lower() == "true") == _true(_one(wanted)),
        "NumericLessThan": lambda value: float(value) < float(_one(wanted)),
    }
    test = tests.get(plain)
    if test is None or quantifier not in ("", "ForAllValues", "ForAnyValue"):
        raise UnknownPolicyError(f"condition operator {operator}")
    if quantifier == "ForAllValues":
        return all(test(value) for value in present or ())
    if quantifier == "ForAnyValue":
        return any(test(value) for value in present or ())
    # A missing key matches no operator that asks for a value.
    return present is not None and test(_one(present))


@functools.cache  # a table asks for the same few pairs thousands of times
def _like(value: str, pattern: str) -> bool:
    return _expression(pattern).match(value) is not None


@functools.cache
def _expression(pattern: str) -> re.Pattern[str]:
    # IAM knows * and ? only; fnmatch would also read brackets.
    if "[" in pattern:
        raise UnknownPolicyError(f"pattern {pattern!r}")
    return re.compile(fnmatch.translate(pattern))


def _like_arn(value: str, pattern: str) -> bool:
    # Part by part: a wildcard does not reach over a colon, except in the last part.
    parts, wanted = value.split(":", 5), pattern.split(":", 5)
    if len(wanted) != ARN_PARTS:
        raise UnknownPolicyError(f"{pattern!r} is no ARN")
    return len(parts) == ARN_PARTS and all(map(_like, parts, wanted))


def _true(value: str) -> bool:
    if value not in ("true", "false"):
        raise UnknownPolicyError(f"neither true nor false: {value!r}")
    return value == "true"


def _one(values: Sequence[str]) -> str:
    if len(values) != 1:
        raise UnknownPolicyError(f"several values where one is known: {list(values)}")
    return values[0]


def _many(value: Any) -> Sequence[Any]:
    return value if isinstance(value, list | tuple) else [value]
