# The key policy is the only authority over a generation. It names each role and action and does not delegate to IAM,
# so no identity policy in the account can add a right to use the key.

locals {
  root = "arn:${data.aws_partition.current.partition}:iam::${data.aws_caller_identity.current.account_id}:root"

  recovery_actions = [
    "kms:CancelKeyDeletion",
    "kms:DescribeKey",
    "kms:EnableKey",
    "kms:GetKeyPolicy",
    "kms:ListKeyPolicies",
    "kms:PutKeyPolicy",
  ]

  read_actions = [
    "kms:DescribeKey",
    "kms:GetKeyPolicy",
    "kms:GetKeyRotationStatus",
    "kms:ListGrants",
    "kms:ListKeyPolicies",
    "kms:ListKeyRotations",
    "kms:ListResourceTags",
  ]

  # Never kms:Create*: it includes CreateGrant, and a grant could give its creator Decrypt.
  operator_actions = concat(local.read_actions, [
    "kms:CancelKeyDeletion",
    "kms:CreateAlias",
    "kms:DeleteAlias",
    "kms:DisableKey",
    "kms:DisableKeyRotation",
    "kms:EnableKey",
    "kms:EnableKeyRotation",
    "kms:RevokeGrant",
    "kms:RotateKeyOnDemand",
    "kms:ScheduleKeyDeletion",
    "kms:TagResource",
    "kms:UntagResource",
    "kms:UpdateAlias",
    "kms:UpdateKeyDescription",
  ])

  administrator_actions = concat(local.operator_actions, ["kms:PutKeyPolicy", "kms:ReplicateKey"])

  cryptographic_actions = [
    "kms:Decrypt",
    "kms:DeriveSharedSecret",
    "kms:Encrypt",
    "kms:GenerateDataKey",
    "kms:GenerateDataKeyPair",
    "kms:GenerateDataKeyPairWithoutPlaintext",
    "kms:GenerateDataKeyWithoutPlaintext",
    "kms:GenerateMac",
    "kms:ReEncryptFrom",
    "kms:ReEncryptTo",
    "kms:Sign",
    "kms:Verify",
    "kms:VerifyMac",
  ]

  # V1 rows have no context. While a grant still allows them, the deny must make the same exception.
  actions_without_context = distinct([for g in var.grants : g.action if g.without_context])
}

data "aws_iam_policy_document" "key" {
  for_each = var.generations

  statement {
    sid       = "AccountCannotLockItselfOut"
    actions   = local.recovery_actions
    resources = ["*"]

    principals {
      type        = "AWS"
      identifiers = [local.root]
    }

    # Without this, the account principal would delegate these actions to every identity policy in the account.
    condition {
      test     = "ArnEquals"
      variable = "aws:PrincipalArn"
      values   = [local.root]
    }
  }

  statement {
    sid       = "Administration"
    actions   = local.administrator_actions
    resources = ["*"]

    principals {
      type        = "AWS"
      identifiers = var.administrator_arns
    }
  }

  dynamic "statement" {
    for_each = length(var.operator_arns) > 0 ? [1] : []

    content {
      sid       = "Operation"
      actions   = local.operator_actions
      resources = ["*"]

      principals {
        type        = "AWS"
        identifiers = var.operator_arns
      }
    }
  }

  dynamic "statement" {
    for_each = length(var.auditor_arns) > 0 ? [1] : []

    content {
      sid       = "Audit"
      actions   = local.read_actions
      resources = ["*"]

      principals {
        type        = "AWS"
        identifiers = var.auditor_arns
      }
    }
  }

  dynamic "statement" {
    for_each = length(var.grants) > 0 ? [1] : []

    content {
      sid       = "Describe"
      actions   = ["kms:DescribeKey"]
      resources = ["*"]

      principals {
        type        = "AWS"
        identifiers = distinct(var.grants[*].principal)
      }
    }
  }

  dynamic "statement" {
    for_each = [for g in var.grants : g if length(setintersection(g.states, local.counts_as[each.key])) > 0]

    content {
      sid       = statement.value.sid
      actions   = [statement.value.action]
      resources = ["*"]

      principals {
        type        = "AWS"
        identifiers = [statement.value.principal]
      }

      condition {
        test     = "StringEquals"
        variable = "kms:EncryptionContext:dekctl:table"
        values   = var.context_names
      }

      # ForAllValues alone also matches a request without any context; the two Null conditions exclude it.
      condition {
        test     = "ForAllValues:StringEquals"
        variable = "kms:EncryptionContextKeys"
        values   = ["dekctl:table", statement.value.bound_to]
      }

      condition {
        test     = "Null"
        variable = "kms:EncryptionContextKeys"
        values   = ["false"]
      }

      condition {
        test     = "Null"
        variable = "kms:EncryptionContext:${statement.value.bound_to}"
        values   = ["false"]
      }
    }
  }

  dynamic "statement" {
    for_each = [for g in var.grants : g if g.without_context && length(setintersection(g.states, local.counts_as[each.key])) > 0]

    content {
      sid       = "${statement.value.sid}WithoutContext"
      actions   = [statement.value.action]
      resources = ["*"]

      principals {
        type        = "AWS"
        identifiers = [statement.value.principal]
      }

      condition {
        test     = "Null"
        variable = "kms:EncryptionContextKeys"
        values   = ["true"]
      }
    }
  }

  # The denies below name every principal: a deny with exceptions would be useless. No allow does.
  statement {
    sid       = "DenyCryptographyWithoutContext"
    effect    = "Deny"
    actions   = setsubtract(local.cryptographic_actions, local.actions_without_context)
    resources = ["*"]

    principals {
      type        = "AWS"
      identifiers = ["*"]
    }

    condition {
      test     = "Null"
      variable = "kms:EncryptionContextKeys"
      values   = ["true"]
    }
  }

  statement {
    sid       = "DenyUseThroughOtherServices"
    effect    = "Deny"
    actions   = local.cryptographic_actions
    resources = ["*"]

    principals {
      type        = "AWS"
      identifiers = ["*"]
    }

    condition {
      test     = "Null"
      variable = "kms:ViaService"
      values   = ["false"]
    }
  }

  statement {
    sid       = "DenyCryptographyToAdministrators"
    effect    = "Deny"
    actions   = local.cryptographic_actions
    resources = ["*"]

    principals {
      type        = "AWS"
      identifiers = distinct(concat(var.administrator_arns, var.operator_arns, var.auditor_arns))
    }
  }

  statement {
    sid       = "DenyGrants"
    effect    = "Deny"
    actions   = ["kms:CreateGrant"]
    resources = ["*"]

    principals {
      type        = "AWS"
      identifiers = ["*"]
    }
  }

  statement {
    sid       = "DenyShortDeletionWindow"
    effect    = "Deny"
    actions   = ["kms:ScheduleKeyDeletion"]
    resources = ["*"]

    principals {
      type        = "AWS"
      identifiers = ["*"]
    }

    condition {
      test     = "NumericLessThan"
      variable = "kms:ScheduleKeyDeletionPendingWindowInDays"
      values   = ["30"]
    }
  }

  statement {
    sid       = "DenyLockoutCheckBypass"
    effect    = "Deny"
    actions   = ["kms:PutKeyPolicy"]
    resources = ["*"]

    principals {
      type        = "AWS"
      identifiers = ["*"]
    }

    condition {
      test     = "Bool"
      variable = "kms:BypassPolicyLockoutSafetyCheck"
      values   = ["true"]
    }
  }
}
