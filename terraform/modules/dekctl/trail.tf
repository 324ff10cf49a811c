# The trail: one of this module's own, or one that exists already, of the account or of its organisation.

locals {
  existing_trail = try(var.audit.existing, null)

  trail = var.audit == null ? null : local.existing_trail == null ? {
    trail_arn       = module.audit[0].trail_arn
    bucket          = module.audit[0].bucket
    bucket_names    = module.audit[0].bucket_names
    log_group       = module.audit[0].log_group
    key_arn         = module.audit[0].key_arn
    prefix          = null
    organization_id = null
    } : {
    trail_arn       = local.existing_trail.trail_arn
    bucket          = local.existing_trail.bucket
    bucket_names    = [local.existing_trail.bucket]
    log_group       = try(local.existing_trail.log_group, null)
    key_arn         = try(local.existing_trail.key_arn, null)
    prefix          = try(trim(local.existing_trail.prefix, "/"), "") == "" ? null : trim(local.existing_trail.prefix, "/")
    organization_id = try(local.existing_trail.organization_id, null)
  }
}

module "audit" {
  source = "../audit"
  count  = var.audit == null || local.existing_trail != null ? 0 : 1

  name_prefix             = var.name_prefix
  path                    = var.path
  permissions_boundary    = var.permissions_boundary
  tags                    = var.tags
  administrator_arns      = var.administrator_arns
  reader_arns             = [module.access.role_arns["auditor"]]
  rotation_period_in_days = var.rotation_period_in_days
  log_retention_days      = try(var.audit.log_retention_days, null)
  archive_days            = try(var.audit.archive_days, null)
  lock_days               = try(var.audit.lock_days, null)
  lock_mode               = try(var.audit.lock_mode, null)
  force_destroy           = try(var.audit.force_destroy, null)
}

module "alarms" {
  source = "../alarms"
  count  = var.audit == null ? 0 : 1

  name_prefix             = var.name_prefix
  tags                    = var.tags
  administrator_arns      = var.administrator_arns
  rotation_period_in_days = var.rotation_period_in_days
  log_group_name          = local.trail.log_group
  bucket_names            = local.trail.bucket_names
  alarm_emails            = try(var.audit.alarm_emails, null)
  topic_arn               = try(var.audit.topic_arn, null)
}
