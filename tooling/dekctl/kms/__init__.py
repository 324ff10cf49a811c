"""Key providers behind one interface: AWS KMS, a KEK from the environment, a KEK in memory."""

from dekctl.kms.aws.provider import AWSKMS
from dekctl.kms.interface import KMSInterface
from dekctl.kms.local import EnvKMS, InMemoryKMS
from dekctl.kms.registry import get_kms_provider, set_kms_provider

__all__ = [
    "AWSKMS",
    "EnvKMS",
    "InMemoryKMS",
    "KMSInterface",
    "get_kms_provider",
    "set_kms_provider",
]
