"""A strict stand-in for AWS KMS (and the two STS calls that roles need), over HTTP or HTTPS.

It refuses what KMS refuses, and fails on purpose when told to. ::

    with KmsStandin.start(tls=True) as standin:
        arn = standin.create_key("alias/app-dek")
        standin.set_faults(Fault("ThrottlingException", probability=0.2), seed=7)
        standin.kms(attempts=5).encrypt(KeyId=arn, Plaintext=dek)

What differs from KMS: everything is at once consistent, a grant stands for identity and key policy
together, and a deletion only ends when ``destroy_key`` says so.
"""

from .faults import CUT_AFTER, CUT_BEFORE, CUT_MIDDLE, NO_BODY, Fault
from .handle import Counters, KmsStandin
from .identity import ADMIN, Credentials, Grant

__all__ = [
    "ADMIN",
    "CUT_AFTER",
    "CUT_BEFORE",
    "CUT_MIDDLE",
    "NO_BODY",
    "Counters",
    "Credentials",
    "Fault",
    "Grant",
    "KmsStandin",
]
