# One environment: the KEK, one role per task and the audit trail. `dekctl init` copies this root; it is yours to change.

terraform {
  required_version = ">= 1.11, < 2.0"

  required_providers {
    aws = {
      source  = "hashicorp/aws"
      version = ">= 5.100, < 7.0"
    }
  }

  # Before colleagues or CI apply this: keep the state in a versioned, encrypted bucket instead of this folder, and run
  # `terraform init -migrate-state`.
  # backend "s3" {
  #   bucket       = "example-terraform-state"
  #   key          = "dekctl/terraform.tfstate"
  #   region       = "eu-central-1"
  #   encrypt      = true
  #   use_lockfile = true
  # }
}

provider "aws" {
  region              = var.region
  allowed_account_ids = [var.account_id]

  default_tags {
    tags = {
      Project     = "dekctl"
      Environment = var.environment
      ManagedBy   = "terraform"
    }
  }
}

module "dekctl" {
  source = "../../modules/dekctl"

  name_prefix                = var.name_prefix
  context_name               = var.context_name
  further_context_names      = var.further_context_names
  generations                = var.generations
  allow_rows_without_context = var.allow_rows_without_context
  allow_branch_keys          = var.allow_branch_keys
  trust                      = var.trust
  administrator_arns         = var.administrator_arns
  audit                      = var.audit
}

output "dekctl" {
  description = "What the dekctl command reads. Contains no secrets."
  value       = module.dekctl.dekctl
}
