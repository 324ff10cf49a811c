"""The names of boto3 and botocore that are not public: here, and nowhere else.

There is no public way to do either. ``tests/unit/test_private_names.py`` says with which versions
they were checked, and fails where a version no longer has them.
"""

from __future__ import annotations

import boto3
from botocore.credentials import Credentials
from botocore.session import Session


def botocore_session(session: boto3.Session) -> Session:
    """The botocore session inside a boto3 one: it makes clients without boto3's own settings."""
    return session._session


def set_credentials(session: Session, credentials: Credentials) -> None:
    """Have a session use credentials that refresh themselves; its own method takes fixed ones."""
    session._credentials = credentials  # type: ignore[attr-defined] # the stubs leave it out
