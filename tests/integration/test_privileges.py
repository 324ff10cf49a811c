"""Least privilege, over the policies that Terraform rendered and applied."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sandbox.moto import MotoServer
from support.privileges import Cell, Rendered, allowed, document, needs
from tfkit.terraform import PROJECT, TerraformMissingError, Workspace, resources

PAGE = PROJECT / "docs" / "privileges.md"
ROLLED = {"g1": {"state": "retired"}, "g2": {"state": "active"}}


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workspace]:
    """The environment local, applied to moto's server."""
    with MotoServer.start() as moto:
        directory = tmp_path_factory.mktemp("privileges")
        try:
            applied = Workspace(directory, "environments/local", moto.endpoint_url)
            applied.init()
        except TerraformMissingError as missing:
            pytest.skip(str(missing))
        yield applied


def _rendered(workspace: Workspace, **opened: Any) -> Rendered:
    workspace.write_variables({"generations": ROLLED, **opened})
    workspace.apply()
    state = json.loads(workspace.run("show", "-json"))
    found = resources(state["values"]["root_module"])
    documents = {
        r["address"]: json.loads(r["values"]["policy"]) for r in found if r["values"].get("policy")
    }
    return Rendered(found, documents)


@pytest.fixture(scope="module")
def strict(workspace: Workspace) -> set[Cell]:
    """What is allowed as a rule."""
    return allowed(_rendered(workspace))


@pytest.fixture(scope="module")
def lenient(workspace: Workspace, strict: set[Cell]) -> set[Cell]:
    """What is allowed while rows of version V1 are left; after ``strict``, on the same keys."""
    return allowed(_rendered(workspace, allow_rows_without_context=True))


@pytest.fixture(scope="module")
def branched(workspace: Workspace, lenient: set[Cell]) -> set[Cell]:
    """What is allowed with hierarchical wrapping; after ``lenient``, on the same keys."""
    return allowed(_rendered(workspace, allow_branch_keys=True))


def test_every_allowed_call_is_one_that_a_command_needs(strict: set[Cell]) -> None:
    unexplained = strict - set(needs())
    assert not unexplained, f"allowed, and nothing needs it: {sorted(unexplained)}"


def test_every_command_has_the_rights_it_needs(strict: set[Cell]) -> None:
    missing = set(needs()) - strict
    assert not missing, f"needed, and denied: {sorted(missing)}"


def test_rows_without_a_context_add_unwrapping_without_one_and_nothing_else(
    strict: set[Cell], lenient: set[Cell]
) -> None:
    assert lenient == set(needs(rows_without_context=True))
    added = lenient - strict
    assert {cell.context for cell in added} == {"none"}
    assert {cell.action for cell in added} == {"Decrypt", "ReEncryptFrom"}


def test_branch_keys_add_their_own_context_and_one_right_of_the_wrapper(
    strict: set[Cell], branched: set[Cell]
) -> None:
    assert branched == set(needs(branch_keys=True))
    added = branched - strict
    assert {cell.context for cell in added} == {"branch key"}
    assert {cell.role for cell in added} == {"app", "wrapper", "rewrapper", "verifier"}
    assert {cell.action for cell in added if cell.role == "wrapper"} == {"GenerateDataKey"}


def test_further_tables_and_keks_of_tenants_have_the_same_rights(
    workspace: Workspace, strict: set[Cell], branched: set[Cell]
) -> None:
    acme = {"acme": {"generations": {"g1": {"state": "retired"}, "g2": {"state": "active"}}}}
    rendered = _rendered(workspace, further_context_names=["photos"], tenants=acme)
    assert allowed(rendered) == strict
    assert allowed(rendered, table="photos") == strict
    assert allowed(rendered, table="photos", tenant="acme") == strict


def test_the_page_in_the_docs_is_what_the_policies_say(
    strict: set[Cell], lenient: set[Cell], branched: set[Cell]
) -> None:
    page = document(strict, lenient, branched)
    if os.environ.get("DEKCTL_WRITE_DOCS") == "1":
        Path(PAGE).write_text(page)
    assert PAGE.read_text() == page, (
        "docs/privileges.md is out of date: run DEKCTL_WRITE_DOCS=1 pytest " + __file__
    )
