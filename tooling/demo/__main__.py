"""``make demo``: the story on moto's server and SQLite, in a temporary folder."""

from __future__ import annotations

import shutil
import sys
import tempfile
import time
from pathlib import Path

from demo.infrastructure import ROOT, Boto3, DemoError, Infrastructure, Terraform
from demo.story import Story, say
from sandbox.moto import MotoServer
from sandbox.process import exit_on_sigterm

NEXT = """
The application could read every file throughout. The plaintext column is gone, and every row is
under the second KEK.

Look at it yourself, and go on:
  .dekctl/demo/app.db     the database as it is now: open it with any SQLite client
  docs/own-table.md       the same with your own table, from an empty folder
  docs/migration.md       a real environment, step by step, and how to undo each step
  make up && make apply && make migrate && make status
                          the same by hand, on an emulator that keeps running (make down stops it)
"""


def main() -> int:
    """Tell the story. Returns the exit code."""
    exit_on_sigterm()
    started = time.monotonic()
    kept = ROOT / ".dekctl" / "demo"
    shutil.rmtree(kept, ignore_errors=True)
    kept.mkdir(parents=True)
    say("The application's table gets raw keys; dekctl wraps them, and rotates the KMS key.")
    with tempfile.TemporaryDirectory(prefix="dekctl-demo-") as name:
        folder = Path(name)
        with MotoServer.start(folder / "moto") as aws:
            say(f"  emulator     moto server at {aws.endpoint_url}")
            try:
                _story(aws.endpoint_url, folder, kept / "app.db").tell()
            except DemoError as error:
                sys.stderr.write(f"error: {error}\n")
                return 1
    say(f"Done in {time.monotonic() - started:.0f} s; all servers are stopped.")
    say(NEXT)
    return 0


def _story(endpoint_url: str, folder: Path, database: Path) -> Story:
    terraform = Terraform("local", endpoint_url, folder / "terraform")
    infrastructure: Infrastructure = terraform
    missing = Terraform.missing()
    if missing is None:
        try:
            terraform.make("tf-init")
        except DemoError as error:
            reasons = [line for line in str(error).splitlines() if "rror" in line]
            missing = f"the AWS provider is not available ({reasons[-1].strip('│╷ ')})"
    if missing is not None:
        say(f"  Terraform    not used: {missing}; boto3 creates the same KEK and alias")
        infrastructure = Boto3(endpoint_url, folder / "boto3")
    return Story(
        infrastructure=infrastructure,
        endpoint_url=endpoint_url,
        database_url=f"sqlite:///{database}",
        directory=folder / "app",
        assume_roles=missing is None,
    )


if __name__ == "__main__":
    sys.exit(main())
