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

run "the_output_is_what_dekctl_reads" {
  command = plan

  override_resource {
    target          = module.access.aws_iam_role.this
    override_during = plan
    values          = { arn = "arn:aws:iam::111122223333:role/files-role" }
  }

  assert {
    condition = jsonencode(output.dekctl) == jsonencode({
      account_id                 = "111122223333"
      allow_rows_without_context = false
      audit = {
        bucket    = "files-trail-111122223333"
        log_group = "/dekctl/files/cloudtrail"
        trail_arn = "arn:aws:cloudtrail:eu-central-1:111122223333:trail/files-trail"
      }
      context_name  = "encrypted_files"
      context_names = ["encrypted_files"]
      kek = {
        alias = "alias/files"
        arn   = "arn:aws:kms:eu-central-1:111122223333:key/2"
        generations = {
          g1 = { arn = "arn:aws:kms:eu-central-1:111122223333:key/mrk-1", state = "retired" }
          g2 = { arn = "arn:aws:kms:eu-central-1:111122223333:key/2", state = "active" }
        }
      }
      region          = "eu-central-1"
      roles           = { for role in ["app", "auditor", "key_admin", "rewrapper", "verifier", "wrapper"] : role => "arn:aws:iam::111122223333:role/files-role" }
      schema_version  = 1
      source_identity = true
      tenants         = {}
    })
    error_message = "The output dekctl changed."
  }
}

run "roles_reach_replicas_of_multi_region_generations_only" {
  command = plan

  variables {
    replica_regions = ["eu-west-1"]
  }

  assert {
    condition = jsonencode([
      for s in jsondecode(module.access.policies["verifier"]).Statement : s.Resource if s.Sid == "VerifierUnwraps"
      ]) == jsonencode([[
        "arn:aws:kms:eu-west-1:111122223333:key/mrk-1",
        "arn:aws:kms:eu-central-1:111122223333:key/mrk-1",
        "arn:aws:kms:eu-central-1:111122223333:key/2",
    ]])
    error_message = "The replica of g1, g1 and g2."
  }

  assert {
    condition     = jsonencode(keys(output.replicable)) == jsonencode(["g1"])
    error_message = "Only a multi-Region generation can be replicated."
  }
}
