data "aws_caller_identity" "current" {}

data "aws_partition" "current" {}

data "aws_region" "current" {}

# The principal of CloudWatch Logs differs between partitions: logs.REGION.amazonaws.com, in China logs.REGION.amazonaws.com.cn.
data "aws_service_principal" "logs" {
  service_name = "logs"
  region       = data.aws_region.current.id
}

locals {
  account_id = data.aws_caller_identity.current.account_id
  partition  = data.aws_partition.current.partition
  region     = data.aws_region.current.id
  root       = "arn:${local.partition}:iam::${local.account_id}:root"

  # Built from names: policies must name the trail before it exists, and the plan shows them in full.
  trail_name    = "${var.name_prefix}-trail"
  trail_arn     = "arn:${local.partition}:cloudtrail:${local.region}:${local.account_id}:trail/${local.trail_name}"
  log_group     = "/dekctl/${var.name_prefix}/cloudtrail"
  log_group_arn = "arn:${local.partition}:logs:${local.region}:${local.account_id}:log-group:${local.log_group}"

  bucket_names = {
    trail  = "${var.name_prefix}-trail-${local.account_id}"
    access = "${var.name_prefix}-logs-${local.account_id}"
  }

  bucket_arns = { for name, bucket in local.bucket_names : name => "arn:${local.partition}:s3:::${bucket}" }
}

resource "aws_cloudtrail" "this" {
  name                          = local.trail_name
  s3_bucket_name                = aws_s3_bucket.trail.id
  kms_key_id                    = aws_kms_key.trail.arn
  cloud_watch_logs_group_arn    = "${aws_cloudwatch_log_group.trail.arn}:*"
  cloud_watch_logs_role_arn     = aws_iam_role.delivery.arn
  enable_log_file_validation    = true
  enable_logging                = true
  include_global_service_events = true
  is_multi_region_trail         = true
  tags                          = var.tags

  # Decrypt and GenerateDataKey are "read" events: record all, and never exclude KMS.
  event_selector {
    read_write_type                  = "All"
    include_management_events        = true
    exclude_management_event_sources = []
  }

  depends_on = [aws_s3_bucket_policy.trail, aws_iam_role_policy.delivery]

  lifecycle {
    postcondition {
      condition     = self.arn == local.trail_arn
      error_message = "The trail's ARN differs from the one named in the policies of its key, bucket and role: CloudTrail could not deliver anything."
    }
  }
}

resource "aws_cloudwatch_log_group" "trail" {
  name              = local.log_group
  retention_in_days = var.log_retention_days
  kms_key_id        = aws_kms_key.trail.arn
  tags              = var.tags

  lifecycle {
    postcondition {
      condition     = self.arn == local.log_group_arn
      error_message = "The log group's ARN differs from the one named in the policies of its key and of its writer."
    }
  }
}

resource "aws_iam_role" "delivery" {
  name                 = "${var.name_prefix}-trail-delivery"
  path                 = var.path
  description          = "dekctl: CloudTrail writes its events to CloudWatch Logs"
  assume_role_policy   = data.aws_iam_policy_document.delivery_trust.json
  permissions_boundary = var.permissions_boundary
  tags                 = var.tags
}

data "aws_iam_policy_document" "delivery_trust" {
  statement {
    sid     = "CloudTrail"
    actions = ["sts:AssumeRole"]

    principals {
      type        = "Service"
      identifiers = ["cloudtrail.amazonaws.com"]
    }
    # No aws:SourceArn or aws:SourceAccount here: CloudTrail sends neither when it assumes this role, and with such a
    # condition the trail cannot be created (CloudTrail User Guide, "Role policy document for CloudTrail to use
    # CloudWatch Logs for monitoring"). The role can only write streams of this log group.
  }
}

resource "aws_iam_role_policy" "delivery" {
  name   = "write-log-group"
  role   = aws_iam_role.delivery.id
  policy = data.aws_iam_policy_document.delivery.json
}

data "aws_iam_policy_document" "delivery" {
  statement {
    sid       = "WriteStreams"
    actions   = ["logs:CreateLogStream", "logs:PutLogEvents"]
    resources = ["${local.log_group_arn}:log-stream:${local.account_id}_CloudTrail_*"]
  }
}
