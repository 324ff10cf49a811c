"""LocalStack's own virtual environment: finds a Python for it and installs the pinned packages."""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from sandbox.process import run

PROJECT = Path(__file__).parents[2]
SERVE = PROJECT / "localstack" / "serve.py"
BUILD_REQUIREMENTS = PROJECT / "localstack" / "build-requirements.txt"
REQUIREMENTS = PROJECT / "localstack" / "requirements.txt"
CACHE = PROJECT / ".dekctl" / "localstack"

NAMED = "LOCALSTACK_PYTHON"
VERSIONS = ("3.13", "3.12")  # the ones the pinned packages are tried on, the better one first
INSTALL_SECONDS = 900.0  # one minute on two idle cores; a slow mirror takes longer
PROBE = "import ensurepip, sys, venv; print('%d.%d' % sys.version_info[:2])"


def find_python() -> tuple[str | None, str]:
    """An interpreter that LocalStack runs on, or None and the reason why there is none.

    ``LOCALSTACK_PYTHON`` decides if it is set. Otherwise: this interpreter, PATH, pyenv's versions.
    """
    named = os.environ.get(NAMED)
    if named:
        version = _version(named)
        if version is None:
            return (
                None,
                f"{NAMED}={named} does not run, or the modules venv and ensurepip are missing",
            )
        if tuple(map(int, version.split("."))) < (3, 12):
            return None, f"{NAMED}={named} is Python {version}; LocalStack needs 3.12 or newer"
        return named, ""
    for version in VERSIONS:
        for candidate in _candidates(version):
            # A shim of pyenv answers on PATH even where the version behind it is not active.
            if _version(candidate) == version:
                return candidate, ""
    return None, f"there is no Python {' or '.join(VERSIONS)} with the modules venv and ensurepip"


def ensure_venv(
    python: str, *, cache: Path = CACHE, progress: Callable[[str], None] | None = None
) -> Path:
    """The interpreter of an environment that holds exactly the pinned packages.

    Args:
        python: the interpreter to build it with.
        cache: folder that keeps it; built again only if the pins or the Python changed.
        progress: called with one line before an installation, which takes a minute or two.

    Raises:
        SandboxError: pip failed; the message has the end of its log.
    """
    cache.mkdir(parents=True, exist_ok=True)
    venv, stamp = cache / "venv", cache / "venv.stamp"
    with (cache / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # a second run waits instead of installing over this one
        wanted = _fingerprint(python)
        if not (stamp.exists() and stamp.read_text() == wanted and _version(str(_bin(venv)))):
            if progress:
                progress("installing LocalStack into its own virtual environment, once")
            stamp.unlink(missing_ok=True)
            shutil.rmtree(venv, ignore_errors=True)
            _install(python, venv, cache / "install.log")
            # Written last: an interrupted installation is never taken for a whole one.
            stamp.write_text(wanted)
    return _bin(venv)


def _install(python: str, venv: Path, log: Path) -> None:
    log.unlink(missing_ok=True)
    run([python, "-m", "venv", venv], log=log, deadline=INSTALL_SECONDS)
    pip = [str(_bin(venv)), "-m", "pip", "install", "--require-hashes"]
    run([*pip, "-r", BUILD_REQUIREMENTS], log=log, deadline=INSTALL_SECONDS)
    # What has no wheel is built with the pinned tools above, not with whatever is new today.
    run([*pip, "--no-build-isolation", "-r", REQUIREMENTS], log=log, deadline=INSTALL_SECONDS)


def _bin(venv: Path) -> Path:
    return venv / "bin" / "python"


def _fingerprint(python: str) -> str:
    pins = hashlib.sha256(BUILD_REQUIREMENTS.read_bytes() + REQUIREMENTS.read_bytes())
    return f"{pins.hexdigest()} {_version(python)}"


def _candidates(version: str) -> Iterator[str]:
    yield sys.executable
    for folder in os.get_exec_path():
        program = shutil.which(f"python{version}", path=folder)
        if program:
            yield program
    for root in _pyenv_roots():
        yield from (str(found / "bin" / "python") for found in root.glob(f"versions/{version}*"))


def _pyenv_roots() -> Iterator[Path]:
    if root := os.environ.get("PYENV_ROOT"):
        yield Path(root)
    if pyenv := shutil.which("pyenv"):
        yield Path(_output([pyenv, "root"]))
    yield Path.home() / ".pyenv"


def _version(python: str) -> str | None:
    return _output([python, "-c", PROBE]) or None


def _output(command: list[str]) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=True)
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout.strip()
