# Nothing here contacts AWS: the real provider plans offline, so the policies are rendered exactly as in an apply.
provider "aws" {
  region                      = "eu-west-1"
  access_key                  = "test"
  secret_key                  = "test"
  skip_credentials_validation = true
  skip_metadata_api_check     = true
  skip_requesting_account_id  = true
}


variables {
  name_prefix = "files"
  generations = {
    g1 = { arn = "arn:aws:kms:eu-central-1:111122223333:key/mrk-1", state = "retired", policy = "{\"Version\":\"2012-10-17\",\"Statement\":[]}" }
    g2 = { arn = "arn:aws:kms:eu-central-1:111122223333:key/mrk-2", state = "active", policy = "{\"Version\":\"2012-10-17\",\"Statement\":[]}" }
  }
}

run "a_replica_takes_the_primarys_policy_and_state" {
  command = plan

  assert {
    condition     = alltrue([for name, key in aws_kms_replica_key.generation : key.policy == var.generations[name].policy && key.enabled && key.deletion_window_in_days == 30])
    error_message = "Same policy, enabled, and the same 30 days."
  }

  assert {
    condition     = one(aws_kms_alias.this[*].name) == "alias/files"
    error_message = "The alias of the active generation has the same name in every Region."
  }
}

run "without_an_active_generation_there_is_no_alias" {
  command = plan
  variables {
    generations = { g1 = { arn = "arn:aws:kms:eu-central-1:111122223333:key/mrk-1", state = "disabled", policy = "{\"Version\":\"2012-10-17\",\"Statement\":[]}" } }
  }

  assert {
    condition     = length(aws_kms_alias.this) == 0 && !aws_kms_replica_key.generation["g1"].enabled
    error_message = "A disabled generation is disabled everywhere, and no alias points to it."
  }
}
