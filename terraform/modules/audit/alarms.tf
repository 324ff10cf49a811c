# Every event below is either planned, so that somebody expects the notification, or the start of an incident.

locals {
  kms_event   = "($.eventSource = \"kms.amazonaws.com\")"
  trail_event = "($.eventSource = \"cloudtrail.amazonaws.com\")"

  alarms = {
    key-disabled = {
      pattern     = "{ ${local.kms_event} && ($.eventName = \"DisableKey\") }"
      description = "A KMS key was disabled: rows wrapped by it cannot be read."
    }
    key-deletion-scheduled = {
      pattern     = "{ ${local.kms_event} && ($.eventName = \"ScheduleKeyDeletion\") }"
      description = "A KMS key is scheduled for deletion: kms:CancelKeyDeletion keeps it, until the waiting period ends."
    }
    key-policy-changed = {
      pattern     = "{ ${local.kms_event} && ($.eventName = \"PutKeyPolicy\") }"
      description = "The policy of a KMS key was changed: check who can unwrap now."
    }
    # AWS services create grants for themselves all the time; only those created by a person or a role matter.
    grant-created = {
      pattern     = "{ ${local.kms_event} && ($.eventName = \"CreateGrant\") && ($.userIdentity.invokedBy NOT EXISTS) }"
      description = "A grant was created on a KMS key; the KEK's key policies deny this."
    }
    alias-changed = {
      pattern     = "{ ${local.kms_event} && (($.eventName = \"CreateAlias\") || ($.eventName = \"UpdateAlias\") || ($.eventName = \"DeleteAlias\")) }"
      description = "A KMS alias was changed: new DEKs may be wrapped by a different key."
    }
    rotation-disabled = {
      pattern     = "{ ${local.kms_event} && ($.eventName = \"DisableKeyRotation\") }"
      description = "Automatic rotation of a KMS key was turned off."
    }
    trail-stopped = {
      pattern     = "{ ${local.trail_event} && ($.eventName = \"StopLogging\") }"
      description = "A trail stopped recording."
    }
    trail-deleted = {
      pattern     = "{ ${local.trail_event} && ($.eventName = \"DeleteTrail\") }"
      description = "A trail was deleted."
    }
    trail-changed = {
      pattern     = "{ ${local.trail_event} && (($.eventName = \"UpdateTrail\") || ($.eventName = \"PutEventSelectors\")) }"
      description = "The events that a trail records were changed."
    }
    kms-denied = {
      pattern     = "{ ${local.kms_event} && (($.errorCode = \"AccessDenied\") || ($.errorCode = \"AccessDeniedException\")) }"
      description = "A KMS call was denied: a role lacks a permission, or somebody tried to use one they do not have."
    }
  }

  notices = {
    kms        = ["DisableKey", "ScheduleKeyDeletion", "PutKeyPolicy", "CreateGrant", "CreateAlias", "UpdateAlias", "DeleteAlias", "DisableKeyRotation"]
    cloudtrail = ["StopLogging", "DeleteTrail", "UpdateTrail", "PutEventSelectors"]
  }
}

resource "aws_cloudwatch_log_metric_filter" "this" {
  for_each = local.alarms

  name           = "${var.name_prefix}-${each.key}"
  log_group_name = aws_cloudwatch_log_group.trail.name
  pattern        = each.value.pattern

  metric_transformation {
    name      = "${var.name_prefix}-${each.key}"
    namespace = "dekctl"
    value     = "1"
  }
}

resource "aws_cloudwatch_metric_alarm" "this" {
  for_each = local.alarms

  alarm_name          = "${var.name_prefix}-${each.key}"
  alarm_description   = each.value.description
  namespace           = "dekctl"
  metric_name         = aws_cloudwatch_log_metric_filter.this[each.key].metric_transformation[0].name
  statistic           = "Sum"
  comparison_operator = "GreaterThanOrEqualToThreshold"
  threshold           = 1
  period              = 300
  evaluation_periods  = 1
  treat_missing_data  = "notBreaching"
  alarm_actions       = [aws_sns_topic.alerts.arn]
}

# Alarms report within minutes that something happened; these rules report within seconds who did what.
resource "aws_cloudwatch_event_rule" "this" {
  for_each = local.notices

  name        = "${var.name_prefix}-${each.key}"
  description = "dekctl: changes to keys or to the trail"

  event_pattern = jsonencode({
    source        = ["aws.${each.key}"]
    "detail-type" = ["AWS API Call via CloudTrail"]
    detail = {
      eventSource = ["${each.key}.amazonaws.com"]
      eventName   = each.value
    }
  })
}

resource "aws_cloudwatch_event_target" "this" {
  for_each = local.notices

  rule      = aws_cloudwatch_event_rule.this[each.key].name
  target_id = "alerts"
  arn       = aws_sns_topic.alerts.arn
}

resource "aws_sns_topic" "alerts" {
  name              = "${var.name_prefix}-alerts"
  kms_master_key_id = aws_kms_key.alerts.arn

  lifecycle {
    postcondition {
      condition     = self.arn == local.topic_arn
      error_message = "The topic's ARN differs from the one named in its policy: no alarm and no notification would arrive."
    }
  }
}

resource "aws_sns_topic_policy" "alerts" {
  arn    = aws_sns_topic.alerts.arn
  policy = data.aws_iam_policy_document.alerts_topic.json
}

resource "aws_sns_topic_subscription" "email" {
  for_each = toset(var.alarm_emails)

  topic_arn = aws_sns_topic.alerts.arn
  protocol  = "email"
  endpoint  = each.value
}

data "aws_iam_policy_document" "alerts_topic" {
  statement {
    sid       = "AlarmsPublish"
    actions   = ["sns:Publish"]
    resources = [local.topic_arn]

    principals {
      type        = "Service"
      identifiers = ["cloudwatch.amazonaws.com"]
    }

    condition {
      test     = "StringEquals"
      variable = "aws:SourceAccount"
      values   = [local.account_id]
    }
  }

  # No condition: EventBridge sends none of the condition keys that could be used here.
  statement {
    sid       = "EventsPublish"
    actions   = ["sns:Publish"]
    resources = [local.topic_arn]

    principals {
      type        = "Service"
      identifiers = ["events.amazonaws.com"]
    }
  }

  statement {
    sid       = "DenyPlainHttp"
    effect    = "Deny"
    actions   = ["sns:Publish"]
    resources = [local.topic_arn]

    principals {
      type        = "AWS"
      identifiers = ["*"]
    }

    condition {
      test     = "Bool"
      variable = "aws:SecureTransport"
      values   = ["false"]
    }
  }
}
