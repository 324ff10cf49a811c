"""A run with ``--quota-share 0.5`` beside an application that uses most of the other half.

The stand-in enforces the quota for both: ``python -m bench.quota``. Draws docs/quota.svg.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import subprocess
import sys
import tempfile
import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import botocore.exceptions as aws

from bench.lab import Lab
from bench.report import lines
from support.scripted_endpoint import Reply, ScriptedEndpoint

if TYPE_CHECKING:
    from types_boto3_kms import KMSClient

CHART = Path(__file__).parents[2] / "docs" / "quota.svg"
BEGIN, END = "<!-- quota:begin -->", "<!-- quota:end -->"
QUOTA, SHARE = 400.0, 0.5
OF_THE_REST = 0.9
"""What the application uses of what the run leaves."""
SECONDS = 30
LOOK_SECONDS = 1.0
THREADS = 8


@dataclass
class Application:
    """Calls KMS evenly, without retries, until it is told to stop."""

    kms: KMSClient
    key: str
    rate: float
    sent: list[Future[bool]] = field(default_factory=list)
    stopped: threading.Event = field(default_factory=threading.Event)

    def run(self) -> None:
        """Send a call at each due time."""
        with ThreadPoolExecutor(THREADS) as threads:
            due = time.monotonic()
            while not self.stopped.wait(max(0.0, due - time.monotonic())):
                self.sent.append(threads.submit(self._is_throttled))
                due = max(due + 1 / self.rate, time.monotonic())  # it does not catch up

    @property
    def throttled(self) -> int:
        """How many of the calls that were answered KMS has throttled."""
        return sum(call.done() and call.result() for call in self.sent)

    def _is_throttled(self) -> bool:
        try:
            self.kms.encrypt(KeyId=self.key, Plaintext=bytes(32))
        except aws.ClientError as error:
            if error.response["Error"]["Code"] != "ThrottlingException":
                raise
            return True
        return False


def measure(chart: Path | None, seconds: float = SECONDS) -> str:
    """Run both, draw calls per second if ``chart`` is a file, and return a Markdown table."""
    reply = Reply(
        200,
        json.dumps(
            {"Quota": {"Value": QUOTA, "Period": {"PeriodValue": 1, "PeriodUnit": "SECOND"}}}
        ).encode(),
    )
    with Lab(0.005) as lab, ScriptedEndpoint(lambda _: reply) as quotas:
        rows = int(QUOTA * SHARE * seconds)
        lab.new_table(rows)
        environment = lab.environment() | {"AWS_ENDPOINT_URL_SERVICE_QUOTAS": quotas.url}
        expand = lab.dekctl("schema", "expand")
        subprocess.run(expand, env=environment, check=True, capture_output=True)
        application = Application(
            lab.kms.kms(lab.kms.put_user("application", None)),
            lab.kek,
            QUOTA * (1 - SHARE) * OF_THE_REST,
        )
        lab.kms.set_quota(QUOTA)
        thread = threading.Thread(target=application.run)
        thread.start()
        try:
            samples = _follow(
                lab, lab.dekctl("wrap", "--quota-share", str(SHARE)), environment, application
            )
        finally:
            application.stopped.set()
            thread.join()
    # Only while it calls: neither its start nor its end.
    ours = [(at, calls) for at, calls, _, _ in samples]
    first = next(i for i, (_, calls) in enumerate(ours) if calls > 0)
    last = next(i for i, (_, calls) in enumerate(ours) if calls >= ours[-1][1])
    busy = ours[first:last] if last - first > 1 else ours[first:]
    rate = (busy[-1][1] - busy[0][1]) / (busy[-1][0] - busy[0][0])
    if chart is not None:
        chart.write_text(_chart(samples), encoding="utf-8")
    of_share = rate / (QUOTA * SHARE)
    throttled_run = samples[-1][3]
    return "\n".join(
        [
            "| quota | calls per second of the run | of its share | throttled calls of the run "
            "| calls of the application | throttled |",
            "|---:|---:|---:|---:|---:|---:|",
            f"| {QUOTA:,.0f} | {rate:,.0f} | {of_share:.1%} | {throttled_run:,} "
            f"| {len(application.sent):,} | {application.throttled:,} |",
        ]
    )


Sample = tuple[float, int, int, int]
"""When; calls of the run, of the application; throttled calls of the run."""


def _follow(
    lab: Lab, command: list[str], environment: dict[str, str], application: Application
) -> list[Sample]:
    samples: list[Sample] = []
    lab.kms.reset_counters()
    began = time.monotonic()
    with (
        tempfile.TemporaryFile("w+") as said,
        subprocess.Popen(command, env=environment, stdout=said, stderr=said) as child,
    ):
        while True:
            ended = child.poll() is not None
            counters = lab.kms.counters()
            theirs = counters.principals.get("application", 0)
            ours = counters.calls.get("Encrypt", 0) - theirs
            throttled = counters.errors.get("ThrottlingException", 0) - application.throttled
            samples.append((time.monotonic() - began, ours, theirs, throttled))
            if ended:
                break
            with contextlib.suppress(subprocess.TimeoutExpired):
                child.wait(LOOK_SECONDS)
        if child.returncode:
            said.seek(0)
            raise RuntimeError(said.read())
    return samples


def _chart(samples: list[Sample]) -> str:
    pairs = list(itertools.pairwise(samples))[:-1]

    def rates(which: int) -> list[tuple[float, float]]:
        return [(b[0], (b[which] - a[which]) / (b[0] - a[0])) for a, b in pairs]

    return lines(
        {"the run": rates(1), "the application": rates(2), "throttled": rates(3)},
        most=QUOTA,
        title=f"KMS calls per second, quota {QUOTA:,.0f}, --quota-share {SHARE:g}",
    )


if __name__ == "__main__":
    sys.stdout.write(measure(CHART) + "\n")
