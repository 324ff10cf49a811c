variable "name_prefix" {
  description = "Prefix of every resource name; bucket names also contain the account id."
  type        = string
  nullable    = false

  validation {
    condition     = can(regex("^[a-z][a-z0-9]*(-[a-z0-9]+)*$", var.name_prefix)) && length(var.name_prefix) >= 2 && length(var.name_prefix) <= 41
    error_message = "name_prefix must be 2 to 41 lower-case letters, digits and single hyphens, starting with a letter and not ending with a hyphen: CloudTrail accepts no adjacent hyphens."
  }

  validation {
    condition     = alltrue([for reserved in ["sthree-", "amzn-s3-demo-"] : !startswith("${var.name_prefix}-", reserved)])
    error_message = "name_prefix must not begin with sthree- or amzn-s3-demo-: S3 reserves such bucket names."
  }
}

variable "administrator_arns" {
  description = "Principals that may change the policy of the trail's key: the role that runs Terraform."
  type        = list(string)
  nullable    = false

  validation {
    condition     = length(var.administrator_arns) > 0 && alltrue([for arn in var.administrator_arns : can(regex("^arn:aws[a-z-]*:iam::[0-9]{12}:(role|user)/.+$", arn)) && !strcontains(arn, "*")])
    error_message = "Name at least one administrator, a role or a user, by its exact ARN: the role that runs Terraform."
  }
}

variable "reader_arns" {
  description = "Principals that may decrypt the trail's files and log events: the auditor."
  type        = list(string)
  nullable    = false
  default     = []

  validation {
    condition     = alltrue([for arn in var.reader_arns : can(regex("^arn:aws[a-z-]*:iam::[0-9]{12}:(role|user)/.+$", arn)) && !strcontains(arn, "*")])
    error_message = "reader_arns must be exact ARNs of roles or users: the account root would admit every principal of the account."
  }
}

variable "log_retention_days" {
  description = "Days that CloudWatch Logs keeps the events: at least 365, and a value that CloudWatch accepts."
  type        = number
  nullable    = false
  default     = 400

  validation {
    condition     = contains([365, 400, 545, 731, 1096, 1827, 2192, 2557, 2922, 3288, 3653], var.log_retention_days)
    error_message = "log_retention_days must be 365, 400, 545, 731, 1096, 1827, 2192, 2557, 2922, 3288 or 3653."
  }
}

variable "archive_days" {
  description = "Days that the bucket keeps the trail's files before they expire: at least 365 and not less than lock_days, or 0 to keep them indefinitely."
  type        = number
  nullable    = false
  default     = 2557

  validation {
    condition     = var.archive_days == 0 || (var.archive_days >= 365 && var.archive_days >= var.lock_days && floor(var.archive_days) == var.archive_days)
    error_message = "archive_days must be at least 365 and not less than lock_days, or 0 to keep the files indefinitely."
  }
}

variable "lock_days" {
  description = "Days that a file cannot be deleted or overwritten (S3 Object Lock)."
  type        = number
  nullable    = false
  default     = 365

  validation {
    condition     = var.lock_days >= 1 && var.lock_days <= 36500 && floor(var.lock_days) == var.lock_days
    error_message = "lock_days must be a whole number from 1 to 36500: S3 Object Lock keeps for 100 years at most."
  }
}

variable "lock_mode" {
  description = "GOVERNANCE (a principal with s3:BypassGovernanceRetention can lift the lock) or COMPLIANCE (nobody can, not even the root user)."
  type        = string
  nullable    = false
  default     = "GOVERNANCE"

  validation {
    condition     = contains(["GOVERNANCE", "COMPLIANCE"], var.lock_mode)
    error_message = "lock_mode must be GOVERNANCE or COMPLIANCE."
  }
}

variable "rotation_period_in_days" {
  description = "Days between automatic rotations of the material of the trail's key (90 to 2560); null uses the KMS default of 365."
  type        = number
  default     = 365

  validation {
    condition     = var.rotation_period_in_days == null || (coalesce(var.rotation_period_in_days, 0) >= 90 && coalesce(var.rotation_period_in_days, 0) <= 2560)
    error_message = "rotation_period_in_days must be between 90 and 2560, or null."
  }
}

variable "force_destroy" {
  description = "Whether destroying the buckets also deletes their contents. Files under Object Lock remain, and so does the trail's bucket."
  type        = bool
  nullable    = false
  default     = false
}

variable "path" {
  description = "Path in IAM of the role that writes the log group, for example `/dekctl/`."
  type        = string
  nullable    = false
  default     = "/"

  validation {
    condition     = can(regex("^/([A-Za-z0-9+=,.@_-]+/)*$", var.path)) && length(var.path) <= 512
    error_message = "path must begin and end with a slash, for example /dekctl/, and have at most 512 characters."
  }
}

variable "permissions_boundary" {
  description = "ARN of a managed policy used as permissions boundary of that role; null for none. It must allow logs:CreateLogStream and logs:PutLogEvents."
  type        = string
  default     = null
}

variable "tags" {
  description = "Tags of every resource that can have any, in addition to the provider's default tags."
  type        = map(string)
  nullable    = false
  default     = {}
}
