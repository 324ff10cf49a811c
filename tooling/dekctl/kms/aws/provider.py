"""AWS KMS as a key provider.

Every call names its key (``KeyId``, ``SourceKeyId``): without it, KMS would take the key from the
blob and hide that a row is "still on the old key". A row is decrypted with the ARN it stores. Rows
of an earlier script may store an alias or a key id instead; an alias may have moved since, so those
are tried with each known KEK in turn.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import boto3
from botocore import xform_name
from botocore.exceptions import BotoCoreError, ClientError, HTTPClientError

from dekctl.errors import KMSError, KMSUnavailableError, RowRejectedError
from dekctl.kek_id import is_key_arn
from dekctl.kms.aws.assume_role import base_session
from dekctl.kms.aws.botocore_private import botocore_session
from dekctl.kms.aws.connect import make_transport
from dekctl.kms.aws.faults import NOT_KMS, ErrorClass, classify, error_for
from dekctl.kms.aws.quota import live_quota
from dekctl.kms.aws.region import ambient_region
from dekctl.kms.aws.retry import Retries, RetryPolicy
from dekctl.kms.aws.session import create_client, unlogged
from dekctl.kms.aws.transport import Request, Response, Transport, TransportKind, TransportOptions
from dekctl.kms.aws.trials import KekTrials, too_long
from dekctl.kms.deadline import deadline_at
from dekctl.kms.dek import hides_keys
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

CALL_RETRY = RetryPolicy(patience=10.0)
"""How long a single call, outside of batches, is retried."""


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
        allow_plain_http: bool = False,
    ) -> None:
        """Prepare a provider; no call is made yet.

        Args:
            key_id: the KEK that wraps: key ARN, key id, alias (``alias/app-dek``) or alias ARN.
            region: AWS Region; by default AWS_REGION's, then boto3's.
            endpoint_url: another endpoint than AWS's, for an emulator or a VPC endpoint.
            session: a boto3 session to take credentials from.
            known_keks: ARNs of further KEKs that may have wrapped a row that names none.
            transport: ``curl``, ``boto3``, or ``auto`` for the first that can run.
            concurrency: maximum number of calls in flight.
            limiter: shared limit on calls per second.
            cancel: when set, waiting for a retry ends at once.
            retry: how long calls are retried; by default minutes, as a migration needs. An
                application uses :data:`dekctl.kms.aws.retry.APPLICATION`.
            allow_plain_http: accept an ``http://`` endpoint beyond this machine, over which data
                keys travel in clear text. The first call raises UsageError otherwise.
        """
        super().__init__()
        self.key_id = key_id
        self._session = session or base_session(None)
        self._botocore = botocore_session(self._session)
        self._kind = transport
        self._options = TransportOptions(
            region=region or (ambient_region() if session is None else None),
            endpoint_url=endpoint_url,
            concurrency=concurrency,
            limiter=limiter,
            cancel=cancel,
            policy=retry or RetryPolicy(),
            allow_plain_http=allow_plain_http,
        )
        self._call_policy = retry or CALL_RETRY
        self._known = tuple(dict.fromkeys((key_id, *known_keks)))
        self._trials = KekTrials(
            self._known,
            self._options.region or self._session.region_name,
            lambda operation, requests: self._transport().call_many(operation, requests),
            self.resolve,
        )
        self._kek_arn = key_id if is_key_arn(key_id) else None
        self._count_lock = threading.Lock()
        self._transport_made: Transport | None = None
        self._transport_lock = threading.Lock()
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
        return live_quota(self._botocore, self._options.region, self._options.endpoint_url)

    @property
    def endpoint(self) -> str:
        """The URL that KMS is called at, as botocore finds it.

        Raises:
            UsageError: there is none, or it is plain HTTP and that is not allowed.
            KMSRefusedError: there are no credentials.
        """
        client = create_client(self._botocore, self._options)
        client.close()
        return str(client.meta.endpoint_url)

    def call(self, operation: str, request: Request) -> Response:
        """Make one KMS call that is not about a row, through boto3.

        Raises:
            KMSError: KMS refused or cannot be reached.
        """
        client = create_client(self._botocore, self._options)
        method = getattr(client, xform_name(operation))
        retries = Retries(self._call_policy, until=deadline_at())
        stop = self._options.cancel or threading.Event()
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

    @hides_keys
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

    @hides_keys
    def wrap_many(self, requests: Sequence[WrapRequest]) -> list[Wrapped | RowRejectedError]:
        answers: list[Wrapped | RowRejectedError] = []
        unfits = [_unfit(r) for r in requests]
        calls = [
            {
                "KeyId": r.kek or self.key_id,
                "Plaintext": r.plaintext,
                **_context("EncryptionContext", r.context),
            }
            for r, unfit in zip(requests, unfits, strict=True)
            if unfit is None
        ]
        responses = iter(self._transport().call_many("Encrypt", calls) if calls else [])
        for unfit in unfits:
            response = unfit or next(responses)
            if isinstance(response, RowRejectedError):
                answers.append(response)
            elif isinstance(response, KMSError):
                raise response
            else:
                answers.append(Wrapped(response["CiphertextBlob"], response["KeyId"]))
        return answers

    @hides_keys
    def unwrap_many(self, requests: Sequence[UnwrapRequest]) -> list[Unwrapped | RowRejectedError]:
        return self._trials.open(
            "Decrypt",
            requests,
            lambda i, kek_id: {
                "KeyId": kek_id,
                "CiphertextBlob": requests[i].wrapped,
                **_context("EncryptionContext", requests[i].context),
            },
            lambda answer: Unwrapped(
                answer["Plaintext"], answer["KeyId"], answer.get("KeyMaterialId")
            ),
        )

    @hides_keys
    def rewrap_many(self, requests: Sequence[RewrapRequest]) -> list[Wrapped | RowRejectedError]:
        return self._trials.open(
            "ReEncrypt",
            requests,
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

    def _count(self, operation: str) -> None:
        with self._count_lock:
            self.calls[operation] += 1

    def _transport(self) -> Transport:
        with self._transport_lock:
            if self._transport_made is None:
                self._transport_made = make_transport(
                    self._kind, self._botocore, replace(self._options, count=self._count)
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
            self._options = replace(self._options, concurrency=concurrency)
            if self._transport_made is not None:
                self._transport_made.set_concurrency(concurrency)

    def close(self) -> None:
        with self._transport_lock:
            if self._transport_made is not None:
                self._transport_made.close()
                self._transport_made = None


def _unfit(request: WrapRequest) -> RowRejectedError | None:
    """Why KMS cannot wrap a key; None where it can."""
    if not 1 <= len(request.plaintext) <= MAX_PLAINTEXT_BYTES:
        return RowRejectedError(f"a key of {len(request.plaintext)} bytes cannot be wrapped by KMS")
    return too_long(request.context)


def _unreachable(operation: str, error: BotoCoreError) -> KMSUnavailableError:
    return KMSUnavailableError(
        f"KMS {operation} failed: {error}",
        hint="check credentials, Region and endpoint with: dekctl doctor",
    )


def _context(parameter: str, context: Context | None) -> dict[str, Context]:
    return {parameter: context} if context else {}
