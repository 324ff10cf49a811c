# The provider of this module works in the replica's Region. A replica has the key id and the key material of its
# primary: what one wrapped, the other unwraps. Rotation is the primary's and follows by itself.

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

  tags = {
    Name                = "${var.name_prefix}-${each.key}"
    "dekctl:generation" = each.key
  }

  lifecycle {
    postcondition {
      condition     = self.key_id == element(split("/", each.value.arn), 1)
      error_message = "Generation ${each.key} and its replica have different key ids: what one wrapped, the other could not unwrap."
    }
  }
}

resource "aws_kms_alias" "this" {
  count = local.active == null ? 0 : 1

  name          = "alias/${var.name_prefix}"
  target_key_id = aws_kms_replica_key.generation[local.active].key_id
}
