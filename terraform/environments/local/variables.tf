variable "account_id" {
  description = "The only account that this environment can be applied to: the emulator's."
  type        = string
  nullable    = false
  default     = "123456789012"

  validation {
    condition     = can(regex("^[0-9]{12}$", var.account_id))
    error_message = "account_id must be 12 digits."
  }
}

variable "name_prefix" {
  description = "Prefix of every resource name; the KEK's alias is `alias/<name_prefix>`."
  type        = string
  nullable    = false
  default     = "dekctl-local"
}

variable "audit" {
  description = "Settings of the audit trail; see module dekctl."
  type        = any
  nullable    = false

  # moto writes access logs, so the buckets are not empty when they are destroyed. An emulator has nothing to expire.
  default = {
    alarm_emails  = ["security@example.com"]
    archive_days  = 0
    force_destroy = true
  }
}
