# One KEK per tenant: one instance of module dekctl each, with its own names and context. One trail records both.
# Region, endpoint and credentials come from the environment.

terraform {
  required_version = ">= 1.11, < 2.0"

  required_providers {
    aws = {
      source  = "hashicorp/aws"
      version = ">= 5.100, < 7.0"
    }
  }
}

provider "aws" {}

data "aws_caller_identity" "current" {}

locals {
  account = "arn:aws:iam::${data.aws_caller_identity.current.account_id}"

  tenants = {
    blue  = { trail = true }
    green = { trail = false }
  }
}

module "dekctl" {
  source   = "../../"
  for_each = local.tenants

  name_prefix        = "files-${each.key}"
  context_name       = "encrypted_files.${each.key}"
  generations        = { g1 = { state = "active" } }
  administrator_arns = ["${local.account}:role/terraform"]
  trust              = { for role in ["app", "wrapper", "rewrapper", "verifier", "auditor", "key_admin"] : role => { principals = ["${local.account}:role/operations"] } }

  # For the example only: keeps the files indefinitely, and lets the bucket be destroyed.
  audit = each.value.trail ? { archive_days = 0, force_destroy = true } : null

  rotation_period_in_days = null
}

output "dekctl" {
  description = "What the dekctl command reads, by tenant."
  value       = { for name, tenant in module.dekctl : name => tenant.dekctl }
}
