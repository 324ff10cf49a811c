"""The reader that a ``dekctl.toml`` describes: its table, its provider, and the KEKs it accepts."""

from __future__ import annotations

from dataclasses import dataclass

from dekctl.config.model import Config, TableConfig
from dekctl.config.outputs import load_outputs
from dekctl.config.roles import Role
from dekctl.errors import UsageError
from dekctl.kms.interface import KMSInterface
from dekctl.kms.providers import provider_named
from dekctl.kms.spec import Opening


@dataclass(frozen=True, slots=True)
class Described:
    """What the file describes. ``keks`` is None where the provider's own list counts."""

    provider: KMSInterface
    table: TableConfig
    keks: list[str] | None
    why: str


def describe(config: Config, table: str | None, transport: str, deadline: float) -> Described:
    """Make the provider; it is not called yet.

    Raises:
        UsageError: the configuration or the Terraform outputs are missing or wrong.
    """
    env = config.env
    chosen = [t for t in config.tables if table in (None, t.name, t.context_name)]
    if not chosen:
        raise UsageError(
            f"{config.path.name} has no table {table!r}",
            hint=f"it has: {', '.join(t.name for t in config.tables)}",
        )
    spec = provider_named(env.provider, f"[env.{env.name}]")
    outputs = load_outputs(env) if spec.remote else None
    kek = outputs.kek_arn if outputs else env.kek
    if spec.remote and kek is None:
        raise UsageError(
            f"[env.{env.name}] names no KEK",
            hint="add terraform, terraform_outputs or kek to it; then check it with: dekctl doctor",
        )
    known = outputs.kek_arns() if outputs else []
    own = [name for t in config.tables for name in t.keks]
    keks, why = None, f"the KEKs of [env.{env.name}]"
    if env.min_generation is not None:
        if chosen[0].keks:
            raise UsageError(
                f"min_generation in [env.{env.name}] orders the generations of one KEK, and "
                f"{chosen[0].name} names KEKs of its own",
                hint="remove min_generation, or move such tables to an [env.NAME] without it",
            )
        if outputs is None:
            raise UsageError(
                f"min_generation in [env.{env.name}] needs the Terraform outputs",
                hint=f"add terraform or terraform_outputs to [env.{env.name}]",
            )
        keks = [generation.arn for generation in outputs.since(env.min_generation)]
        why = f"those that min_generation in [env.{env.name}] allows: the KEK is older"
    provider = spec.open(
        Opening(
            Role.APP,
            region=env.region or (outputs.region if outputs else None),
            endpoint_url=env.endpoint_url,
            allow_plain_http=env.allow_plain_http,
            configured_kek=lambda: kek or "",
            known_keks=lambda: [*known, *own],
            deadline=deadline,
            transport=transport,
        )
    )
    return Described(provider, chosen[0], keks, why)
