data "aws_caller_identity" "current" {}

data "aws_partition" "current" {}

data "aws_region" "current" {}

locals {
  account_id = data.aws_caller_identity.current.account_id
  partition  = data.aws_partition.current.partition
  root       = "arn:${local.partition}:iam::${local.account_id}:root"

  # Built from the name: the topic's policy names it before it exists.
  topic_arn = coalesce(var.topic_arn, "arn:${local.partition}:sns:${data.aws_region.current.id}:${local.account_id}:${var.name_prefix}-alerts")
  told      = var.topic_arn == null ? aws_sns_topic.alerts[0].arn : var.topic_arn

  # Without a log group there is nothing to count: the notices remain.
  alarms = var.log_group_name == null ? {} : local.patterns
}

# A warning only: somebody may subscribe by other means later.
check "somebody_hears_the_alarms" {
  assert {
    condition     = length(var.alarm_emails) > 0 || var.topic_arn != null
    error_message = "Nobody is subscribed to the alarms of ${var.name_prefix}: set alarm_emails, or topic_arn of a topic that your team hears."
  }
}

resource "aws_cloudwatch_log_metric_filter" "this" {
  for_each = local.alarms

  name           = "${var.name_prefix}-${each.key}"
  log_group_name = var.log_group_name
  pattern        = each.value

  metric_transformation {
    name      = "${var.name_prefix}-${each.key}"
    namespace = "dekctl"
    value     = "1"
  }
}

resource "aws_cloudwatch_metric_alarm" "this" {
  for_each = local.alarms

  alarm_name          = "${var.name_prefix}-${each.key}"
  alarm_description   = local.watched[each.key].description
  namespace           = "dekctl"
  metric_name         = aws_cloudwatch_log_metric_filter.this[each.key].metric_transformation[0].name
  statistic           = "Sum"
  comparison_operator = "GreaterThanOrEqualToThreshold"
  threshold           = 1
  period              = 300
  evaluation_periods  = 1
  treat_missing_data  = "notBreaching"
  alarm_actions       = [local.told]
  tags                = var.tags
}

# Alarms report within minutes that something happened; these rules report within seconds who did what.
resource "aws_cloudwatch_event_rule" "this" {
  for_each = local.notices

  name        = "${var.name_prefix}-${each.key}"
  description = "dekctl: changes to keys, to the trail, or to what reports them"

  event_pattern = jsonencode({
    source        = ["aws.${each.key}"]
    "detail-type" = ["AWS API Call via CloudTrail"]
    detail = merge(
      { eventSource = ["${each.key}.amazonaws.com"], eventName = [for event in each.value : jsondecode(event)] },
      try(local.notice_details[each.key], {}),
    )
  })
  tags = var.tags
}

resource "aws_cloudwatch_event_target" "this" {
  for_each = local.notices

  rule      = aws_cloudwatch_event_rule.this[each.key].name
  target_id = "alerts"
  arn       = local.told
}
