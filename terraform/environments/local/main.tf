# AWS is moto's server: region, endpoint and credentials come from the environment (`make ENV=local` sets them).

terraform {
  required_version = ">= 1.11, < 2.0"

  required_providers {
    aws = {
      source  = "hashicorp/aws"
      version = ">= 5.100, < 7.0"
    }
  }

  backend "local" {}
}

provider "aws" {
  # The emulator's account: with another endpoint or other credentials, nothing here can reach a real account.
  allowed_account_ids = [var.account_id]

  default_tags {
    tags = {
      Project     = "dekctl"
      Environment = "local"
      ManagedBy   = "terraform"
    }
  }
}

data "aws_caller_identity" "current" {}

module "dekctl" {
  source = "../../modules/dekctl"

  name_prefix           = var.name_prefix
  alias                 = var.alias
  context_name          = var.context_name
  further_context_names = var.further_context_names
  generations           = var.generations
  tenants               = var.tenants
  tenants_by_key_policy = var.tenants_by_key_policy

  allow_rows_without_context = var.allow_rows_without_context
  allow_branch_keys          = var.allow_branch_keys

  # moto does not store the period: the second plan would never be empty.
  rotation_period_in_days = null

  audit = var.audit

  # Emulators check neither that these users exist nor who the caller is.
  administrator_arns = ["arn:aws:iam::${data.aws_caller_identity.current.account_id}:user/terraform"]

  trust = {
    for role in ["app", "wrapper", "rewrapper", "verifier", "auditor", "key_admin"] : role => {
      principals = ["arn:aws:iam::${data.aws_caller_identity.current.account_id}:user/operator"]
    }
  }
}

output "dekctl" {
  description = "What the dekctl command reads. Contains no secrets."
  value       = module.dekctl.dekctl
}
