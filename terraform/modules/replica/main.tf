# The provider of this module uses the replica's Region. A replica has the key id and the key material of its primary:
# each can unwrap what the other wrapped. The primary is rotated; the replica follows automatically.

locals {
  active = one([for name, g in var.generations : name if g.state == "active"])
}

resource "aws_kms_replica_key" "generation" {
  for_each = var.generations

  description                        = "${var.name_prefix} KEK, generation ${each.key}, replica"
  primary_key_arn                    = each.value.arn
  policy                             = each.value.policy
  enabled                            = each.value.state != "disabled"
  deletion_window_in_days            = 30
  bypass_policy_lockout_safety_check = false

  tags = merge(var.tags, {
    Name                = "${var.name_prefix}-${each.key}"
    "dekctl:generation" = each.key
  })

  lifecycle {
    postcondition {
      condition     = self.key_id == element(split("/", each.value.arn), 1)
      error_message = "Generation ${each.key} and its replica have different key ids: neither could unwrap what the other wrapped."
    }
  }
}

resource "aws_kms_alias" "this" {
  count = local.active == null ? 0 : 1

  name          = coalesce(var.alias, "alias/${var.name_prefix}")
  target_key_id = aws_kms_replica_key.generation[local.active].key_id
}
