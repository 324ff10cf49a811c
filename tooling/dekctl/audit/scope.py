"""Which events of a trail are about the environment: its KEKs, rows, trail and roles.

A trail records a whole account, often every Region, sometimes an organization. Others may use the
same names: an alias, a trail or a role is the environment's only in its account (and Region).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from dekctl.audit.events import CLOUDTRAIL, IAM, KMS, S3, TrailEvent
from dekctl.config.outputs import Outputs
from dekctl.config.roles import ROW_ROLES
from dekctl.kek_id import is_key_arn, is_multi_region, is_same_kek, key_id_of


@dataclass(slots=True)
class Scope:
    """What belongs to an environment.

    ``aliases`` are bare names; ``tables`` are context names. ``roles`` and ``trail`` are ARNs.
    ``workers`` are the roles that use a KEK for dekctl only: whatever key they use is of interest.
    """

    account: str
    keks: Sequence[str]
    aliases: frozenset[str]
    tables: frozenset[str]
    roles: frozenset[str]
    workers: frozenset[str]
    trail: str | None
    bucket: str | None
    _known: dict[str, bool] = field(default_factory=dict)

    @classmethod
    def of(cls, outputs: Outputs, keks: Iterable[str], tables: Iterable[str]) -> Scope:
        """That of Terraform's outputs, and the KEKs and tables that the configuration names."""
        named = [*keks, outputs.kek_arn]
        aliases = {
            outputs.kek_alias,
            *outputs.tenant_aliases,
            *(kek for kek in named if not is_key_arn(kek)),
        }
        return cls(
            account=outputs.account_id,
            keks=[kek for kek in dict.fromkeys(named) if "alias/" not in kek],
            aliases=frozenset(_bare(alias) for alias in aliases if "alias/" in alias),
            tables=frozenset(tables),
            roles=frozenset(outputs.roles.values()),
            workers=frozenset(outputs.roles[role] for role in ROW_ROLES),
            trail=outputs.audit.get("trail_arn"),
            bucket=outputs.audit.get("bucket"),
        )

    def has_kek(self, named: str) -> bool:
        """Whether a key's name in an event means one of the KEKs."""
        known = self._known.get(named)
        if known is None:
            known = any(is_same_kek(named, kek) for kek in self.keks)
            if len(self._known) < 10_000:
                self._known[named] = known
        return known

    def has_alias(self, event: TrailEvent) -> bool:
        """Whether the alias that an event names is one of the environment's."""
        if event.alias is None or _bare(event.alias) not in self.aliases:
            return False
        if event.account not in ("", self.account):
            return False
        regions = {kek.split(":")[3] for kek in self.keks if is_key_arn(kek)}
        replicas = any(is_multi_region(kek) for kek in self.keks)
        return replicas or not event.region or event.region in regions

    def concerns(self, event: TrailEvent) -> bool:
        """Whether an event is about something of the environment."""
        if event.source == KMS:
            return (
                any(self.has_kek(named) for named in event.keks)
                or self.has_alias(event)
                or (event.table in self.tables and event.account in ("", self.account))
                or (event.is_cryptography and event.principal in self.workers)
            )
        if event.subject is None or event.account not in ("", self.account):
            return False
        if event.source == CLOUDTRAIL:
            return self.trail is not None and event.subject in (
                self.trail,
                self.trail.rpartition("/")[2],
            )
        if event.source == S3:
            return event.subject == self.bucket
        return event.source == IAM and any(
            role.rpartition("/")[2] == event.subject for role in self.roles
        )

    def filter(self) -> Callable[[bytes], bool]:
        """A test of a record's bytes: false if it certainly concerns nothing of the environment.

        It looks for the service, then for names. JSON may write a character as an escape, and a
        caller may choose names within a record; then the record has to be parsed.
        """
        roles = [arn.rpartition("/")[2] for arn in self.roles]
        workers = [arn.rpartition("/")[2] for arn in self.workers]
        keys = [key_id_of(kek) for kek in self.keks]
        named = {
            KMS: [*keys, *self.tables, *self.aliases, *workers],
            CLOUDTRAIL: [(self.trail or "").rpartition("/")[2]],
            S3: [self.bucket or ""],
            IAM: roles,
        }
        tokens = {
            source.encode(): [
                json.dumps(name, ensure_ascii=False)[1:-1].encode() for name in names if name
            ]
            for source, names in named.items()
        }

        def may_concern(record: bytes) -> bool:
            start = record.find(_SOURCE)
            if start < 0 or record.find(_SOURCE, start + 1) > 0:
                return True
            start += len(_SOURCE)
            source = record[start : record.find(b'"', start)]
            for token in tokens.get(source, ()):
                if token in record:
                    return True
            return b"\\" in (record if source in tokens else source)

        return may_concern


_SOURCE = b'"eventSource":"'


def _bare(alias: str) -> str:
    return "alias/" + alias.rpartition("alias/")[2]
