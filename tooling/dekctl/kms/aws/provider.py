"""AWS KMS as a key provider.

Every call names its key (``KeyId``, ``SourceKeyId``): without it, KMS would take the key from the
blob and hide that a row is "still on the old key". A row is decrypted with the ARN it stores. Rows
of an earlier script may store an alias or a key id instead; an alias may have moved since, so those
are tried with each known KEK in turn.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import boto3
from botocore import xform_name
from botocore.exceptions import BotoCoreError, ClientError, HTTPClientError

from dekctl.errors import KMSError, KMSRefusedError, KMSUnavailableError, RowRejectedError
from dekctl.kek_id import in_region, is_key_arn, is_multi_region
from dekctl.kms.aws.assume_role import base_session
from dekctl.kms.aws.botocore_private import botocore_session
from dekctl.kms.aws.connect import TransportKind, make_transport
from dekctl.kms.aws.faults import NOT_KMS, ErrorClass, classify, error_for
from dekctl.kms.aws.quota import live_quota
from dekctl.kms.aws.retry import Retries, RetryPolicy
from dekctl.kms.aws.session import create_client, unlogged
from dekctl.kms.aws.transport import Request, Response, Transport
from dekctl.kms.deadline import deadline_at
from dekctl.kms.fork_safety import keep, reset_after_fork
from dekctl.kms.interface import (
    DEFAULT_CONCURRENCY,
    MAX_PLAINTEXT_BYTES,
    Context,
    GenerateRequest,
    KMSInterface,
    RewrapRequest,
    Unwrapped,
    UnwrapRequest,
    Wrapped,
    WrapRequest,
)
from dekctl.kms.limiter import RateLimiter

Opened = TypeVar("Opened")

CALL_RETRY = RetryPolicy(patience=10.0)
"""How long a single call, outside of batches, is retried."""

_ROW_KEK_CODES = frozenset({"IncorrectKeyException"})
"""The KEK that the row names did not wrap its key: an error of that row."""
_UNKNOWN_KEK_CODES = frozenset(
    {"NotFoundException", "ValidationException", "InvalidArnException", "IncorrectKeyException"}
)
"""The row's KEK does not exist: an error of that row, unless the KEK is a configured one."""
_CLOSED_KEK_CODES = frozenset({"DisabledException", "KMSInvalidStateException"})
"""A KEK that decrypts nothing now; the row may belong to another candidate."""


class AWSKMS(KMSInterface):
    """Wraps and unwraps with a symmetric AWS KMS key.

    Credentials come from boto3's own chain; the endpoint is never guessed.
    """

    name = "aws"

    def __init__(
        self,
        key_id: str,
        *,
        region: str | None = None,
        endpoint_url: str | None = None,
        session: boto3.Session | None = None,
        known_keks: Sequence[str] = (),
        transport: TransportKind = "auto",
        concurrency: int = DEFAULT_CONCURRENCY,
        limiter: RateLimiter | None = None,
        cancel: threading.Event | None = None,
        retry: RetryPolicy | None = None,
    ) -> None:
        """Prepare a provider; no call is made yet.

        Args:
            key_id: the KEK that wraps: key ARN, key id, alias (``alias/app-dek``) or alias ARN.
            region: AWS Region; by default boto3's.
            endpoint_url: another endpoint than AWS's, for an emulator or a VPC endpoint.
            session: a boto3 session to take credentials from.
            known_keks: ARNs of further KEKs that may have wrapped a row that names none.
            transport: ``curl``, ``boto3``, or ``auto`` for the first that can run.
            concurrency: maximum number of calls in flight.
            limiter: shared limit on calls per second.
            cancel: when set, waiting for a retry ends at once.
            retry: how long calls are retried; by default minutes, as a migration needs. An
                application uses :data:`dekctl.kms.aws.retry.APPLICATION`.
        """
        super().__init__()
        self.key_id = key_id
        self._session = session or base_session(None)
        self._botocore = botocore_session(self._session)
        self._region = region
        self._endpoint_url = endpoint_url
        self._known = tuple(dict.fromkeys((key_id, *known_keks)))
        self._kek_arn = key_id if is_key_arn(key_id) else None
        self._count_lock = threading.Lock()
        self._transport_made: Transport | None = None
        self._transport_lock = threading.Lock()
        self._transport_options: dict[str, Any] = {
            "kind": transport,
            "concurrency": concurrency,
            "limiter": limiter,
            "cancel": cancel,
            "policy": retry,
        }
        reset_after_fork(self)

    def __repr__(self) -> str:
        return f"AWSKMS(key_id={self.key_id!r})"

    @property
    def kek_id(self) -> str:
        """ARN of the KEK that wraps. An alias or a key id is resolved once, by DescribeKey."""
        if self._kek_arn is None:
            self._kek_arn = self.resolve(self.key_id)
        return self._kek_arn

    def resolve(self, kek: str) -> str:
        return kek if is_key_arn(kek) else str(self.describe(kek)["Arn"])

    def describe(self, kek_id: str) -> dict[str, Any]:
        """Return KMS's metadata of a key (``Arn``, ``KeyState``, …).

        Raises:
            KMSError: the key cannot be described.
        """
        metadata: dict[str, Any] = self.call("DescribeKey", {"KeyId": kek_id})["KeyMetadata"]
        return metadata

    def live_quota(self) -> float | None:
        """How many calls per second KMS allows this account here; None if unknown."""
        return live_quota(self._botocore, self._region, self._endpoint_url)

    def call(self, operation: str, request: Request) -> Response:
        """Make one KMS call that is not about a row, through boto3.

        Raises:
            KMSError: KMS refused or cannot be reached.
        """
        policy = self._transport_options["policy"] or CALL_RETRY
        client = create_client(self._botocore, self._region, self._endpoint_url, 1, policy.answer)
        method = getattr(client, xform_name(operation))
        retries = Retries(policy, until=deadline_at())
        stop = self._transport_options["cancel"] or threading.Event()
        while True:
            self._count(operation)
            try:
                with unlogged():
                    response: Response = method(**request)
            except ClientError as error:
                detail = error.response["Error"]
                status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode")
                kind = classify(detail.get("Code"), status)
                failure = error_for(
                    operation, detail.get("Code"), detail.get("Message", ""), status
                )
            except HTTPClientError as error:
                kind = ErrorClass.RETRY
                failure = _unreachable(operation, error)
            except BotoCoreError as error:
                raise _unreachable(operation, error) from None
            else:
                if len(response) > 1:
                    return response
                # Only ResponseMetadata: botocore drops a response that was cut off.
                kind, failure = (
                    ErrorClass.RETRY,
                    error_for(operation, None, NOT_KMS),
                )
            # A denial is what doctor asks about: it is reported at once.
            delay = None if kind is ErrorClass.GRACE else retries.next_delay(kind, contacted=False)
            if delay is None or stop.wait(delay):
                raise failure

    @property
    def keks(self) -> Sequence[str]:
        return self._known

    def generate_many(
        self, requests: Sequence[GenerateRequest]
    ) -> list[tuple[Unwrapped, Wrapped] | RowRejectedError]:
        answers: list[tuple[Unwrapped, Wrapped] | RowRejectedError] = []
        calls = [
            {
                "KeyId": r.kek or self.key_id,
                "NumberOfBytes": r.size,
                **_context("EncryptionContext", r.context),
            }
            for r in requests
        ]
        for answer in self._transport().call_many("GenerateDataKey", calls):
            if isinstance(answer, RowRejectedError):
                answers.append(answer)
            elif isinstance(answer, KMSError):
                raise answer
            else:
                kek_id, material = answer["KeyId"], answer.get("KeyMaterialId")
                wrapped = Wrapped(answer["CiphertextBlob"], kek_id, material)
                answers.append((Unwrapped(answer["Plaintext"], kek_id, material), wrapped))
        return answers

    def wrap_many(self, requests: Sequence[WrapRequest]) -> list[Wrapped | RowRejectedError]:
        answers: list[Wrapped | RowRejectedError] = []
        calls = [
            {
                "KeyId": r.kek or self.key_id,
                "Plaintext": r.plaintext,
                **_context("EncryptionContext", r.context),
            }
            for r in requests
            if 1 <= len(r.plaintext) <= MAX_PLAINTEXT_BYTES
        ]
        responses = iter(self._transport().call_many("Encrypt", calls) if calls else [])
        for r in requests:
            if not 1 <= len(r.plaintext) <= MAX_PLAINTEXT_BYTES:
                answers.append(
                    RowRejectedError(f"a key of {len(r.plaintext)} bytes cannot be wrapped by KMS")
                )
                continue
            response = next(responses)
            if isinstance(response, RowRejectedError):
                answers.append(response)
            elif isinstance(response, KMSError):
                raise response
            else:
                answers.append(Wrapped(response["CiphertextBlob"], response["KeyId"]))
        return answers

    def unwrap_many(self, requests: Sequence[UnwrapRequest]) -> list[Unwrapped | RowRejectedError]:
        return self._open(
            "Decrypt",
            [r.kek_id for r in requests],
            lambda i, kek_id: {
                "KeyId": kek_id,
                "CiphertextBlob": requests[i].wrapped,
                **_context("EncryptionContext", requests[i].context),
            },
            lambda answer: Unwrapped(
                answer["Plaintext"], answer["KeyId"], answer.get("KeyMaterialId")
            ),
        )

    def rewrap_many(self, requests: Sequence[RewrapRequest]) -> list[Wrapped | RowRejectedError]:
        return self._open(
            "ReEncrypt",
            [r.kek_id for r in requests],
            lambda i, kek_id: {
                "SourceKeyId": kek_id,
                "DestinationKeyId": requests[i].new_kek or self.key_id,
                "CiphertextBlob": requests[i].wrapped,
                **_context("SourceEncryptionContext", requests[i].context),
                **_context("DestinationEncryptionContext", requests[i].new_context),
            },
            lambda answer: Wrapped(
                answer["CiphertextBlob"], answer["KeyId"], answer.get("DestinationKeyMaterialId")
            ),
        )

    def _open(
        self,
        operation: str,
        kek_ids: Sequence[str | None],
        request: Callable[[int, str], Request],
        result: Callable[[Response], Opened],
    ) -> list[Opened | RowRejectedError]:
        """Call KMS with the KEK each row names; if that name may be stale, with each candidate.

        Raises:
            KMSError: for what every row would meet: a disabled KEK, or an unreachable KMS.
        """
        unknown: set[int] = set()
        closed: dict[int, KMSError] = {}
        answers: list[Opened | RowRejectedError | None] = [None] * len(kek_ids)
        candidates = [self._candidates(kek_id) for kek_id in kek_ids]
        waiting = list(range(len(kek_ids)))
        attempt = 0
        while waiting:
            responses = self._transport().call_many(
                operation, [request(i, candidates[i][attempt]) for i in waiting]
            )
            again: list[int] = []
            for i, response in zip(waiting, responses, strict=True):
                if not isinstance(response, KMSError):
                    answers[i] = result(response)
                    continue
                if response.code in _UNKNOWN_KEK_CODES:
                    unknown.add(i)
                elif response.code in _CLOSED_KEK_CODES:
                    closed[i] = response
                else:
                    answers[i] = self._rejection(kek_ids[i], response)
                    continue
                if attempt + 1 < len(candidates[i]):
                    again.append(i)
                elif i in unknown and i in closed:
                    answers[i] = RowRejectedError(
                        f"no usable KEK can decrypt its wrapped key; {closed[i].message}",
                        hint="if that KEK wrapped it, enable the KEK, then run: dekctl verify",
                        code=closed[i].code,
                    )
                else:
                    answers[i] = self._rejection(kek_ids[i], response)
            waiting, attempt = again, attempt + 1
        return [answer for answer in answers if answer is not None]

    def _candidates(self, kek_id: str | None) -> tuple[str, ...]:
        if kek_id is None:
            return tuple(map(self._related, self._known))
        if is_key_arn(kek_id):
            return (self._related(kek_id),)
        return tuple(dict.fromkeys((kek_id, *map(self._related, self._known))))

    def _related(self, kek: str) -> str:
        """The replica here of a multi-Region key of another Region; any other key unchanged."""
        here = self._region or self._session.region_name
        return in_region(kek, here) if here is not None and is_multi_region(kek) else kek

    def _rejection(self, kek_id: str | None, error: KMSError) -> RowRejectedError:
        """Turn a KMS error into the answer for one row, or raise it if it concerns every row."""
        if isinstance(error, RowRejectedError):
            return error
        unknown = error.code in _UNKNOWN_KEK_CODES and kek_id not in self._known
        if error.code in _ROW_KEK_CODES or unknown:
            return RowRejectedError(
                f"KEK {kek_id} cannot decrypt this row's wrapped key: {error.code}",
                hint=error.hint,
                code=error.code,
            )
        if kek_id and isinstance(error, KMSRefusedError):
            raise KMSRefusedError(
                f"{error.message}, KEK {kek_id}", hint=error.hint, code=error.code
            )
        raise error

    def _count(self, operation: str) -> None:
        with self._count_lock:
            self.calls[operation] += 1

    def _transport(self) -> Transport:
        with self._transport_lock:
            if self._transport_made is None:
                self._transport_made = make_transport(
                    session=self._botocore,
                    region=self._region,
                    endpoint_url=self._endpoint_url,
                    count=self._count,
                    **self._transport_options,
                )
            return self._transport_made

    def after_fork(self) -> None:
        """Make new locks and, with the next call, a new transport: the parent keeps its own."""
        self._count_lock = threading.Lock()
        self._transport_lock = threading.Lock()
        keep(self._transport_made)
        self._transport_made = None

    def prepare(self) -> None:
        self._transport()

    def set_concurrency(self, concurrency: int) -> None:
        with self._transport_lock:
            self._transport_options["concurrency"] = concurrency
            if self._transport_made is not None:
                self._transport_made.set_concurrency(concurrency)

    def close(self) -> None:
        with self._transport_lock:
            if self._transport_made is not None:
                self._transport_made.close()
                self._transport_made = None


def _unreachable(operation: str, error: BotoCoreError) -> KMSUnavailableError:
    return KMSUnavailableError(
        f"KMS {operation} failed: {error}",
        hint="check credentials, Region and endpoint with: dekctl doctor",
    )


def _context(parameter: str, context: Context | None) -> dict[str, Context]:
    return {parameter: context} if context else {}
