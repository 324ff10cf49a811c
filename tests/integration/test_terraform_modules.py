"""The modules by themselves: their own tests, offline; their example; their READMEs."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

from sandbox.moto import MotoServer
from tfkit.docs import blocks, modules, readme
from tfkit.terraform import PROJECT, TerraformMissingError, Workspace, changed

MODULES = PROJECT / "terraform" / "modules"
INPUTS = "tests/inputs.tftest.hcl"
"""A module's tests of what its variables refuse; its other tests plan resources."""


def _open(directory: Path, root: str, endpoint_url: str | None = None) -> Workspace:
    try:
        workspace = Workspace(directory, root, endpoint_url)
        workspace.init()
    except TerraformMissingError as missing:
        pytest.skip(str(missing))
    return workspace


@pytest.mark.parametrize("module", sorted(path.parent.name for path in MODULES.glob("*/tests")))
def test_module_passes_its_own_tests(module: str, tmp_path: Path) -> None:
    tested = _open(tmp_path, f"modules/{module}")
    (tested.root / INPUTS).unlink(missing_ok=True)
    assert " 0 failed" in tested.run("test", "-no-color")


@pytest.mark.parametrize(
    "module", sorted(path.parents[1].name for path in MODULES.glob(f"*/{INPUTS}"))
)
def test_module_refuses_wrong_inputs(module: str, tmp_path: Path) -> None:
    """By its variables alone: with the provider, each input would take three seconds."""
    try:
        tested = Workspace(tmp_path, f"modules/{module}")
    except TerraformMissingError as missing:
        pytest.skip(str(missing))
    inputs = tested.root / INPUTS
    for path in (*tested.root.glob("*.tf"), *inputs.parent.iterdir()):
        if path.name not in ("variables.tf", "attributes.tf", inputs.name):
            path.unlink()
    # What the variables are compared with, and AWS would tell.
    (tested.root / "account.tf").write_text(
        'locals {\n  account_id = "111122223333"\n  partition  = "aws"\n}\n'
    )
    text = inputs.read_text()
    inputs.write_text(text[text.index("\nvariables {") :])
    tested.run("init", "-input=false")
    said = tested.run("test", "-no-color")
    assert f"Success! {text.count('expect_failures')} passed, 0 failed" in said


def test_files_are_formatted(tmp_path: Path) -> None:
    try:
        workspace = Workspace(tmp_path, ".")
    except TerraformMissingError as missing:
        pytest.skip(str(missing))
    unformatted = [
        name
        for name in workspace.run("fmt", "-list=true", "-recursive").split()
        if "tfvars" not in name or name.endswith("generations.auto.tfvars")
    ]
    assert not unformatted, "run make tf-fmt"


@pytest.mark.parametrize("module", modules(), ids=lambda path: path.name)
def test_readme_lists_every_input_and_output(module: Path) -> None:
    assert (module / "README.md").read_text() == readme(module), "run make tf-fmt"


@pytest.mark.parametrize("module", modules()[:-1], ids=lambda path: path.name)
def test_readme_shows_how_the_module_is_used_from_a_tag(module: Path) -> None:
    text = (module / "README.md").read_text()
    version = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]["version"]
    source = f"dekctl.git//{module.relative_to(PROJECT).as_posix()}?ref=v{version}"
    assert source in text
    usage = text.partition(source)[2].partition("\n}\n")[0]
    given = set(re.findall(r"^  (\w+) += ", usage, re.MULTILINE)) - {"source", "providers"}
    inputs = dict(blocks(module / "variables.tf"))
    assert given <= inputs.keys()
    assert {name for name, values in inputs.items() if "default" not in values} <= given


def test_example_applies_and_then_has_nothing_to_change(tmp_path: Path) -> None:
    with MotoServer.start() as moto:
        example = _open(tmp_path, "modules/dekctl/examples/two-tenants", moto.endpoint_url)
        example.write_variables({"archive_days": 0})  # a lifecycle takes an emulator a minute
        example.apply()
        assert changed(example.plan()) == []
        tenants = example.output()
        assert tenants["blue"]["kek"]["arn"] != tenants["green"]["kek"]["arn"]
        assert set(tenants["green"]["audit"].values()) == {None, False}, "it has no trail"
        assert tenants["blue"]["audit"]["trail_arn"].endswith("trail/files-blue-trail")
