"""What Terraform created: its output ``dekctl``, read from Terraform or from a file."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dekctl.config.model import Config, EnvConfig
from dekctl.config.roles import Role
from dekctl.errors import DekctlError, UsageError
from dekctl.kek_id import is_same_kek

SCHEMA_VERSION = 1
STATES = ("active", "retired", "disabled")


@dataclass(frozen=True, slots=True)
class Generation:
    """One generation of a KEK. ``state`` is ``active``, ``retired`` or ``disabled``.

    The ``name`` of a tenant's is ``TENANT/NAME``.
    """

    name: str
    arn: str
    state: str


@dataclass(frozen=True, slots=True)
class Outputs:
    """The Terraform output ``dekctl`` of the contract. It holds no secret.

    ``generations`` are sorted by name, the oldest first: a new one gets a name that sorts after the
    others (g1, g2, … g10). ``tenants`` are the generations of single tenants' KEKs,
    ``tenant_aliases`` their aliases.
    ``context_names`` are the tables for which the roles may use the KEKs; empty if the outputs do
    not say. ``allows_v1`` is whether the roles may decrypt rows without an encryption context; None
    if the outputs do not say. ``source_identity`` is whether the roles let their sessions have a
    source identity.
    """

    region: str
    account_id: str
    kek_arn: str
    kek_alias: str
    generations: tuple[Generation, ...]
    roles: dict[Role, str]
    context_name: str
    audit: dict[str, Any]
    context_names: tuple[str, ...] = ()
    tenants: tuple[Generation, ...] = ()
    tenant_aliases: tuple[str, ...] = ()
    allows_v1: bool | None = None
    source_identity: bool = False

    @property
    def all_generations(self) -> tuple[Generation, ...]:
        """The generations of every KEK, those of tenants last."""
        return self.generations + self.tenants

    def kek_arns(self) -> list[str]:
        """ARNs of all generations, in the order to try them in: disabled ones last."""
        return [g.arn for g in sorted(self.all_generations, key=lambda g: g.state == "disabled")]

    def generation_name(self, kek_id: str | None) -> str | None:
        """The name of a key ARN's generation, or None if Terraform does not know the key."""
        return next((g.name for g in self.all_generations if is_same_kek(kek_id, g.arn)), None)

    def since(self, name: str) -> tuple[Generation, ...]:
        """The generation of this name and all later ones.

        Raises:
            UsageError: Terraform has no such generation.
        """
        known = [g.name for g in self.generations]
        if name not in known:
            raise UsageError(
                f"min_generation: there is no generation {name!r}",
                hint=f"choose one of: {', '.join(known)}",
            )
        return self.generations[known.index(name) :]


def _age(generation: Generation) -> list[tuple[int, int, str]]:
    """The sort key of a generation: its name, with numbers as numbers, so that g2 is before g10."""
    return [
        (1, int(part), "") if part.isdecimal() else (0, 0, part)
        for part in re.split(r"(\d+)", generation.name)
        if part
    ]


def load_outputs(env: EnvConfig) -> Outputs | None:
    """Read the outputs that the environment names; None if it names none.

    Raises:
        UsageError: they are missing or malformed.
    """
    if env.terraform_outputs is not None:
        try:
            text = env.terraform_outputs.read_bytes()  # UTF-8 or UTF-16, with or without BOM
        except OSError as error:
            raise UsageError(
                f"cannot read the Terraform outputs {env.terraform_outputs}: {error.strerror}",
                hint="write them with: terraform output -json > FILE",
            ) from None
        return parse_outputs(text, str(env.terraform_outputs), env.name)
    if env.terraform is not None:
        return parse_outputs(_run_terraform(env.terraform, env.name), str(env.terraform), env.name)
    return None


def refuse_other_outputs(config: Config, outputs: Outputs) -> None:
    """Refuse the outputs of another Region or table than the configuration's.

    Raises:
        UsageError: they are.
    """
    env = config.env
    if env.region and outputs.region != env.region:
        raise UsageError(
            f"[env.{env.name}] says region {env.region}, the Terraform outputs say "
            f"{outputs.region}",
            hint="if these are the outputs of this environment, correct or remove `region`",
        )
    names = [table.context_name for table in config.tables]
    if outputs.context_name not in names:
        raise UsageError(
            f"the roles of Terraform may use the context {outputs.context_name!r}, but [table] "
            f"has context_name {', '.join(map(repr, names))}",
            hint="set context_name to the same value in Terraform and in [table]",
        )


def refuse_closed_tables(config: Config, outputs: Outputs) -> None:
    """Refuse before KMS would, when half of the tables are done.

    Raises:
        UsageError: a configured table is one that the roles may not use.
    """
    open_to = outputs.context_names
    closed = [t.context_name for t in config.tables if t.context_name not in open_to]
    if open_to and closed:
        raise UsageError(
            f"the roles of Terraform may not use the context {', '.join(map(repr, closed))}",
            hint=f"add it to further_context_names in terraform/environments/{config.env.name}, "
            f"then: make apply ENV={config.env.name}",
        )


def _run_terraform(root: Path, env_name: str) -> str:
    if not root.is_dir():
        raise UsageError(
            f"the Terraform root {root} does not exist",
            hint=f"correct `terraform` in [env.{env_name}]",
        )
    terraform = shutil.which("terraform")
    if terraform is None:
        raise UsageError(
            "terraform is not on PATH, and the KEK has to be read from its outputs",
            hint=f"install it, or set terraform_outputs to a file in [env.{env_name}]",
        )
    done = subprocess.run(
        [terraform, f"-chdir={root}", "output", "-json", "-no-color"],
        capture_output=True,
        text=True,
        check=False,
        env={**_data_folder(root, env_name), **os.environ},
    )
    if done.returncode != 0:
        reason = next((line for line in done.stderr.splitlines() if "rror" in line), done.stderr)
        raise UsageError(
            f"terraform output failed in {root}: {reason.strip()}",
            hint=f"run: make plan ENV={env_name} && make apply ENV={env_name}",
        )
    return done.stdout


def _data_folder(root: Path, env_name: str) -> dict[str, str]:
    """The variable for the folder where ``make apply`` keeps Terraform's data, if it is here."""
    for folder in root.resolve().parents:
        data = folder / ".dekctl" / env_name / "terraform"
        if data.is_dir():
            return {"TF_DATA_DIR": str(data)}
    return {}


def parse_outputs(text: str | bytes, source: str, env_name: str) -> Outputs:
    """Check and read the JSON of ``terraform output -json``.

    Raises:
        UsageError: it is not JSON, or its output ``dekctl`` is missing or malformed.
    """
    hint = f"run: make apply ENV={env_name}"
    try:
        document = json.loads(text)
    except ValueError:
        raise UsageError(f"the Terraform outputs in {source} are not JSON", hint=hint) from None
    return read_output(document, source, env_name)


def read_output(document: Any, source: str, env_name: str) -> Outputs:
    """Check and read the output ``dekctl`` among Terraform's outputs (parsed JSON).

    Raises:
        UsageError: the output is missing or malformed.
    """
    hint = f"run: make apply ENV={env_name}"
    entry = document.get("dekctl") if isinstance(document, dict) else None
    value = entry.get("value") if isinstance(entry, dict) else None
    if not isinstance(value, dict):
        raise UsageError(f"{source} has no Terraform output named dekctl", hint=hint)
    if value.get("schema_version") != SCHEMA_VERSION:
        raise UsageError(
            f"the Terraform output dekctl of {source} has schema_version "
            f"{value.get('schema_version')!r}; this dekctl reads {SCHEMA_VERSION}",
            hint="use the Terraform modules and dekctl of the same release",
        )
    try:
        return _outputs(value)
    except (KeyError, TypeError, AttributeError) as error:
        raise UsageError(
            f"in the Terraform output dekctl of {source}, {error} is missing or malformed",
            hint=hint,
        ) from None


def _outputs(value: dict[str, Any]) -> Outputs:
    kek = value["kek"]
    tenants = [
        generation
        for tenant, own in sorted(value.get("tenants", {}).items())
        for generation in _generations(own["generations"], f"{tenant}/")
    ]
    return Outputs(
        region=value["region"],
        account_id=value["account_id"],
        kek_arn=kek["arn"],
        kek_alias=kek["alias"],
        generations=_generations(kek["generations"]),
        roles={role: value["roles"][role.value] for role in Role},
        context_name=value["context_name"],
        audit=dict(value["audit"]),
        context_names=tuple(value.get("context_names", ())),
        tenants=tuple(tenants),
        tenant_aliases=tuple(own["alias"] for own in value.get("tenants", {}).values()),
        allows_v1=value.get("allow_rows_without_context"),
        source_identity=value.get("source_identity") is True,
    )


def _generations(found: dict[str, Any], prefix: str = "") -> tuple[Generation, ...]:
    """The generations of one KEK, the oldest first."""
    generations = []
    for name, generation in found.items():
        if generation["state"] not in STATES:
            raise DekctlError(f"generation {name} has an unknown state: {generation['state']!r}")
        generations.append(Generation(prefix + name, generation["arn"], generation["state"]))
    return tuple(sorted(generations, key=_age))
