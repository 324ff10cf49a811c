# What is particular to production.

terraform {
  # Bucket and Region come from backend.hcl (see backend.hcl.example); `terraform/bootstrap` makes the bucket.
  backend "s3" {
    key          = "dekctl/production/terraform.tfstate"
    encrypt      = true
    use_lockfile = true
  }
}

locals {
  environment = "production"

  # How the trail's files are locked; see module audit.
  lock_mode = "COMPLIANCE"
}
