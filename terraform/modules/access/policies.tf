locals {
  # A key id has 36 characters, that of a multi-Region key too.
  key_arns = {
    real     = { for name, k in var.keys : name => [for region in k.regions : "arn:${local.partition}:kms:${region}:${local.account_id}:key/${k.key_id}"] }
    measured = { for name, k in var.keys : name => [for region in k.regions : "arn:${local.partition}:kms:${region}:${local.account_id}:key/${format("%036d", index(keys(var.keys), name))}"] }
  }

  measured_key_arn = "arn:${local.partition}:kms:${data.aws_region.current.id}:${local.account_id}:key/${format("%036d", 0)}"

  # Each role's policy, and a copy of it to measure.
  documents = merge([
    for copy, arns in local.key_arns : {
      for role in local.roles : copy == "real" ? role : "${role} ${copy}" => {
        role     = role
        all_keys = flatten(values(arns))
        statements = [
          for r in local.rights : {
            sid             = r.sid
            action          = r.action
            bound_to        = r.bound_to
            without_context = r.without_context
            resources       = flatten([for name, k in var.keys : arns[name] if length(setintersection(k.states, r.states)) > 0])
          } if r.role == role
        ]
      }
    }
  ]...)

  # A row command chooses its rate from the account's quota.
  reads_quota = ["wrapper", "rewrapper", "verifier"]

  kms_read_actions = [
    "kms:DescribeKey",
    "kms:GetKeyPolicy",
    "kms:GetKeyRotationStatus",
    "kms:ListGrants",
    "kms:ListKeyPolicies",
    "kms:ListKeyRotations",
    "kms:ListResourceTags",
  ]
}

data "aws_iam_policy_document" "role" {
  for_each = local.documents

  dynamic "statement" {
    for_each = each.value.statements

    content {
      sid       = statement.value.sid
      actions   = [statement.value.action]
      resources = statement.value.resources

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
    for_each = [for s in each.value.statements : s if s.without_context]

    content {
      sid       = "${statement.value.sid}WithoutContext"
      actions   = [statement.value.action]
      resources = statement.value.resources

      condition {
        test     = "Null"
        variable = "kms:EncryptionContextKeys"
        values   = ["true"]
      }
    }
  }

  # The key admin's own statement below already covers it, and a list of all keys makes a policy long.
  dynamic "statement" {
    for_each = each.value.role == "key_admin" ? [] : [1]

    content {
      sid       = "Describe"
      actions   = each.value.role == "auditor" ? local.kms_read_actions : ["kms:DescribeKey"]
      resources = each.value.all_keys
    }
  }

  dynamic "statement" {
    for_each = contains(local.reads_quota, each.value.role) ? [1] : []

    content {
      sid       = "ReadQuota"
      actions   = ["servicequotas:GetServiceQuota"]
      resources = ["arn:${local.partition}:servicequotas:*:${local.account_id}:kms/*"]
    }
  }

  # The AWS default, for an account without its own value. This call has no resource.
  dynamic "statement" {
    for_each = contains(local.reads_quota, each.value.role) ? [1] : []

    content {
      sid       = "ReadDefaultQuota"
      actions   = ["servicequotas:GetAWSDefaultServiceQuota"]
      resources = ["*"]
    }
  }

  dynamic "statement" {
    for_each = each.value.role == "key_admin" ? [1] : []

    content {
      sid = "Operate"
      actions = concat(local.kms_read_actions, [
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
      resources = concat(each.value.all_keys, var.alias_arns)
    }
  }

  # These calls have no resource.
  dynamic "statement" {
    for_each = contains(["auditor", "key_admin"], each.value.role) ? [1] : []

    content {
      sid       = "List"
      actions   = ["kms:ListAliases", "kms:ListKeys"]
      resources = ["*"]
    }
  }

  dynamic "statement" {
    for_each = each.value.role == "auditor" && var.audit != null ? [var.audit] : []

    content {
      sid       = "ReadTrail"
      actions   = ["cloudtrail:GetEventSelectors", "cloudtrail:GetTrail", "cloudtrail:GetTrailStatus"]
      resources = [statement.value.trail_arn]
    }
  }

  dynamic "statement" {
    for_each = each.value.role == "auditor" ? [1] : []

    content {
      sid       = "LookUpEvents"
      actions   = ["cloudtrail:ListPublicKeys", "cloudtrail:LookupEvents"]
      resources = ["*"]
    }
  }

  dynamic "statement" {
    for_each = each.value.role == "auditor" && var.audit != null ? [var.audit] : []

    content {
      sid       = "ReadLogFiles"
      actions   = ["s3:GetObject", "s3:ListBucket"]
      resources = [statement.value.bucket_arn, "${statement.value.bucket_arn}/${statement.value.log_prefix}*"]
    }
  }

  dynamic "statement" {
    for_each = each.value.role == "auditor" && try(var.audit.log_group_arn, null) != null ? [var.audit] : []

    content {
      sid       = "ReadLogGroup"
      actions   = ["logs:FilterLogEvents", "logs:StartQuery"]
      resources = [statement.value.log_group_arn, "${statement.value.log_group_arn}:*"]
    }
  }

  # A query has no resource; only whoever started it knows its id.
  dynamic "statement" {
    for_each = each.value.role == "auditor" && try(var.audit.log_group_arn, null) != null ? [1] : []

    content {
      sid       = "ReadQueryResults"
      actions   = ["logs:GetQueryResults"]
      resources = ["*"]
    }
  }

  dynamic "statement" {
    for_each = each.value.role == "auditor" && try(var.audit.encrypted, false) ? [var.audit] : []

    content {
      sid       = "DecryptTrail"
      actions   = ["kms:Decrypt"]
      resources = [endswith(each.key, " measured") ? local.measured_key_arn : statement.value.key_arn]

      condition {
        test     = "Null"
        variable = "kms:EncryptionContext:aws:cloudtrail:arn"
        values   = ["false"]
      }
    }
  }
}
