"""The AWS Region where nothing names one."""

from __future__ import annotations

import os


def ambient_region() -> str | None:
    """What AWS_REGION says, which other SDKs read and botocore does not; None leaves it to boto3.

    boto3 goes on with AWS_DEFAULT_REGION, then the profile.
    """
    return os.environ.get("AWS_REGION") or None
