# What the variables of an open type may have.

locals {
  attributes = {
    generation           = ["state", "still_wraps", "multi_region"]
    generation_of_tenant = ["state", "still_wraps"]
    trust                = ["principals", "services", "require_mfa", "external_id", "oidc"]
    oidc                 = ["provider_arn", "issuer", "audience", "subjects"]
    audit                = ["log_retention_days", "archive_days", "lock_days", "lock_mode", "alarm_emails", "topic_arn", "force_destroy", "existing"]
    existing             = ["trail_arn", "bucket", "prefix", "organization_id", "log_group", "key_arn"]
  }

  own_role_arns = [
    for role in ["app", "wrapper", "rewrapper", "verifier", "auditor", "key-admin"] :
    "arn:${local.partition}:iam::${local.account_id}:role${var.path}${var.name_prefix}-${role}"
  ]
}
