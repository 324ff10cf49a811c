"""Key providers behind one interface: AWS KMS, a KEK from the environment, a KEK in memory."""

from typing import TYPE_CHECKING, Any

from dekctl.kms.interface import KMSInterface
from dekctl.kms.local import EnvKMS, InMemoryKMS
from dekctl.kms.registry import get_kms_provider, set_kms_provider

if TYPE_CHECKING:
    from dekctl.kms.aws.provider import AWSKMS

__all__ = [
    "AWSKMS",
    "EnvKMS",
    "InMemoryKMS",
    "KMSInterface",
    "get_kms_provider",
    "set_kms_provider",
]


def __getattr__(name: str) -> Any:
    # boto3 takes half a second to import: only for who uses it.
    if name == "AWSKMS":
        from dekctl.kms.aws.provider import AWSKMS  # noqa: PLC0415 - see above

        return AWSKMS
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
