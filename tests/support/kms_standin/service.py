"""From a request to its reply: who asks, what goes wrong on purpose, and the answer."""

from __future__ import annotations

import itertools
import json
import secrets
from dataclasses import dataclass

from . import sts
from .errors import AwsError
from .faults import CUT_AFTER, CUT_BEFORE, CUT_MIDDLE, ERRORS, NO_BODY, FaultPlan
from .identity import Credentials, Directory
from .keys import KeyStore
from .ledger import Ledger
from .operations import Call, Operations
from .request import Reply, Request, render
from .sigv4 import Authenticator

JSON = "application/x-amz-json-1.1"
TARGET_PREFIX = "TrentService."
_scan = json.JSONDecoder().raw_decode
_encode = json.JSONEncoder(separators=(",", ":")).encode


@dataclass(frozen=True)
class Settings:
    """How a stand-in is started."""

    admin_access_key: str
    admin_secret_key: str
    account: str = "111122223333"
    region: str = "us-east-1"
    verify_signatures: bool = True
    journal_size: int = 1000


class Service:
    """The stand-in without its network."""

    def __init__(self, settings: Settings) -> None:
        self.store = KeyStore(settings.account, settings.region)
        self.directory = Directory(
            settings.account, settings.admin_access_key, settings.admin_secret_key
        )
        self.authenticator = Authenticator(
            self.directory, settings.region, verify=settings.verify_signatures
        )
        self.faults = FaultPlan()
        self.ledger = Ledger(settings.journal_size)
        self._operations = Operations(self.store)
        self._request_ids = itertools.count(1)
        self._run_id = secrets.token_hex(8)

    def handle(self, request: Request) -> Reply:
        """Answer one request of KMS or STS."""
        is_kms = "x-amz-target" in request.headers
        if is_kms:
            api = request.headers["x-amz-target"].removeprefix(TARGET_PREFIX)
        else:
            api = sts.api_of(request)
        request_id = f"{self._run_id}-{next(self._request_ids):012x}"
        call = Call(api, self.directory.unknown)
        fault: str | None = None
        try:
            if request.method != "POST" or request.target.partition("?")[0] != "/":
                raise AwsError("UnknownOperationException")
            caller = self.authenticator.authenticate(request, "kms" if is_kms else "sts")
            call.principal = self.directory.principals[caller.principal]
            if caller.session_arn is not None:
                call.session = caller.session_arn.rpartition("/")[2]
                call.source_identity = caller.source_identity
            fault = self.faults.draw(api, caller.principal)
            if fault in ERRORS:
                raise AwsError(fault, ERRORS[fault])
            if fault in (CUT_BEFORE, NO_BODY):
                data = render(503, "", b"")
            else:
                data = self._do(call, caller, request, request_id, is_kms=is_kms)
            call.error = fault
        except AwsError as error:
            call.error = error.code
            data = (
                _error_answer(error, request_id) if is_kms else sts.error_answer(error, request_id)
            )
        self.ledger.add(call)
        sent = None
        if fault in (CUT_BEFORE, CUT_AFTER):
            sent = 0
        elif fault == CUT_MIDDLE:
            sent = len(data) - len(data.partition(b"\r\n\r\n")[2]) // 2 - 1
        return Reply(data, self.faults.delay(), sent)

    def _do(
        self, call: Call, caller: Credentials, request: Request, request_id: str, *, is_kms: bool
    ) -> bytes:
        if not is_kms:
            result = sts.run(call, caller, request, self.directory)
            return sts.answer(call.api, result, request_id)
        try:
            text = request.body.decode()
            given, end = _scan(text)
        except ValueError:
            raise AwsError("SerializationException", "The body is not JSON") from None
        if not isinstance(given, dict) or end != len(text):
            raise AwsError("SerializationException", "The body is not a JSON object")
        answer = self._operations.run(call, given)
        if isinstance(answer, dict):
            answer = _encode(answer).encode()
        return render(200, JSON, answer or b"", request_id)


def _error_answer(error: AwsError, request_id: str) -> bytes:
    body = _encode({"__type": error.code, "message": error.message}).encode()
    return render(error.status, JSON, body, request_id)
