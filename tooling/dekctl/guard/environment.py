"""Whether a plan belongs to the environment whose rows it is compared with."""

from __future__ import annotations

from collections.abc import Iterator

from dekctl.config.outputs import Outputs
from dekctl.errors import UsageError
from dekctl.guard.kms_keys import present_keys
from dekctl.guard.terraform_plan import TerraformPlan
from dekctl.kek_id import is_alias, is_key_arn, is_same_kek
from dekctl.project import Project


def refuse_other_environment(plan: TerraformPlan, project: Project) -> None:
    """Compare account, Region, alias and KEKs of a plan with those of ``[env.NAME]``.

    What only one of the two names is not compared: before the first apply there are no outputs.

    Raises:
        UsageError: they differ.
    """
    if not project.uses_aws:
        return
    for what, in_plan, configured in _pairs(plan, project):
        if in_plan != configured:
            raise UsageError(
                f"the plan is of another environment: its {what} is {in_plan}, that of "
                f"[env.{project.env.name}] is {configured}",
                hint="pass the environment that the plan was made for: "
                "dekctl --env NAME guard --plan FILE (if its outputs are old, run first: "
                f"make outputs ENV={project.env.name})",
            )


def _pairs(plan: TerraformPlan, project: Project) -> Iterator[tuple[str, str, str]]:
    """What is compared, as the plan has it, as the environment has it."""
    of_plan, of_env = plan.outputs, environment_outputs(project)
    places = {(arn.split(":")[4], arn.split(":")[3]) for arn in _key_arns(plan)}
    accounts = {account for account, _ in places}
    regions = {region for _, region in places}
    if of_plan:
        accounts, regions = {of_plan.account_id}, {of_plan.region}
    kek = project.env.kek
    if of_env:
        yield from _one("account", accounts, of_env.account_id)
        yield from _one("Region", regions, of_env.region)
    elif project.env.region:
        yield from _one("Region", regions, project.env.region)
    if kek and kek.count(":") >= 5:  # the ARN of a key or an alias
        yield from _one("account", accounts, kek.split(":")[4])
        yield from _one("Region", regions, kek.split(":")[3])
    if of_plan and kek and is_alias(kek):
        yield "alias", of_plan.kek_alias, "alias/" + kek.rpartition("alias/")[2]
    if of_plan and of_env:
        yield "alias", of_plan.kek_alias, of_env.kek_alias
        theirs = [g.arn for g in of_env.all_generations]
        mine = [g.arn for g in of_plan.all_generations]
        if not any(is_same_kek(a, b) for a in mine for b in theirs):
            yield "active KEK", of_plan.kek_arn, of_env.kek_arn


def _one(what: str, found: set[str], configured: str) -> Iterator[tuple[str, str, str]]:
    """Compare with what the plan has, if it has any; a plan may hold keys of several Regions."""
    if found and configured not in found:
        yield what, ", ".join(sorted(found)), configured


def _key_arns(plan: TerraformPlan) -> list[str]:
    return [str(key.was("arn")) for key in present_keys(plan) if is_key_arn(str(key.was("arn")))]


def environment_outputs(project: Project) -> Outputs | None:
    """The environment's Terraform outputs; None before the first apply.

    Raises:
        UsageError: a file of outputs exists and cannot be read.
    """
    if not project.uses_aws:
        return None
    if project.env.terraform is None and (
        project.env.terraform_outputs is None or not project.env.terraform_outputs.exists()
    ):
        return None
    try:
        return project.outputs
    except UsageError:
        if project.env.terraform is None:
            raise
        return None
