# What the variables refuse. `make test` runs all from `variables` on beside variables.tf alone, which needs no provider.
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
  generations        = { g1 = { state = "active" } }
  grants             = []
}

run "one_generation_is_active" {
  command = plan
  variables {
    generations = { g1 = { state = "active" }, g2 = { state = "active" } }
  }
  expect_failures = [var.generations]
}

run "some_generation_is_active" {
  command = plan
  variables {
    generations = { g1 = { state = "retired" } }
  }
  expect_failures = [var.generations]
}

run "states_are_known" {
  command = plan
  variables {
    generations = { g1 = { state = "active" }, g2 = { state = "deleted" } }
  }
  expect_failures = [var.generations]
}

run "only_a_retired_generation_still_wraps" {
  command = plan
  variables {
    generations = { g1 = { state = "active" }, g2 = { state = "disabled", still_wraps = true } }
  }
  expect_failures = [var.generations]
}

run "a_grant_is_one_known_action" {
  command = plan
  variables {
    grants = [{ sid = "All", principal = "arn:aws:iam::111122223333:role/app", action = "kms:*", states = ["active"] }]
  }
  expect_failures = [var.grants]
}

run "nothing_is_wrapped_without_a_context" {
  command = plan
  variables {
    grants = [{ sid = "Wrap", principal = "arn:aws:iam::111122223333:role/app", action = "kms:Encrypt", states = ["active"], without_context = true }]
  }
  expect_failures = [var.grants]
}

run "a_grant_is_bound_to_a_row_or_a_branch_key" {
  command = plan
  variables {
    grants = [{ sid = "Unwrap", principal = "arn:aws:iam::111122223333:role/app", action = "kms:Decrypt", states = ["active"], bound_to = "tenant" }]
  }
  expect_failures = [var.grants]
}

run "a_principal_is_no_pattern" {
  command = plan
  variables {
    grants = [{ sid = "Any", principal = "arn:aws:iam::111122223333:role/*", action = "kms:Decrypt", states = ["active"] }]
  }
  expect_failures = [var.grants]
}

run "somebody_administers" {
  command = plan
  variables {
    administrator_arns = []
  }
  expect_failures = [var.administrator_arns]
}

run "the_whole_account_does_not_administer" {
  command = plan
  variables {
    administrator_arns = ["arn:aws:iam::111122223333:root"]
  }
  expect_failures = [var.administrator_arns]
}

run "the_whole_account_neither_operates_nor_audits_nor_uses" {
  command = plan
  variables {
    operator_arns = ["arn:aws:iam::111122223333:root"]
    auditor_arns  = ["arn:aws:iam::111122223333:root"]
    grants        = [{ sid = "Any", principal = "arn:aws:iam::111122223333:root", action = "kms:Decrypt", states = ["active"] }]
  }
  expect_failures = [var.operator_arns, var.auditor_arns, var.grants]
}

run "the_context_is_no_pattern" {
  command = plan
  variables {
    context_names = ["files*"]
  }
  expect_failures = [var.context_names]
}

run "rotation_has_limits" {
  command = plan
  variables {
    rotation_period_in_days = 30
  }
  expect_failures = [var.rotation_period_in_days]
}
