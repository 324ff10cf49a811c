"""The live request quota, asked of an endpoint that speaks as Service Quotas does."""

from __future__ import annotations

import json
from typing import Any

import pytest
from botocore.session import Session

from dekctl.kms.aws.quota import live_quota
from support.scripted_endpoint import Answerer, Reply, ScriptedEndpoint, Seen, refusal

SECOND = {"PeriodValue": 1, "PeriodUnit": "SECOND"}
UNKNOWN = refusal(400, "NoSuchResourceException")
DENIED = refusal(400, "AccessDeniedException")


@pytest.fixture
def session(monkeypatch: pytest.MonkeyPatch) -> Session:
    for name in ("http_proxy", "HTTP_PROXY", "AWS_PROFILE", "AWS_SESSION_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    return Session()


def quota(**members: Any) -> Reply:
    return Reply(200, json.dumps({"Quota": members}).encode())


def service_quotas(applied: Reply, default: Reply) -> Answerer:
    """Answers only for the quota that Encrypt, Decrypt and ReEncrypt share."""

    def answer(seen: Seen) -> Reply:
        assert json.loads(seen.body) == {"ServiceCode": "kms", "QuotaCode": "L-6E3AF000"}
        own = seen.headers["x-amz-target"].endswith(".GetServiceQuota")
        return applied if own else default

    return answer


@pytest.mark.parametrize(
    ("applied", "default", "expected"),
    [
        (quota(Value=15000.0, Period=SECOND), quota(Value=10000.0, Period=SECOND), 15000.0),
        (UNKNOWN, quota(Value=10000.0, Period=SECOND), 10000.0),
        (DENIED, quota(Value=10000.0), 10000.0),
        (quota(), quota(Value=10000.0), 10000.0),
        (quota(Value=600.0, Period={"PeriodValue": 1, "PeriodUnit": "MINUTE"}), UNKNOWN, 10.0),
        (quota(Value=0.0, Period=SECOND), UNKNOWN, None),
        (DENIED, DENIED, None),
    ],
)
def test_the_accounts_own_quota_comes_first_then_the_default(
    session: Session, applied: Reply, default: Reply, expected: float | None
) -> None:
    with ScriptedEndpoint(service_quotas(applied, default)) as endpoint:
        assert live_quota(session, "us-east-1", endpoint.url) == expected


def test_nobody_there_is_no_quota(session: Session) -> None:
    assert live_quota(session, "us-east-1", "http://127.0.0.1:9") is None
