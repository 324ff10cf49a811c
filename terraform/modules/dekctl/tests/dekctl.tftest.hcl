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
    bucket_names  = ["files-trail-111122223333", "files-logs-111122223333"]
    bucket_arn    = "arn:aws:s3:::files-trail-111122223333"
    log_group     = "/dekctl/files/cloudtrail"
    log_group_arn = "arn:aws:logs:eu-central-1:111122223333:log-group:/dekctl/files/cloudtrail"
    key_arn       = "arn:aws:kms:eu-central-1:111122223333:key/trail"
  }
}

override_module {
  target          = module.alarms
  override_during = plan
  outputs         = { topic_arn = "arn:aws:sns:eu-central-1:111122223333:files-alerts" }
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

  assert {
    condition = jsonencode(output.dekctl) == jsonencode({
      account_id                 = "111122223333"
      allow_rows_without_context = false
      audit = {
        bucket          = "files-trail-111122223333"
        existing        = false
        log_group       = "/dekctl/files/cloudtrail"
        organization_id = null
        prefix          = null
        topic_arn       = "arn:aws:sns:eu-central-1:111122223333:files-alerts"
        trail_arn       = "arn:aws:cloudtrail:eu-central-1:111122223333:trail/files-trail"
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
      roles           = { for role in ["app", "auditor", "key_admin", "rewrapper", "verifier", "wrapper"] : role => "arn:aws:iam::111122223333:role/files-${replace(role, "_", "-")}" }
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

run "the_key_admin_moves_a_replicas_alias" {
  command = plan

  variables {
    replica_regions = ["eu-west-1"]
  }

  assert {
    condition = alltrue([
      for region in ["eu-central-1", "eu-west-1"] : anytrue([
        for s in jsondecode(module.access.policies["key_admin"]).Statement :
        s.Sid == "Operate" && contains(flatten([s.Resource]), "arn:aws:kms:${region}:111122223333:alias/files")
      ])
    ])
    error_message = "A replica's Region has an alias of its own."
  }
}

run "an_existing_trail_is_used" {
  command = plan

  variables {
    audit = {
      topic_arn = "arn:aws:sns:eu-central-1:111122223333:security"
      existing = {
        trail_arn       = "arn:aws:cloudtrail:eu-west-1:444455556666:trail/organisation"
        bucket          = "organisation-trail"
        prefix          = "trails/"
        organization_id = "o-exampleorgid"
      }
    }
  }

  assert {
    condition     = length(module.audit) == 0 && output.dekctl.audit.bucket == "organisation-trail" && output.dekctl.audit.prefix == "trails" && output.dekctl.audit.organization_id == "o-exampleorgid" && output.dekctl.audit.log_group == null
    error_message = "No second trail, and dekctl audit is told where the files are."
  }

  assert {
    condition = jsonencode({ for s in jsondecode(module.access.policies["auditor"]).Statement : s.Sid => s.Resource if contains(["ReadTrail", "ReadLogFiles", "ReadLogGroup", "DecryptTrail"], s.Sid) }) == jsonencode({
      ReadLogFiles = ["arn:aws:s3:::organisation-trail/trails/AWSLogs/o-exampleorgid/111122223333/*", "arn:aws:s3:::organisation-trail"]
      ReadTrail    = "arn:aws:cloudtrail:eu-west-1:444455556666:trail/organisation"
    })
    error_message = "The auditor reads this account's files, and of the others nothing."
  }
}

run "any_number_of_tenants_fits_by_their_key_policies" {
  command = plan

  override_module {
    target          = module.tenant
    override_during = plan
    outputs = {
      arn         = "arn:aws:kms:eu-central-1:111122223333:key/tenant"
      alias       = "alias/files-tenant"
      generations = { g1 = { arn = "arn:aws:kms:eu-central-1:111122223333:key/tenant", key_id = "tenant", state = "active" } }
      counts_as   = { g1 = ["active"] }
    }
  }

  variables {
    tenants_by_key_policy = true
    tenants               = { for number in range(2) : "tenant-${number}" => { generations = { g1 = { state = "active" } } } }
  }

  assert {
    condition     = !strcontains(module.access.policies["app"], "tenant") && length(output.dekctl.tenants) == 2
    error_message = "The roles' own policies list no KEK of a tenant."
  }

  assert {
    condition     = strcontains(module.access.policies["key_admin"], ":alias/files-*\"")
    error_message = "The key admin moves the tenants' aliases."
  }
}

run "a_role_has_no_attribute_of_another_name" {
  command = plan
  variables {
    trust = { for role in ["app", "wrapper", "rewrapper", "verifier", "auditor", "key_admin"] : role => { principals = ["arn:aws:iam::111122223333:role/ops"], requires_mfa = true } }
  }
  expect_failures = [var.trust]
}
