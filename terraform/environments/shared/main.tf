# The root of staging and of production: both have this file and variables.tf by a link. What differs is in their
# environment.tf.

terraform {
  required_version = ">= 1.11, < 2.0"

  required_providers {
    aws = {
      source  = "hashicorp/aws"
      version = ">= 5.100, < 7.0"
    }
  }
}

provider "aws" {
  region              = var.region
  allowed_account_ids = [var.account_id]

  default_tags {
    tags = local.tags
  }
}

# Only used for the replica of a multi-Region generation.
provider "aws" {
  alias               = "replica"
  region              = coalesce(var.replica_region, var.region)
  allowed_account_ids = [var.account_id]

  default_tags {
    tags = local.tags
  }
}

locals {
  name_prefix = coalesce(var.name_prefix, "dekctl-${local.environment}")

  tags = {
    Project     = "dekctl"
    Environment = local.environment
    ManagedBy   = "terraform"
  }
}

module "dekctl" {
  source = "../../modules/dekctl"

  name_prefix                = local.name_prefix
  alias                      = var.alias
  path                       = var.path
  context_name               = var.context_name
  further_context_names      = var.further_context_names
  generations                = var.generations
  tenants                    = var.tenants
  tenants_by_key_policy      = var.tenants_by_key_policy
  allow_rows_without_context = var.allow_rows_without_context
  allow_branch_keys          = var.allow_branch_keys
  trust                      = var.trust
  administrator_arns         = var.administrator_arns
  max_session_duration       = var.max_session_duration
  permissions_boundary       = var.permissions_boundary
  replica_regions            = var.replica_region == null ? [] : [var.replica_region]
  audit                      = merge(var.audit, { lock_mode = local.lock_mode })
}

module "replica" {
  source = "../../modules/replica"
  count  = var.replica_region == null ? 0 : 1

  providers = {
    aws = aws.replica
  }

  name_prefix = local.name_prefix
  alias       = var.alias
  generations = module.dekctl.replicable
}

# A warning only: a rotation to multi-Region keys passes through this state.
check "the_second_region_can_wrap" {
  assert {
    condition     = var.replica_region == null || anytrue([for g in values(var.generations) : g.state == "active" && coalesce(try(g.multi_region, null), false)])
    error_message = "The active generation is not multi-Region: the second Region can read older rows, but cannot wrap."
  }
}

output "dekctl" {
  description = "What the dekctl command reads. Contains no secrets."
  value       = module.dekctl.dekctl

  precondition {
    condition     = module.dekctl.dekctl.audit.trail_arn != null
    error_message = "The audit trail cannot be turned off here."
  }
}
