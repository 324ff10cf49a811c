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
  name_prefix   = "files"
  context_names = ["encrypted_files"]
  alias_arns    = ["arn:aws:kms:eu-central-1:111122223333:alias/files"]

  keys = {
    g1 = { states = ["disabled"], key_id = "1", regions = ["eu-central-1"] }
    g2 = { states = ["retired"], key_id = "2", regions = ["eu-central-1"] }
    g3 = { states = ["active"], key_id = "3", regions = ["eu-central-1"] }
  }

  trust = {
    app       = { services = ["ecs-tasks.amazonaws.com"] }
    wrapper   = { principals = ["arn:aws:iam::111122223333:role/migrations"] }
    rewrapper = { principals = ["arn:aws:iam::111122223333:role/migrations"] }
    auditor   = { principals = ["arn:aws:iam::444455556666:role/audit"], external_id = "shared" }
    key_admin = { principals = ["arn:aws:iam::111122223333:user/security"], require_mfa = true }
    verifier = { oidc = {
      provider_arn = "arn:aws:iam::111122223333:oidc-provider/ci.example.com"
      issuer       = "ci.example.com"
      audience     = "sts.amazonaws.com"
      subjects     = ["repo:example/files:environment:staging"]
    } }
  }

  audit = {
    trail_arn     = "arn:aws:cloudtrail:eu-central-1:111122223333:trail/files-trail"
    bucket_arn    = "arn:aws:s3:::files-trail-111122223333"
    log_group_arn = "arn:aws:logs:eu-central-1:111122223333:log-group:/dekctl/files/cloudtrail"
    key_arn       = "arn:aws:kms:eu-central-1:111122223333:key/trail"
  }
}

run "roles_may_what_is_declared_and_no_more" {
  command = plan

  # Every role has its cryptographic actions and no other.
  assert {
    condition = jsonencode({
      for role, policy in output.policies : role => [
        for s in jsondecode(policy).Statement : [s.Action, s.Resource]
        if length(regexall("crypt|GenerateDataKey", jsonencode(s.Action))) > 0
      ]
      }) == jsonencode({
      app = [
        ["kms:Decrypt", ["arn:aws:kms:eu-central-1:111122223333:key/3", "arn:aws:kms:eu-central-1:111122223333:key/2"]],
        ["kms:GenerateDataKey", "arn:aws:kms:eu-central-1:111122223333:key/3"],
      ]
      auditor   = [["kms:Decrypt", "arn:aws:kms:eu-central-1:111122223333:key/trail"]]
      key_admin = []
      rewrapper = [
        ["kms:ReEncryptFrom", ["arn:aws:kms:eu-central-1:111122223333:key/3", "arn:aws:kms:eu-central-1:111122223333:key/2"]],
        ["kms:ReEncryptTo", "arn:aws:kms:eu-central-1:111122223333:key/3"],
      ]
      verifier = [["kms:Decrypt", ["arn:aws:kms:eu-central-1:111122223333:key/3", "arn:aws:kms:eu-central-1:111122223333:key/2"]]]
      wrapper  = [["kms:Encrypt", "arn:aws:kms:eu-central-1:111122223333:key/3"]]
    })
    error_message = "A role's cryptographic actions or their keys changed."
  }

  assert {
    condition     = !strcontains(jsonencode(output.policies), "kms:Create*") && !strcontains(jsonencode(output.policies), "kms:CreateGrant") && !strcontains(jsonencode(output.policies), "kms:PutKeyPolicy")
    error_message = "With a grant, or with the key policy, a role could give itself Decrypt."
  }

  assert {
    condition = alltrue(flatten([
      for policy in output.policies : [for s in jsondecode(policy).Statement : !strcontains(jsonencode(s.Action), "*")]
    ]))
    error_message = "Actions are named one by one."
  }

  # Every use of a KEK is bound to the whole context.
  assert {
    condition = alltrue(flatten([
      for policy in output.policies : [
        for s in jsondecode(policy).Statement : jsonencode(s.Condition) == jsonencode({
          StringEquals                = { "kms:EncryptionContext:dekctl:table" = "encrypted_files" }
          "ForAllValues:StringEquals" = { "kms:EncryptionContextKeys" = ["dekctl:table", "dekctl:pk"] }
          Null                        = { "kms:EncryptionContextKeys" = "false", "kms:EncryptionContext:dekctl:pk" = "false" }
        }) if length(regexall("crypt|GenerateDataKey", jsonencode(s.Action))) > 0 && s.Sid != "DecryptTrail"
      ]
    ]))
    error_message = "The table's name, no other context key, and neither of them missing."
  }

  # Trust is as narrow as declared.
  assert {
    condition = jsonencode([for s in jsondecode(data.aws_iam_policy_document.trust["key_admin"].json).Statement : [s.Principal, s.Condition]]) == jsonencode([
      [{ AWS = "arn:aws:iam::111122223333:user/security" }, { Bool = { "aws:MultiFactorAuthPresent" = "true" } }],
    ])
    error_message = "require_mfa must become a condition."
  }

  assert {
    condition = jsonencode([for s in jsondecode(data.aws_iam_policy_document.trust["auditor"].json).Statement : s.Condition]) == jsonencode([
      { StringEquals = { "sts:ExternalId" = "shared" } },
    ])
    error_message = "external_id must become a condition."
  }

  assert {
    condition = jsonencode([for s in jsondecode(data.aws_iam_policy_document.trust["app"].json).Statement : [s.Principal, s.Condition]]) == jsonencode([
      [{ Service = "ecs-tasks.amazonaws.com" }, { StringEquals = { "aws:SourceAccount" = "111122223333" } }],
    ])
    error_message = "A service may assume the role only on behalf of this account."
  }

  assert {
    condition = jsonencode([for s in jsondecode(data.aws_iam_policy_document.trust["verifier"].json).Statement : [s.Action, s.Condition]]) == jsonencode([
      ["sts:AssumeRoleWithWebIdentity", { StringEquals = {
        "ci.example.com:aud" = "sts.amazonaws.com"
        "ci.example.com:sub" = "repo:example/files:environment:staging"
      } }],
    ])
    error_message = "CI is known by audience and exact subject."
  }
}

run "rows_without_context_are_unwrapped_only_where_declared" {
  command = plan

  variables {
    allow_rows_without_context = true
  }

  assert {
    condition = jsonencode(flatten([
      for policy in output.policies : [for s in jsondecode(policy).Statement : s.Action if endswith(s.Sid, "WithoutContext")]
    ])) == jsonencode(["kms:Decrypt", "kms:ReEncryptFrom", "kms:Decrypt"])
    error_message = "App and verifier unwrap, the rewrapper takes; nobody wraps."
  }

  assert {
    condition     = jsonencode([for g in output.grants : g.action if g.without_context]) == jsonencode(["kms:Decrypt", "kms:ReEncryptFrom", "kms:Decrypt"])
    error_message = "The key policies are given the same exceptions."
  }
}

run "branch_keys_are_used_only_where_declared" {
  command = plan

  variables {
    allow_branch_keys          = true
    allow_rows_without_context = true
  }

  assert {
    condition = jsonencode({
      for role, policy in output.policies : role => [
        for s in jsondecode(policy).Statement : [s.Action, s.Resource] if endswith(s.Sid, "BranchKeys")
      ]
      }) == jsonencode({
      app       = [["kms:Decrypt", ["arn:aws:kms:eu-central-1:111122223333:key/3", "arn:aws:kms:eu-central-1:111122223333:key/2"]]]
      auditor   = []
      key_admin = []
      rewrapper = [
        ["kms:ReEncryptFrom", ["arn:aws:kms:eu-central-1:111122223333:key/3", "arn:aws:kms:eu-central-1:111122223333:key/2"]],
        ["kms:ReEncryptTo", "arn:aws:kms:eu-central-1:111122223333:key/3"],
      ]
      verifier = [["kms:Decrypt", ["arn:aws:kms:eu-central-1:111122223333:key/3", "arn:aws:kms:eu-central-1:111122223333:key/2"]]]
      wrapper  = [["kms:GenerateDataKey", "arn:aws:kms:eu-central-1:111122223333:key/3"]]
    })
    error_message = "The wrapper makes branch keys, the others use them; nobody has more."
  }

  assert {
    condition = alltrue(flatten([
      for policy in output.policies : [
        for s in jsondecode(policy).Statement : jsonencode(s.Condition) == jsonencode({
          StringEquals                = { "kms:EncryptionContext:dekctl:table" = "encrypted_files" }
          "ForAllValues:StringEquals" = { "kms:EncryptionContextKeys" = ["dekctl:table", "dekctl:branch"] }
          Null                        = { "kms:EncryptionContextKeys" = "false", "kms:EncryptionContext:dekctl:branch" = "false" }
        }) if endswith(s.Sid, "BranchKeys")
      ]
    ]))
    error_message = "The table's name and the branch; no primary key beside it, and neither of them missing."
  }

  assert {
    condition = jsonencode([for g in output.grants : g.sid if g.bound_to == "dekctl:branch" && !g.without_context]) == jsonencode([
      "AppOpensBranchKeys", "WrapperMakesBranchKeys", "RewrapperTakesBranchKeys", "RewrapperPutsBranchKeys", "VerifierOpensBranchKeys",
    ])
    error_message = "The key policies are given the same rights, each in a branch key's context only."
  }
}

run "pods_tag_their_sessions" {
  command = plan
  variables {
    trust = merge(
      { for role in ["wrapper", "rewrapper", "verifier", "auditor", "key_admin"] : role => { principals = ["arn:aws:iam::111122223333:role/ops"] } },
      { app = { services = ["pods.eks.amazonaws.com", "ecs-tasks.amazonaws.com", "ec2.amazonaws.com", "lambda.amazonaws.com"] } },
    )
  }

  assert {
    condition = jsonencode({ for s in jsondecode(data.aws_iam_policy_document.trust["app"].json).Statement : s.Sid => [sort(flatten([s.Action])), s.Principal, try(s.Condition, {})] }) == jsonencode({
      Compute  = [["sts:AssumeRole"], { Service = ["lambda.amazonaws.com", "ec2.amazonaws.com"] }, {}]
      Pods     = [["sts:AssumeRole", "sts:TagSession"], { Service = "pods.eks.amazonaws.com" }, { StringEquals = { "aws:SourceAccount" = "111122223333" } }]
      Services = [["sts:AssumeRole"], { Service = "ecs-tasks.amazonaws.com" }, { StringEquals = { "aws:SourceAccount" = "111122223333" } }]
    })
    error_message = "EKS Pod Identity needs sts:TagSession, other services do not; EC2 and Lambda send no aws:SourceAccount."
  }
}

run "a_policy_that_iam_would_not_take_is_refused" {
  command = plan
  variables {
    keys = { for number in range(80) : "g${number}" => {
      states  = [number == 0 ? "active" : "retired"]
      key_id  = "00000000-0000-0000-0000-0000000000${10 + number}"
      regions = ["eu-central-1"]
    } }
  }
  expect_failures = [aws_iam_role_policy.this]
}

run "a_trust_policy_has_a_length" {
  command = plan
  variables {
    trust = { for role in ["app", "wrapper", "rewrapper", "verifier", "auditor", "key_admin"] : role => { principals = [for number in range(40) : "arn:aws:iam::111122223333:role/service-with-a-long-name-${number}"] } }
  }
  expect_failures = [aws_iam_role.this]
}

run "roles_have_a_path_and_may_set_a_source_identity" {
  command = plan
  variables {
    path = "/dekctl/"
    tags = { team = "storage" }
  }

  assert {
    condition     = output.role_arns["key_admin"] == "arn:aws:iam::111122223333:role/dekctl/files-key-admin" && alltrue([for r in aws_iam_role.this : r.path == "/dekctl/" && r.tags.team == "storage"])
    error_message = "Every role has the path and the tags, and its ARN says so before it exists."
  }

  assert {
    condition = alltrue([
      for s in jsondecode(data.aws_iam_policy_document.trust["wrapper"].json).Statement : toset(s.Action) == toset(["sts:AssumeRole", "sts:SetSourceIdentity"])
    ])
    error_message = "A run's id is the source identity of its sessions."
  }
}
