# The topic, with a key of its own: EventBridge must be able to use it without the usual condition (see below), and that
# exception must not apply to the trail's key. None of this is made where there is a topic already.

resource "aws_sns_topic" "alerts" {
  count = var.topic_arn == null ? 1 : 0

  name              = "${var.name_prefix}-alerts"
  kms_master_key_id = aws_kms_key.alerts[0].arn
  tags              = var.tags

  lifecycle {
    postcondition {
      condition     = self.arn == local.topic_arn
      error_message = "The topic's ARN differs from the one named in its policy: no alarm and no notification would arrive."
    }
  }
}

resource "aws_sns_topic_policy" "alerts" {
  count = var.topic_arn == null ? 1 : 0

  arn    = aws_sns_topic.alerts[0].arn
  policy = data.aws_iam_policy_document.alerts_topic.json
}

resource "aws_sns_topic_subscription" "email" {
  for_each = toset(var.alarm_emails)

  topic_arn = local.told
  protocol  = "email"
  endpoint  = each.value
}

data "aws_iam_policy_document" "alerts_topic" {
  # Amazon SNS Developer Guide, "Example cases for Amazon SNS access control": CloudWatch alarms.
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

  # No condition: an EventBridge rule's statement in a topic policy supports no Condition block (Amazon EventBridge User
  # Guide, "Using resource-based policies for Amazon EventBridge", Amazon SNS permissions).
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

resource "aws_kms_key" "alerts" {
  count = var.topic_arn == null ? 1 : 0

  description             = "${var.name_prefix} alerts"
  policy                  = data.aws_iam_policy_document.alerts_key.json
  enable_key_rotation     = true
  rotation_period_in_days = var.rotation_period_in_days
  deletion_window_in_days = 30
  tags                    = var.tags
}

resource "aws_kms_alias" "alerts" {
  count = var.topic_arn == null ? 1 : 0

  name          = "alias/${var.name_prefix}-alerts"
  target_key_id = aws_kms_key.alerts[0].key_id
}

module "key_administration" {
  source = "../audit/key-administration"

  administrator_arns = var.administrator_arns
}

data "aws_iam_policy_document" "alerts_key" {
  source_policy_documents = [module.key_administration.policy]

  # Amazon SNS Developer Guide, "Key management": enable compatibility between event sources from AWS services and encrypted
  # topics. CloudWatch alarms send aws:SourceAccount.
  statement {
    sid       = "AlarmsPublish"
    actions   = ["kms:Decrypt", "kms:GenerateDataKey*"]
    resources = ["*"]

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

  # The same page: aws:SourceAccount, aws:SourceArn and aws:SourceOrgID are not supported in a key policy for EventBridge and
  # an encrypted topic; with one of them, no notification would arrive.
  statement {
    sid       = "EventsPublish"
    actions   = ["kms:Decrypt", "kms:GenerateDataKey*"]
    resources = ["*"]

    principals {
      type        = "Service"
      identifiers = ["events.amazonaws.com"]
    }
  }
}
