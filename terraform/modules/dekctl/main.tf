# There is no cycle between the modules: access creates the roles, kek uses their ARNs in the key policies, and access
# uses the keys' ARNs in the roles' policies.

data "aws_caller_identity" "current" {}

data "aws_partition" "current" {}

data "aws_region" "current" {}

locals {
  region     = data.aws_region.current.id
  account_id = data.aws_caller_identity.current.account_id

  context_names = concat([var.context_name], var.further_context_names)

  # A replica has the key id of its primary; only the Region in the ARN differs.
  keys = {
    for name, g in module.kek.generations : name => {
      states = module.kek.counts_as[name]
      arns = concat([g.arn], var.generations[name].multi_region ? [
        for region in var.replica_regions : replace(g.arn, ":${local.region}:", ":${region}:")
      ] : [])
    }
  }

  keys_of_tenants = merge([
    for tenant, kek in module.tenant : {
      for name, g in kek.generations : "${tenant}/${name}" => { states = kek.counts_as[name], arns = [g.arn] }
    }
  ]...)
}

module "access" {
  source = "../access"

  name_prefix                = var.name_prefix
  trust                      = var.trust
  context_names              = local.context_names
  allow_rows_without_context = var.allow_rows_without_context
  allow_branch_keys          = var.allow_branch_keys
  max_session_duration       = var.max_session_duration
  permissions_boundary       = var.permissions_boundary
  keys                       = merge(local.keys, local.keys_of_tenants)

  alias_arns = [
    for alias in concat([module.kek.alias], [for kek in module.tenant : kek.alias]) :
    "arn:${data.aws_partition.current.partition}:kms:${local.region}:${local.account_id}:${alias}"
  ]

  audit = one([for a in module.audit : {
    trail_arn     = a.trail_arn
    bucket_arn    = a.bucket_arn
    log_group_arn = a.log_group_arn
    key_arn       = a.key_arn
  }])
}

module "kek" {
  source = "../kek"

  name_prefix             = var.name_prefix
  generations             = var.generations
  rotation_period_in_days = var.rotation_period_in_days
  context_names           = local.context_names
  grants                  = module.access.grants
  administrator_arns      = var.administrator_arns
  operator_arns           = [module.access.role_arns["key_admin"]]
  auditor_arns            = [module.access.role_arns["auditor"]]
}

module "tenant" {
  source   = "../kek"
  for_each = var.tenants

  name_prefix             = "${var.name_prefix}-${each.key}"
  generations             = each.value.generations
  rotation_period_in_days = var.rotation_period_in_days
  context_names           = local.context_names
  grants                  = module.access.grants
  administrator_arns      = var.administrator_arns
  operator_arns           = [module.access.role_arns["key_admin"]]
  auditor_arns            = [module.access.role_arns["auditor"]]
}

module "audit" {
  source = "../audit"
  count  = var.audit == null ? 0 : 1

  name_prefix             = var.name_prefix
  administrator_arns      = var.administrator_arns
  reader_arns             = [module.access.role_arns["auditor"]]
  rotation_period_in_days = var.rotation_period_in_days
  log_retention_days      = var.audit.log_retention_days
  archive_days            = var.audit.archive_days
  lock_days               = var.audit.lock_days
  lock_mode               = var.audit.lock_mode
  alarm_emails            = var.audit.alarm_emails
  force_destroy           = var.audit.force_destroy
}
