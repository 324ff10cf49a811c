"""A Terraform plan as ``terraform show -json`` prints it: every resource before and after.

Nothing here depends on how the modules are called: resources are told by type and values. The
format is described in "JSON Output Format" of Terraform's documentation (``format_version`` 1).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from dekctl.config.outputs import Outputs, read_output
from dekctl.errors import DekctlError, RefusedError, UsageError
from dekctl.guard.cloud_control import read_as_aws
from dekctl.guard.iam import Statement, parse_policy, statements_of_data

_BUCKET_PARTS = (
    *("lifecycle_configuration", "logging", "object_lock_configuration", "ownership_controls"),
    *("public_access_block", "server_side_encryption_configuration", "versioning"),
)
OVERWRITING: Mapping[str, tuple[str, ...]] = {
    "aws_cloudwatch_event_rule": ("event_bus_name", "name"),
    "aws_cloudwatch_event_target": ("event_bus_name", "rule", "target_id"),
    "aws_cloudwatch_log_metric_filter": ("log_group_name", "name"),
    "aws_cloudwatch_metric_alarm": ("alarm_name",),
    "aws_iam_role_policy": ("role", "name"),
    **{f"aws_s3_bucket_{part}": ("bucket",) for part in _BUCKET_PARTS},
}
"""Types of which AWS takes a new one in place of the one that has the same names."""
HINT = "make it with: terraform show -json PLAN > FILE"


@dataclass(frozen=True, slots=True)
class ResourceChange:
    """One resource: its values now (None: not there yet) and as planned (None: gone)."""

    address: str
    module: str
    type: str
    name: str
    index: str | int | None
    actions: tuple[str, ...]
    before: Mapping[str, Any] | None
    after: Mapping[str, Any] | None
    unknown: Mapping[str, Any]
    imported: str | None = None
    """The id of what exists already and is taken into the state by this plan."""

    @property
    def overwritten(self) -> list[str]:
        """The settings that an import loses: set now, and other ones planned."""
        return sorted(
            name
            for name, value in (self.before or {}).items()
            if name != "tags_all" and value not in (None, "", [], {}) and value != self.will(name)
        )

    @property
    def goes(self) -> bool:
        """Whether the resource is deleted, for good or to be made anew."""
        return "delete" in self.actions

    @property
    def forgotten(self) -> bool:
        """Whether Terraform only stops to manage the resource, which stays as it is."""
        return "forget" in self.actions

    @property
    def will_act(self) -> bool:
        """Whether the resource is made or changed, and is there afterwards."""
        return self.actions not in (("no-op",), ("delete",), ("read",))

    def was(self, name: str) -> Any:
        """A value now; None where there is none."""
        return (self.before or {}).get(name)

    def will(self, name: str) -> Any:
        """A value as planned; None where it is unknown, or the resource goes."""
        return (self.after or {}).get(name)

    def is_unknown(self, name: str) -> bool:
        """Whether a planned value, or a part of it, is known only after the apply."""
        return _holds_true(self.unknown.get(name))


@dataclass(frozen=True, slots=True)
class TerraformPlan:
    """A parsed plan.

    ``outputs`` are those of the last apply, None where there was none. ``drifted`` are resources
    that something other than Terraform changed or removed since then. ``read_keys`` are the ARNs of
    keys that Terraform only reads (data sources).
    """

    changes: tuple[ResourceChange, ...]
    documents: tuple[ResourceChange, ...]
    drifted: tuple[ResourceChange, ...]
    read_keys: frozenset[str]
    outputs: Outputs | None
    configuration: Mapping[str, Any] = field(repr=False)

    def of(self, *types: str) -> list[ResourceChange]:
        """The managed resources of these types, changed or not."""
        return [change for change in self.changes if change.type in types]

    def digest(self, address: str) -> str:
        """A digest of what the plan does to a resource, and of how Terraform found it."""
        seen = [
            [c.actions, c.before, c.after, c.unknown]
            for c in (*self.changes, *self.drifted)
            if c.address == address
        ]
        text = json.dumps(seen, sort_keys=True, default=str)
        return hashlib.sha256(text.encode()).hexdigest()

    def policy_after(self, change: ResourceChange) -> tuple[Statement, ...] | None:
        """The statements of a planned policy; None where the plan does not tell them.

        A policy about a key that does not exist yet is unknown as text, but the plan shows the
        document that it will be rendered from.
        """
        if not change.is_unknown("policy"):
            text = change.will("policy")
            return parse_policy(text) if text else ()
        wanted = self._referred_documents(change)
        made = [
            document
            for document in self.documents
            if document.module == change.module
            and document.name in wanted
            and document.index in (change.index, None)
        ]
        if len(made) != 1 or _extends_another(made[0].after or {}):
            return None
        return statements_of_data(made[0].after or {})

    def _referred_documents(self, change: ResourceChange) -> set[str]:
        """Names of the policy documents that the configuration makes this policy from."""
        module = self.configuration.get("root_module", {})
        for call in _module_path(change.module):
            module = module.get("module_calls", {}).get(call, {}).get("module", {})
        prefix = "data.aws_iam_policy_document."
        for resource in module.get("resources", []):
            if (resource.get("type"), resource.get("name")) == (change.type, change.name):
                references = resource.get("expressions", {}).get("policy", {}).get("references", [])
                return {
                    r.removeprefix(prefix).split(".")[0].split("[")[0]
                    for r in references
                    if r.startswith(prefix)
                }
        return set()


def read_plan(path: Path) -> TerraformPlan:
    """Read a plan's JSON.

    Raises:
        UsageError: the file is missing, or is not a plan.
    """
    try:
        document = json.loads(path.read_bytes())  # UTF-8 or UTF-16, with or without BOM
    except OSError as error:
        raise UsageError(f"cannot read the plan {path}: {error.strerror}", hint=HINT) from None
    except ValueError:
        raise UsageError(f"{path} is not JSON", hint=HINT) from None
    return parse_plan(document, str(path))


def parse_plan(document: Any, source: str) -> TerraformPlan:
    """Read a plan that is parsed JSON already.

    Raises:
        UsageError: it is not a plan, or Terraform marked it as errored.
        RefusedError: it leaves out part of what would change.
    """
    if (
        not isinstance(document, dict)
        or "planned_values" not in document
        or not str(document.get("format_version", "")).startswith("1.")
    ):
        raise UsageError(f"{source} is not a Terraform plan", hint=HINT)
    if document.get("errored"):
        raise UsageError(
            f"the plan {source} ended with an error and is incomplete", hint="run: make plan"
        )
    if document.get("complete") is False or document.get("deferred_changes"):
        raise RefusedError(
            f"the plan {source} is not complete (-target, or deferred changes), so it cannot be "
            "compared with the rows",
            hint="plan everything: make plan",
        )
    changes = document.get("resource_changes", [])
    drift = document.get("resource_drift") or []
    if not isinstance(changes, list) or not isinstance(drift, list):
        raise UsageError(f"resource_changes of the plan {source} is not a list", hint=HINT)
    try:
        everything = [_change(raw) for raw in changes]
        drifted = [change for change, mode in map(_change, drift) if mode == "managed"]
    except (KeyError, TypeError, AttributeError) as error:
        raise UsageError(
            f"a resource change of the plan {source} is missing or malformed: {error}", hint=HINT
        ) from None
    return TerraformPlan(
        tuple(_overwritten([change for change, mode in everything if mode == "managed"])),
        tuple(
            change
            for change, mode in everything
            if mode == "data" and change.type == "aws_iam_policy_document"
        ),
        tuple(drifted),
        frozenset(_read_keys(document.get("prior_state", {}).get("values", {}))),
        _outputs(document, source),
        document.get("configuration", {}),
    )


def _change(raw: Mapping[str, Any]) -> tuple[ResourceChange, str]:
    change = raw["change"]
    before, after = change.get("before"), change.get("after")
    unknown = change.get("after_unknown") or {}
    for values in (before or {}, after or {}, unknown):
        if not isinstance(values, Mapping):
            raise TypeError(f"the values of {raw['address']}")
    if "forget" in change["actions"]:  # what is forgotten stays as it is
        after, unknown = before, {}
    type_, (before, after, unknown) = read_as_aws(raw["type"], before, after, unknown)
    return (
        ResourceChange(
            address=raw["address"],
            module=raw.get("module_address", ""),
            type=type_,
            name=raw["name"],
            index=raw.get("index"),
            actions=tuple(change["actions"]),
            before=before,
            after=after,
            unknown=unknown or {},
            imported=(change.get("importing") or {}).get("id"),
        ),
        raw.get("mode", "managed"),
    )


def _overwritten(changes: Sequence[ResourceChange]) -> Iterator[ResourceChange]:
    """The changes; where a new resource overwrites a present one, that becomes what the new is."""
    new = {
        (c.type, *(str(c.will(name)) for name in OVERWRITING[c.type])): c
        for c in changes
        if c.type in OVERWRITING and c.before is None and all(map(c.will, OVERWRITING[c.type]))
    }
    for change in changes:
        names = (str(change.was(name)) for name in OVERWRITING.get(change.type, ()))
        over = new.get((change.type, *names))
        if over is None or change.before is None or change.goes:
            yield change
        else:
            yield replace(over, before=change.before, actions=("update",))


def _holds_true(unknown: Any) -> bool:
    """Whether a value of ``after_unknown`` names anything that is not known."""
    if isinstance(unknown, Mapping):
        return any(_holds_true(value) for value in unknown.values())
    if isinstance(unknown, list):
        return any(_holds_true(value) for value in unknown)
    return unknown is True


def _read_keys(values: Mapping[str, Any]) -> Iterator[str]:
    """ARNs of the keys that data sources of the prior state read."""
    modules = [values.get("root_module", {})]
    while modules:
        module = modules.pop()
        modules += module.get("child_modules", [])
        for resource in module.get("resources", []):
            if resource.get("mode") == "data" and resource.get("type") == "aws_kms_key":
                arn = (resource.get("values") or {}).get("arn")
                if arn:
                    yield str(arn)


def _outputs(document: Mapping[str, Any], source: str) -> Outputs | None:
    """The outputs before the plan. An older or foreign project has none that dekctl knows."""
    values = document.get("prior_state", {}).get("values", {}).get("outputs", {})
    try:
        return read_output(values, source, "") if "dekctl" in values else None
    except DekctlError:
        return None


def _extends_another(document: Mapping[str, Any]) -> bool:
    """Whether a policy document takes in others, whose text may be unknown."""
    names = ("source_json", "override_json", "source_policy_documents", "override_policy_documents")
    return any(document.get(name) for name in names)


def _module_path(address: str) -> list[str]:
    """``module.a["x"].module.b`` as ``["a", "b"]``."""
    path: list[str] = []
    rest = address
    while rest.startswith("module."):
        rest = rest.removeprefix("module.")
        end = next((i for i, c in enumerate(rest) if c in ".["), len(rest))
        path.append(rest[:end])
        rest = rest[end:]
        if rest.startswith("["):
            quoted = rest.startswith('["')
            rest = rest[rest.index('"]' if quoted else "]") + (2 if quoted else 1) :]
        rest = rest.removeprefix(".")
    return path
