"""Requests that must stay allowed, and requests that must not become allowed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from dekctl.guard.iam import AWS, Ask, Statement, allows

ELSEWHERE = "000000000000"
"""Stands for an account that has nothing to do with this one."""


@dataclass(frozen=True, slots=True)
class Need:
    """A request that something depends on; ``what`` names it: "CloudTrail can write its files"."""

    what: str
    ask: Ask


def lost(
    before: Sequence[Statement] | None,
    after: Sequence[Statement] | None,
    needs: Iterable[Need],
) -> list[str]:
    """What is allowed by a policy now and not any more, or not certainly, after the plan.

    Args:
        before: the statements now; None if Terraform does not manage the policy yet.
        after: the statements as planned; None if the plan does not show them.
        needs: the requests.
    """
    found = []
    for need in needs:
        had = before is None or allows(before, need.ask, lambda _: True)
        if had and (after is None or not allows(after, need.ask, (before or ()).__contains__)):
            found.append(need.what)
    return list(dict.fromkeys(found))


def newly_allowed(before: Sequence[Statement], after: Sequence[Statement], ask: Ask) -> bool:
    """Whether a policy allows a request, certainly or perhaps, that it does not allow now.

    A condition that cannot be decided and stands in both policies is decided alike in both.
    """
    return allows(after, ask, lambda _: True) and not allows(before, ask, after.__contains__)


def strangers(account: str | None, after: Sequence[Statement]) -> Iterator[tuple[str, str, str]]:
    """Who may have been let in: kind and name of the principal, and how to call it.

    Anybody elsewhere, anybody of the account, and everyone whom the new policy names.
    """
    yield AWS, f"arn:aws:iam::{ELSEWHERE}:role/stranger", "anybody"
    if account:
        name = f"any identity of account {account} (as its own policies say)"
        yield AWS, f"arn:aws:iam::{account}:role/stranger", name
    for principal in sorted(_named(after)):
        if principal[1] != "*" and not principal[1].endswith(f":{account}:root"):
            yield principal[0], principal[1], principal[1]


def _named(statements: Sequence[Statement]) -> set[tuple[str, str]]:
    return {
        (principal.kind, principal.name)
        for statement in statements
        if statement.effect == "Allow"
        for principal in statement.principals or ()
    }
