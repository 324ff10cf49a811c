"""Findings that were accepted, by id and with a reason."""

from __future__ import annotations

import pytest

from dekctl.errors import UsageError
from support.audit_world import MALLORY, AuditWorld


def test_a_finding_is_accepted_by_its_id_with_a_reason_until_it_expires(world: AuditWorld) -> None:
    result = world.audit(world.event("Decrypt", MALLORY), world.event())
    [finding] = result.matched.findings.kept
    file = world.folder / "accepted.toml"
    file.write_text(
        f'[[accepted]]\nid = "{finding.id}"\nreason = "Drill 7"\nexpires = 2999-01-01\n'
    )
    accepted = world.audit(accept=file)
    assert accepted.clean
    [entry] = accepted.as_json()["accepted"]
    assert (entry["id"], entry["reason"]) == (finding.id, "Drill 7")
    file.write_text(file.read_text().replace("2999", "2020"))
    expired = world.audit(accept=file)
    assert not expired.clean
    assert expired.expired == [finding.id]


def test_more_of_the_same_is_another_finding(world: AuditWorld) -> None:
    run, calls = world.verified()
    ids = []
    for more in (1, 2):
        extra = [world.event("Decrypt", "verifier", run=run, pk=pk) for pk in range(more)]
        result = world.audit(paths=[world.write([*calls, *extra])])
        ids += [finding.id for finding in result.matched.findings.kept]
    assert len(set(ids)) == 2


@pytest.mark.parametrize(
    "text",
    [
        "[[accepted]]\nid = '0123456789abcdef'\n",
        "[[accepted]]\nid = '0123456789abcdef'\nreason = ' '\n",
        "[[accepted]]\nreason = 'x'\n",
        "[[accepted]]\nid = '*'\nreason = 'x'\n",
        "[[accepted]]\nid = '0123456789abcdef'\nreason = 'x'\nexpires = 'soon'\n",
        "[[accepted]]\nid = '0123456789abcdef'\nreason = 'x'\nkind = 'y'\n",
        "accepted = 'all'\n",
        "[accept]\n",
        "no TOML",
    ],
)
def test_an_acceptance_without_id_or_reason_is_refused(text: str, world: AuditWorld) -> None:
    file = world.folder / "accepted.toml"
    file.write_text(text)
    with pytest.raises(UsageError, match=r"accepted\.toml"):
        world.audit(world.event(), accept=file)
