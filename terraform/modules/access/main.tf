data "aws_caller_identity" "current" {}

data "aws_partition" "current" {}

data "aws_region" "current" {}

resource "aws_iam_role" "this" {
  for_each = toset(local.roles)

  name                 = local.role_names[each.key]
  path                 = var.path
  description          = "dekctl: ${local.descriptions[each.key]}"
  assume_role_policy   = data.aws_iam_policy_document.trust[each.key].json
  max_session_duration = var.max_session_duration
  permissions_boundary = var.permissions_boundary
  tags                 = var.tags

  lifecycle {
    precondition {
      condition     = length(replace(data.aws_iam_policy_document.trust[each.key].json, "/\\s/", "")) <= local.longest_trust
      error_message = "The trust policy of the role ${each.key} would have ${length(replace(data.aws_iam_policy_document.trust[each.key].json, "/\\s/", ""))} characters; IAM allows ${local.longest_trust}. Name fewer principals or subjects in trust[\"${each.key}\"]: let them assume one role that is trusted here."
    }

    postcondition {
      condition     = self.arn == local.role_arns[each.key]
      error_message = "The role's ARN differs from the one named in the key policies."
    }
  }
}

resource "aws_iam_role_policy" "this" {
  for_each = toset(local.roles)

  name   = "dekctl"
  role   = aws_iam_role.this[each.key].id
  policy = data.aws_iam_policy_document.role[each.key].json

  lifecycle {
    precondition {
      condition     = local.policy_lengths[each.key] <= local.longest_policy
      error_message = "The policy of the role ${each.key} would have ${local.policy_lengths[each.key]} characters; IAM allows ${local.longest_policy}. Each tenant's KEK and each table adds to it. Set tenants_by_key_policy = true (README of module dekctl, \"Many tenants\"), or drop generations and tables that are no longer needed."
    }
  }
}

locals {
  # IAM's limit for all inline policies of a role together, and its default for a trust policy, neither counting white
  # space (IAM User Guide, "IAM and AWS STS quotas").
  longest_policy = 10240
  longest_trust  = 2048

  # Of the copies with key ids as long as real ones, because a plan that makes a key does not know its id.
  policy_lengths = { for role in local.roles : role => length(replace(data.aws_iam_policy_document.role["${role} measured"].json, "/\\s/", "")) }

  account_id = data.aws_caller_identity.current.account_id
  partition  = data.aws_partition.current.partition

  # Built from names: the key policies, which name the roles, are then in the plan in full, and so is their length.
  role_names = { for role in local.roles : role => "${var.name_prefix}-${replace(role, "_", "-")}" }
  role_arns  = { for role, name in local.role_names : role => "arn:${local.partition}:iam::${local.account_id}:role${var.path}${name}" }

  descriptions = {
    app       = "reads rows and issues new DEKs"
    wrapper   = "wraps the DEKs of legacy rows"
    rewrapper = "moves rows to another KEK inside KMS"
    verifier  = "unwraps to compare"
    auditor   = "reads keys and the trail"
    key_admin = "manages the life of the KEKs, uses none"
  }
}
