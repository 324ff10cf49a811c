"""AWS credentials: boto3's own chain, and the role that Terraform created for the task."""

from __future__ import annotations

from functools import partial
from typing import Any

import boto3
import botocore.session
from botocore.credentials import (
    AssumeRoleCredentialFetcher,
    Credentials,
    DeferredRefreshableCredentials,
)
from botocore.exceptions import BotoCoreError, ClientError

from dekctl.errors import KMSRefusedError, KMSUnavailableError
from dekctl.kms.aws.botocore_private import botocore_session, set_credentials
from dekctl.kms.aws.session import (
    configuration_error,
    credentials_of,
    frozen,
    refuse_plain_http,
)
from dekctl.kms.aws.session_name import session_name


class RoleRefusedError(KMSRefusedError):
    """STS refused to let us assume a role."""


_WITHOUT_SOURCE = "; or set source_identity = false in dekctl.toml"


def base_session(region: str | None) -> boto3.Session:
    """A session with the ambient identity.

    Raises:
        UsageError: the AWS configuration is wrong, for example names a missing profile.
    """
    try:
        return boto3.Session(region_name=region)
    except (BotoCoreError, OSError, ValueError) as error:
        raise configuration_error(error) from None


def assumed_session(
    base: boto3.Session,
    role_arn: str,
    *,
    region: str | None,
    endpoint_url: str | None,
    external_id: str | None = None,
    run_id: str | None = None,
    source_identity: bool = False,
    allow_plain_http: bool = False,
) -> boto3.Session:
    """A session that acts as a role, and assumes it again before its credentials expire.

    Args:
        base: whose credentials assume the role.
        role_arn: the role.
        region: the AWS Region of STS.
        endpoint_url: the endpoint of STS, where it is not AWS's own.
        external_id: sent whenever it is given; a role that requires none ignores it.
        run_id: the run that the session is for, which its name says; None for no run.
        source_identity: whether the name is sent as the source identity, too. The role must allow
            sts:SetSourceIdentity.
        allow_plain_http: see below.

    Raises:
        KMSRefusedError: there are no credentials to assume it with.
        UsageError: the AWS configuration is wrong.

    When credentials are first needed, a plain HTTP endpoint beyond this machine is refused (also a
    UsageError) unless it is allowed.
    """
    source = credentials_of(base)
    if source is None:
        raise KMSRefusedError(
            "no AWS credentials were found",
            hint="log in (aws sso login), or set AWS_PROFILE or AWS_ACCESS_KEY_ID; "
            "dekctl.toml holds no credentials",
        )
    create = partial(
        botocore_session(base).create_client, region_name=region, endpoint_url=endpoint_url
    )

    def create_checked(service: str, **options: Any) -> Any:
        client = create(service, **options)
        if not allow_plain_http:
            refuse_plain_http(client)
        return client

    name = session_name(run_id)
    fetcher = AssumeRoleCredentialFetcher(
        client_creator=create_checked,
        source_credentials=source,
        role_arn=role_arn,
        extra_args={
            "RoleSessionName": name,
            **({"SourceIdentity": name} if source_identity else {}),
            **({"ExternalId": external_id} if external_id else {}),
        },
    )
    session = botocore.session.get_session()
    set_credentials(
        session,
        DeferredRefreshableCredentials(
            method="assume-role",
            refresh_using=partial(_fetch, fetcher, source, role_arn, source_identity),
        ),
    )
    return boto3.Session(botocore_session=session, region_name=region)


def _fetch(
    fetcher: AssumeRoleCredentialFetcher,
    source: Credentials,
    role_arn: str,
    source_identity: bool,
) -> dict[str, str]:
    frozen(source)  # else an error of its source would look like one of STS
    try:
        found: dict[str, str] = fetcher.fetch_credentials()
    except ClientError as error:
        detail = error.response["Error"]
        allow = "sts:AssumeRole and sts:SetSourceIdentity" if source_identity else "sts:AssumeRole"
        raise RoleRefusedError(
            f"cannot assume {role_arn}: {detail.get('Code')} ({detail.get('Message')})",
            hint=f"allow your identity {allow} on it (trust policy of the role, your own policy, "
            "and external_id in dekctl.toml if the role requires one)"
            f"{_WITHOUT_SOURCE if source_identity else ''}, or use your own identity: "
            "--no-assume-role",
            code=detail.get("Code"),
        ) from None
    except BotoCoreError as error:
        raise KMSUnavailableError(
            f"cannot assume {role_arn}: {error}",
            hint="check endpoint_url, the Region and the network with: dekctl doctor",
        ) from None
    return found
