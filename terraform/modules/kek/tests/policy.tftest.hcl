# Nothing here contacts AWS: the real provider plans offline, so the policies are rendered exactly as in an apply.
provider "aws" {
  region                      = "eu-central-1"
  access_key                  = "test"
  secret_key                  = "test"
  skip_credentials_validation = true
  skip_metadata_api_check     = true
  skip_requesting_account_id  = true
}

override_data {
  target = data.aws_caller_identity.current
  values = {
    account_id = "111122223333"
    arn        = "arn:aws:iam::111122223333:role/terraform"
    user_id    = "AROAEXAMPLE:test"
  }
}

variables {
  name_prefix        = "files"
  context_names      = ["encrypted_files"]
  administrator_arns = ["arn:aws:iam::111122223333:role/terraform"]
  operator_arns      = ["arn:aws:iam::111122223333:role/files-key-admin"]
  auditor_arns       = ["arn:aws:iam::111122223333:role/files-auditor"]

  generations = {
    g1 = { state = "disabled" }
    g2 = { state = "retired" }
    g3 = { state = "active" }
  }

  grants = [
    { sid = "AppUnwraps", principal = "arn:aws:iam::111122223333:role/files-app", action = "kms:Decrypt", states = ["active", "retired"] },
    { sid = "AppIssues", principal = "arn:aws:iam::111122223333:role/files-app", action = "kms:GenerateDataKey", states = ["active"] },
  ]
}

run "keys_and_their_policies_are_as_narrow_as_declared" {
  command = plan

  # Keys follow their state.
  assert {
    condition     = { for name, key in aws_kms_key.generation : name => key.is_enabled } == { g1 = false, g2 = true, g3 = true }
    error_message = "Only a disabled generation is disabled."
  }

  assert {
    condition     = alltrue([for key in aws_kms_key.generation : key.deletion_window_in_days == 30 && key.enable_key_rotation])
    error_message = "Every generation rotates and waits 30 days before it is deleted."
  }

  assert {
    condition     = alltrue([for key in aws_kms_key.generation : !key.bypass_policy_lockout_safety_check])
    error_message = "The lock-out check stays on."
  }

  assert {
    condition     = aws_kms_alias.this.name == "alias/files"
    error_message = "The alias is named by name_prefix."
  }

  # No allow has a wildcard principal or hands cryptography to the account.
  assert {
    condition = alltrue(flatten([
      for policy in output.policies : [
        for s in jsondecode(policy).Statement : s.Effect == "Deny" || !strcontains(jsonencode(s.Principal), "*")
      ]
    ]))
    error_message = "An allow names its principals."
  }

  assert {
    condition = alltrue(flatten([
      for policy in output.policies : [
        for s in jsondecode(policy).Statement : s.Effect == "Deny" || !strcontains(jsonencode(s.Action), "*")
      ]
    ]))
    error_message = "An allow names its actions."
  }

  assert {
    condition = alltrue(flatten([
      for policy in output.policies : [
        for s in jsondecode(policy).Statement : (
          jsonencode(s.Condition) == jsonencode({ ArnEquals = { "aws:PrincipalArn" = "arn:aws:iam::111122223333:root" } })
          && !strcontains(jsonencode(s.Action), "crypt") && !strcontains(jsonencode(s.Action), "GenerateDataKey")
        ) if s.Sid == "AccountCannotLockItselfOut"
      ]
    ]))
    error_message = "The account may only save itself from a lock-out, as its root user."
  }

  # Rights follow the state of the generation.
  assert {
    condition = jsonencode({
      for name, policy in output.policies : name => [
        for s in jsondecode(policy).Statement : s.Sid if startswith(s.Sid, "App")
      ]
    }) == jsonencode({ g1 = [], g2 = ["AppUnwraps"], g3 = ["AppUnwraps", "AppIssues"] })
    error_message = "Nothing on a disabled generation, unwrapping on a retired one, both on the active one."
  }

  # Every use is bound to the whole context.
  assert {
    condition = alltrue(flatten([
      for policy in output.policies : [
        for s in jsondecode(policy).Statement : jsonencode(s.Condition) == jsonencode({
          StringEquals                = { "kms:EncryptionContext:dekctl:table" = "encrypted_files" }
          "ForAllValues:StringEquals" = { "kms:EncryptionContextKeys" = ["dekctl:table", "dekctl:pk"] }
          Null                        = { "kms:EncryptionContextKeys" = "false", "kms:EncryptionContext:dekctl:pk" = "false" }
        }) if startswith(s.Sid, "App")
      ]
    ]))
    error_message = "The table's name, no other context key, and neither of them missing."
  }

  # The denies are exactly these.
  assert {
    condition = alltrue([
      for policy, cryptography in { for policy in values(output.policies) : policy => [
        "kms:Decrypt", "kms:DeriveSharedSecret", "kms:Encrypt", "kms:GenerateDataKey", "kms:GenerateDataKeyPair",
        "kms:GenerateDataKeyPairWithoutPlaintext", "kms:GenerateDataKeyWithoutPlaintext", "kms:GenerateMac",
        "kms:ReEncryptFrom", "kms:ReEncryptTo", "kms:Sign", "kms:Verify", "kms:VerifyMac",
        ] } : jsonencode({
        for s in jsondecode(policy).Statement : s.Sid => {
          action    = sort(flatten([s.Action]))
          principal = sort(flatten([s.Principal.AWS]))
          resource  = s.Resource
          condition = try(s.Condition, null)
        } if s.Effect == "Deny"
        }) == jsonencode({
        for sid, deny in {
          DenyCryptographyToAdministrators = {
            action    = cryptography
            principal = sort(concat(var.administrator_arns, var.operator_arns, var.auditor_arns))
            condition = null
          }
          DenyCryptographyWithoutContext = {
            action    = cryptography
            principal = ["*"]
            condition = { Null = { "kms:EncryptionContextKeys" = "true" } }
          }
          DenyGrants = {
            action    = ["kms:CreateGrant"]
            principal = ["*"]
            condition = null
          }
          DenyLockoutCheckBypass = {
            action    = ["kms:PutKeyPolicy"]
            principal = ["*"]
            condition = { Bool = { "kms:BypassPolicyLockoutSafetyCheck" = "true" } }
          }
          DenyShortDeletionWindow = {
            action    = ["kms:ScheduleKeyDeletion"]
            principal = ["*"]
            condition = { NumericLessThan = { "kms:ScheduleKeyDeletionPendingWindowInDays" = "30" } }
          }
          DenyUseThroughOtherServices = {
            action    = cryptography
            principal = ["*"]
            condition = { Null = { "kms:ViaService" = "false" } }
          }
        } : sid => merge(deny, { resource = "*" })
      })
    ])
    error_message = "A deny of a key policy is missing or is not what it was."
  }
}

run "a_branch_key_has_a_context_of_its_own" {
  command = plan

  variables {
    grants = [
      { sid = "AppOpensBranchKeys", principal = "arn:aws:iam::111122223333:role/files-app", action = "kms:Decrypt", states = ["active", "retired"], bound_to = "dekctl:branch" },
    ]
  }

  assert {
    condition = jsonencode([
      for s in jsondecode(output.policies["g2"]).Statement : [s.Action, s.Condition] if s.Sid == "AppOpensBranchKeys"
      ]) == jsonencode([["kms:Decrypt", {
        StringEquals                = { "kms:EncryptionContext:dekctl:table" = "encrypted_files" }
        "ForAllValues:StringEquals" = { "kms:EncryptionContextKeys" = ["dekctl:table", "dekctl:branch"] }
        Null                        = { "kms:EncryptionContextKeys" = "false", "kms:EncryptionContext:dekctl:branch" = "false" }
    }]])
    error_message = "The table's name and the branch; no primary key beside it, and neither of them missing."
  }
}

run "rows_without_context_open_unwrapping_only" {
  command = plan

  variables {
    grants = [
      { sid = "AppUnwraps", principal = "arn:aws:iam::111122223333:role/files-app", action = "kms:Decrypt", states = ["active", "retired"], without_context = true },
    ]
  }

  assert {
    condition = jsonencode([
      for s in jsondecode(output.policies["g2"]).Statement : [s.Action, s.Condition] if s.Sid == "AppUnwrapsWithoutContext"
    ]) == jsonencode([["kms:Decrypt", { Null = { "kms:EncryptionContextKeys" = "true" } }]])
    error_message = "The extra statement allows Decrypt without any context, and nothing else."
  }

  assert {
    condition = alltrue([
      for s in jsondecode(output.policies["g2"]).Statement : !contains(s.Action, "kms:Decrypt") && contains(s.Action, "kms:Encrypt") && contains(s.Action, "kms:ReEncryptFrom")
      if s.Sid == "DenyCryptographyWithoutContext"
    ])
    error_message = "The deny leaves out only what was granted."
  }
}

run "a_retired_generation_can_still_wrap" {
  command = plan

  variables {
    generations = {
      g1 = { state = "retired", still_wraps = true }
      g2 = { state = "active" }
    }
  }

  assert {
    condition     = length([for s in jsondecode(output.policies["g1"]).Statement : s if s.Sid == "AppIssues"]) == 1
    error_message = "still_wraps keeps the rights of the active generation."
  }
}

run "a_key_policy_has_a_length" {
  command = plan
  variables {
    context_names = [for number in range(60) : "a-table-with-a-name-of-some-length-as-they-have-in-large-companies-${number}"]
    grants = [
      for number in range(10) :
      { sid = "Unwrap${number}", principal = "arn:aws:iam::111122223333:role/app", action = "kms:Decrypt", states = ["active"] }
    ]
  }
  expect_failures = [aws_kms_key.generation]
}

run "an_alias_that_exists_keeps_its_name" {
  command = plan
  variables {
    alias = "alias/App_DEK/v1"
  }

  assert {
    condition     = aws_kms_alias.this.name == "alias/App_DEK/v1" && output.alias == "alias/App_DEK/v1"
    error_message = "The alias is the one that applications use."
  }
}
