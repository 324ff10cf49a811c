locals {
  pods = "pods.eks.amazonaws.com"

  # Both are needed by whoever sets a source identity, and by whoever bears one already: it is passed on (IAM User Guide,
  # "Monitor and control actions taken with assumed roles").
  assume = ["sts:AssumeRole", "sts:SetSourceIdentity"]

  # Which service sends aws:SourceAccount when it assumes a role:
  # - ECS does: Amazon ECS Developer Guide, "Amazon ECS task IAM role".
  # - EKS Pod Identity does, and tags the session besides: Amazon EKS User Guide, "Create IAM role with trust policy required
  #   by EKS Pod Identity". (aws:SourceArn is another matter: an association's ARN never matches.)
  # - EC2 and Lambda are not documented to (Amazon EC2 User Guide, "IAM roles for Amazon EC2"; AWS Lambda Developer Guide,
  #   "Defining Lambda function permissions with an execution role"): with that condition an instance or a function gets no
  #   credentials. What protects these roles is iam:PassRole, which takes roles of this account only.
  without_source_account = ["ec2.amazonaws.com", "ec2.amazonaws.com.cn", "lambda.amazonaws.com"]
}

data "aws_iam_policy_document" "trust" {
  for_each = toset(local.roles)

  dynamic "statement" {
    for_each = length(var.trust[each.key].principals) > 0 ? [var.trust[each.key]] : []

    content {
      sid     = "Principals"
      actions = local.assume

      principals {
        type        = "AWS"
        identifiers = statement.value.principals
      }

      dynamic "condition" {
        for_each = statement.value.require_mfa ? [1] : []

        content {
          test     = "Bool"
          variable = "aws:MultiFactorAuthPresent"
          values   = ["true"]
        }
      }

      dynamic "condition" {
        for_each = statement.value.external_id == null ? [] : [statement.value.external_id]

        content {
          test     = "StringEquals"
          variable = "sts:ExternalId"
          values   = [condition.value]
        }
      }
    }
  }

  # EKS Pod Identity also tags the session and fails without that right; no other service needs it.
  dynamic "statement" {
    for_each = {
      for sid, way in {
        Compute  = { actions = ["sts:AssumeRole"], services = setintersection(var.trust[each.key].services, local.without_source_account), conditions = [] }
        Services = { actions = ["sts:AssumeRole"], services = setsubtract(var.trust[each.key].services, concat([local.pods], local.without_source_account)), conditions = [1] }
        Pods     = { actions = ["sts:AssumeRole", "sts:TagSession"], services = setintersection(var.trust[each.key].services, [local.pods]), conditions = [1] }
      } : sid => way if length(way.services) > 0
    }

    content {
      sid     = statement.key
      actions = statement.value.actions

      principals {
        type        = "Service"
        identifiers = statement.value.services
      }

      # Prevents the confused-deputy problem: only on behalf of this account.
      dynamic "condition" {
        for_each = statement.value.conditions

        content {
          test     = "StringEquals"
          variable = "aws:SourceAccount"
          values   = [local.account_id]
        }
      }
    }
  }

  dynamic "statement" {
    for_each = var.trust[each.key].oidc == null ? [] : [var.trust[each.key].oidc]

    content {
      sid     = "Oidc"
      actions = ["sts:AssumeRoleWithWebIdentity"]

      principals {
        type        = "Federated"
        identifiers = [statement.value.provider_arn]
      }

      condition {
        test     = "StringEquals"
        variable = "${statement.value.issuer}:aud"
        values   = [statement.value.audience]
      }

      condition {
        test     = "StringEquals"
        variable = "${statement.value.issuer}:sub"
        values   = statement.value.subjects
      }
    }
  }
}
