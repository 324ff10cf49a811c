"""AWS KMS: the provider, its two transports, and what paces and checks its calls."""

from dekctl.kms.aws.provider import AWSKMS

__all__ = ["AWSKMS"]
