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

override_resource {
  target          = aws_sns_topic.alerts
  override_during = plan
  values          = { arn = "arn:aws:sns:eu-central-1:111122223333:files-alerts" }
}

variables {
  name_prefix        = "files"
  administrator_arns = ["arn:aws:iam::111122223333:role/terraform"]
  reader_arns        = ["arn:aws:iam::111122223333:role/files-auditor"]
}

run "accounts_neither_administer_nor_read" {
  command = plan
  variables {
    administrator_arns = ["arn:aws:iam::111122223333:root"]
    reader_arns        = ["arn:aws:iam::111122223333:root"]
  }
  expect_failures = [var.administrator_arns, var.reader_arns]
}

run "events_are_kept_a_year" {
  command = plan
  variables {
    log_retention_days = 90
  }
  expect_failures = [var.log_retention_days]
}

run "files_do_not_expire_while_they_are_locked" {
  command = plan
  variables {
    archive_days = 400
    lock_days    = 500
  }
  expect_failures = [var.archive_days]
}
