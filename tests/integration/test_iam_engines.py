"""The policies that Terraform rendered, before an IAM engine that others wrote, and before ours.

Of a recorded plan of staging, so that Terraform is not needed. The foreign engine takes most of a
minute, so only ``make test-iam`` asks it, which is skipped without Node and npm.
"""

from __future__ import annotations

import json
import os

import pytest

from support.iam_simulate import engine, evaluate
from support.privileges import KEYS, OUTSIDERS, ROLES, Cell, Rendered, allowed, asked, needs
from support.recorded_plans import recorded

EVERYBODY = (*ROLES, *OUTSIDERS)


@pytest.fixture(scope="module")
def rendered() -> Rendered:
    """The policies of staging with a retired and an active generation, and with branch keys."""
    changes = recorded()["resource_changes"]
    found = [{"address": c["address"], "values": c["change"]["before"] or {}} for c in changes]
    documents = {
        r["address"]: json.loads(r["values"]["policy"]) for r in found if r["values"].get("policy")
    }
    return Rendered(found, documents)


@pytest.mark.skipif(os.environ.get("DEKCTL_TEST_IAM") != "1", reason="run it by: make test-iam")
def test_an_engine_that_others_wrote_says_the_same_of_every_cell(rendered: Rendered) -> None:
    manifest = engine()
    requests = list(asked(rendered, roles=EVERYBODY))
    answers = evaluate(manifest, rendered, KEYS, [(cell.role, r) for cell, r in requests])
    theirs, apart = set(), set()
    for (cell, _), (may, dropped) in zip(requests, answers, strict=True):
        if may:
            theirs.add(cell)
        if dropped:
            apart.add(cell.context)
    ours = allowed(rendered, roles=EVERYBODY)
    assert theirs == ours
    assert len(ours) > 500, "nothing was compared"
    # Its version drops kms:EncryptionContext:NAME, which a call with a context carries. Those
    # cells were asked without its check of keys; those without a context were not.
    assert "right" in apart
    assert "none" not in apart


def test_a_tenants_key_policy_alone_is_enough(rendered: Rendered) -> None:
    """As with ``tenants_by_key_policy``, where the roles' own policies do not list its keys."""

    class WithoutOwn(Rendered):
        def identity(self, role: str) -> dict[str, object]:
            del role
            return {"Version": "2012-10-17", "Statement": []}

    bare = WithoutOwn(rendered.resources, rendered.documents)
    kept: set[Cell] = {cell for cell in allowed(bare) if cell.key != "trail"}
    assert kept == {cell for cell in needs(branch_keys=True) if cell.key != "trail"}
