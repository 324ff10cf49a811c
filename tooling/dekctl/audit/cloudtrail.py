"""What the audit asks AWS as the auditor: the trail's bucket, its state, CloudTrail's keys."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from dekctl.audit.digests import PublicKeys, public_keys_of
from dekctl.audit.log_files import Bucket
from dekctl.audit.reading import utc
from dekctl.config.outputs import Outputs
from dekctl.config.roles import Role
from dekctl.errors import KMSError, UsageError
from dekctl.kms.aws.botocore_private import botocore_session
from dekctl.kms.aws.session import credentials_of, frozen
from dekctl.project import Project

_PATIENCE = Config(connect_timeout=5, read_timeout=30, retries={"total_max_attempts": 3})


@dataclass(frozen=True, slots=True)
class Trail:
    """The trail of an environment."""

    project: Project
    outputs: Outputs

    @property
    def name(self) -> str | None:
        """Its name; None if the environment has no trail."""
        arn = self.outputs.audit.get("trail_arn")
        return arn.rpartition("/")[2] if arn else None

    def bucket(self) -> Bucket:
        """Its bucket.

        Raises:
            UsageError: the environment has no trail.
            KMSError: there are no credentials to read it with.
        """
        audit = self.outputs.audit
        bucket = audit.get("bucket")
        if not bucket:
            raise UsageError(
                f"the audit trail is off in {self.project.env.name}",
                hint="set `audit` in Terraform and run make apply, or pass files of another trail: "
                "dekctl audit --events FOLDER",
            )
        folders = (
            audit.get("prefix"),
            "AWSLogs",
            audit.get("organization_id"),
            self.outputs.account_id,
        )
        return Bucket(self._client("s3"), bucket, "/".join(name for name in folders if name))

    def status(self) -> dict[str, Any]:
        """Whether it is recording, and since when its newest file is there."""
        try:
            status = self._client("cloudtrail").get_trail_status(
                Name=self.outputs.audit["trail_arn"]
            )
        except (ClientError, BotoCoreError):
            return dict.fromkeys(("logging", "delivered", "delivery_error", "started", "stopped"))
        return {
            "logging": bool(status.get("IsLogging")),
            "delivered": _text(status.get("LatestDeliveryTime")),
            "delivery_error": status.get("LatestDeliveryError") or None,
            "started": _text(status.get("StartLoggingTime")),
            "stopped": _text(status.get("StopLoggingTime")),
        }

    def public_keys(self, since: datetime, until: datetime, region: str) -> PublicKeys:
        """CloudTrail's public keys of a time; none if it cannot be asked.

        ``region`` is the one of the digests, or empty for the trail's own.
        """
        try:
            pages = (
                self._client("cloudtrail", region or None)
                .get_paginator("list_public_keys")
                .paginate(StartTime=since - timedelta(days=1), EndTime=until + timedelta(days=1))
            )
            return public_keys_of(key for page in pages for key in page["PublicKeyList"])
        except (ClientError, BotoCoreError, KMSError, UsageError, KeyError, ValueError):
            return {}

    def _client(self, service: str, region: str | None = None) -> Any:
        # botocore's own session: boto3's types know only the services that are installed for them.
        project = self.project
        session = botocore_session(project.session(Role.AUDITOR))
        frozen(credentials_of(session))
        return session.create_client(
            service,
            region_name=region or project.region,
            endpoint_url=project.env.endpoint_url,
            config=_PATIENCE,
        )


def _text(moment: datetime | None) -> str | None:
    return f"{utc(moment):%Y-%m-%dT%H:%M:%SZ}" if moment else None
