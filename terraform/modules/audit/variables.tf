variable "name_prefix" {
  description = "Prefix of every resource name; bucket names also contain the account id."
  type        = string
  nullable    = false

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{1,40}$", var.name_prefix))
    error_message = "name_prefix must be 2 to 41 lower-case letters, digits and hyphens, starting with a letter."
  }
}

variable "administrator_arns" {
  description = "Principals that may change the policies of the audit keys: the role that runs Terraform."
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
    condition     = var.archive_days == 0 || (var.archive_days >= 365 && var.archive_days >= var.lock_days)
    error_message = "archive_days must be at least 365 and not less than lock_days, or 0 to keep the files indefinitely."
  }
}

variable "lock_days" {
  description = "Days that a file cannot be deleted or overwritten (S3 Object Lock)."
  type        = number
  nullable    = false
  default     = 365

  validation {
    condition     = var.lock_days >= 1
    error_message = "lock_days must be at least 1."
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

variable "alarm_emails" {
  description = "E-mail addresses that receive the alarms; each one must confirm its subscription."
  type        = list(string)
  nullable    = false
  default     = []

  validation {
    condition     = alltrue([for address in var.alarm_emails : can(regex("^[^@[:space:]]+@[^@[:space:]]+$", address))])
    error_message = "alarm_emails must be e-mail addresses."
  }
}

variable "rotation_period_in_days" {
  description = "Days between automatic rotations of the audit keys' material (90 to 2560); null uses the KMS default of 365."
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
