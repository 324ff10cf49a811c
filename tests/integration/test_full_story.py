"""``python -m demo.full``: what it leaves behind when it fails, and when it is told to end."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from demo.full import FullStory
from demo.infrastructure import DemoError, Terraform
from support.waiting import PATIENCE_SECONDS, wait_until
from tfkit.terraform import PROJECT

STUCK = """#!/bin/bash
sleep 600 &
wait
"""


def _processes_of(folder: Path) -> Iterator[str]:
    """Command lines of the processes that have a folder in their environment."""
    for entry in Path("/proc").iterdir():
        if not entry.name.isdecimal() or int(entry.name) == os.getpid():
            continue
        try:
            if str(folder).encode() in (entry / "environ").read_bytes():
                yield (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode()
        except OSError:
            continue


@pytest.mark.skipif(sys.platform != "linux", reason="looks for processes in /proc")
@pytest.mark.skipif(not shutil.which("make"), reason="make is not on PATH")
def test_sigterm_leaves_neither_processes_nor_folders(tmp_path: Path) -> None:
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    (tmp_path / "terraform").write_text(STUCK)
    (tmp_path / "terraform").chmod(0o755)
    told = subprocess.Popen(
        [sys.executable, "-m", "demo.full", "local"],
        cwd=PROJECT,
        env={
            **os.environ,
            "PATH": f"{tmp_path}:{os.environ['PATH']}",
            "PYTHONPATH": str(PROJECT / "tooling"),
            "TMPDIR": str(temporary),
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        wait_until(lambda: any("sleep" in each for each in _processes_of(temporary)), told)
        told.send_signal(signal.SIGTERM)
        said, _ = told.communicate(timeout=PATIENCE_SECONDS)
    finally:
        told.kill()
        told.wait()
    assert told.returncode == 128 + signal.SIGTERM, said
    assert list(_processes_of(temporary)) == []
    assert list(temporary.glob("dekctl-*")) == []


def test_the_first_failure_is_the_one_that_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: Terraform, target: str, *__: str) -> str:
        raise DemoError(f"{target} went wrong")

    monkeypatch.setattr(Terraform, "make", fail)
    monkeypatch.setattr(FullStory, "_existing", lambda _: "nothing")
    story = FullStory(
        infrastructure=Terraform("local", "http://127.0.0.1:9", tmp_path / "terraform"),
        endpoint_url="http://127.0.0.1:9",
        database_url=f"sqlite:///{tmp_path / 'app.db'}",
        directory=tmp_path / "app",
    )
    with pytest.raises(DemoError, match="plan went wrong") as failed:
        story.tell()
    assert failed.value.__notes__ == ["and afterwards: destroy went wrong"]
