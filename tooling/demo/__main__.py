"""``make demo``: the story on moto's server and SQLite, in a temporary folder."""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path

from demo.infrastructure import Boto3, DemoError, Infrastructure, Terraform
from demo.story import Story, say
from sandbox.moto import MotoServer
from sandbox.process import exit_on_sigterm


def main() -> int:
    """Tell the story. Returns the exit code."""
    exit_on_sigterm()
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="dekctl-demo-") as name:
        folder = Path(name)
        with MotoServer.start(folder / "moto") as aws:
            say(f"  emulator     moto server at {aws.endpoint_url}")
            try:
                _story(aws.endpoint_url, folder).tell()
            except DemoError as error:
                sys.stderr.write(f"error: {error}\n")
                return 1
    say(f"Done in {time.monotonic() - started:.0f} s; all servers are stopped.")
    return 0


def _story(endpoint_url: str, folder: Path) -> Story:
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
        database_url=f"sqlite:///{folder / 'app.db'}",
        directory=folder / "app",
        assume_roles=missing is None,
    )


if __name__ == "__main__":
    sys.exit(main())
