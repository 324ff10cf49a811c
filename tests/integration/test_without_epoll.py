"""Where libcurl's transport cannot run: macOS has no epoll, gevent replaces threads and sockets."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from support.scripted_endpoint import Reply, ScriptedEndpoint
from support.transports import ANSWER

pytest.importorskip("pycurl", reason="without pycurl there is nothing to choose")

ROOT = Path(__file__).parents[2]
MACOS = """
import os, select
del select.epoll, select.EPOLLIN, select.EPOLLOUT, select.EPOLLRDHUP, select.EPOLLET
del os.eventfd
"""
GEVENT = """
from gevent import monkey
monkey.patch_all()
"""
WRAP = """
import sys
from dekctl.errors import UsageError
from dekctl.kms import AWSKMS
kms = AWSKMS("alias/app-dek", region="us-east-1", endpoint_url=sys.argv[1], transport=sys.argv[2])
try:
    print(kms.wrap(bytes(32)), type(kms._transport_made).__name__)
except UsageError as error:
    print(error.message, "|", error.hint)
"""


def wrapped(prelude: str, transport: str) -> str:
    """What a process prints that wraps one key after the prelude."""
    with ScriptedEndpoint(lambda _: Reply(200, ANSWER)) as endpoint:
        done = subprocess.run(
            [sys.executable, "-c", prelude + WRAP, endpoint.url, transport],
            env={
                **{k: v for k, v in os.environ.items() if not k.startswith("AWS_")},
                "AWS_ACCESS_KEY_ID": "AKIDEXAMPLE",
                "AWS_SECRET_ACCESS_KEY": "secret",
                "PYTHONPATH": str(ROOT / "tooling"),
            },
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.mark.parametrize(
    ("prelude", "transport", "said"),
    [
        ("", "auto", "b'wrapped' CurlTransport"),
        (MACOS, "auto", "b'wrapped' BotoTransport"),
        (MACOS, "boto3", "b'wrapped' BotoTransport"),
        (GEVENT, "auto", "b'wrapped' BotoTransport"),
    ],
)
def test_the_transport_is_one_that_can_run(prelude: str, transport: str, said: str) -> None:
    assert wrapped(prelude, transport) == said


@pytest.mark.parametrize(
    ("prelude", "reason"),
    [(MACOS, "it needs Linux"), (GEVENT, "gevent has replaced threads and sockets")],
)
def test_curl_where_it_cannot_run_is_refused_with_the_reason(prelude: str, reason: str) -> None:
    said = wrapped(prelude, "curl")
    assert f"the fast KMS client cannot run here: {reason}" in said
    assert 'transport="auto"' in said
