"""What both transports take from botocore: a KMS client with its Region and endpoint rules.

Also what botocore's own failures mean: credentials that cannot be had concern every call.
"""

from __future__ import annotations

from typing import Any

from botocore import exceptions as aws
from botocore.config import Config
from botocore.session import Session

from dekctl.errors import KMSRefusedError, KMSUnavailableError, UsageError

CONNECT_SECONDS = 5.0
"""How long a connection may take."""
ANSWER_SECONDS = 30.0
"""How long a call may take once it is sent."""

CREDENTIAL_ERRORS = (
    aws.NoCredentialsError,
    aws.PartialCredentialsError,
    aws.CredentialRetrievalError,
    aws.TokenRetrievalError,
    aws.NoAuthTokenError,
    aws.SSOError,
    aws.MetadataRetrievalError,
    aws.RefreshWithMFAUnsupportedError,
)


def create_client(
    session: Session, region: str | None, endpoint_url: str | None, concurrency: int
) -> Any:
    """Make botocore's KMS client. It neither retries nor checks parameters.

    dekctl retries by itself, and botocore's parameter errors repeat the values, which are keys.

    Raises:
        UsageError: no Region is set, or the Region, endpoint or profile does not exist.
        KMSRefusedError: the credentials cannot be had.
    """
    config = Config(
        connect_timeout=CONNECT_SECONDS,
        read_timeout=ANSWER_SECONDS,
        max_pool_connections=concurrency,
        retries={"total_max_attempts": 1, "mode": "standard"},
        parameter_validation=False,
        user_agent_extra="dekctl",
    )
    try:
        return session.create_client(
            "kms", region_name=region, endpoint_url=endpoint_url, config=config
        )
    except aws.NoRegionError:
        raise UsageError(
            "no AWS Region is set", hint='set `region = "..."` in dekctl.toml, or AWS_REGION'
        ) from None
    except CREDENTIAL_ERRORS as error:
        raise credentials_error(error) from error
    except (aws.BotoCoreError, ValueError) as error:
        raise UsageError(
            f"no KMS client can be made: {error}",
            hint="check `region` and `endpoint_url` in dekctl.toml, and the AWS profile",
        ) from error


def credentials_error(error: Exception) -> KMSRefusedError:
    """Build the error for credentials that botocore cannot give."""
    return KMSRefusedError(
        f"no AWS credentials: {error}",
        hint="log in, or set AWS_PROFILE or a role; then look with: dekctl doctor",
        code=type(error).__name__,
    )


def closed_error() -> KMSRefusedError:
    """Build the error for a call after ``close``."""
    return KMSRefusedError("the connection to KMS is closed")


def tls_error(operation: str, detail: str) -> KMSUnavailableError:
    """Build the error for an endpoint whose certificate is not trusted; retrying is no use."""
    return KMSUnavailableError(
        f"KMS {operation} failed: no trusted TLS connection ({detail})",
        hint="check the endpoint, and set AWS_CA_BUNDLE if it has a certificate of its own",
    )
