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

variable "archive_days" {
  description = "Days that the bucket keeps the trail's files, or 0 to keep them indefinitely."
  type        = number
  default     = 2557
}

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

  # For the example only: lets the bucket be destroyed.
  audit = each.value.trail ? { archive_days = var.archive_days, force_destroy = true, alarm_emails = ["security@example.com"] } : null

  rotation_period_in_days = null
}

output "dekctl" {
  description = "What the dekctl command reads, by tenant."
  value       = { for name, tenant in module.dekctl : name => tenant.dekctl }
}
