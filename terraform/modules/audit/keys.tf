# The trail's own key: CloudTrail and CloudWatch Logs write with it, the auditor reads.

resource "aws_kms_key" "trail" {
  description             = "${var.name_prefix} audit trail"
  policy                  = data.aws_iam_policy_document.trail_key.json
  enable_key_rotation     = true
  rotation_period_in_days = var.rotation_period_in_days
  deletion_window_in_days = 30
  tags                    = var.tags
}

resource "aws_kms_alias" "trail" {
  name          = "alias/${var.name_prefix}-trail"
  target_key_id = aws_kms_key.trail.key_id
}

module "key_administration" {
  source = "./key-administration"

  administrator_arns = var.administrator_arns
}

data "aws_iam_policy_document" "trail_key" {
  source_policy_documents = [module.key_administration.policy]

  # AWS CloudTrail User Guide, "Configure AWS KMS key policies for CloudTrail".
  statement {
    sid       = "CloudTrailEncrypts"
    actions   = ["kms:GenerateDataKey*"]
    resources = ["*"]

    principals {
      type        = "Service"
      identifiers = ["cloudtrail.amazonaws.com"]
    }

    condition {
      test     = "StringEquals"
      variable = "aws:SourceArn"
      values   = [local.trail_arn]
    }

    condition {
      test     = "StringLike"
      variable = "kms:EncryptionContext:aws:cloudtrail:arn"
      values   = ["arn:${local.partition}:cloudtrail:*:${local.account_id}:trail/*"]
    }
  }

  statement {
    sid       = "CloudTrailDescribes"
    actions   = ["kms:DescribeKey"]
    resources = ["*"]

    principals {
      type        = "Service"
      identifiers = ["cloudtrail.amazonaws.com"]
    }

    condition {
      test     = "StringEquals"
      variable = "aws:SourceArn"
      values   = [local.trail_arn]
    }
  }

  # Amazon CloudWatch Logs User Guide, "Encrypt log data in CloudWatch Logs using AWS Key Management Service".
  statement {
    sid       = "CloudWatchLogsUses"
    actions   = ["kms:Decrypt", "kms:DescribeKey", "kms:Encrypt", "kms:GenerateDataKey*", "kms:ReEncrypt*"]
    resources = ["*"]

    principals {
      type        = "Service"
      identifiers = [data.aws_service_principal.logs.id]
    }

    condition {
      test     = "ArnEquals"
      variable = "kms:EncryptionContext:aws:logs:arn"
      values   = [local.log_group_arn]
    }
  }

  dynamic "statement" {
    for_each = length(var.reader_arns) > 0 ? [1] : []

    content {
      sid       = "ReadersDecryptFiles"
      actions   = ["kms:Decrypt"]
      resources = ["*"]

      principals {
        type        = "AWS"
        identifiers = var.reader_arns
      }

      condition {
        test     = "Null"
        variable = "kms:EncryptionContext:aws:cloudtrail:arn"
        values   = ["false"]
      }
    }
  }
}
