"""Which KEK opens a row: the one it names or, where that name may be stale, each known one in turn.

Here it is also decided whether a refusal concerns one row or all: a KEK of the environment is
everybody's, any other KEK is the trouble of the rows that name it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

from dekctl.errors import KekRefusedError, KMSError, KMSRefusedError, RowRejectedError
from dekctl.kek_id import (
    in_region,
    is_alias,
    is_key_arn,
    is_malformed,
    is_multi_region,
    is_same_kek,
    key_id_of,
)
from dekctl.kms.aws.transport import Request, Response
from dekctl.kms.interface import Context, RewrapRequest, UnwrapRequest

Opened = TypeVar("Opened")

MAX_BLOB_BYTES = 6144
"""The longest wrapped key that KMS takes (AWS KMS API reference, Decrypt, ``CiphertextBlob``)."""
MAX_CONTEXT_CHARACTERS = 8192
"""What KMS takes as an encryption context, names and values together."""

_WRONG_KEK_CODES = frozenset({"IncorrectKeyException"})
"""The KEK did not wrap the row's key: an error of that row."""
_CLOSED_KEK_CODES = frozenset({"DisabledException", "KMSInvalidStateException"})
"""A KEK that decrypts nothing now; the row may belong to another candidate."""
_NO_KEK_CODES = frozenset(
    {
        "AccessDeniedException",
        "InvalidArnException",
        "InvalidKeyUsageException",
        "NotFoundException",
        "UnsupportedOperationException",
        "ValidationException",
    }
)
"""A KEK that is not there, or not for us."""
_KEK_CODES = _CLOSED_KEK_CODES | _NO_KEK_CODES


class KekTrials:
    """Tries the KEKs of rows, for one provider."""

    def __init__(
        self,
        known: Sequence[str],
        region: str | None,
        call_many: Callable[[str, Sequence[Request]], Sequence[Response | KMSError]],
        resolve: Callable[[str], str],
    ) -> None:
        """Prepare.

        Args:
            known: the KEKs of the environment: ARNs, key ids or aliases.
            region: where KMS is called.
            call_many: calls KMS.
            resolve: asks KMS for the ARN of an alias.
        """
        self._known = known
        self._region = region
        self._call_many = call_many
        self._resolve = resolve
        self._good: set[str] = set()
        """KEKs that have opened a row here."""

    def open(
        self,
        operation: str,
        requests: Sequence[UnwrapRequest | RewrapRequest],
        call: Callable[[int, str], Request],
        result: Callable[[Response], Opened],
    ) -> list[Opened | RowRejectedError]:
        """Open each row.

        Args:
            operation: ``Decrypt`` or ``ReEncrypt``.
            requests: the rows.
            call: the parameters of the call for a row, by its index and the KEK to try.
            result: what becomes of a good answer.

        Raises:
            KMSError: for what every row would meet: the environment's own KEK is refused, or KMS
                cannot be reached.
        """
        answers: dict[int, Opened | RowRejectedError] = {}
        candidates: dict[int, tuple[str, ...]] = {}
        for i, request in enumerate(requests):
            unfit = _unfit(request)
            if unfit is None:
                candidates[i] = self.candidates(request.kek_id)
            else:
                answers[i] = unfit
        elsewhere: set[int] = set()
        closed: dict[int, KMSError] = {}
        waiting, attempt = list(candidates), 0
        while waiting:
            keks = {i: candidates[i][attempt] for i in waiting}
            again: list[int] = []
            for i, response in self._ask(operation, keks, call).items():
                if not isinstance(response, KMSError):
                    self._good.add(keks[i])
                    answers[i] = result(response)
                    continue
                if response.code in _CLOSED_KEK_CODES:
                    closed[i] = response
                elif response.code in _NO_KEK_CODES | _WRONG_KEK_CODES:
                    elsewhere.add(i)
                else:
                    answers[i] = self._rejection(requests[i], keks[i], response)
                    continue
                if attempt + 1 < len(candidates[i]):
                    again.append(i)
                elif i in elsewhere and i in closed:
                    answers[i] = RowRejectedError(
                        f"no usable KEK can decrypt its wrapped key; {closed[i].message}",
                        hint="if that KEK wrapped it, enable the KEK, then run: dekctl verify",
                        code=closed[i].code,
                    )
                else:
                    answers[i] = self._rejection(requests[i], keks[i], response)
            waiting, attempt = again, attempt + 1
        return [answers[i] for i in range(len(requests))]

    def _ask(
        self, operation: str, keks: Mapping[int, str], call: Callable[[int, str], Request]
    ) -> dict[int, Response | KMSError]:
        """Call KMS for each row: of a KEK that has opened nothing yet, for one row first.

        A refused KEK is waited for, as IAM takes time to spread: once, and not for every row.
        """
        answers: dict[int, Response | KMSError] = {}

        def ask(indexes: Sequence[int]) -> None:
            if indexes:
                found = self._call_many(operation, [call(i, keks[i]) for i in indexes])
                answers.update(zip(indexes, found, strict=True))

        first = {kek: i for i, kek in reversed(list(keks.items())) if kek not in self._good}
        if len(first) == len(keks):
            ask(list(keks))
            return answers
        ask(list(first.values()))
        refused = {kek: answers[i] for kek, i in first.items() if _is_refusal(answers[i])}
        answers.update({i: refused[kek] for i, kek in keks.items() if kek in refused})
        ask([i for i in keks if i not in answers])
        return {i: answers[i] for i in keks}

    def candidates(self, kek_id: str | None) -> tuple[str, ...]:
        """The KEKs to try for a row that names this one, as they are called here."""
        if kek_id is None:
            return tuple(map(self._related, self._known))
        if is_key_arn(kek_id):
            return (self._related(kek_id),)
        return tuple(dict.fromkeys((kek_id, *map(self._related, self._known))))

    def _related(self, kek: str) -> str:
        """The replica here of a multi-Region key of another Region; any other key unchanged."""
        here = self._region
        return in_region(kek, here) if here is not None and is_multi_region(kek) else kek

    def _rejection(
        self, request: UnwrapRequest | RewrapRequest, tried: str, error: KMSError
    ) -> RowRejectedError:
        """Turn a KMS error into the answer for one row, or raise it if it concerns every row."""
        if isinstance(error, RowRejectedError):
            return error
        kek_id = request.kek_id
        wrong = error.code in _WRONG_KEK_CODES
        if wrong or (
            error.code in _KEK_CODES
            and kek_id is not None
            and not _is_about_target(error, tried, request)
            and not self._is_ours(tried)
        ):
            kind = RowRejectedError if wrong else KekRefusedError
            return kind(
                f"KEK {kek_id} cannot decrypt this row's wrapped key: {error.code}",
                hint=error.hint,
                code=error.code,
            )
        if kek_id and isinstance(error, KMSRefusedError):
            raise KMSRefusedError(
                f"{error.message}, KEK {kek_id}", hint=error.hint, code=error.code
            )
        raise error

    def _is_ours(self, kek: str) -> bool:
        """Whether a KEK is one of the environment's; so too where KMS does not tell."""
        if any(kek == known or is_same_kek(known, kek) for known in self._known):
            return True
        try:
            return any(
                is_same_kek(self._resolve(known), kek) for known in self._known if is_alias(known)
            )
        except KMSError:
            return True


def _unfit(request: UnwrapRequest | RewrapRequest) -> RowRejectedError | None:
    """Why KMS cannot be asked about a row at all."""
    if request.kek_id is not None and is_malformed(request.kek_id):
        return KekRefusedError(
            f"its kek_id {request.kek_id} is not the ARN of a KMS key",
            hint="was kek_id changed by hand?",
        )
    if not 1 <= len(request.wrapped) <= MAX_BLOB_BYTES:
        return RowRejectedError(
            f"its wrapped key is {len(request.wrapped):,} bytes long, which no key of KMS is",
            code="InvalidCiphertextException",
        )
    new_context = request.new_context if isinstance(request, RewrapRequest) else None
    return too_long(request.context) or too_long(new_context)


def too_long(context: Context | None) -> RowRejectedError | None:
    """Why an encryption context is not one for KMS; None where it is."""
    size = sum(map(len, (context or {}).keys())) + sum(map(len, (context or {}).values()))
    if size <= MAX_CONTEXT_CHARACTERS:
        return None
    return RowRejectedError(
        f"its primary key is too long: the encryption context has {size:,} characters, and KMS "
        f"takes {MAX_CONTEXT_CHARACTERS:,}",
        hint="shorten the key, or wrap the table under branch keys: dekctl wrap --hierarchical",
    )


def _is_refusal(answer: Response | KMSError) -> bool:
    return isinstance(answer, KMSError) and answer.code in _KEK_CODES - {"ValidationException"}


def _is_about_target(error: KMSError, tried: str, request: UnwrapRequest | RewrapRequest) -> bool:
    """Whether KMS names another key than the one that was tried: a rewrap's new KEK."""
    if not isinstance(request, RewrapRequest):
        return False
    return ":key/" in error.message and key_id_of(tried) not in error.message
