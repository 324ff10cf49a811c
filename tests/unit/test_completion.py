"""``dekctl completion``: the script loads in its shell, and values come from the configuration."""

from __future__ import annotations

import shutil
import subprocess
import sys

import pytest
from click.shell_completion import BashComplete

from dekctl.cli.main import cli
from support.cli import TOOLING, Dekctl
from support.outputs import outputs

TOML = """
[[table]]
name = "files"
context_name = "files"
[[table]]
name = "folders"
context_name = "folders"
[env.staging]
provider = "memory"
[env.spare]
terraform_outputs = "out.json"
"""


@pytest.mark.parametrize(
    ("typed", "found"),
    [
        ("--env s", {"staging", "spare"}),
        ("--env st", {"staging"}),
        ("--env staging status --table f", {"files", "folders"}),
        ("--env staging status --table fi", {"files"}),
        ("--env nowhere status --table f", set()),
        ("--env staging retire g", set()),
        ("--env spare retire g", {"g1"}),
        ("--env spare rewrap --from g", {"g1"}),
        ("comp", {"completion"}),
        ("schema c", {"contract", "current"}),
        ("wrap --dry", {"--dry-run"}),
    ],
)
def test_values_come_from_the_configuration(
    dekctl: Dekctl, monkeypatch: pytest.MonkeyPatch, typed: str, found: set[str]
) -> None:
    dekctl.configure(TOML)
    (dekctl.folder / "out.json").write_text(outputs())
    monkeypatch.setenv("DEKCTL_CONFIG", str(dekctl.folder / "dekctl.toml"))
    assert {line.partition(",")[2] for line in completed(typed, monkeypatch)} == found
    dekctl.configure("not TOML")
    if "table" in typed or "--env" in typed.split()[-2:]:
        assert completed(typed, monkeypatch) == [], "the command itself says what is wrong"


def completed(typed: str, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What Click offers bash for a line."""
    *before, last = typed.split()
    monkeypatch.setenv("COMP_WORDS", " ".join(["dekctl", *before, last]))
    monkeypatch.setenv("COMP_CWORD", str(len(before) + 1))
    return BashComplete(cli, {}, "dekctl", "_DEKCTL_COMPLETE").complete().splitlines()


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_script_is_one_of_its_shell(dekctl: Dekctl, shell: str) -> None:
    script = dekctl("completion", shell).expect(0).stdout
    assert "_DEKCTL_COMPLETE" in script
    program = shutil.which(shell)
    if program is None:
        pytest.skip(f"{shell} is not installed")
    done = subprocess.run(
        [program, "-n"], input=script, text=True, check=False, capture_output=True
    )
    assert done.returncode == 0, done.stderr


def test_a_process_completes_without_the_libraries_that_it_does_not_need(dekctl: Dekctl) -> None:
    program = (
        "import sys\nfrom dekctl.cli.main import main\n"
        "try:\n    main()\nfinally:\n    print(*sys.modules, file=sys.stderr)\n"
    )
    variables = {"_DEKCTL_COMPLETE": "bash_complete", "COMP_WORDS": "dekctl wr", "COMP_CWORD": "1"}
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={"PYTHONPATH": str(TOOLING), **variables},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.split() == ["plain,wrap"], done.stderr
    assert not {"sqlalchemy", "boto3", "botocore"} & set(done.stderr.split())
