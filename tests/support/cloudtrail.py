"""CloudTrail's log files, written from the strict KMS's journal: no emulator delivers any.

The form is that of the AWS KMS Developer Guide ("Logging AWS KMS API calls"), the place in the
bucket that of the CloudTrail User Guide ("Finding your CloudTrail log files").
"""

from __future__ import annotations

import gzip
import json
import uuid
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from support.kms_standin import KmsStandin

Record = dict[str, Any]


def records_of(standin: KmsStandin, late: timedelta = timedelta(0)) -> list[Record]:
    """The journal's calls as CloudTrail's records; ``late`` is added to their time."""
    return [record(standin, call, late) for call in standin.journal()]


def record(standin: KmsStandin, call: Mapping[str, Any], late: timedelta = timedelta(0)) -> Record:
    """One call as CloudTrail records it."""
    asked: dict[str, Any] = {"encryptionAlgorithm": "SYMMETRIC_DEFAULT"}
    if call["api"] == "ReEncrypt":
        asked |= {"destinationKeyId": call["destination_key"]}
        asked |= {"sourceEncryptionContext": call["context"] or None}
        asked |= {"destinationEncryptionContext": call["destination_context"] or None}
    else:
        asked |= {"keyId": call["key"], "encryptionContext": call["context"] or None}
    keys = [key for key in (call["key"], call.get("destination_key")) if key]
    made: Record = {
        "eventVersion": "1.11",
        "userIdentity": identity(
            standin.account, call["principal"], call["session"], call["source_identity"]
        ),
        "eventTime": f"{datetime.fromtimestamp(call['time'], UTC) + late:%Y-%m-%dT%H:%M:%SZ}",
        "eventSource": "kms.amazonaws.com",
        "eventName": call["api"],
        "awsRegion": standin.region,
        "requestParameters": asked,
        "responseElements": None,
        "eventID": str(uuid.uuid4()),
        "readOnly": True,
        "resources": [
            {"ARN": key, "accountId": standin.account, "type": "AWS::KMS::Key"} for key in keys
        ],
        "eventType": "AwsApiCall",
    }
    if call.get("error"):
        made |= {"errorCode": call["error"], "errorMessage": "no"}
    return made


def identity(
    account: str, name: str, session: str | None = None, source_identity: str | None = None
) -> dict[str, Any]:
    """Who called: a role that was assumed, or a user."""
    if not name.startswith("files-"):
        return {"type": "IAMUser", "arn": f"arn:aws:iam::{account}:user/{name}", "userName": name}
    return {
        "type": "AssumedRole",
        "arn": f"arn:aws:sts::{account}:assumed-role/{name}/{session or 'dekctl'}",
        "sessionContext": {
            "sessionIssuer": {"type": "Role", "arn": f"arn:aws:iam::{account}:role/{name}"},
            **({"sourceIdentity": source_identity} if source_identity else {}),
        },
    }


def key_of(account: str, region: str, number: int = 1) -> str:
    """Where CloudTrail puts a file of today."""
    now = datetime.now(UTC)
    return (
        f"AWSLogs/{account}/CloudTrail/{region}/{now:%Y/%m/%d}/"
        f"{account}_CloudTrail_{region}_{now:%Y%m%dT%H%MZ}_{number:016d}.json.gz"
    )


def packed(records: Iterable[Record]) -> bytes:
    """A log file's content."""
    return gzip.compress(json.dumps({"Records": list(records)}).encode())


def write(folder: Path, records: Iterable[Record], number: int = 1) -> Path:
    """Write a log file into a folder. Returns the folder."""
    file = folder / key_of("123456789012", "us-east-1", number)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(packed(records))
    return folder
