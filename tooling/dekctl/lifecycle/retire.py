"""Retire: checks whether a KEK can be retired. Changes nothing except a note in the ledger.

The result is a list of checks and the Terraform change that follows. Terraform applies it, and
`guard` checks again before it does.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from dekctl.checks import Check
from dekctl.config.outputs import Generation
from dekctl.config.roles import Role
from dekctl.errors import RefusedError, UsageError
from dekctl.kek_id import is_key_arn, is_same_kek
from dekctl.kms.aws.spec import AWS
from dekctl.kms.providers import provider_of
from dekctl.lifecycle.backup_window import backup_window, no_window, note_count
from dekctl.lifecycle.counting import Census
from dekctl.lifecycle.erase import check_erasure
from dekctl.lifecycle.usage import (
    branch_keys_under,
    count_uses,
    missing_tables,
    rows_naming,
    rows_unclear,
    rows_without_branch_keys,
)
from dekctl.project import Project
from dekctl.wording import counted

NEXT_STATE = {"active": "retired", "retired": "disabled", "disabled": "deleted"}


@dataclass(slots=True)
class Verdict:
    """Whether a KEK can be retired; :meth:`as_json` is the public form."""

    env: str
    kek_id: str
    generation: Generation | None
    rows: int = 0
    unclear: int = 0
    branch_keys: int = 0
    checks: list[Check] = field(default_factory=list)
    change: str = ""

    @property
    def refused(self) -> bool:
        """Whether a check failed."""
        return not all(check.ok for check in self.checks)

    def refusal(self) -> RefusedError:
        """The error for a KEK that cannot be retired."""
        failed = [check for check in self.checks if not check.ok]
        label = f"{self.generation.name} ({self.kek_id})" if self.generation else self.kek_id
        return RefusedError(
            f"{label} cannot be retired: " + "; ".join(check.detail for check in failed),
            hint=failed[0].hint,
        )

    def as_json(self) -> dict[str, Any]:
        """The verdict as plain values."""
        state = self.generation.state if self.generation else None
        return {
            "operation": "retire",
            "env": self.env,
            "kek_id": self.kek_id,
            "generation": self.generation.name if self.generation else None,
            "state": state,
            "next_state": NEXT_STATE[state] if state and not self.refused else None,
            "rows": self.rows,
            "rows_unclear": self.unclear,
            "branch_keys": self.branch_keys,
            "refused": self.refused,
            "checks": [check.as_json() for check in self.checks],
            "terraform": None if self.refused else self.change,
        }


def examine_retirement(project: Project, name: str, erase: str | None = None) -> Verdict:
    """Check whether a KEK (ARN, key id, alias or generation name) can be retired.

    With ``erase``, a value of the ``kek_by`` column, it is retired *with* the rows of that owner:
    all of them must be under it, and none of anybody else.

    Raises:
        UsageError: no KEK has this name.
        RefusedError: a configured table is not there, or a managed one is not configured.
        KMSError: KMS cannot be asked where the alias points to.
        DatabaseError: the database refused or cannot be reached.
    """
    kek = project.find_kek(name)
    outputs = project.outputs if is_key_arn(kek) else None
    generation = next(
        (g for g in (outputs.all_generations if outputs else ()) if is_same_kek(g.arn, kek)), None
    )
    verdict = Verdict(project.env.name, kek, generation)
    _refuse_missing(project)
    census = Census(project)
    uses = count_uses(census)
    verdict.rows, verdict.unclear = rows_naming(uses, kek), rows_unclear(uses, kek)
    verdict.branch_keys = branch_keys_under(uses, kek)
    if verdict.rows == verdict.branch_keys == 0 and generation is None:
        _refuse_unknown(project, kek)
    lost = rows_without_branch_keys(census, project.config.tables)
    verdict.checks += [_unclear(verdict), _branch_keys(project, verdict, name, lost)]
    if erase is not None:
        verdict.checks += check_erasure(project, kek, erase, verdict.rows)
    else:
        verdict.checks += [_rows(project, verdict, name), _configuration(project, kek)]
        verdict.checks.append(_backups(project, verdict))
    verdict.checks.append(_writers(project, kek))
    verdict.change = _change(project, kek, generation)
    return verdict


def _refuse_missing(project: Project) -> None:
    """A missing table has no rows; with a wrong database URL that must not pass."""
    if missing := missing_tables(project):
        raise RefusedError(
            f"the table {missing[0]} is not in this database, so its rows cannot be counted",
            hint=f"correct `name` in [table], or database_url in [env.{project.env.name}]",
        )


def _refuse_unknown(project: Project, kek: str) -> None:
    """A mistyped name has no rows either; that must not pass."""
    provider = provider_of(kek)
    if provider is AWS:
        if project.uses_aws:
            project.described_kek(kek)
        return
    known = project.open_provider(provider).known_kek_ids() if provider is not None else ()
    if known is not None and kek not in known:
        raise UsageError(
            f"no KEK {kek} is configured, and no row names it",
            hint="see the KEKs in use with: dekctl status",
        )


def _rows(project: Project, verdict: Verdict, name: str) -> Check:
    tables = ", ".join(table.name for table in project.config.tables)
    if verdict.rows == 0:
        return Check("rows", True, f"no row of {tables} names it")
    return Check(
        "rows",
        False,
        f"named by {counted(verdict.rows, 'row')}",
        f"{_move(project, verdict, name)} (rows in quarantine: --retry-quarantined)",
    )


def _move(project: Project, verdict: Verdict, name: str) -> str:
    """The command that moves everything under the KEK to another one."""
    active = (
        project.uses_aws
        and provider_of(verdict.kek_id) is AWS
        and is_same_kek(project.find_kek(project.kek()), verdict.kek_id)
    )
    first = "make another KEK the active one, then: " if active else "move them first: "
    return f"{first}dekctl rewrap --from {name}"


def _configuration(project: Project, kek: str) -> Check:
    """dekctl.toml must not wrap a table under it any more."""
    named = [
        (table.name, other)
        for table in project.config.tables
        for other in table.keks
        if is_same_kek(project.find_kek(other), kek)
    ]
    if not named:
        return Check("configuration", True, "no table names it")
    table, other = named[0]
    return Check(
        "configuration",
        False,
        f"{project.config.path.name} still wraps {table} under it (as {other})",
        f"give {table} another KEK there, then: dekctl rewrap",
    )


def _unclear(verdict: Verdict) -> Check:
    if verdict.unclear == 0:
        return Check("unclear rows", True, "every wrapped key names its KEK by ARN")
    return Check(
        "unclear rows",
        False,
        f"{counted(verdict.unclear, 'row')} with an alias or no KEK as kek_id may need it",
        "re-wrap them so KMS names the KEK: dekctl rewrap --version V1",
    )


def _branch_keys(project: Project, verdict: Verdict, name: str, lost: int) -> Check:
    if lost:
        return Check(
            "branch keys",
            False,
            f"{counted(lost, 'row')} (V3) without their branch key may need it: once restored, "
            "that key may be under this KEK",
            "restore dekctl_branch_keys from a backup of this database",
        )
    if verdict.branch_keys == 0:
        return Check("branch keys", True, "it wraps no branch key (V3)")
    return Check(
        "branch keys",
        False,
        f"it wraps {counted(verdict.branch_keys, 'branch key')} (V3), which rows need",
        _move(project, verdict, name),
    )


def _writers(project: Project, kek: str) -> Check:
    """Nothing may wrap new keys under it any more."""
    if provider_of(kek) is not project.provider:
        return Check("writers", True, f"new keys are wrapped by {project.env.provider}")
    if not project.uses_aws:
        current = project.kms().kek_id
        return Check(
            "writers",
            current != kek,
            f"new keys are wrapped under {current}",
            None
            if current != kek
            else "put the next KEK into DEKCTL_KEK, this one into "
            "DEKCTL_OLD_KEKS, then: dekctl rewrap",
        )
    target, source = _live_target(project)
    if is_same_kek(target, kek):
        return Check(
            "alias",
            False,
            f"{source} still points to it",
            f"make another generation active in Terraform, then: make apply ENV={project.env.name}"
            if project.outputs
            else f"give another KEK to `kek` in [env.{project.env.name}], then: dekctl rewrap",
        )
    return Check("alias", True, f"{source} points to {target}")


def _live_target(project: Project) -> tuple[str, str]:
    """Where the alias points according to KMS, and the alias's name."""
    outputs = project.outputs
    alias = outputs.kek_alias if outputs else project.kek()
    kms = project.aws(Role.AUDITOR)
    try:
        if outputs and not project.env.kek:
            # The outputs may be older than the alias, or newer: both must agree.
            target = str(kms.describe(_alias_arn(project))["Arn"])
            if target != outputs.kek_arn:
                raise RefusedError(
                    f"{alias} points to {target}, but the Terraform outputs name {outputs.kek_arn}",
                    hint=f"make them agree: make apply ENV={project.env.name}",
                )
            return target, alias
        return str(kms.describe(alias)["Arn"]), alias
    finally:
        kms.close()


def _alias_arn(project: Project) -> str:
    outputs = project.outputs
    assert outputs is not None
    head = outputs.kek_arn.partition(":key/")[0]
    return f"{head}:{outputs.kek_alias}"


def _backups(project: Project, verdict: Verdict) -> Check:
    unanswered = no_window(project)
    if unanswered is not None:
        return unanswered
    days = project.env.backup_retention_days
    rows = verdict.rows + verdict.unclear + verdict.branch_keys
    window = backup_window(project, verdict.kek_id)
    if rows or window.empty_since is None:
        note_count(project, verdict.kek_id, rows)
        window = backup_window(project, verdict.kek_id)
    if rows or window.ends is None:
        return Check(
            "backups", False, f"the window of {days} days begins when the last row has been moved"
        )
    since, ends = (f"{moment:%Y-%m-%d %H:%M} UTC" for moment in (window.empty_since, window.ends))
    if window.over:
        return Check("backups", True, f"empty since {since}; the window ended {ends}")
    return Check(
        "backups",
        False,
        f"backups that contain its rows are kept until {ends} ({days} days after {since})",
        "run the same command again after that",
    )


def _change(project: Project, kek: str, generation: Generation | None) -> str:
    """The Terraform change that follows."""
    env = project.env.name
    if provider_of(kek) is not AWS:
        return f"remove {kek} from DEKCTL_OLD_KEKS"
    if generation is None:
        return f"disable {kek}; after a few days without application errors, schedule its deletion"
    tenant, _, name = generation.name.rpartition("/")
    entry = f"tenants.{tenant}.generations" if tenant else "generations"
    where = f"{entry}, in terraform/environments/{env}/generations.auto.tfvars"
    if generation.state == "disabled":
        return f"remove {name} from {where}; then: make apply ENV={env}"
    state = NEXT_STATE[generation.state]
    return f'set state = "{state}" for {name} in {where}; then: make apply ENV={env}'
