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


class RoleRefusedError(KMSRefusedError):
    """STS refused to let us assume a role."""


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
    allow_plain_http: bool = False,
) -> boto3.Session:
    """A session that acts as a role, and assumes it again before its credentials expire.

    ``external_id`` is sent whenever it is given: a role that requires none ignores it.

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

    fetcher = AssumeRoleCredentialFetcher(
        client_creator=create_checked,
        source_credentials=source,
        role_arn=role_arn,
        extra_args={
            "RoleSessionName": "dekctl",
            **({"ExternalId": external_id} if external_id else {}),
        },
    )
    session = botocore.session.get_session()
    set_credentials(
        session,
        DeferredRefreshableCredentials(
            method="assume-role", refresh_using=partial(_fetch, fetcher, source, role_arn)
        ),
    )
    return boto3.Session(botocore_session=session, region_name=region)


def _fetch(
    fetcher: AssumeRoleCredentialFetcher, source: Credentials, role_arn: str
) -> dict[str, str]:
    frozen(source)  # else an error of its source would look like one of STS
    try:
        found: dict[str, str] = fetcher.fetch_credentials()
    except ClientError as error:
        detail = error.response["Error"]
        raise RoleRefusedError(
            f"cannot assume {role_arn}: {detail.get('Code')} ({detail.get('Message')})",
            hint="allow your identity to assume it (trust policy of the role, and external_id in "
            "dekctl.toml if that requires one), or use your own identity: --no-assume-role",
            code=detail.get("Code"),
        ) from None
    except BotoCoreError as error:
        raise KMSUnavailableError(
            f"cannot assume {role_arn}: {error}",
            hint="check endpoint_url, the Region and the network with: dekctl doctor",
        ) from None
    return found
