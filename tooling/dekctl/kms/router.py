"""Several providers as one: each row goes to the provider that its ``kek_id`` names.

During a move from one provider to another, rows of both stand side by side. Each right is used by
the role made for it: Encrypt as wrapper, Decrypt as verifier, ReEncrypt as rewrapper. A provider is
made when it is first needed, so a command assumes no role that it does not use.
"""

from __future__ import annotations

import hmac
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from typing import NamedTuple, TypeVar

from dekctl.config.roles import Role
from dekctl.errors import (
    BranchKeyMissingError,
    KekRefusedError,
    KMSError,
    RowRejectedError,
    UsageError,
)
from dekctl.kek_id import foreign_region
from dekctl.kms.branch.keys import BranchKeys
from dekctl.kms.branch.store import BranchRewrapResult
from dekctl.kms.dek import hides_keys
from dekctl.kms.interface import (
    GenerateRequest,
    KMSInterface,
    RewrapRequest,
    Unwrapped,
    UnwrapRequest,
    Wrapped,
    WrapRequest,
)
from dekctl.kms.providers import provider_named, provider_of

MakeProvider = Callable[[str, Role, str | None, str | None], KMSInterface]
"""Makes a provider: its name, the role, another AWS Region than the configured one, the run's id.
"""


class Location(NamedTuple):
    """Where a row's KEK is: its provider, and its AWS Region where that is not the configured one.

    ``provider`` is None where no provider has KEKs of such a name.
    """

    provider: str | None
    region: str | None = None


BRANCH_KEYS = Location("branch keys")
"""Stands for the branch keys (V3), which are in memory: no provider is asked for each row."""

ROUNDS_FOR_LOST = 5
"""How often keys are wrapped anew whose branch key was lost at once; the next one, made in advance,
may be lost with it."""

Asked = TypeVar("Asked", UnwrapRequest, RewrapRequest)
Answer = TypeVar("Answer", Wrapped, Unwrapped)


class RoutedKMS(KMSInterface):
    """Wraps with the configured provider, and unwraps what any provider wrapped."""

    def __init__(self, target: str, make: MakeProvider, region: str | None = None) -> None:
        """Prepare.

        Args:
            target: the provider that wraps, by name.
            make: makes a provider for a role when it is needed.
            region: the AWS Region that the target works in, where it is known.
        """
        super().__init__()
        self.name = target
        self.reencrypted_locally = 0
        """Keys so far that left one provider for another: unwrapped and wrapped in this process."""
        self.on_local_reencrypt: Callable[[bool], None] = lambda _: None
        """Called before keys are first unwrapped and wrapped in this process: with True where they
        come from another provider or Region, with False where they change between V2 and V3."""
        self._announced: set[bool] = set()
        self._target = target
        self._make = make
        self._region = region
        self._made: dict[tuple[str, Role, str | None], KMSInterface] = {}
        self._run_id: str | None = None
        self._past_calls: Counter[str] = Counter()
        self._concurrency: int | None = None
        self.branches: BranchKeys | None = None
        """The branch keys (V3); None where the database has no table of them."""
        self._lock = threading.Lock()

    @property
    def target(self) -> str:
        """The name of the provider that wraps."""
        return self._target

    @property
    def home(self) -> Location:
        """Where the KEK that wraps is."""
        return Location(self._target)

    def provider(self, name: str, role: Role, region: str | None = None) -> KMSInterface:
        """The provider of a name, acting in a role, in another Region than the target's if named.

        Raises:
            UsageError: it is not configured.
        """
        with self._lock:
            if (name, role, region) not in self._made:
                made = self._make(name, role, region, self._run_id)
                self._made[name, role, region] = made
                if self._concurrency is not None:
                    made.set_concurrency(self._concurrency)
            return self._made[name, role, region]

    def act_for(self, run_id: str) -> None:
        """Make the calls of a run from now on, in AWS sessions that bear its id.

        No call may be in flight.
        """
        with self._lock:
            if run_id == self._run_id:
                return
            self._run_id = run_id
            in_roles = [key for key in self._made if provider_named(key[0]).roles]
            for key in in_roles:
                provider = self._made.pop(key)
                self._past_calls += provider.calls
                provider.close()

    def kek_id_of(self, kek: str, role: Role) -> str:
        """The id that rows store for a KEK of the target: an alias or key id is looked up.

        Raises:
            KMSError: KMS refused or cannot be reached.
        """
        return self.provider(self._target, role).resolve(kek)

    @property
    def kek_id(self) -> str:
        return self.provider(self._target, Role.REWRAPPER).kek_id

    @property
    def call_counts(self) -> Counter[str]:
        """KMS calls of all providers together, by API name."""
        with self._lock:
            # Copies: calls are being counted meanwhile.
            made = self._made.values()
            return sum((provider.calls.copy() for provider in made), self._past_calls)

    @hides_keys
    def wrap_many(self, requests: Sequence[WrapRequest]) -> list[Wrapped | RowRejectedError]:
        if requests and requests[0].hierarchical:  # one call never mixes the two
            return self._branch_keys.wrap_many(requests)
        return self.provider(self._target, Role.WRAPPER).wrap_many(requests)

    def expect(self, context_name: str, kek: str | None, rows: int) -> None:
        """Announce that this many keys of a table will soon be wrapped under branch keys."""
        self._branch_keys.expect(context_name, kek, rows)

    @hides_keys
    def generate_many(
        self, requests: Sequence[GenerateRequest]
    ) -> list[tuple[Unwrapped, Wrapped] | RowRejectedError]:
        return self.provider(self._target, Role.WRAPPER).generate_many(requests)

    @hides_keys
    def unwrap_many(self, requests: Sequence[UnwrapRequest]) -> list[Unwrapped | RowRejectedError]:
        return self._split(requests, self._unwrap_part)

    def _unwrap_part(
        self, location: Location, part: Sequence[UnwrapRequest]
    ) -> list[Unwrapped | RowRejectedError]:
        if location == BRANCH_KEYS:
            return self._branch_keys.unwrap_many(part)
        if location.provider is None:
            return [_unknown(request.kek_id) for request in part]
        if location == self.home:
            return self.provider(self._target, Role.VERIFIER).unwrap_many(part)
        try:
            return self.provider(location.provider, Role.VERIFIER, location.region).unwrap_many(
                part
            )
        except (KMSError, UsageError) as error:  # not configured, no such Region, out of reach
            return [
                KekRefusedError(
                    f"its KEK {request.kek_id} cannot be used: {error.message}", hint=error.hint
                )
                for request in part
            ]

    @hides_keys
    def rewrap_many(self, requests: Sequence[RewrapRequest]) -> list[Wrapped | RowRejectedError]:
        return self._split(requests, self._rewrap_part)

    def _rewrap_part(
        self, location: Location, part: Sequence[RewrapRequest]
    ) -> list[Wrapped | RowRejectedError]:
        to_branch_keys = any(request.new_hierarchical for request in part)
        if location == BRANCH_KEYS and to_branch_keys:
            return self._branch_keys.rewrap_many(part)
        if location.provider is None:
            return [_unknown(request.kek_id) for request in part]
        if location == self.home and not to_branch_keys:
            return self.provider(self._target, Role.REWRAPPER).rewrap_many(part)
        return self.reencrypt_locally(part)

    def rewrap_branch_keys(
        self,
        context_name: str,
        source: str | None,
        new_kek: str | None,
        *,
        include_current: bool = False,
    ) -> BranchRewrapResult:
        """Rewrap a table's branch keys; see :meth:`.BranchKeys.rewrap_all`."""
        if self.branches is None:
            return BranchRewrapResult()
        return self.branches.rewrap_all(
            context_name, source, new_kek, include_current=include_current
        )

    @property
    def _branch_keys(self) -> BranchKeys:
        if self.branches is None:
            raise UsageError(
                "hierarchical wrapping (V3) needs the table dekctl_branch_keys, which does not "
                "exist",
                hint="if rows are at V3 already (dekctl status), restore it from a backup of this "
                "database; else create it with: dekctl schema upgrade",
            )
        return self.branches

    def location(self, kek_id: str | None) -> Location:
        """Where the KEK of a row is; rows that name none belong to the target."""
        if kek_id is None:
            return self.home
        spec = provider_of(kek_id)
        return Location(spec.name if spec else None, foreign_region(kek_id, self._region))

    def _split(
        self,
        requests: Sequence[Asked],
        answer: Callable[[Location, Sequence[Asked]], Sequence[Answer | RowRejectedError]],
    ) -> list[Answer | RowRejectedError]:
        """Hand each provider its own requests; return the answers in the order of the requests."""
        found = {(request.hierarchical, request.kek_id) for request in requests}
        locations = {  # once for each KEK, not for each row
            (in_branch, kek_id): BRANCH_KEYS if in_branch else self.location(kek_id)
            for in_branch, kek_id in found
        }
        if len(set(locations.values())) == 1:
            return list(answer(next(iter(locations.values())), requests))
        indexes: dict[Location, list[int]] = {}
        for i, request in enumerate(requests):
            location = locations[request.hierarchical, request.kek_id]
            indexes.setdefault(location, []).append(i)
        answers: dict[int, Answer | RowRejectedError] = {}
        for location, mine in indexes.items():
            answers.update(zip(mine, answer(location, [requests[i] for i in mine]), strict=True))
        return [answers[i] for i in range(len(requests))]

    def reencrypt_locally(
        self, requests: Sequence[RewrapRequest]
    ) -> list[Wrapped | RowRejectedError]:
        """Where ReEncrypt cannot: unwrap, wrap, and unwrap the new blob before it counts."""
        foreign = [self.location(request.kek_id) != self.home for request in requests]
        with self._lock:
            new = set(foreign) - self._announced
            self._announced |= new
        for from_elsewhere in sorted(new):
            self.on_local_reencrypt(from_elsewhere)
        unwrapped = self.unwrap_many(
            [UnwrapRequest(r.wrapped, r.kek_id, r.context, r.hierarchical) for r in requests]
        )
        good = [
            WrapRequest(answer.plaintext, r.new_context, r.new_kek, r.new_hierarchical)
            for answer, r in zip(unwrapped, requests, strict=True)
            if isinstance(answer, Unwrapped)
        ]
        checked = iter(self._wrap_and_check(good))
        answers = [
            next(checked) if isinstance(answer, Unwrapped) else answer for answer in unwrapped
        ]
        with self._lock:
            self.reencrypted_locally += sum(
                isinstance(answer, Wrapped) and from_elsewhere
                for answer, from_elsewhere in zip(answers, foreign, strict=True)
            )
        return answers

    def _wrap_and_check(self, keys: Sequence[WrapRequest]) -> list[Wrapped | RowRejectedError]:
        """Wrap keys; again where a new branch key was lost before its copies were checked.

        Such a row is sound: it still has its old wrapped key.
        """
        answers: list[Wrapped | RowRejectedError] = []
        places = list(range(len(keys)))
        for _ in range(ROUNDS_FOR_LOST):
            part = [keys[i] for i in places]
            wrapped = self.wrap_many(part)
            checked = self._check(part, wrapped)
            if not answers:
                answers = checked
            for i, answer in zip(places, checked, strict=True):
                answers[i] = answer
            lost = {
                i: new.branch_key.branch_id
                for i, new, answer in zip(places, wrapped, checked, strict=True)
                if isinstance(answer, BranchKeyMissingError)
                and isinstance(new, Wrapped)
                and new.branch_key is not None
            }
            if not lost:
                break
            self._branch_keys.forget_all(set(lost.values()))
            places = list(lost)
        return answers

    def _check(
        self, keys: Sequence[WrapRequest], wrapped: Sequence[Wrapped | RowRejectedError]
    ) -> list[Wrapped | RowRejectedError]:
        """Reject each new blob that does not unwrap to the key it was made from."""
        good = [(i, new) for i, new in enumerate(wrapped) if isinstance(new, Wrapped)]
        requests = [
            UnwrapRequest(new.blob, new.kek_id, keys[i].context, keys[i].hierarchical)
            for i, new in good
        ]
        answers = list(wrapped)
        for (i, _), copy in zip(good, self.unwrap_many(requests), strict=True):
            if isinstance(copy, RowRejectedError):
                answers[i] = copy
            elif not hmac.compare_digest(copy.plaintext, keys[i].plaintext):
                answers[i] = RowRejectedError("the new wrapped key decrypts to a different key")
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


def _unknown(kek_id: str | None) -> RowRejectedError:
    return RowRejectedError(
        f"its kek_id {kek_id} is of no provider that this dekctl has",
        hint="was kek_id changed by hand, or the row wrapped by a newer dekctl?",
    )
