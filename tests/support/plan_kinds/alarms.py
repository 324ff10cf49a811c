"""Plans about alarms and notices."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from support.plan_kinds.edits import (
    ALARM,
    FILTER,
    RULE,
    SUBSCRIPTION,
    TARGET,
    TOPIC,
    TOPIC_KEY,
    TOPIC_POLICY,
    TRAIL_KEY,
    Cases,
    Edit,
    arn_of,
    deletes,
    deny,
    forgets,
    hides,
    loses,
    replaces,
    says,
    sets,
)
from support.recorded_plans import (
    change_of,
    create,
    edit,
)


def pattern(change: Callable[[dict[str, Any]], None]) -> Edit:
    def edited(text: str) -> str:
        found = json.loads(text)
        change(found)
        return json.dumps(found)

    return sets(RULE, event_pattern=edited)


ALARMS: Cases = {
    "a metric filter is deleted": (deletes(FILTER), "alarm"),
    "a metric filter looks for something else": (sets(FILTER, pattern="{ $.x = 1 }"), "alarm"),
    "a metric filter looks at another log group": (sets(FILTER, log_group_name="other"), "alarm"),
    "an alarm is deleted": (deletes(ALARM), "alarm"),
    "an alarm is muted": (sets(ALARM, actions_enabled=False), "alarm"),
    "an alarm tells nobody": (sets(ALARM, alarm_actions=[]), "alarm"),
    "an alarm tells one more": (
        sets(ALARM, alarm_actions=lambda old: [*old, "arn:aws:sns:eu-central-1:1:x"]),
        None,
    ),
    "an alarm takes longer": (sets(ALARM, threshold=100), "alarm"),
    "an alarm watches another metric": (sets(ALARM, metric_name="other"), "alarm"),
    "an alarm watches another unit": (sets(ALARM, unit="Bytes"), "alarm"),
    "whom an alarm tells is not known": (hides(ALARM, "alarm_actions"), "alarm"),
    "Terraform forgets an alarm": (forgets(ALARM), "alarm"),
    "a second resource overwrites a metric filter": (
        lambda plan: create(
            plan,
            "aws_cloudwatch_log_metric_filter",
            **{**change_of(plan, FILTER)["before"], "pattern": "{ $.x = 1 }"},
        ),
        "alarm",
    ),
    "a second resource mutes an alarm": (
        lambda plan: create(
            plan,
            "aws_cloudwatch_metric_alarm",
            **{**change_of(plan, ALARM)["before"], "alarm_actions": []},
        ),
        "alarm",
    ),
    "a second resource disables a rule": (
        lambda plan: create(
            plan,
            "aws_cloudwatch_event_rule",
            **{**change_of(plan, RULE)["before"], "state": "DISABLED"},
        ),
        "alarm",
    ),
    "a second resource changes a rule's target": (
        lambda plan: create(
            plan,
            "aws_cloudwatch_event_target",
            **{**change_of(plan, TARGET)["before"], "arn": "arn:aws:sns:eu-central-1:1:x"},
        ),
        "alarm",
    ),
    "a second resource repeats an alarm": (
        lambda plan: create(
            plan, "aws_cloudwatch_metric_alarm", **change_of(plan, ALARM)["before"]
        ),
        None,
    ),
    "an alarm gets another description": (sets(ALARM, alarm_description="new"), None),
    "a rule is deleted": (deletes(RULE), "alarm"),
    "a rule about the trail's bucket is disabled": (
        sets('aws_cloudwatch_event_rule.this["s3"]', state="DISABLED", is_enabled=False),
        "alarm",
    ),
    "the alarm about the bucket is muted": (
        sets('aws_cloudwatch_metric_alarm.this["bucket-changed"]', actions_enabled=False),
        "alarm",
    ),
    "a rule is disabled": (sets(RULE, state="DISABLED", is_enabled=False), "alarm"),
    "a rule reports fewer events": (pattern(lambda p: p["detail"]["eventName"].pop()), "alarm"),
    "a rule reports more events": (
        pattern(lambda p: p["detail"]["eventName"].append("EnableKey")),
        None,
    ),
    "a rule takes a schedule in place of its pattern": (
        sets(RULE, event_pattern=None, schedule_expression="rate(1 day)"),
        "alarm",
    ),
    "a rule asks for one more field": (pattern(lambda p: p.update(region=["x"])), "alarm"),
    "a rule's target is deleted": (deletes(TARGET), "alarm"),
    "a rule's target is another": (sets(TARGET, arn="arn:aws:sns:eu-central-1:1:x"), "alarm"),
    "the topic is deleted": (deletes(TOPIC), "alarm"),
    "the topic takes a key that alarms may not use": (
        lambda plan: edit(plan, TOPIC, kms_master_key_id=arn_of(plan, TRAIL_KEY)),
        "alarm",
    ),
    "Terraform forgets the topic": (forgets(TOPIC), "alarm"),
    "Terraform forgets the topic policy": (forgets(TOPIC_POLICY), "alarm"),
    "Terraform forgets the topic's key": (forgets(TOPIC_KEY), "alarm"),
    "the topic's own policy argument denies publishing": (
        sets(TOPIC, policy=json.dumps({"Statement": [deny("sns:Publish")]})),
        "alarm",
    ),
    "the topic policy is not known": (hides(TOPIC_POLICY, "policy"), "alarm"),
    "the topic policy is deleted": (deletes(TOPIC_POLICY), "alarm"),
    "the topic policy no longer lets alarms publish": (
        loses(TOPIC_POLICY, "AlarmsPublish"),
        "alarm",
    ),
    "the topic policy no longer lets rules publish": (
        loses(TOPIC_POLICY, "EventsPublish"),
        "alarm",
    ),
    "the topic policy denies publishing": (says(TOPIC_POLICY, deny("sns:Publish")), "alarm"),
    "the topic's key is disabled": (sets(TOPIC_KEY, is_enabled=False), "alarm"),
    "the topic's key no longer lets alarms in": (loses(TOPIC_KEY, "AlarmsPublish"), "alarm"),
    "the topic's key no longer lets rules in": (loses(TOPIC_KEY, "EventsPublish"), "alarm"),
    "a subscription is deleted": (deletes(SUBSCRIPTION), "alarm"),
    "a subscription goes to somebody else": (
        replaces(SUBSCRIPTION, endpoint="x@example.com"),
        "alarm",
    ),
    "a subscription filters its messages": (
        sets(SUBSCRIPTION, filter_policy='{"a": ["b"]}'),
        "alarm",
    ),
}
