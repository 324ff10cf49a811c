"""AWS credentials: boto3's own chain, and the role that Terraform made for the work at hand."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

import boto3
import botocore.session
from botocore.credentials import (
    AssumeRoleCredentialFetcher,
    DeferredRefreshableCredentials,
)
from botocore.exceptions import BotoCoreError, ClientError

from dekctl.errors import KMSRefusedError, KMSUnavailableError, UsageError
from dekctl.kms.aws.botocore_private import botocore_session, set_credentials


class RoleRefusedError(KMSRefusedError):
    """STS refused to let us act as a role."""


def base_session(region: str | None) -> boto3.Session:
    """A session with the ambient identity.

    Raises:
        UsageError: AWS's own configuration is wrong: a profile that it does not have, say.
    """
    with _own_configuration():
        return boto3.Session(region_name=region)


@contextmanager
def _own_configuration() -> Iterator[None]:
    try:
        yield
    except BotoCoreError as error:
        raise UsageError(
            f"AWS's own configuration cannot be used: {error}",
            hint="correct AWS_PROFILE, or the files that AWS_CONFIG_FILE and "
            "AWS_SHARED_CREDENTIALS_FILE name (~/.aws/config, ~/.aws/credentials); see the "
            "profiles with: aws configure list-profiles",
        ) from None


def assumed_session(
    base: boto3.Session,
    role_arn: str,
    *,
    region: str | None,
    endpoint_url: str | None,
    external_id: str | None = None,
) -> boto3.Session:
    """A session that acts as a role, and takes it on again before its credentials run out.

    ``external_id`` is sent whenever it is given: a role that asks for none does not mind.

    Raises:
        KMSRefusedError: there are no credentials to begin with.
        UsageError: AWS's own configuration is wrong.
    """
    with _own_configuration():
        source = base.get_credentials()
    if source is None:
        raise KMSRefusedError(
            "no AWS credentials were found",
            hint="log in (aws sso login), or set AWS_PROFILE or AWS_ACCESS_KEY_ID; "
            "dekctl reads none from its own configuration",
        )
    fetcher = AssumeRoleCredentialFetcher(
        client_creator=partial(
            botocore_session(base).create_client,
            region_name=region,
            endpoint_url=endpoint_url,
        ),
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
            method="assume-role", refresh_using=partial(_fetch, fetcher, role_arn)
        ),
    )
    return boto3.Session(botocore_session=session, region_name=region)


def _fetch(fetcher: AssumeRoleCredentialFetcher, role_arn: str) -> dict[str, str]:
    try:
        found: dict[str, str] = fetcher.fetch_credentials()
    except ClientError as error:
        detail = error.response["Error"]
        raise RoleRefusedError(
            f"cannot assume {role_arn}: {detail.get('Code')} ({detail.get('Message')})",
            hint="let your identity assume it (the role's trust policy, and external_id in "
            "dekctl.toml where that asks for one), or act as yourself: --no-assume-role",
            code=detail.get("Code"),
        ) from None
    except BotoCoreError as error:
        raise KMSUnavailableError(
            f"cannot assume {role_arn}: {error}",
            hint="check endpoint_url, the Region and the network with: dekctl doctor",
        ) from None
    return found
