"""How a Python for LocalStack is found, and how its listening addresses are judged."""

from __future__ import annotations

import os
import socket
import sys
from pathlib import Path

import pytest

from sandbox.localstack import LocalStackServer
from sandbox.localstack_venv import BUILD_REQUIREMENTS, REQUIREMENTS, find_python
from sandbox.sockets import is_loopback, listening_addresses


def program(path: Path, script: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return path


@pytest.fixture
def bare_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine without Docker and Python; returns its only folder of PATH."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr(sys, "executable", str(tmp_path / "none"))
    for name in ("PYENV_ROOT", "LOCALSTACK_PYTHON"):
        monkeypatch.delenv(name, raising=False)
    return folder


def test_a_shim_that_does_not_run_is_passed_over_for_the_version_behind_it(
    bare_machine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program(bare_machine / "python3.13", "exit 127")
    root = bare_machine.parent / "pyenv"
    real = program(root / "versions" / "3.13.9" / "bin" / "python", "echo 3.13")
    monkeypatch.setenv("PYENV_ROOT", str(root))
    assert find_python() == (str(real), "")


def test_the_better_version_goes_first(bare_machine: Path) -> None:
    program(bare_machine / "python3.12", "echo 3.12")
    better = program(bare_machine / "python3.13", "echo 3.13")
    assert find_python() == (str(better), "")


def test_a_named_python_goes_first_and_before_docker(
    bare_machine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program(bare_machine / "python3.13", "echo 3.13")
    program(bare_machine / "docker", "exit 0")
    assert LocalStackServer.find() == ("docker", "")
    named = program(bare_machine / "mine", "echo 3.14")
    monkeypatch.setenv("LOCALSTACK_PYTHON", str(named))
    assert LocalStackServer.find() == (str(named), "")


@pytest.mark.parametrize(
    ("script", "message"),
    [("echo 3.11", "is Python 3.11; LocalStack needs 3.12 or newer"), ("exit 1", "does not run")],
)
def test_a_named_python_that_will_not_do_is_refused(
    bare_machine: Path, monkeypatch: pytest.MonkeyPatch, script: str, message: str
) -> None:
    monkeypatch.setenv("LOCALSTACK_PYTHON", str(program(bare_machine / "mine", script)))
    found, reason = find_python()
    assert found is None
    assert message in reason


def test_with_neither_docker_nor_python_the_reason_ends_in_a_hint(bare_machine: Path) -> None:
    program(bare_machine / "docker", "exit 1")  # the client is there, no engine answers
    found, reason = LocalStackServer.find()
    assert found is None
    assert "no Python 3.13 or 3.12" in reason
    assert "\nhint: start Docker, or install Python 3.13 or 3.12" in reason


def test_every_pinned_package_has_a_hash_and_no_registry_is_named() -> None:
    for file in (BUILD_REQUIREMENTS, REQUIREMENTS):
        text = file.read_text()
        pins = [line for line in text.splitlines() if line and line[0] not in " #"]
        assert pins
        for pin in pins:
            assert "==" in pin, f"{file.name}: no version: {pin}"
            assert pin.endswith("\\"), f"{file.name}: no hash: {pin}"
        assert "://" not in text, f"{file.name} names an address"


@pytest.mark.parametrize(
    ("listener", "inside"),
    [
        ("127.0.0.1:4566", True),
        ("[::1]:4566", True),
        ("[::ffff:127.0.0.1]:4566", True),
        ("0.0.0.0:4566", False),
        ("[::]:4566", False),
        ("[::ffff:0.0.0.0]:4566", False),
        ("192.0.2.1:4566", False),
        ("*:4566", False),
    ],
)
def test_only_loopback_counts_as_loopback(listener: str, inside: bool) -> None:
    assert is_loopback(listener) is inside


@pytest.mark.parametrize(("host", "shown"), [("127.0.0.1", "127.0.0.1"), ("::1", "[::1]")])
def test_the_listening_sockets_of_a_session_are_found(host: str, shown: str) -> None:
    session = os.getsid(0)
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        listener = socket.create_server((host, 0), family=family)
    except OSError:
        pytest.skip(f"this machine has no address {host}")
    with listener:
        where = f"{shown}:{listener.getsockname()[1]}"
        assert where in listening_addresses(session)
    assert where not in listening_addresses(session)
