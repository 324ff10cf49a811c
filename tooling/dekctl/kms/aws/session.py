"""What both transports take from botocore: a KMS client with its Region and endpoint rules.

Also what botocore's own failures mean: missing credentials concern every call.
"""

from __future__ import annotations

import ipaddress
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any
from urllib.parse import urlsplit

import boto3
from botocore import exceptions as aws
from botocore.config import Config
from botocore.credentials import Credentials, ReadOnlyCredentials
from botocore.session import Session

from dekctl.errors import DekctlError, KMSError, KMSRefusedError, KMSUnavailableError, UsageError
from dekctl.kms.aws.transport import TransportOptions

CONNECT_SECONDS = 5.0
"""How long a connection may take."""

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

_SOURCE_IS_AWAY = (
    aws.CredentialRetrievalError,
    aws.MetadataRetrievalError,
    aws.ConnectionError,
    aws.HTTPClientError,
)
"""Who should give credentials did not answer: nobody refused anything."""

CONFIGURATION_ERRORS = (
    aws.ProfileNotFound,
    aws.ConfigNotFound,
    aws.ConfigParseError,
    aws.InvalidConfigError,
)


_calling = ContextVar("dekctl_kms_call", default=False)


class _HideCalls(logging.Filter):
    """Drops what botocore logs about our calls at debug level: whole requests and responses."""

    def filter(self, record: logging.LogRecord) -> bool:
        return record.levelno > logging.DEBUG or not _calling.get()


_hide_calls = _HideCalls()


@contextmanager
def unlogged() -> Iterator[None]:
    """Keep the KMS calls of this thread out of botocore's debug log: their bodies hold keys.

    An application that turns on debug logging keeps the log of its other calls.
    """
    before = _calling.set(True)
    try:
        yield
    finally:
        _calling.reset(before)


def _hide_from_debugging() -> None:
    """Put the filter on each logger of botocore: a filter on a parent logger is not asked."""
    for name in list(logging.Logger.manager.loggerDict):
        if name.partition(".")[0] in {"boto3", "botocore"}:
            logging.getLogger(name).addFilter(_hide_calls)  # the same one is added once


def create_client(session: Session, options: TransportOptions) -> Any:
    """Make botocore's KMS client. It neither retries nor checks parameters.

    dekctl retries by itself, and botocore's parameter errors repeat the values, which are keys.

    Raises:
        UsageError: no Region is set, or the Region, endpoint or profile does not exist, or the
            endpoint is plain HTTP beyond this machine and that is not allowed.
        KMSRefusedError: there are no credentials.
    """
    config = Config(
        connect_timeout=min(CONNECT_SECONDS, options.policy.answer),
        read_timeout=options.policy.answer,
        max_pool_connections=options.concurrency,
        retries={"total_max_attempts": 1, "mode": "standard"},
        parameter_validation=False,
        user_agent_extra="dekctl",
    )
    credentials_of(session)
    try:
        client = session.create_client(
            "kms", region_name=options.region, endpoint_url=options.endpoint_url, config=config
        )
        _hide_from_debugging()
        if not options.allow_plain_http:
            refuse_plain_http(client)
        return client
    except aws.NoRegionError:
        raise UsageError(
            "no AWS Region is set", hint='set `region = "..."` in dekctl.toml, or AWS_REGION'
        ) from None
    except CREDENTIAL_ERRORS as error:
        raise credentials_error(error) from error
    except (aws.BotoCoreError, ValueError) as error:
        raise endpoint_error(error) from error


def is_plain_http(endpoint: str) -> bool:
    """Whether what is sent to an endpoint crosses a network in clear text."""
    parts = urlsplit(endpoint)
    host = parts.hostname or ""
    if parts.scheme != "http" or host == "localhost":
        return False
    try:
        return not ipaddress.ip_address(host).is_loopback
    except ValueError:
        return True


def refuse_plain_http(client: Any) -> None:
    """Refuse a client whose endpoint is plain HTTP beyond this machine, wherever that is set.

    Raises:
        UsageError: it is.
    """
    endpoint = client.meta.endpoint_url
    if is_plain_http(endpoint):
        what = "data keys" if client.meta.service_model.service_name == "kms" else "credentials"
        raise UsageError(
            f"the endpoint {endpoint} is plain HTTP: {what} would cross the network in clear text",
            hint="use https:// in endpoint_url, AWS_ENDPOINT_URL… or the AWS configuration; where "
            "the network is trusted, set allow_plain_http = true in [env.NAME]",
        )


def endpoint_error(error: Exception) -> UsageError:
    """Build the error for a Region or an endpoint that does not exist."""
    return UsageError(
        f"cannot create a KMS client: {error}",
        hint="check `region` and `endpoint_url` in dekctl.toml, and the AWS profile",
    )


def credentials_of(session: Session | boto3.Session) -> Credentials | None:
    """The credentials of a session; None where its chain has none.

    Raises:
        UsageError: the AWS configuration is wrong, for example names a missing profile.
        KMSError: their source failed.
    """
    try:
        return session.get_credentials()
    except CONFIGURATION_ERRORS as error:
        raise configuration_error(error) from error
    except Exception as error:  # of a program, a file or a terminal: botocore passes them on
        raise credentials_error(error) from error


def frozen(credentials: Credentials | None) -> ReadOnlyCredentials | None:
    """Credentials to sign with now, refreshed where that is due.

    Raises:
        KMSError: they cannot be had.
    """
    try:
        return credentials.get_frozen_credentials() if credentials else None
    except DekctlError:
        raise
    except Exception as error:  # as above
        raise credentials_error(error) from error


def configuration_error(error: Exception) -> UsageError:
    """Build the error for an AWS configuration that is wrong."""
    return UsageError(
        f"the AWS configuration is not usable: {error}",
        hint="correct AWS_PROFILE, or the files that AWS_CONFIG_FILE and "
        "AWS_SHARED_CREDENTIALS_FILE name (~/.aws/config, ~/.aws/credentials); list the "
        "profiles with: aws configure list-profiles",
    )


def credentials_error(error: Exception) -> KMSRefusedError | KMSUnavailableError:
    """Build the error for credentials that botocore cannot provide."""
    text = " ".join(str(error).split())
    if isinstance(error, EOFError):
        text = "the MFA code cannot be asked for without a terminal"
    elif not isinstance(error, aws.BotoCoreError | aws.ClientError | OSError):
        text = f"their source gave something unusable: {type(error).__name__}: {text}"
    # A program that gives none says so for a reason: often nobody has logged in.
    is_program = getattr(error, "kwargs", {}).get("provider") == "custom-process"
    is_away = isinstance(error, _SOURCE_IS_AWAY) and not is_program
    return (KMSUnavailableError if is_away else KMSRefusedError)(
        f"no AWS credentials: {text}",
        hint="log in, or set AWS_PROFILE or a role; then run: dekctl doctor",
        code=type(error).__name__,
    )


def closed_error() -> KMSRefusedError:
    """Build the error for a call after ``close``."""
    return KMSRefusedError("the connection to KMS is closed")


def unexpected_error(error: BaseException) -> KMSError:
    """Build the error for a defect in the transport. It names no value: values may be keys."""
    return KMSUnavailableError(
        f"the KMS client failed unexpectedly: {type(error).__name__}",
        hint="try again; if it happens again, please report it",
    )


def tls_error(operation: str, detail: str) -> KMSUnavailableError:
    """Build the error for an endpoint whose certificate is not trusted; retrying does not help."""
    return KMSUnavailableError(
        f"KMS {operation} failed: no trusted TLS connection ({detail})",
        hint="check the endpoint; set AWS_CA_BUNDLE if its certificate is signed by a private CA",
    )
