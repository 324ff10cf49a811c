"""KMS requests and responses as JSON: boto3's form on one side, bytes on the other.

Fast where it matters: nearly all members of the frequent calls are strings and blobs.
"""

from __future__ import annotations

import json
from binascii import a2b_base64, b2a_base64
from collections.abc import Mapping
from json.encoder import encode_basestring_ascii as _quote
from typing import Any

from botocore.model import OperationModel
from botocore.parsers import create_parser

from dekctl.kms.aws.transport import Request, Response

FLAT_TYPES = frozenset({"blob", "string", "boolean", "integer"})


def encode(request: Request) -> bytes:
    """Return the body of a request. ``bytes`` become base64; a mapping is of strings."""
    members = []
    for name, value in request.items():
        if isinstance(value, str):
            text = _quote(value)
        elif isinstance(value, bytes):
            text = f'"{b2a_base64(value, newline=False).decode()}"'
        elif isinstance(value, Mapping):
            pairs = [f"{_quote(key)}: {_quote(item)}" for key, item in value.items()]
            text = f"{{{', '.join(pairs)}}}"
        else:
            text = json.dumps(value)
        members.append(f'"{name}": {text}')
    return f"{{{', '.join(members)}}}".encode()


class Decoder:
    """Reads the responses of one operation."""

    def __init__(self, operation: OperationModel) -> None:
        self._shape = operation.output_shape
        members = self._shape.members if self._shape is not None else {}
        self._members = [(name, shape.type_name == "blob") for name, shape in members.items()]
        self._flat = all(shape.type_name in FLAT_TYPES for shape in members.values())
        self._parser: Any = None if self._flat else create_parser("json")

    def decode(self, body: bytes) -> Response | None:
        """Return the response as boto3 does, or ``None`` if the body is not a valid one."""
        if not self._members:
            return {}
        try:
            values = json.loads(body.decode())
            if not isinstance(values, dict):
                return None
            if not self._flat:
                answer: dict[str, Any] = self._parser.parse(
                    {"body": body, "headers": {}, "status_code": 200}, self._shape
                )
                answer.pop("ResponseMetadata", None)
                return answer or None
            answer = {}
            for name, is_blob in self._members:
                value = values.get(name)
                if value is not None:
                    answer[name] = a2b_base64(value, strict_mode=True) if is_blob else value
        except (ValueError, TypeError, RecursionError):  # no JSON, no base64, no string; too deep
            return None
        return answer or None


def decode_error(body: bytes, status: int, error_type: str = "") -> tuple[str, str]:
    """Return the name and the message of an error, read as botocore reads them.

    ``error_type`` is the ``x-amzn-ErrorType`` header, used if the body has no name. If neither has
    one, the name is the HTTP status.
    """
    try:
        values = json.loads(body)
    except (ValueError, RecursionError):  # not JSON, or nested too deeply
        values = None
    if not isinstance(values, dict):
        values = {}
    code = values.get("__type") or error_type or str(status)
    message = values.get("message", values.get("Message", ""))
    # "com.amazonaws.kms#DisabledException:http://…" and all shorter forms
    return str(code).split(":", 1)[0].rsplit("#", 1)[-1], str(message or "")
