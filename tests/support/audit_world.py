"""An environment made of nothing but its evidence: Terraform's outputs, a ledger and a trail.

Runs and events are written as dekctl and AWS write them, so that an audit of any shape and size can
be set up without a table, a KMS or a bucket.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
import tempfile
import threading
import uuid
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from dekctl.audit.run import Audit, audit
from dekctl.config import EnvConfig, load_config
from dekctl.db.connect import database_of
from dekctl.ledger.tables import tables, time_text
from dekctl.ledger.upgrade import upgrade
from dekctl.project import Project

Record = dict[str, Any]
ACCOUNT, REGION, TABLE = "123456789012", "us-east-1", "encrypted_files"
BUCKET, TRAIL = "files-trail", f"arn:aws:cloudtrail:{REGION}:{ACCOUNT}:trail/files-trail"
TOPIC = f"arn:aws:sns:{REGION}:{ACCOUNT}:files-alerts"
ROLES = ("app", "wrapper", "rewrapper", "verifier", "auditor", "key_admin")
OLD_KEK, KEK, FOREIGN_KEK = (
    f"arn:aws:kms:{REGION}:{ACCOUNT}:key/{number}aaa1111-22bb-33cc-44dd-555555eeeeee"
    for number in "123"
)
MALLORY = f"arn:aws:iam::{ACCOUNT}:user/mallory"
MINUTE = timedelta(minutes=1)


def role_arn(name: str) -> str:
    """ARN of one of the roles."""
    return f"arn:aws:iam::{ACCOUNT}:role/files-{name}"


@cache
def _signing_key() -> rsa.RSAPrivateKey:
    """Made once, as that takes longer than an audit."""
    return rsa.generate_private_key(65537, 2048)


@cache
def _ledger() -> bytes:
    """A database with an empty ledger; made once, as its migrations take longer than an audit."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "app.db"
        file.touch()
        config = EnvConfig("test", database_url=f"sqlite:///{file}")
        with database_of(config, threading.Event()) as database:
            upgrade(database, None, create=True)
        return file.read_bytes()


@dataclass
class AuditWorld:
    """The evidence. ``hour`` is a full hour some hours ago: everything has long been delivered."""

    folder: Path
    settings: str = ""
    audit_outputs: dict[str, Any] = field(default_factory=dict)
    hour: datetime = field(
        default_factory=lambda: (
            datetime.now(UTC).replace(minute=0, second=0, microsecond=0) - timedelta(hours=6)
        )
    )
    number: int = 0

    def __post_init__(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        self.trail = self.folder / "trail"
        self.trail.mkdir()
        prefix, organization = map(self.audit_outputs.get, ("prefix", "organization_id"))
        self.root = "/".join(filter(None, (prefix, "AWSLogs", organization, ACCOUNT)))
        value = {
            "schema_version": 1,
            "region": REGION,
            "account_id": ACCOUNT,
            "context_name": TABLE,
            "allow_rows_without_context": False,
            "kek": {
                "arn": KEK,
                "alias": "alias/files",
                "generations": {
                    "g1": {"arn": OLD_KEK, "state": "retired"},
                    "g2": {"arn": KEK, "state": "active"},
                },
            },
            "roles": {role: role_arn(role) for role in ROLES},
            "audit": {
                "trail_arn": TRAIL,
                "bucket": BUCKET,
                "log_group": "/dekctl/files",
                "topic_arn": TOPIC,
                **self.audit_outputs,
            },
        }
        (self.folder / "outputs.json").write_text(json.dumps({"dekctl": {"value": value}}))
        (self.folder / "dekctl.toml").write_text(
            f'[env.test]\ndatabase_url = "sqlite:///{self.folder / "app.db"}"\n'
            f'terraform_outputs = "outputs.json"\n{self.settings}'
        )
        self.project = Project(load_config(self.folder / "dekctl.toml"))
        (self.folder / "app.db").write_bytes(_ledger())

    # -- the ledger ----------------------------------------------------------------------------

    def run(
        self,
        operation: str = "verify",
        calls: dict[str, int] | None = None,
        *,
        begins: timedelta = timedelta(0),
        lasts: timedelta = timedelta(minutes=10),
        changed: int = 0,
        proved: int = 0,
        **values: Any,
    ) -> str:
        """Enter a run that finished into the ledger; ``values`` are columns that differ."""
        run_id = str(uuid.uuid4())
        result = {"changed": changed, "proved": proved, "kms_calls": calls or {}}
        start = self.hour + begins
        row = {
            "run_id": run_id,
            "operation": operation,
            "table_name": TABLE,
            "env": "test",
            "dry_run": False,
            "state": "finished",
            "who": "ops",
            "host": "bastion",
            "pid": 1,
            "process_started": "elsewhere/1",
            "started_at": time_text(start),
            "heartbeat_at": time_text(start + lasts),
            "ended_at": time_text(start + lasts),
            "dekctl_version": "0.1.0",
            "result": json.dumps(result),
            **values,
        }
        runs = tables(None)["runs"]
        self.project.database.run(lambda c: c.execute(runs.insert().values(row)), write=True)
        return run_id

    # -- the trail -----------------------------------------------------------------------------

    def event(
        self,
        api: str = "Decrypt",
        who: str = "app",
        *,
        run: str | None = None,
        session: str = "web",
        pk: Any = 1,
        table: str = TABLE,
        key: str = KEK,
        at: timedelta = timedelta(minutes=5),
        error: str | None = None,
        **changes: Any,
    ) -> Record:
        """A call to KMS as CloudTrail records it; ``changes`` are top-level fields."""
        context = {"dekctl:table": table, "dekctl:pk": str(pk)}
        asked: Record = {"encryptionAlgorithm": "SYMMETRIC_DEFAULT"}
        keys = [key]
        if api == "ReEncrypt":
            asked |= {"sourceEncryptionContext": context, "destinationEncryptionContext": context}
            asked |= {"destinationKeyId": key}
            keys = [OLD_KEK, key]
        else:
            asked |= {"keyId": key, "encryptionContext": context}
        made = self.record("kms", api, who, asked, run=run, session=session, at=at)
        made["resources"] = [
            {"accountId": ACCOUNT, "type": "AWS::KMS::Key", "ARN": arn} for arn in keys
        ]
        made["readOnly"] = True
        return made | ({"errorCode": error} if error else {}) | changes

    def verified(self, rows: int = 3) -> tuple[str, list[Record]]:
        """A `verify` that both records know: its run and its events."""
        run = self.run("verify", {"Decrypt": rows}, proved=rows)
        return run, [self.event("Decrypt", "verifier", run=run, pk=pk) for pk in range(rows)]

    def record(
        self,
        service: str,
        api: str,
        who: str,
        asked: Record,
        *,
        run: str | None = None,
        session: str = "web",
        at: timedelta = timedelta(minutes=5),
    ) -> Record:
        """Any call as CloudTrail records it, by a role (its short name) or another ARN."""
        name = f"dekctl-{run}" if run else session
        identity: Record = {"type": "IAMUser", "arn": who, "accountId": ACCOUNT}
        if who in ROLES:
            identity = {
                "type": "AssumedRole",
                "principalId": f"AROAEXAMPLE:{name}",
                "arn": f"arn:aws:sts::{ACCOUNT}:assumed-role/files-{who}/{name}",
                "accountId": ACCOUNT,
                "accessKeyId": "ASIAEXAMPLE",
                "sessionContext": {
                    "sessionIssuer": {
                        "type": "Role",
                        "principalId": "AROAEXAMPLE",
                        "arn": role_arn(who),
                        "accountId": ACCOUNT,
                        "userName": f"files-{who}",
                    },
                    "attributes": {
                        "creationDate": "2026-11-27T10:00:00Z",
                        "mfaAuthenticated": "false",
                    },
                },
            }
        self.number += 1
        return {
            "eventVersion": "1.11",
            "userIdentity": identity,
            "eventTime": f"{self.hour + at:%Y-%m-%dT%H:%M:%SZ}",
            "eventSource": f"{service}.amazonaws.com",
            "eventName": api,
            "awsRegion": REGION,
            "sourceIPAddress": "10.0.0.1",
            "userAgent": "Boto3/1.35",
            "requestParameters": asked,
            "responseElements": None,
            "requestID": f"6b0c2a8e-0000-4000-8000-{self.number:012d}",
            "eventID": f"542d9e04-0000-4000-8000-{self.number:012d}",
            "readOnly": False,
            "eventType": "AwsApiCall",
            "managementEvent": True,
            "recipientAccountId": ACCOUNT,
            "eventCategory": "Management",
            "tlsDetails": {
                "tlsVersion": "TLSv1.3",
                "cipherSuite": "TLS_AES_256_GCM_SHA384",
                "clientProvidedHostHeader": f"{service}.{REGION}.amazonaws.com",
            },
        }

    def write(self, records: Iterable[Record], at: timedelta = timedelta(minutes=10)) -> Path:
        """Write a log file, as CloudTrail does. Returns its path."""
        self.number += 1
        moment = self.hour + at
        file = (
            self.trail
            / f"{self.root}/CloudTrail/{REGION}/{moment:%Y/%m/%d}"
            / f"{ACCOUNT}_CloudTrail_{REGION}_{moment:%Y%m%dT%H%MZ}_{self.number:016d}.json.gz"
        )
        file.parent.mkdir(parents=True, exist_ok=True)
        text = json.dumps({"Records": list(records)}, separators=(",", ":"))
        file.write_bytes(gzip.compress(text.encode(), 1))
        return file

    # -- the audit -----------------------------------------------------------------------------

    def audit(self, *records: Record, **options: Any) -> Audit:
        """Audit the trail, after writing a log file of these records if there are any."""
        if records:
            self.write(records)
        since = options.pop("since", self.hour - timedelta(hours=1))
        return audit(self.project, since, paths=options.pop("paths", [self.trail]), **options)

    def counts(self, *records: Record, **options: Any) -> dict[str, int]:
        """Findings by kind."""
        return {
            kind.value: n
            for kind, n in self.audit(*records, **options).matched.findings.counts.items()
        }


class DigestSigner:
    """Writes digest files as CloudTrail does, signed with a key of its own."""

    def __init__(
        self,
        world: AuditWorld,
        key: rsa.RSAPrivateKey | None = None,
        *,
        region: str = REGION,
        account: str = ACCOUNT,
        bucket: str = BUCKET,
        trail: str = TRAIL.rpartition("/")[2],
    ) -> None:
        self.world = world
        self.region, self.account, self.bucket = region, account, bucket
        self.trail = trail
        self.key = key or _signing_key()
        self.fingerprint = "31e8b5433410dfb61a9dc45cc65b22ff"
        self._last: tuple[str, bytes, str] | None = None

    def public_keys(self) -> Path:
        """The answer of ListPublicKeys, in a file."""
        der = self.key.public_key().public_bytes(Encoding.DER, PublicFormat.PKCS1)
        file = self.world.folder / "keys.json"
        entry = {"Value": base64.b64encode(der).decode(), "Fingerprint": self.fingerprint}
        file.write_text(json.dumps({"PublicKeyList": [entry]}))
        return file

    def digest(
        self, logs: Sequence[Path], begins: timedelta = timedelta(0), *, backfill: bool = False
    ) -> Path:
        """Write the digest of one hour, that follows the last one. Returns its path."""
        start = self.world.hour + begins
        end = start + timedelta(hours=1)
        key = (
            f"{self.world.root}/CloudTrail-Digest/{self.region}/{end:%Y/%m/%d}/{self.account}"
            f"_CloudTrail-Digest_{self.region}_{self.trail}_{REGION}_{end:%Y%m%dT%H%M%SZ}"
            f"{'_backfill' if backfill else ''}.json.gz"
        )
        last = self._last
        document = {
            "awsAccountId": self.account,
            "digestStartTime": f"{start:%Y-%m-%dT%H:%M:%SZ}",
            "digestEndTime": f"{end:%Y-%m-%dT%H:%M:%SZ}",
            "digestS3Bucket": self.bucket,
            "digestS3Object": key,
            "digestPublicKeyFingerprint": self.fingerprint,
            "digestSignatureAlgorithm": "SHA256withRSA",
            "newestEventTime": f"{end:%Y-%m-%dT%H:%M:%SZ}",
            "oldestEventTime": f"{start:%Y-%m-%dT%H:%M:%SZ}",
            "previousDigestS3Bucket": self.bucket if last else None,
            "previousDigestS3Object": last[0] if last else None,
            "previousDigestHashValue": hashlib.sha256(last[1]).hexdigest() if last else None,
            "previousDigestHashAlgorithm": "SHA-256" if last else None,
            "previousDigestSignature": last[2] if last else None,
            "logFiles": [
                {
                    "s3Bucket": self.bucket,
                    "s3Object": str(log.relative_to(self.world.trail)),
                    "hashValue": hashlib.sha256(gzip.decompress(log.read_bytes())).hexdigest(),
                    "hashAlgorithm": "SHA-256",
                    "newestEventTime": f"{end:%Y-%m-%dT%H:%M:%SZ}",
                    "oldestEventTime": f"{start:%Y-%m-%dT%H:%M:%SZ}",
                }
                for log in logs
            ],
        }
        content = json.dumps(document).encode()
        text = "\n".join(
            (
                f"{end:%Y-%m-%dT%H:%M:%SZ}",
                f"{self.bucket}/{key}",
                hashlib.sha256(content).hexdigest(),
                last[2] if last else "null",
            )
        )
        signature = self.key.sign(text.encode(), padding.PKCS1v15(), SHA256()).hex()
        file = self.world.trail / key
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(gzip.compress(content))
        file.with_name(f"{file.name}.signature").write_text(signature + "\n")
        self._last = key, content, signature
        return file
