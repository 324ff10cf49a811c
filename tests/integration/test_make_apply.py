"""``make apply`` and ``make destroy``: what the guard saw is what is applied."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from support.waiting import PATIENCE_SECONDS
from tfkit.terraform import PROJECT

TERRAFORM = """#!/bin/bash
case "$2" in
  plan)
    [[ " $* " == *" -destroy "* ]] && plan=destroy || plan=mine
    for option; do [[ $option == -out=* ]] && echo "$plan" > "${option#-out=}"; done ;;
  show) cat "${@: -1}" ;;
  apply) cp "${@: -1}" "$FOLDER/applied" ;;
esac
"""
GUARD = """#!/bin/bash
cp "${@: -1}" "$FOLDER/seen"
# Somebody types `make plan` in another terminal while this one waits.
echo theirs | tee "$FOLDER/state/plan.tfplan" > "$FOLDER/state/plan.json"
exit $VERDICT
"""


@pytest.mark.skipif(not shutil.which("make"), reason="make is not on PATH")
@pytest.mark.parametrize(("target", "plan"), [("apply", "mine"), ("destroy", "destroy")])
@pytest.mark.parametrize("verdict", [0, 3])
def test_a_plan_made_meanwhile_is_not_applied(
    target: str, plan: str, verdict: int, tmp_path: Path
) -> None:
    for name, script in (("terraform", TERRAFORM), ("guard", GUARD)):
        (tmp_path / name).write_text(script)
        (tmp_path / name).chmod(0o755)
    settings = {
        "ENV": "staging",
        "YES": "1",
        "VENV": sys.prefix,
        "TERRAFORM": str(tmp_path / "terraform"),
        "DEKCTL": str(tmp_path / "guard"),
        "STATE_DIR": str(tmp_path / "state"),
    }
    kept = {k: v for k, v in os.environ.items() if not k.startswith("MAKE")}
    done = subprocess.run(
        ["make", "-o", f"{sys.prefix}/.installed", target, *map("=".join, settings.items())],
        cwd=PROJECT,
        env={**kept, "FOLDER": str(tmp_path), "VERDICT": str(verdict)},
        capture_output=True,
        text=True,
        timeout=PATIENCE_SECONDS,
        check=False,
    )
    assert (done.returncode == 0) is (verdict == 0), done.stdout + done.stderr
    assert (tmp_path / "seen").read_text().strip() == plan
    applied = tmp_path / "applied"
    assert applied.exists() is (verdict == 0)
    assert not applied.exists() or applied.read_text().strip() == plan
    assert not list((tmp_path / "state").glob("apply.*")), "its own plan is left behind"
