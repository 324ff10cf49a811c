data "aws_caller_identity" "current" {}

data "aws_partition" "current" {}

locals {
  alias  = coalesce(var.alias, "alias/${var.name_prefix}")
  active = one([for name, g in var.generations : name if g.state == "active"])

  # AWS KMS Developer Guide, "Resource quotas": 32 KB.
  longest_policy = 32768

  # The states whose rights a generation has.
  counts_as = { for name, g in var.generations : name => g.still_wraps ? [g.state, "active"] : [g.state] }
}

# No prevent_destroy: it accepts only a literal, and would block the last step of a generation's life cycle. A KEK that
# rows still need is protected by `dekctl guard`, which runs in every `make apply`, and by the waiting period of 30 days.
resource "aws_kms_key" "generation" {
  for_each = var.generations

  description                        = "${var.name_prefix} KEK, generation ${each.key}"
  policy                             = data.aws_iam_policy_document.key[each.key].json
  is_enabled                         = each.value.state != "disabled"
  multi_region                       = each.value.multi_region
  enable_key_rotation                = true
  rotation_period_in_days            = var.rotation_period_in_days
  deletion_window_in_days            = 30
  bypass_policy_lockout_safety_check = false

  tags = merge(var.tags, {
    Name                = "${var.name_prefix}-${each.key}"
    "dekctl:generation" = each.key
  })

  lifecycle {
    precondition {
      condition     = length(replace(data.aws_iam_policy_document.key[each.key].json, "/\\s/", "")) <= local.longest_policy
      error_message = "The key policy of generation ${each.key} would have ${length(replace(data.aws_iam_policy_document.key[each.key].json, "/\\s/", ""))} bytes; KMS allows ${local.longest_policy}. Each table adds to it: give some tables a KEK of their own, in another instance of module dekctl."
    }
  }
}

# Updated in place: this is how a new generation becomes active.
resource "aws_kms_alias" "this" {
  name          = local.alias
  target_key_id = aws_kms_key.generation[local.active].key_id
}
