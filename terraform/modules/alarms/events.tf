# Every event below is either planned, so that somebody expects the notification, or the start of an incident: about a key,
# about the trail, or about what would tell of either.

locals {
  # By alarm: the service, the names of its events (with * for any text), and what else an event must say.
  watched = {
    key-disabled = {
      source      = "kms"
      events      = ["DisableKey"]
      description = "A KMS key was disabled: rows wrapped by it cannot be read."
    }
    key-deletion-scheduled = {
      source      = "kms"
      events      = ["ScheduleKeyDeletion"]
      description = "A KMS key is scheduled for deletion: kms:CancelKeyDeletion keeps it, until the waiting period ends."
    }
    key-policy-changed = {
      source      = "kms"
      events      = ["PutKeyPolicy"]
      description = "The policy of a KMS key was changed: check who can unwrap now."
    }
    # AWS services create grants for themselves all the time; only those created by a person or a role matter.
    grant-created = {
      source      = "kms"
      events      = ["CreateGrant"]
      also        = "($.userIdentity.invokedBy NOT EXISTS)"
      description = "A grant was created on a KMS key; the KEK's key policies deny this."
    }
    alias-changed = {
      source      = "kms"
      events      = ["CreateAlias", "UpdateAlias", "DeleteAlias"]
      description = "A KMS alias was changed: new DEKs may be wrapped by a different key."
    }
    rotation-disabled = {
      source      = "kms"
      events      = ["DisableKeyRotation"]
      description = "Automatic rotation of a KMS key was turned off."
    }
    kms-denied = {
      source      = "kms"
      events      = ["*"]
      also        = "(($.errorCode = \"AccessDenied\") || ($.errorCode = \"AccessDeniedException\"))"
      description = "A KMS call was denied: a role lacks a permission, or somebody tried to use one they do not have."
    }
    trail-stopped = {
      source      = "cloudtrail"
      events      = ["StopLogging"]
      description = "A trail stopped recording."
    }
    trail-deleted = {
      source      = "cloudtrail"
      events      = ["DeleteTrail"]
      description = "A trail was deleted."
    }
    trail-changed = {
      source      = "cloudtrail"
      events      = ["UpdateTrail", "PutEventSelectors"]
      description = "The events that a trail records were changed."
    }
    bucket-changed = {
      source      = "s3"
      events      = ["PutBucket*", "DeleteBucket*", "PutObjectLockConfiguration"]
      also        = "(${join(" || ", [for name in var.bucket_names : "($.requestParameters.bucketName = \"${name}\")"])})"
      description = "The policy, lock, lifecycle or another setting of the trail's buckets was changed: CloudTrail may be unable to deliver."
    }
    role-changed = {
      source      = "iam"
      events      = ["*RolePolicy", "UpdateAssumeRolePolicy", "DeleteRole", "*RolePermissionsBoundary"]
      also        = "($.requestParameters.roleName = \"${var.name_prefix}-*\")"
      description = "The rights of a role of dekctl, or of the role that writes the trail's log group, were changed."
    }
    log-group-changed = {
      source      = "logs"
      events      = ["DeleteLogGroup", "DeleteLogStream", "PutRetentionPolicy", "AssociateKmsKey", "DisassociateKmsKey", "PutMetricFilter", "DeleteMetricFilter"]
      also        = "($.requestParameters.logGroupName = \"${coalesce(var.log_group_name, "-")}\")"
      description = "The trail's log group or one of its metric filters was changed: alarms may stay silent."
    }
    alarm-changed = {
      source      = "monitoring"
      events      = ["DeleteAlarms", "DisableAlarmActions", "PutMetricAlarm", "SetAlarmState"]
      also        = "(($.requestParameters.alarmNames[0] = \"${var.name_prefix}-*\") || ($.requestParameters.alarmName = \"${var.name_prefix}-*\") || ($.requestParameters.alarmNames[1] EXISTS))"
      description = "A CloudWatch alarm was deleted, changed or muted."
    }
    rule-changed = {
      source      = "events"
      events      = ["DeleteRule", "DisableRule", "PutRule", "PutTargets", "RemoveTargets"]
      also        = "(($.requestParameters.name = \"${var.name_prefix}-*\") || ($.requestParameters.rule = \"${var.name_prefix}-*\"))"
      description = "An EventBridge rule of dekctl was changed: notifications may not arrive."
    }
    topic-changed = {
      source      = "sns"
      events      = ["DeleteTopic", "SetTopicAttributes", "AddPermission", "RemovePermission", "SetSubscriptionAttributes", "Unsubscribe"]
      also        = "(($.requestParameters.topicArn = \"${local.topic_arn}\") || ($.requestParameters.subscriptionArn = \"${local.topic_arn}:*\"))"
      description = "The topic of the alarms, or a subscription to it, was changed: nobody may hear them."
    }
  }

  # Fields of CloudTrail's events in the form of CloudWatch Logs User Guide, "Filter pattern syntax for metric filters".
  patterns = {
    for name, w in local.watched : name => join(" ", compact([
      "{ ($.eventSource = \"${w.source}.amazonaws.com\")",
      w.events == ["*"] ? "" : "&& (${join(" || ", [for event in w.events : "($.eventName = \"${event}\")"])})",
      try("&& ${w.also}", ""),
      "}",
    ])) if name != "bucket-changed" || length(var.bucket_names) > 0
  }

  # What EventBridge tells within seconds. IAM's events are only in us-east-1 (Amazon EventBridge User Guide, "AWS service
  # events delivered via CloudTrail"), and denied calls would be too many: alarms report these two.
  notices = {
    for source in ["kms", "cloudtrail", "s3", "logs", "monitoring", "events", "sns"] : source => distinct(flatten([
      for name, w in local.watched : [
        for event in w.events : endswith(event, "*") ? jsonencode({ prefix = trimsuffix(event, "*") }) : jsonencode(event)
      ] if w.source == source && name != "kms-denied"
    ])) if source != "s3" || length(var.bucket_names) > 0
  }

  # What an event must say besides, where its service has events of much else.
  notice_details = {
    s3         = { requestParameters = { bucketName = var.bucket_names } }
    logs       = { requestParameters = { logGroupName = [coalesce(var.log_group_name, "-")] } }
    monitoring = { "$or" = [{ requestParameters = { alarmName = [{ prefix = "${var.name_prefix}-" }] } }, { requestParameters = { alarmNames = [{ prefix = "${var.name_prefix}-" }] } }] }
    events     = { "$or" = [{ requestParameters = { name = [{ prefix = "${var.name_prefix}-" }] } }, { requestParameters = { rule = [{ prefix = "${var.name_prefix}-" }] } }] }
    sns        = { "$or" = [{ requestParameters = { topicArn = [local.topic_arn] } }, { requestParameters = { subscriptionArn = [{ prefix = "${local.topic_arn}:" }] } }] }
  }
}
