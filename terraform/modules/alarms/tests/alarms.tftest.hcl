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
  log_group_name     = "/dekctl/files/cloudtrail"
  bucket_names       = ["files-trail-111122223333", "files-logs-111122223333"]
  alarm_emails       = ["security@example.com"]
}

override_resource {
  target          = aws_sns_topic.alerts
  override_during = plan
  values          = { arn = "arn:aws:sns:eu-central-1:111122223333:files-alerts" }
}

run "every_event_that_matters_raises_an_alarm_and_a_notice" {
  command = plan

  assert {
    condition = alltrue([
      for event in [
        "DisableKey", "ScheduleKeyDeletion", "PutKeyPolicy", "CreateGrant", "CreateAlias", "UpdateAlias", "DeleteAlias", "DisableKeyRotation",
        "StopLogging", "DeleteTrail", "UpdateTrail", "PutEventSelectors",
        "DeleteLogGroup", "PutRetentionPolicy", "DeleteMetricFilter", "PutMetricFilter",
        "DeleteAlarms", "DisableAlarmActions", "PutMetricAlarm",
        "DeleteRule", "DisableRule", "PutRule", "RemoveTargets", "PutTargets",
        "Unsubscribe", "DeleteTopic", "SetTopicAttributes", "SetSubscriptionAttributes",
      ] :
      anytrue([for f in aws_cloudwatch_log_metric_filter.this : strcontains(f.pattern, "\"${event}\"")]) &&
      anytrue([for r in aws_cloudwatch_event_rule.this : strcontains(r.event_pattern, "\"${event}\"")])
    ])
    error_message = "An event has no metric filter or no EventBridge rule."
  }

  assert {
    condition = alltrue([
      strcontains(aws_cloudwatch_log_metric_filter.this["bucket-changed"].pattern, "PutBucket*") && strcontains(aws_cloudwatch_log_metric_filter.this["bucket-changed"].pattern, "files-trail-111122223333"),
      strcontains(aws_cloudwatch_event_rule.this["s3"].event_pattern, "{\"prefix\":\"PutBucket\"}") && strcontains(aws_cloudwatch_event_rule.this["s3"].event_pattern, "files-trail-111122223333"),
      strcontains(aws_cloudwatch_log_metric_filter.this["role-changed"].pattern, "\"*RolePolicy\"") && strcontains(aws_cloudwatch_log_metric_filter.this["role-changed"].pattern, "\"files-*\""),
    ])
    error_message = "The bucket's policy and the roles' policies are watched, of this trail and these roles."
  }

  assert {
    condition     = aws_cloudwatch_log_metric_filter.this["kms-denied"].pattern == "{ ($.eventSource = \"kms.amazonaws.com\") && (($.errorCode = \"AccessDenied\") || ($.errorCode = \"AccessDeniedException\")) }"
    error_message = "Denied KMS calls raise an alarm."
  }

  assert {
    condition     = alltrue([for f in aws_cloudwatch_log_metric_filter.this : length(f.pattern) <= 1024])
    error_message = "CloudWatch takes patterns of at most 1,024 characters."
  }

  assert {
    condition     = alltrue([for a in aws_cloudwatch_metric_alarm.this : contains(a.alarm_actions, "arn:aws:sns:eu-central-1:111122223333:files-alerts")])
    error_message = "Every alarm goes to the topic."
  }

  assert {
    condition     = !strcontains(data.aws_iam_policy_document.alerts_key.json, "kms:*")
    error_message = "No kms:* in a key policy."
  }
}

run "a_topic_that_exists_is_used" {
  command = plan
  variables {
    topic_arn      = "arn:aws:sns:eu-central-1:111122223333:security"
    alarm_emails   = []
    log_group_name = null
  }

  assert {
    condition     = length(aws_sns_topic.alerts) == 0 && length(aws_kms_key.alerts) == 0 && output.topic_arn == var.topic_arn
    error_message = "Neither a topic nor a key is made."
  }

  assert {
    condition     = length(aws_cloudwatch_metric_alarm.this) == 0 && alltrue([for t in aws_cloudwatch_event_target.this : t.arn == var.topic_arn]) && length(aws_cloudwatch_event_target.this) == 7
    error_message = "Without a log group, the notices remain, and go to that topic."
  }
}

run "alarms_that_nobody_hears_are_pointed_out" {
  command = plan
  variables {
    alarm_emails = []
  }
  expect_failures = [check.somebody_hears_the_alarms]
}
