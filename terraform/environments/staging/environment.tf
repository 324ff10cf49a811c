# What is particular to staging.

terraform {
  # Bucket and Region come from backend.hcl (see backend.hcl.example); `terraform/bootstrap` makes the bucket.
  backend "s3" {
    key          = "dekctl/staging/terraform.tfstate"
    encrypt      = true
    use_lockfile = true
  }
}

locals {
  environment = "staging"

  # How the trail's files are locked; see module audit.
  lock_mode = "GOVERNANCE"
}
