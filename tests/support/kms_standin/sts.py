"""AWS STS: AssumeRole and GetCallerIdentity, in its query protocol."""

from __future__ import annotations

import re
import time
from urllib.parse import parse_qs
from xml.sax.saxutils import escape

from .errors import AwsError
from .identity import Credentials, Directory
from .operations import Call
from .request import Request, render

NAMESPACE = "https://sts.amazonaws.com/doc/2011-06-15/"
MIN_SECONDS, MAX_SECONDS, DEFAULT_SECONDS = 900, 43_200, 3600

# STS's own names for what KMS calls otherwise, and their status.
CODES = {
    "AccessDeniedException": ("AccessDenied", 403),
    "ExpiredTokenException": ("ExpiredToken", 403),
    "IncompleteSignatureException": ("IncompleteSignature", 400),
    "InvalidSignatureException": ("SignatureDoesNotMatch", 403),
    "MissingAuthenticationTokenException": ("MissingAuthenticationToken", 403),
    "ThrottlingException": ("Throttling", 400),
    "UnknownOperationException": ("InvalidAction", 400),
    "UnrecognizedClientException": ("InvalidClientTokenId", 403),
    "ValidationException": ("ValidationError", 400),
}


def api_of(request: Request) -> str:
    """The Action of the request."""
    return _form(request).get("Action", "")


def run(call: Call, caller: Credentials, request: Request, directory: Directory) -> str:
    """Do the call; the answer is the content of its result element."""
    form = _form(request)
    if call.api == "GetCallerIdentity":
        arn = caller.session_arn or call.principal.arn
        return (
            f"<Arn>{escape(arn)}</Arn><UserId>{caller.access_key}</UserId>"
            f"<Account>{directory.account}</Account>"
        )
    if call.api == "AssumeRole":
        return _assume_role(call, caller, form, directory)
    raise AwsError("UnknownOperationException", f"Could not find operation {call.api}")


def answer(api: str, result: str, request_id: str) -> bytes:
    """The answer of a call that succeeded."""
    return render(
        200,
        "text/xml",
        f'<{api}Response xmlns="{NAMESPACE}"><{api}Result>{result}</{api}Result>'
        f"<ResponseMetadata><RequestId>{request_id}</RequestId></ResponseMetadata>"
        f"</{api}Response>".encode(),
        request_id,
    )


def error_answer(error: AwsError, request_id: str) -> bytes:
    """The answer of a call that failed."""
    code, status = CODES.get(error.code, (error.code, error.status))
    return render(
        status,
        "text/xml",
        f'<ErrorResponse xmlns="{NAMESPACE}"><Error><Type>Sender</Type><Code>{code}</Code>'
        f"<Message>{escape(error.message)}</Message></Error>"
        f"<RequestId>{request_id}</RequestId></ErrorResponse>".encode(),
        request_id,
    )


def _assume_role(
    call: Call, caller: Credentials, form: dict[str, str], directory: Directory
) -> str:
    arn = form.get("RoleArn", "")
    session_name = form.get("RoleSessionName", "")
    if not re.fullmatch(r"[\w+=,.@-]{2,64}", session_name):
        raise AwsError("ValidationException", "RoleSessionName is missing or malformed")
    seconds = form.get("DurationSeconds", str(DEFAULT_SECONDS))
    if not seconds.isdecimal() or not MIN_SECONDS <= int(seconds) <= MAX_SECONDS:
        raise AwsError("ValidationException", "DurationSeconds must be 900 to 43200")
    role = directory.by_arn(arn)
    if role is None or ":role/" not in arn:
        raise AwsError(
            "AccessDeniedException",
            f"User: {call.principal.arn} is not authorized to perform: sts:AssumeRole on "
            f"resource: {arn}",
        )
    # Stands for the condition of a trust policy: here it is the caller's grant that may ask for it.
    external_id = {"sts:ExternalId": form["ExternalId"]} if "ExternalId" in form else {}
    call.principal.authorize("sts:AssumeRole", arn, external_id)
    source = form.get("SourceIdentity", caller.source_identity)
    if source != (caller.source_identity or source):
        raise AwsError(
            "AccessDeniedException", "the source identity of a session cannot be changed"
        )
    if source is not None:
        if not re.fullmatch(r"(?!aws:)[\w+=,.@-]{2,64}", source):
            raise AwsError("ValidationException", "SourceIdentity is malformed")
        call.principal.authorize("sts:SetSourceIdentity", arn)
    session = directory.session(role, int(seconds), session_name, source)
    until = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(session.expires))
    return (
        f"<AssumedRoleUser><AssumedRoleId>{session.access_key}:{escape(session_name)}"
        f"</AssumedRoleId><Arn>{escape(session.session_arn or '')}</Arn></AssumedRoleUser>"
        f"<Credentials><AccessKeyId>{session.access_key}</AccessKeyId>"
        f"<SecretAccessKey>{session.secret_key}</SecretAccessKey>"
        f"<SessionToken>{session.token}</SessionToken><Expiration>{until}</Expiration>"
        "</Credentials>"
    )


def _form(request: Request) -> dict[str, str]:
    parsed = parse_qs(request.body.decode("ascii", "replace"), keep_blank_values=True)
    return {name: values[-1] for name, values in parsed.items()}
