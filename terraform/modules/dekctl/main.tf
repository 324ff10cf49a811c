# There is no cycle between the modules: access creates the roles, kek uses their ARNs in the key policies, and access
# uses the keys' ids in the roles' policies.

data "aws_caller_identity" "current" {}

data "aws_partition" "current" {}

data "aws_region" "current" {}

locals {
  region     = data.aws_region.current.id
  partition  = data.aws_partition.current.partition
  account_id = data.aws_caller_identity.current.account_id

  context_names = concat([var.context_name], var.further_context_names)
  alias         = coalesce(var.alias, "alias/${var.name_prefix}")

  # A replica has the key id of its primary; only the Region in the ARN differs.
  keys = {
    for name, g in module.kek.generations : name => {
      states  = module.kek.counts_as[name]
      key_id  = g.key_id
      regions = concat([local.region], coalesce(try(var.generations[name].multi_region, null), false) ? var.replica_regions : [])
    }
  }

  keys_of_tenants = merge([
    for tenant, kek in module.tenant : {
      for name, g in kek.generations : "${tenant}/${name}" => {
        states  = kek.counts_as[name]
        key_id  = g.key_id
        regions = [local.region]
      }
    }
  ]...)

  aliases_of_tenants = [for tenant in keys(var.tenants) : "alias/${var.name_prefix}-${tenant}"]

  # Where the trail's files are in its bucket (AWS CloudTrail User Guide, "Finding your CloudTrail log files").
  log_folder = local.trail == null ? null : join("/", compact([local.trail.prefix, "AWSLogs", local.trail.organization_id, local.account_id]))
}

module "access" {
  source = "../access"

  name_prefix                = var.name_prefix
  path                       = var.path
  tags                       = var.tags
  trust                      = var.trust
  context_names              = local.context_names
  allow_rows_without_context = var.allow_rows_without_context
  allow_branch_keys          = var.allow_branch_keys
  max_session_duration       = var.max_session_duration
  permissions_boundary       = var.permissions_boundary
  keys                       = merge(local.keys, var.tenants_by_key_policy ? {} : local.keys_of_tenants)

  # A replica's Region has an alias of its own.
  alias_arns = flatten([
    [for region in concat([local.region], var.replica_regions) : "arn:${local.partition}:kms:${region}:${local.account_id}:${local.alias}"],
    [
      for alias in(var.tenants_by_key_policy ? ["alias/${var.name_prefix}-*"] : local.aliases_of_tenants) :
      "arn:${local.partition}:kms:${local.region}:${local.account_id}:${alias}"
    ],
  ])

  audit = local.trail == null ? null : {
    trail_arn     = local.trail.trail_arn
    bucket_arn    = "arn:${local.partition}:s3:::${local.trail.bucket}"
    log_prefix    = "${local.log_folder}/"
    log_group_arn = local.trail.log_group == null ? null : "arn:${local.partition}:logs:${local.region}:${local.account_id}:log-group:${local.trail.log_group}"
    encrypted     = local.existing_trail == null || try(local.existing_trail.key_arn, null) != null
    key_arn       = local.trail.key_arn
  }
}

module "kek" {
  source = "../kek"

  name_prefix             = var.name_prefix
  alias                   = var.alias
  tags                    = var.tags
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
  tags                    = var.tags
  generations             = each.value.generations
  rotation_period_in_days = var.rotation_period_in_days
  context_names           = local.context_names
  grants                  = module.access.grants
  administrator_arns      = var.administrator_arns
  operator_arns           = [module.access.role_arns["key_admin"]]
  auditor_arns            = [module.access.role_arns["auditor"]]
}
