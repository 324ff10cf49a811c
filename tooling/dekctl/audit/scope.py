"""Which events of a trail are about the environment: its KEKs, rows, trail and roles.

A trail records a whole account, often every Region, sometimes an organization. Others may use the
same names: an alias, a trail or a role is the environment's only in its account (and Region).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from dekctl.audit.events import (
    ALARMS,
    CLOUDTRAIL,
    IAM,
    KMS,
    LOGS,
    RULES,
    S3,
    TOPICS,
    TrailEvent,
)
from dekctl.config.outputs import Outputs
from dekctl.config.roles import ROW_ROLES, Role
from dekctl.kek_id import is_key_arn, is_multi_region, is_same_kek, key_id_of


@dataclass(slots=True)
class Scope:
    """What belongs to an environment.

    ``aliases`` are bare names; ``tables`` are context names. ``workers`` are the ARNs of the roles
    that use a KEK for dekctl only: whatever key they use is of interest. ``subjects`` are, by
    service, the names of trail, bucket, roles and what alarms need; one that ends in ``*`` is a
    beginning.
    """

    account: str
    keks: Sequence[str]
    aliases: frozenset[str]
    tables: frozenset[str]
    workers: frozenset[str]
    subjects: Mapping[str, tuple[str, ...]]
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
            workers=frozenset(outputs.roles[role] for role in ROW_ROLES),
            subjects=_subjects(outputs),
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
        return event.account in ("", self.account) and any(
            name == subject or (name.endswith("*") and subject.startswith(name[:-1]))
            for name in self.subjects.get(event.source, ())
            for subject in event.subjects
        )

    def filter(self) -> Callable[[bytes], bool]:
        """A test of a record's bytes: false if it certainly concerns nothing of the environment.

        It looks for the service, then for names. JSON may write a character as an escape, and a
        caller may choose names within a record; then the record has to be parsed.
        """
        workers = [arn.rpartition("/")[2] for arn in self.workers]
        keys = [key_id_of(kek) for kek in self.keks]
        named = {KMS: (*keys, *self.tables, *self.aliases, *workers), **self.subjects}
        tokens = {
            source.encode(): [
                json.dumps(name.rstrip("*"), ensure_ascii=False)[1:-1].encode() for name in names
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


def _subjects(outputs: Outputs) -> dict[str, tuple[str, ...]]:
    """What the environment consists of besides keys, by service."""
    audit = outputs.audit
    trail, topic = audit.get("trail_arn"), audit.get("topic_arn")
    roles = [arn.rpartition("/")[2] for arn in outputs.roles.values()]
    # Terraform's names begin alike: those of alarms and rules as those of the roles.
    prefix = outputs.roles[Role.APP].rpartition("/")[2].removesuffix("app")
    alike = (f"{prefix}*",) if prefix.endswith("-") and len(prefix) > 1 else ()
    named = {
        CLOUDTRAIL: (trail, trail and trail.rpartition("/")[2]),
        S3: (audit.get("bucket"),),
        IAM: roles,
        LOGS: (audit.get("log_group"),),
        ALARMS: alike,
        RULES: alike,
        TOPICS: (topic, topic and f"{topic}:*"),
    }
    return {source: tuple(name for name in names if name) for source, names in named.items()}


def _bare(alias: str) -> str:
    return "alias/" + alias.rpartition("alias/")[2]
