"""``make dist``: the same bytes twice, and all that an installed dekctl needs is in the wheel."""

from __future__ import annotations

import os
import subprocess
import zipfile
from pathlib import Path

from support.wheel import PROJECT, build, install

OWN_TABLE = "terraform/examples/own-table"


def test_two_builds_are_the_same_and_hold_what_an_installed_dekctl_needs(tmp_path: Path) -> None:
    first = build(tmp_path / "first")
    before = os.umask(0o077)
    try:
        second = build(tmp_path / "second")
    finally:
        os.umask(before)
    for one, other in zip(first, second, strict=True):
        assert one.read_bytes() == other.read_bytes(), one.name
    with zipfile.ZipFile(first[0]) as wheel:
        names = set(wheel.namelist())
    packed = {name for name in names if name.startswith("dekctl/_")}
    expected = _from("migrations") | _from("terraform/modules") | _from(OWN_TABLE)
    assert packed - {"dekctl/__init__.py", "dekctl/__main__.py"} == expected | _from("docs/*.md")
    bin_folder = install(first[0], tmp_path / "venv")
    environ = {k: v for k, v in os.environ.items() if not k.startswith(("DEKCTL_", "PYTHON"))}
    (tmp_path / "app.db").touch()

    def dekctl(*arguments: str) -> str:
        return subprocess.run(
            [str(bin_folder / "dekctl"), *arguments],
            cwd=tmp_path,
            env={**environ, "DATABASE_URL": "sqlite:///app.db"},
            check=True,
            capture_output=True,
            text=True,
        ).stdout

    hint = "from dekctl.cli.hints import Place; print(Place().runnable('docs/rebind.md'))"
    shown = subprocess.run(
        [str(bin_folder / "python"), "-c", hint], check=True, capture_output=True, text=True
    ).stdout.strip()
    assert shown.startswith(str(tmp_path / "venv")), "not the wheel's own code"
    assert Path(shown).read_bytes() == (PROJECT / "docs/rebind.md").read_bytes()
    (tmp_path / "dekctl.toml").write_text('[env.x]\ndatabase_url = "sqlite:///app.db"\n')
    assert "EXISTS dekctl_runs" in dekctl("schema", "upgrade", "--sql")


def _from(folder: str) -> set[str]:
    """The names in the wheel of the files that git has in a folder, but for tests and examples."""
    listed = subprocess.run(
        ["git", "ls-files", folder], cwd=PROJECT, check=True, capture_output=True, text=True
    )
    parts = (folder + "/tests", "/tests/", "modules/dekctl/examples/")
    files = [name for name in listed.stdout.splitlines() if not any(p in name for p in parts)]
    assert files, folder
    return {f"dekctl/_{name}" for name in files}
