# Nothing here contacts AWS: the real provider plans offline, so the policies are rendered exactly as in an apply.
provider "aws" {
  region                      = "eu-central-1"
  access_key                  = "test"
  secret_key                  = "test"
  skip_credentials_validation = true
  skip_metadata_api_check     = true
  skip_requesting_account_id  = true
}


override_data {
  target = data.aws_caller_identity.current
  values = {
    account_id = "111122223333"
    arn        = "arn:aws:iam::111122223333:role/terraform"
    user_id    = "AROAEXAMPLE:test"
  }
}

override_data {
  target = module.key_administration.data.aws_caller_identity.current
  values = {
    account_id = "111122223333"
    arn        = "arn:aws:iam::111122223333:role/terraform"
    user_id    = "AROAEXAMPLE:test"
  }
}

variables {
  name_prefix        = "files"
  administrator_arns = ["arn:aws:iam::111122223333:role/terraform"]
  reader_arns        = ["arn:aws:iam::111122223333:role/files-auditor"]
}

run "the_trail_sees_all_is_closed_and_raises_alarms" {
  command = plan

  # The trail sees every use of a key.
  assert {
    condition     = aws_cloudtrail.this.is_multi_region_trail && aws_cloudtrail.this.enable_log_file_validation && aws_cloudtrail.this.enable_logging && aws_cloudtrail.this.include_global_service_events
    error_message = "The trail covers every Region and global service, and its files are signed."
  }

  assert {
    condition     = aws_cloudtrail.this.event_selector[0].read_write_type == "All" && length(coalesce(aws_cloudtrail.this.event_selector[0].exclude_management_event_sources, [])) == 0
    error_message = "Decrypt is a read event, and KMS must not be excluded."
  }

  assert {
    condition     = aws_cloudwatch_log_group.trail.retention_in_days >= 365
    error_message = "Events stay searchable for a year at least."
  }

  # The bucket is closed and its files are locked.
  assert {
    condition = alltrue([for block in [aws_s3_bucket_public_access_block.trail, aws_s3_bucket_public_access_block.access] :
      block.block_public_acls && block.block_public_policy && block.ignore_public_acls && block.restrict_public_buckets
    ])
    error_message = "Nothing in either bucket can become public."
  }

  assert {
    condition     = alltrue([for o in [aws_s3_bucket_ownership_controls.trail, aws_s3_bucket_ownership_controls.access] : o.rule[0].object_ownership == "BucketOwnerEnforced"])
    error_message = "ACLs are off."
  }

  assert {
    condition     = one(aws_s3_bucket_server_side_encryption_configuration.trail.rule).apply_server_side_encryption_by_default[0].sse_algorithm == "aws:kms"
    error_message = "The trail's files are encrypted with the trail's key."
  }

  assert {
    condition     = !one(aws_s3_bucket_server_side_encryption_configuration.trail.rule).bucket_key_enabled
    error_message = "With an S3 Bucket Key the encryption context is the bucket's, and the key policy asks for the trail's."
  }

  assert {
    condition     = aws_s3_bucket.trail.object_lock_enabled && aws_s3_bucket_object_lock_configuration.trail.rule[0].default_retention[0].days == 365
    error_message = "Files are locked for a year."
  }

  assert {
    condition     = alltrue([for p in data.aws_iam_policy_document.tls_only : strcontains(p.json, "aws:SecureTransport")])
    error_message = "Both buckets refuse plain HTTP."
  }

  assert {
    condition = alltrue([
      for s in jsondecode(data.aws_iam_policy_document.trail_bucket.json).Statement :
      s.Condition.StringEquals["aws:SourceArn"] == "arn:aws:cloudtrail:eu-central-1:111122223333:trail/files-trail" if s.Effect == "Allow"
    ])
    error_message = "CloudTrail writes on behalf of this trail only."
  }

  # The trail's key is for the trail.
  assert {
    condition = jsonencode({
      for s in jsondecode(data.aws_iam_policy_document.trail_key.json).Statement : s.Sid => s.Principal
      if s.Effect == "Allow" && length(regexall("crypt|GenerateDataKey", jsonencode(s.Action))) > 0
      }) == jsonencode({
      CloudTrailEncrypts  = { Service = "cloudtrail.amazonaws.com" }
      CloudWatchLogsUses  = { Service = "logs.eu-central-1.amazonaws.com" }
      ReadersDecryptFiles = { AWS = "arn:aws:iam::111122223333:role/files-auditor" }
    })
    error_message = "CloudTrail and CloudWatch Logs write, the auditor reads, nobody else."
  }

  assert {
    condition = alltrue([
      for s in jsondecode(data.aws_iam_policy_document.trail_key.json).Statement :
      s.Condition.StringEquals["aws:SourceArn"] == "arn:aws:cloudtrail:eu-central-1:111122223333:trail/files-trail" if startswith(s.Sid, "CloudTrail")
    ])
    error_message = "CloudTrail uses the key for this trail only."
  }

  assert {
    condition     = !strcontains(data.aws_iam_policy_document.trail_key.json, "kms:*")
    error_message = "No kms:* in a key policy."
  }

  # CloudTrail can assume its delivery role.
  assert {
    condition     = !can(jsondecode(data.aws_iam_policy_document.delivery_trust.json).Statement[0].Condition)
    error_message = "CloudTrail sends no aws:SourceArn or aws:SourceAccount when it assumes the role for CloudWatch Logs."
  }
}

run "names_and_days_are_ones_that_aws_accepts" {
  command = plan
  variables {
    name_prefix  = "files--blue"
    lock_days    = 36501
    archive_days = 0
  }
  expect_failures = [var.name_prefix, var.lock_days]
}
