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

run "every_role_needs_an_entry" {
  command = plan
  variables {
    trust = { app = { services = ["ecs-tasks.amazonaws.com"] } }
  }
  expect_failures = [var.trust]
}

run "nobody_is_trusted_by_a_pattern" {
  command = plan
  variables {
    trust = { for role in ["app", "wrapper", "rewrapper", "verifier", "auditor", "key_admin"] : role => { principals = ["arn:aws:iam::111122223333:role/*"] } }
  }
  expect_failures = [var.trust]
}

run "a_role_trusts_somebody" {
  command = plan
  variables {
    trust = { for role in ["app", "wrapper", "rewrapper", "verifier", "auditor", "key_admin"] : role => {} }
  }
  expect_failures = [var.trust]
}

run "ci_subjects_are_exact" {
  command = plan
  variables {
    trust = { for role in ["app", "wrapper", "rewrapper", "verifier", "auditor", "key_admin"] : role => { oidc = {
      provider_arn = "arn:aws:iam::111122223333:oidc-provider/ci.example.com"
      issuer       = "ci.example.com"
      audience     = "sts.amazonaws.com"
      subjects     = ["repo:example/*"]
    } } }
  }
  expect_failures = [var.trust]
}

run "a_role_cannot_show_mfa" {
  command = plan
  variables {
    trust = { for role in ["app", "wrapper", "rewrapper", "verifier", "auditor", "key_admin"] : role => { principals = ["arn:aws:iam::111122223333:role/security"], require_mfa = true } }
  }
  expect_failures = [var.trust]
}

run "mfa_is_for_principals" {
  command = plan
  variables {
    trust = { for role in ["app", "wrapper", "rewrapper", "verifier", "auditor", "key_admin"] : role => { services = ["ecs-tasks.amazonaws.com"], require_mfa = true } }
  }
  expect_failures = [var.trust]
}

run "an_external_id_is_no_pattern" {
  command = plan
  variables {
    trust = { for role in ["app", "wrapper", "rewrapper", "verifier", "auditor", "key_admin"] : role => { principals = ["arn:aws:iam::111122223333:role/audit"], external_id = "a*" } }
  }
  expect_failures = [var.trust]
}

run "ci_is_known_by_an_audience" {
  command = plan
  variables {
    trust = { for role in ["app", "wrapper", "rewrapper", "verifier", "auditor", "key_admin"] : role => { oidc = { provider_arn = "arn:aws:iam::111122223333:oidc-provider/ci.example.com", issuer = "ci.example.com", audience = "", subjects = ["repo:example/files"] } } }
  }
  expect_failures = [var.trust]
}

run "ci_subjects_are_not_empty" {
  command = plan
  variables {
    trust = { for role in ["app", "wrapper", "rewrapper", "verifier", "auditor", "key_admin"] : role => { oidc = { provider_arn = "arn:aws:iam::111122223333:oidc-provider/ci.example.com", issuer = "ci.example.com", audience = "sts.amazonaws.com", subjects = [""] } } }
  }
  expect_failures = [var.trust]
}

run "the_issuer_has_no_scheme" {
  command = plan
  variables {
    trust = { for role in ["app", "wrapper", "rewrapper", "verifier", "auditor", "key_admin"] : role => { oidc = { provider_arn = "arn:aws:iam::111122223333:oidc-provider/ci.example.com", issuer = "https://ci.example.com", audience = "sts.amazonaws.com", subjects = ["repo:example/files"] } } }
  }
  expect_failures = [var.trust]
}

run "the_issuer_is_the_providers" {
  command = plan
  variables {
    trust = { for role in ["app", "wrapper", "rewrapper", "verifier", "auditor", "key_admin"] : role => { oidc = { provider_arn = "arn:aws:iam::111122223333:oidc-provider/ci.example.com", issuer = "gitlab.example.com", audience = "sts.amazonaws.com", subjects = ["repo:example/files"] } } }
  }
  expect_failures = [var.trust]
}

run "aliases_and_boundary_are_exact" {
  command = plan
  variables {
    alias_arns           = ["arn:aws:kms:eu-central-1:111122223333:alias/*"]
    permissions_boundary = "boundary"
  }
  expect_failures = [var.alias_arns, var.permissions_boundary]
}

run "keys_need_an_active_generation" {
  command = plan
  variables {
    keys = { g1 = { states = ["retired"], key_id = "1", regions = ["eu-central-1"] } }
  }
  expect_failures = [var.keys]
}
