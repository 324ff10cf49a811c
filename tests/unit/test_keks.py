"""What a stored kek_id means, and the order of generations."""

from __future__ import annotations

import json

import pytest

from dekctl.config.outputs import parse_outputs
from dekctl.errors import UsageError
from dekctl.kek_id import could_be, is_same_kek
from support.plans import plan

K1 = "arn:aws:kms:us-east-1:123456789012:key/1234abcd-12ab-34cd-56ef-1234567890ab"
MULTI = "arn:aws:kms:us-east-1:123456789012:key/mrk-1234abcd12ab34cd56ef1234567890ab"


@pytest.mark.parametrize(
    ("kek_id", "kek", "certain", "possible"),
    [
        (K1, K1, True, False),
        (K1.rpartition("/")[2], K1, True, False),
        (K1.replace("us-east-1", "eu-west-1"), K1, False, False),
        (MULTI.replace("us-east-1", "eu-west-1"), MULTI, True, False),
        (MULTI.rpartition("/")[2], MULTI, True, False),
        (MULTI.replace("123456789012", "210987654321"), MULTI, False, False),
        (MULTI.replace("arn:aws:", "arn:aws-cn:"), MULTI, False, False),
        ("alias/files", K1, False, True),
        ("arn:aws:kms:us-east-1:123456789012:alias/files", K1, False, True),
        (None, K1, False, True),
        (None, "env:0011223344556677", False, True),
        ("alias/files", "env:0011223344556677", False, False),
        ("env:0011223344556677", "env:0011223344556677", True, False),
        ("env:0011223344556677", K1, False, False),
    ],
)
def test_a_row_s_kek_id_names_a_kek_for_certain_perhaps_or_not(
    kek_id: str | None, kek: str, certain: bool, possible: bool
) -> None:
    assert is_same_kek(kek_id, kek) is certain
    assert could_be(kek_id, kek) is possible


def test_generations_are_ordered_by_name_numbers_as_numbers() -> None:
    keys = {"g10": "k10", "g2": "k2", "g1": "k1"}
    values = plan(active="k10", generations=keys)["prior_state"]["values"]["outputs"]
    outputs = parse_outputs(json.dumps(values), "test", "test")
    assert [g.name for g in outputs.generations] == ["g1", "g2", "g10"]
    assert [g.name for g in outputs.since("g2")] == ["g2", "g10"]
    with pytest.raises(UsageError, match="no generation 'g3'"):
        outputs.since("g3")
