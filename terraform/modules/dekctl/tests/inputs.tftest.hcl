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
  target = module.access.data.aws_caller_identity.current
  values = {
    account_id = "111122223333"
    arn        = "arn:aws:iam::111122223333:role/terraform"
    user_id    = "AROAEXAMPLE:test"
  }
}

override_data {
  target = module.kek.data.aws_caller_identity.current
  values = {
    account_id = "111122223333"
    arn        = "arn:aws:iam::111122223333:role/terraform"
    user_id    = "AROAEXAMPLE:test"
  }
}

override_data {
  target = data.aws_caller_identity.current
  values = {
    account_id = "111122223333"
    arn        = "arn:aws:iam::111122223333:role/terraform"
    user_id    = "AROAEXAMPLE:test"
  }
}

override_module {
  target          = module.audit
  override_during = plan
  outputs = {
    trail_arn     = "arn:aws:cloudtrail:eu-central-1:111122223333:trail/files-trail"
    bucket        = "files-trail-111122223333"
    bucket_arn    = "arn:aws:s3:::files-trail-111122223333"
    log_group     = "/dekctl/files/cloudtrail"
    log_group_arn = "arn:aws:logs:eu-central-1:111122223333:log-group:/dekctl/files/cloudtrail"
    key_arn       = "arn:aws:kms:eu-central-1:111122223333:key/trail"
  }
}

override_resource {
  target          = module.kek.aws_kms_key.generation["g1"]
  override_during = plan
  values          = { arn = "arn:aws:kms:eu-central-1:111122223333:key/mrk-1", key_id = "mrk-1" }
}

override_resource {
  target          = module.kek.aws_kms_key.generation["g2"]
  override_during = plan
  values          = { arn = "arn:aws:kms:eu-central-1:111122223333:key/2", key_id = "2" }
}

variables {
  name_prefix        = "files"
  administrator_arns = ["arn:aws:iam::111122223333:role/terraform"]
  trust              = { for role in ["app", "wrapper", "rewrapper", "verifier", "auditor", "key_admin"] : role => { principals = ["arn:aws:iam::111122223333:role/ops"] } }
  generations = {
    g1 = { state = "retired", multi_region = true }
    g2 = { state = "active" }
  }
}

run "tenants_cannot_take_the_aliases_of_the_audit_keys" {
  command = plan
  variables {
    tenants = { trail = { generations = { g1 = { state = "active" } } } }
  }
  expect_failures = [var.tenants]
}

run "prefix_and_tenant_have_a_length_together" {
  command = plan
  variables {
    name_prefix = "a-prefix-of-thirty-characters-x"
    tenants     = { a-long-tenant = { generations = { g1 = { state = "active" } } } }
  }
  expect_failures = [var.tenants]
}

run "a_replica_is_in_a_region" {
  command = plan
  variables {
    replica_regions = ["Ireland"]
  }
  expect_failures = [var.replica_regions]
}

run "a_replica_needs_a_multi_region_generation" {
  command = plan
  variables {
    replica_regions = ["eu-west-1"]
    generations     = { g2 = { state = "active" } }
  }
  expect_failures = [var.replica_regions]
}
