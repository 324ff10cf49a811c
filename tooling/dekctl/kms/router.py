"""Several providers as one: each row is opened by the provider that its ``kek_id`` names.

During a move from one provider to another, rows of both stand side by side. Each right is used by
the role made for it: Encrypt as wrapper, Decrypt as verifier, ReEncrypt as rewrapper. A provider is
made when it is first needed, so a command takes on no role that it does not use.
"""

from __future__ import annotations

import hmac
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from typing import TypeVar

from dekctl.config import Provider
from dekctl.config.roles import Role
from dekctl.errors import RowRejectedError, UsageError
from dekctl.kek_id import foreign_region, is_key_arn
from dekctl.kms.aws.provider import AWSKMS
from dekctl.kms.branch.keys import BranchKeys
from dekctl.kms.branch.store import Moved
from dekctl.kms.interface import (
    Context,
    KMSInterface,
    RewrapRequest,
    Unwrapped,
    UnwrapRequest,
    Wrapped,
    WrapRequest,
)

MakeProvider = Callable[[Provider, Role, str | None], KMSInterface]
"""Makes a provider for a role, in an AWS Region other than the configured one if that is named."""

Place = tuple[Provider, str | None]
"""Where a KEK is: its provider, and its Region where that is not the configured one."""
BRANCH: Place = ("memory", "branch")
"""Stands for the branch keys, which are at hand: no provider is asked for each row."""

Asked = TypeVar("Asked", UnwrapRequest, RewrapRequest)
Answer = TypeVar("Answer")


def provider_of(kek_id: str | None, default: Provider) -> Provider:
    """Which provider a stored ``kek_id`` belongs to; rows without one belong to the default."""
    if kek_id is None:
        return default
    if kek_id.startswith("env:"):
        return "env"
    if kek_id.startswith("memory:"):
        return "memory"
    return "aws"


class RoutedKMS(KMSInterface):
    """Wraps with the configured provider, and opens what any provider wrapped."""

    def __init__(self, target: Provider, make: MakeProvider, region: str | None = None) -> None:
        """Prepare.

        Args:
            target: the provider that wraps.
            make: builds a provider for a role when it is needed.
            region: the AWS Region that the target works in, where it is known.
        """
        super().__init__()
        self.name = target
        self.carried = 0
        """Keys so far that left one provider for another: opened and wrapped in this process."""
        self.on_carry: Callable[[bool], None] = lambda _: None
        """Called before the first key is opened and wrapped anew: with True where one comes from
        another provider or Region, with False where it changes between V2 and V3."""
        self._carried_said: set[bool] = set()
        self._target: Provider = target
        self._make = make
        self._region = region
        self._made: dict[tuple[Provider, Role, str | None], KMSInterface] = {}
        self._concurrency: int | None = None
        self.branches: BranchKeys | None = None
        """The branch keys (V3); None where the database has no table of them."""
        self._lock = threading.Lock()

    @property
    def target(self) -> Provider:
        """The provider that wraps."""
        return self._target

    def provider(self, name: Provider, role: Role, region: str | None = None) -> KMSInterface:
        """The provider that acts in a role, in another Region than the target's if one is named."""
        with self._lock:
            if (name, role, region) not in self._made:
                made = self._made[name, role, region] = self._make(name, role, region)
                if self._concurrency is not None:
                    made.set_concurrency(self._concurrency)
            return self._made[name, role, region]

    def resolve(self, kek: str, role: Role) -> str:
        """The id that rows store for a KEK of the target: an alias or key id is looked up.

        Raises:
            KMSError: KMS refused or cannot be reached.
        """
        if self._target != "aws" or is_key_arn(kek):
            return kek
        provider = self.provider("aws", role)
        assert isinstance(provider, AWSKMS)
        return str(provider.describe(kek)["Arn"])

    @property
    def kek_id(self) -> str:
        return self.provider(self._target, Role.REWRAPPER).kek_id

    @property
    def call_counts(self) -> Counter[str]:
        """KMS calls of all providers together, by API name."""
        with self._lock:
            return sum((provider.calls for provider in self._made.values()), Counter())

    def wrap_many(self, requests: Sequence[WrapRequest]) -> list[Wrapped | RowRejectedError]:
        if requests and requests[0].hierarchical:  # one call never mixes the two
            return self._branch_keys.wrap_many(requests)
        return self.provider(self._target, Role.WRAPPER).wrap_many(requests)

    def expect(self, context_name: str, under: str | None, rows: int) -> None:
        """Say that so many keys of a table will be wrapped under branch keys soon."""
        self._branch_keys.expect(context_name, under, rows)

    def generate(
        self, size: int, context: Context | None, under: str | None = None
    ) -> tuple[Unwrapped, Wrapped]:
        return self.provider(self._target, Role.WRAPPER).generate(size, context, under)

    def unwrap_many(self, requests: Sequence[UnwrapRequest]) -> list[Unwrapped | RowRejectedError]:
        return self._split(
            requests,
            lambda place, part: (
                self._branch_keys.unwrap_many(part)
                if place == BRANCH
                else self.provider(place[0], Role.VERIFIER, place[1]).unwrap_many(part)
            ),
        )

    def rewrap_many(self, requests: Sequence[RewrapRequest]) -> list[Wrapped | RowRejectedError]:
        return self._split(requests, self._rewrap_part)

    def _rewrap_part(
        self, place: Place, part: Sequence[RewrapRequest]
    ) -> list[Wrapped | RowRejectedError]:
        new = any(request.new_hierarchical for request in part)
        if place == BRANCH and new:
            return self._branch_keys.rewrap_many(part)
        if place == (self._target, None) and not new:
            return self.provider(self._target, Role.REWRAPPER).rewrap_many(part)
        return self._carry_over(part)

    def rewrap_branch_keys(
        self, context_name: str, source: str | None, under: str | None, *, again: bool = False
    ) -> Moved:
        """Move a table's branch keys; see :meth:`dekctl.kms.branch.keys.BranchKeys.rewrap_all`."""
        if self.branches is None:
            return Moved()
        return self.branches.rewrap_all(context_name, source, under, again=again)

    @property
    def _branch_keys(self) -> BranchKeys:
        if self.branches is None:
            raise UsageError(
                "hierarchical wrapping (V3) needs the table of branch keys, which is not there",
                hint="make it with: dekctl schema expand",
            )
        return self.branches

    def place(self, kek_id: str | None) -> Place:
        """Which provider a row belongs to, and its Region where ReEncrypt cannot reach it."""
        name = provider_of(kek_id, self._target)
        if name != "aws" or kek_id is None:
            return name, None
        return name, foreign_region(kek_id, self._region)

    def _split(
        self,
        requests: Sequence[Asked],
        answer: Callable[[Place, Sequence[Asked]], Sequence[Answer]],
    ) -> list[Answer]:
        """Hand each provider its own requests, and give the answers back in order."""
        by_place: dict[Place, list[int]] = {}
        for i, request in enumerate(requests):
            place = BRANCH if request.hierarchical else self.place(request.kek_id)
            by_place.setdefault(place, []).append(i)
        if len(by_place) == 1:
            return list(answer(place, requests))
        answers: dict[int, Answer] = {}
        for place, places in by_place.items():
            found = answer(place, [requests[i] for i in places])
            answers.update(zip(places, found, strict=True))
        return [answers[i] for i in range(len(requests))]

    def _carry_over(self, requests: Sequence[RewrapRequest]) -> list[Wrapped | RowRejectedError]:
        """Where ReEncrypt cannot: unwrap, wrap, and open the new blob before it counts."""
        home: Place = (self._target, None)
        strange = [self.place(request.kek_id) != home for request in requests]
        with self._lock:
            new = set(strange) - self._carried_said
            self._carried_said |= new
        for from_elsewhere in sorted(new):
            self.on_carry(from_elsewhere)
        opened = self.unwrap_many(
            [UnwrapRequest(r.wrapped, r.kek_id, r.context, r.hierarchical) for r in requests]
        )
        good = [
            WrapRequest(answer.plaintext, r.new_context, r.under, r.new_hierarchical)
            for answer, r in zip(opened, requests, strict=True)
            if isinstance(answer, Unwrapped)
        ]
        wrapped = self.wrap_many(good)
        checked = iter(self._check(good, wrapped))
        answers = [next(checked) if isinstance(answer, Unwrapped) else answer for answer in opened]
        with self._lock:
            self.carried += sum(
                isinstance(answer, Wrapped) and from_elsewhere
                for answer, from_elsewhere in zip(answers, strange, strict=True)
            )
        return answers

    def _check(
        self, keys: Sequence[WrapRequest], wrapped: Sequence[Wrapped | RowRejectedError]
    ) -> list[Wrapped | RowRejectedError]:
        places = [i for i, answer in enumerate(wrapped) if isinstance(answer, Wrapped)]
        requests = []
        for i in places:
            answer = wrapped[i]
            assert isinstance(answer, Wrapped)
            requests.append(
                UnwrapRequest(answer.blob, answer.kek_id, keys[i].context, keys[i].hierarchical)
            )
        answers = list(wrapped)
        for i, again in zip(places, self.unwrap_many(requests), strict=True):
            if isinstance(again, RowRejectedError):
                answers[i] = again
            elif not hmac.compare_digest(again.plaintext, keys[i].plaintext):
                answers[i] = RowRejectedError("the new wrapped key does not open to the same key")
        return answers

    def set_concurrency(self, concurrency: int) -> None:
        """Change how many KMS calls may be in flight, of every provider that makes such calls."""
        with self._lock:
            self._concurrency = concurrency
            for provider in self._made.values():
                provider.set_concurrency(concurrency)

    def close(self) -> None:
        with self._lock:
            for provider in self._made.values():
                provider.close()
