"""Alarms and notices about keys and the trail that the plan silences.

A metric filter on the trail's log group counts events, an alarm watches the metric, a topic tells
people; an EventBridge rule about KMS or CloudTrail, or one that tells the same topic, tells it at
once. All of them count.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from dekctl.guard.iam import parse_policy
from dekctl.guard.kms_keys import KEYS, key_by_id
from dekctl.guard.needs import Need, lost
from dekctl.guard.risk import FORGOTTEN, Inputs, Risk, RiskKind
from dekctl.guard.terraform_plan import ResourceChange, TerraformPlan
from dekctl.guard.trails import (
    CLOUDWATCH,
    EVENTBRIDGE,
    present_trails,
    publish_needs,
    topic_key_needs,
)

KINDS = (
    RiskKind(
        "alarm",
        "deletes, changes or mutes a metric filter, an alarm, an EventBridge rule, a topic or a "
        "subscription that reports changes of keys or of the trail",
        "always",
    ),
)
FILTER = ("log_group_name", "pattern", "metric_transformation")
ALARM = (
    "actions_enabled",
    "comparison_operator",
    "datapoints_to_alarm",
    "dimensions",
    "evaluation_periods",
    "extended_statistic",
    "metric_name",
    "metric_query",
    "namespace",
    "period",
    "statistic",
    "threshold",
    "threshold_metric_id",
    "treat_missing_data",
    "unit",
)
RULE = ("event_bus_name", "event_pattern", "is_enabled", "state")
TARGET = ("arn", "event_bus_name", "input", "input_path", "input_transformer", "rule")
SUBSCRIPTION = ("endpoint", "filter_policy", "filter_policy_scope", "protocol", "topic_arn")
SOURCES = ("kms.amazonaws.com", "aws.kms", "cloudtrail.amazonaws.com", "aws.cloudtrail")


def find(inputs: Inputs) -> Iterator[Risk]:
    """Every alarm or notice that the plan silences, or may."""
    for change, reason in _Watch(inputs.plan).silenced():
        yield Risk("alarm", change.address, None, reason, if_needed=False)


class _Watch:
    """What watches the trail's log group and KMS's events now, and whom it tells."""

    def __init__(self, plan: TerraformPlan) -> None:
        self.plan = plan
        groups = {trail.log_group for trail in present_trails(plan)} - {""}
        self.filters = [
            c
            for c in plan.of("aws_cloudwatch_log_metric_filter")
            if c.was("log_group_name") in groups
        ]
        metrics = {
            (t.get("namespace") or t.get("metric_namespace"), t.get("name") or t.get("metric_name"))
            for c in self.filters
            for t in c.was("metric_transformation") or ()
        }
        self.alarms = [
            c
            for c in plan.of("aws_cloudwatch_metric_alarm")
            if (c.was("namespace"), c.was("metric_name")) in metrics
        ]
        alarm_topics = {a for c in self.alarms for a in c.was("alarm_actions") or ()}
        targets = plan.of("aws_cloudwatch_event_target")
        # A rule about what else an alarm needs (its bucket, its log group) tells the same topic.
        to_topics = {c.was("rule") for c in targets if c.was("arn") in alarm_topics}
        self.rules = [
            c
            for c in plan.of("aws_cloudwatch_event_rule")
            if c.was("name") in to_topics
            or any(source in str(c.was("event_pattern") or "") for source in SOURCES)
        ]
        names = {c.was("name") for c in self.rules}
        self.targets = [c for c in targets if c.was("rule") in names]
        rule_topics = {c.was("arn") for c in self.targets}
        self.services = {
            arn: [
                service
                for service, arns in ((CLOUDWATCH, alarm_topics), (EVENTBRIDGE, rule_topics))
                if arn in arns
            ]
            for arn in sorted({str(a) for a in alarm_topics | rule_topics if a})
        }

    def silenced(self) -> Iterator[tuple[ResourceChange, str]]:
        """The resources that the plan silences, with the reason."""
        for changes, name, attributes in (
            (self.filters, "the metric filter", FILTER),
            (self.alarms, "the alarm", ALARM),
            (self.rules, "the EventBridge rule", RULE),
            (self.targets, "the target of the EventBridge rule", TARGET),
            (self._subscriptions(), "the subscription", SUBSCRIPTION),
        ):
            for change in changes:
                if reason := _worse(change, attributes):
                    yield change, f"{name} {_name(change)} {reason}"
        for change in self.alarms:
            gone = set(change.was("alarm_actions") or ()) - set(change.will("alarm_actions") or ())
            if not change.goes and (change.is_unknown("alarm_actions") or gone):
                yield change, f"the alarm {_name(change)} no longer tells {', '.join(sorted(gone))}"
        yield from self._topics()

    def _subscriptions(self) -> list[ResourceChange]:
        found = self.plan.of("aws_sns_topic_subscription")
        return [c for c in found if c.was("topic_arn") in self.services]

    def _topics(self) -> Iterator[tuple[ResourceChange, str]]:
        for change in self.plan.of("aws_sns_topic"):
            arn = change.was("arn")
            if arn not in self.services:
                continue
            if change.goes:
                yield change, f"the topic {arn} is deleted"
                continue
            was, will = change.was("kms_master_key_id"), change.will("kms_master_key_id")
            unknown = change.is_unknown("kms_master_key_id")
            if unknown or (will and was != will):
                key = key_by_id(self.plan, will) if will else None
                policy = self.plan.policy_after(key) if key else None
                if key is None or lost(None, policy, self._key_needs(arn, key.was("arn"))):
                    yield change, f"the topic {arn} takes a key that alarms may not be able to use"
        for change in self.plan.of("aws_sns_topic_policy", "aws_sns_topic"):
            if (arn := change.was("arn") or change.will("arn")) in self.services:
                if change.forgotten:
                    yield change, f"the topic {arn} or its policy {FORGOTTEN}"
                needs = self._publish_needs(str(arn))
                if not (change.type == "aws_sns_topic" and change.goes):
                    yield from self._policy(change, needs, f"the policy of the topic {arn}")
        for change in self.plan.of(*KEYS, "aws_kms_key_policy"):
            key_id = str(change.was("key_id") or change.will("key_id")).rpartition("/")[2]
            for topic in self.plan.of("aws_sns_topic"):
                arn, key_name = topic.was("arn"), str(topic.was("kms_master_key_id") or "")
                if arn in self.services and key_id and key_name.rpartition("/")[2] == key_id:
                    yield from self._key(change, str(arn), key_id)

    def _key(
        self, change: ResourceChange, topic: str, key_id: str
    ) -> Iterator[tuple[ResourceChange, str]]:
        key = key_by_id(self.plan, key_id)
        arn = str(key.was("arn") if key else "*")
        off = change.was("is_enabled") and change.will("is_enabled") is not True
        if change.type != "aws_kms_key_policy" and (change.goes or off):
            yield change, f"the key of the topic {topic} is deleted or disabled"
            return
        if change.forgotten:
            yield change, f"the key of the topic {topic} {FORGOTTEN}"
        yield from self._policy(change, self._key_needs(topic, arn), f"the policy of {arn}", key)

    def _policy(
        self,
        change: ResourceChange,
        needs: list[Need],
        name: str,
        key: ResourceChange | None = None,
    ) -> Iterator[tuple[ResourceChange, str]]:
        text = change.was("policy")
        if not change.goes and not change.is_unknown("policy") and text == change.will("policy"):
            return
        text = text or (key.was("policy") if key else None)
        before = parse_policy(text) if text else None
        after = () if change.actions == ("delete",) else self.plan.policy_after(change)
        if reasons := lost(before, after, needs):
            yield change, f"{name} no longer ensures that {' and '.join(reasons)}"

    def _publish_needs(self, topic: str) -> list[Need]:
        account = topic.split(":")[4] if topic.count(":") >= 5 else ""
        return [n for s in self.services[topic] for n in publish_needs(s, topic, account)]

    def _key_needs(self, topic: str, key_arn: str) -> list[Need]:
        account = topic.split(":")[4] if topic.count(":") >= 5 else ""
        return [
            n for s in self.services[topic] for n in topic_key_needs(s, key_arn, topic, account)
        ]


def _worse(change: ResourceChange, attributes: tuple[str, ...]) -> str | None:
    """Why a resource may no longer do what it did, or None."""
    if change.goes:
        return "is replaced" if "create" in change.actions else "is deleted"
    if change.forgotten:
        return FORGOTTEN
    unknown = [name for name in attributes if change.is_unknown(name)]
    differs = [
        name
        for name in attributes
        if name not in unknown and not _same(name, change.was(name), change.will(name))
    ]
    if changed := [*unknown, *differs]:
        return f"changes ({', '.join(changed)})"
    return None


def _same(name: str, was: Any, will: Any) -> bool:
    if (was or None) == (will or None) and was is not False and will is not False:
        return True
    if name in ("actions_enabled", "is_enabled"):
        return was is False or will is not False
    if name == "state":
        return bool(was == "DISABLED" or will != "DISABLED")
    if name == "event_pattern" and will:
        return _matches_more(_parsed(will), _parsed(was))
    return bool(was == will)


def _parsed(text: Any) -> Any:
    try:
        return json.loads(text or "{}")
    except (TypeError, ValueError):
        return text


def _matches_more(new: object, old: object) -> bool:
    """Whether an event pattern matches at least what another one does: the same fields, no less."""
    if isinstance(new, Mapping) and isinstance(old, Mapping):
        return set(new) <= set(old) and all(_matches_more(new[name], old[name]) for name in new)
    if isinstance(new, list) and isinstance(old, list):
        return all(value in new for value in old)
    return new == old


def _name(change: ResourceChange) -> str:
    names = ("alarm_name", "name", "rule", "endpoint")
    return str(next((change.was(name) for name in names if change.was(name)), change.address))
