"""Keys that rows may need and that the plan no longer knows.

The AWS provider drops a key that is pending deletion from the state ("logically deleted"); the same
happens after ``terraform state rm`` or when the state is lost. The plan then creates a new key and
moves the alias to it, and nothing in it shows that the old key will be deleted.
"""

from __future__ import annotations

from collections.abc import Iterator

from dekctl.guard.kms_keys import KEYS, present_keys
from dekctl.guard.risk import Inputs, Risk, RiskKind
from dekctl.guard.terraform_plan import TerraformPlan
from dekctl.kek_id import is_alias, is_key_arn, is_same_kek, key_id_of

KINDS = (
    RiskKind(
        "lost",
        "no longer knows a key that rows, branch keys or the last outputs name: it is pending "
        "deletion, or was removed from the state",
        "if rows need it",
        0,
    ),
)
UNKNOWN_ADDRESS = "(no resource of this plan)"


def find(inputs: Inputs) -> Iterator[Risk]:
    """Every key that the plan no longer knows."""
    plan = inputs.plan
    known = [str(key.was("arn")) for key in present_keys(plan)]
    known += [*plan.read_keys, *inputs.configured_keks]
    found: list[str] = []
    for address, arn, why in _candidates(inputs):
        if any(is_same_kek(arn, other) for other in (*known, *found)):
            continue
        found.append(arn)
        yield Risk(
            "lost",
            address,
            arn,
            f"this plan no longer knows this key ({why}); if it is pending deletion, everything "
            "that it wraps is lost for good on its deletion date",
            hint=_hint(address, arn),
        )


def _candidates(inputs: Inputs) -> Iterator[tuple[str, str, str]]:
    """Address, key and reason, the best known reason first."""
    plan = inputs.plan
    for change in plan.drifted:
        if change.type in KEYS and change.goes and change.was("arn"):
            yield change.address, change.was("arn"), "Terraform found it deleted outside of it"
    for outputs in (plan.outputs, inputs.outputs):
        for generation in outputs.all_generations if outputs else ():
            why = f"the last outputs name it as generation {generation.name}"
            yield _creating(plan), generation.arn, why
    for kek in inputs.stored_keks:
        # Rows that name an alias or a key id may mean any key; `if_needed` counts them.
        if is_key_arn(kek) or not (is_alias(kek) or ":" in kek):
            yield UNKNOWN_ADDRESS, kek, "rows or branch keys name it"


def _creating(plan: TerraformPlan) -> str:
    """The new key that takes the place of the lost one, if there is just one."""
    new = [c.address for c in plan.of(*KEYS) if c.actions == ("create",)]
    return new[0] if len(new) == 1 else UNKNOWN_ADDRESS


def _hint(address: str, arn: str) -> str:
    region = f" --region {arn.split(':')[3]}" if is_key_arn(arn) else ""
    cancel = f"aws kms cancel-key-deletion --key-id {arn}{region} (if it is pending deletion)"
    where = "ADDRESS" if address == UNKNOWN_ADDRESS else address
    return f"{cancel}; then: terraform import '{where}' {key_id_of(arn)}"
