"""A finding of the audit bears the name of the alarm that reports the same."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from dekctl.audit.administration import KINDS
from dekctl.audit.findings import AuditKind

ROOT = Path(__file__).parents[2]
DENIED = "kms-denied"
"""The alarm that only counts; the finding is called ``denied``."""


def alarms() -> dict[str, set[str]]:
    """The events of each alarm of Terraform, by its name."""
    [file] = [
        file
        for file in (ROOT / "terraform" / "modules").glob("a*/*.tf")
        if "key-deletion-scheduled = {" in file.read_text(encoding="utf-8")
    ]
    blocks = re.findall(
        r"^    ([a-z-]+) += \{\n(.*?)^    \}", file.read_text(encoding="utf-8"), re.M | re.S
    )
    return {
        name: set(re.findall(r'(?:eventName = \\"|[\[ ]")([A-Z][A-Za-z]+)\\?"', text))
        for name, text in blocks
        if "description" in text
    }


@pytest.mark.parametrize("alarm", sorted(set(alarms()) - {DENIED}))
def test_an_alarm_has_a_finding_of_its_name(alarm: str) -> None:
    kind = AuditKind(alarm)
    for event in alarms()[alarm]:
        named = {of for (_, api), of in KINDS.items() if api == event}
        assert named <= {kind}, event


def test_every_kind_has_a_line_in_the_page() -> None:
    page = (ROOT / "docs" / "audit.md").read_text(encoding="utf-8")
    lines = "\n".join(line for line in page.splitlines() if line.startswith("| `"))
    assert DENIED in page
    assert {kind.value for kind in AuditKind if f"`{kind.value}`" not in lines} == set()
