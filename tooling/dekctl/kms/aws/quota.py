"""How many calls per second KMS allows this account, from Service Quotas.

Encrypt, Decrypt, ReEncrypt and GenerateDataKey share one quota per account and Region, also with
the application.
"""

from __future__ import annotations

from typing import Any

from botocore import exceptions as aws
from botocore.config import Config
from botocore.session import Session

from dekctl.errors import DekctlError
from dekctl.kms.aws.session import credentials_of, frozen

SERVICE_CODE = "kms"
QUOTA_CODE = "L-6E3AF000"
"""Service Quotas' code of "Cryptographic operations (symmetric) request rate"."""

_SECONDS = {
    "MICROSECOND": 1e-6,
    "MILLISECOND": 1e-3,
    "SECOND": 1.0,
    "MINUTE": 60.0,
    "HOUR": 3600.0,
    "DAY": 86400.0,
    "WEEK": 604800.0,
}


def live_quota(
    session: Session, region: str | None, endpoint_url: str | None = None
) -> float | None:
    """Return the quota in calls per second: the account's own, else the AWS default.

    ``None`` if it may not be read (``servicequotas:GetServiceQuota`` and
    ``servicequotas:GetAWSDefaultServiceQuota`` are needed), or Service
    Quotas does not answer within seconds.
    """
    config = Config(
        connect_timeout=5,
        read_timeout=10,
        retries={"mode": "standard", "total_max_attempts": 3},
        user_agent_extra="dekctl",
    )
    try:
        frozen(credentials_of(session))
    except DekctlError:
        return None  # KMS's own client will say it
    try:
        client: Any = session.create_client(
            "service-quotas", region_name=region, endpoint_url=endpoint_url, config=config
        )
    except (aws.BotoCoreError, ValueError):
        return None
    try:
        for ask in (client.get_service_quota, client.get_aws_default_service_quota):
            try:
                answer = ask(ServiceCode=SERVICE_CODE, QuotaCode=QUOTA_CODE)
            except aws.ClientError:
                continue  # the account has no value of its own, or we may not see it
            rate = _calls_per_second(answer.get("Quota", {}))
            if rate is not None:
                return rate
    except aws.BotoCoreError:
        return None
    finally:
        client.close()
    return None


def _calls_per_second(quota: dict[str, Any]) -> float | None:
    value = quota.get("Value")
    period = quota.get("Period") or {}
    seconds = period.get("PeriodValue", 1) * _SECONDS.get(period.get("PeriodUnit", "SECOND"), 0.0)
    if not value or value <= 0 or seconds <= 0:
        return None
    return float(value / seconds)
