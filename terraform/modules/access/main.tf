data "aws_caller_identity" "current" {}

data "aws_partition" "current" {}

resource "aws_iam_role" "this" {
  for_each = toset(local.roles)

  name                 = "${var.name_prefix}-${replace(each.key, "_", "-")}"
  description          = "dekctl: ${local.descriptions[each.key]}"
  assume_role_policy   = data.aws_iam_policy_document.trust[each.key].json
  max_session_duration = var.max_session_duration
  permissions_boundary = var.permissions_boundary
}

resource "aws_iam_role_policy" "this" {
  for_each = toset(local.roles)

  name   = "dekctl"
  role   = aws_iam_role.this[each.key].id
  policy = data.aws_iam_policy_document.role[each.key].json

  lifecycle {
    precondition {
      condition     = length(replace(data.aws_iam_policy_document.role[each.key].json, "/\\s/", "")) <= local.longest_policy
      error_message = "The policy of the role ${each.key} would have ${length(replace(data.aws_iam_policy_document.role[each.key].json, "/\\s/", ""))} characters; IAM allows ${local.longest_policy}. Each tenant's KEK adds to it: use one instance of module dekctl per group of tenants (modules/dekctl/examples/two-tenants), or drop generations that are no longer needed."
    }
  }
}

locals {
  # IAM's limit for all inline policies of a role together, not counting white space.
  longest_policy = 10240

  descriptions = {
    app       = "reads rows and issues new DEKs"
    wrapper   = "wraps the DEKs of legacy rows"
    rewrapper = "moves rows to another KEK inside KMS"
    verifier  = "unwraps to compare"
    auditor   = "reads keys and the trail"
    key_admin = "manages the life of the KEKs, uses none"
  }
}
