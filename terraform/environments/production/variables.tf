variable "region" {
  description = "AWS Region of the keys and of everything around them."
  type        = string
  nullable    = false

  validation {
    condition     = can(regex("^[a-z]{2,4}(-[a-z]+)+-[0-9]+$", var.region))
    error_message = "region must be the name of an AWS Region such as eu-central-1."
  }
}

variable "account_id" {
  description = "The only account that this environment may be applied to."
  type        = string
  nullable    = false

  validation {
    condition     = can(regex("^[0-9]{12}$", var.account_id))
    error_message = "account_id must be 12 digits."
  }
}

variable "name_prefix" {
  description = "Start of every name in the account; the KEK's alias is `alias/<name_prefix>`."
  type        = string
  nullable    = false
  default     = "dekctl-production"
}

variable "context_name" {
  description = "`context_name` of the table in dekctl.toml."
  type        = string
  nullable    = false
  default     = "encrypted_files"
}

variable "further_context_names" {
  description = "`context_name` of further tables (`[[table]]` in dekctl.toml) whose DEKs the same KEKs wrap."
  type        = list(string)
  nullable    = false
  default     = []
}

variable "generations" {
  description = "The KEK's generations; the map is in generations.auto.tfvars."
  type = map(object({
    state        = string
    still_wraps  = optional(bool, false)
    multi_region = optional(bool, false)
  }))
  nullable = false
}

variable "tenants" {
  description = <<-EOT
    KEKs of their own for tenants (`kek_by` in dekctl.toml), by tenant, each with its generations. The alias of one is
    `alias/<name_prefix>-<tenant>`; the roles may use it as they use the KEK of all others.
  EOT
  type = map(object({
    generations = map(object({
      state       = string
      still_wraps = optional(bool, false)
    }))
  }))
  nullable = false
  default  = {}
}

variable "replica_region" {
  description = "Second Region in which multi-Region generations can be used; null for none."
  type        = string
  default     = null

  validation {
    condition     = var.replica_region == null || var.replica_region != var.region
    error_message = "replica_region must differ from region."
  }

  validation {
    condition     = var.replica_region == null || can(regex("^[a-z]{2,4}(-[a-z]+)+-[0-9]+$", var.replica_region))
    error_message = "replica_region must be the name of an AWS Region such as eu-west-1, or null."
  }
}

variable "allow_rows_without_context" {
  description = "Whether rows of version V1, which were wrapped without an encryption context, may still be unwrapped and rewrapped."
  type        = bool
  nullable    = false
  default     = false
}

variable "allow_branch_keys" {
  description = "Whether hierarchical wrapping (version V3) may be used: the wrapper makes branch keys, and app, verifier and rewrapper use them."
  type        = bool
  nullable    = false
  default     = false
}

variable "trust" {
  description = "Who may assume which role, by role name; see module access."
  type = map(object({
    principals  = optional(list(string), [])
    services    = optional(list(string), [])
    require_mfa = optional(bool, false)
    external_id = optional(string)
    oidc = optional(object({
      provider_arn = string
      issuer       = string
      audience     = string
      subjects     = list(string)
    }))
  }))
  nullable = false
}

variable "administrator_arns" {
  description = "Principals that may change the key policies: the role that runs Terraform here."
  type        = list(string)
  nullable    = false
}

variable "max_session_duration" {
  description = "Longest session of a role, in seconds (3600 to 43200)."
  type        = number
  nullable    = false
  default     = 14400
}

variable "permissions_boundary" {
  description = "ARN of a managed policy that bounds every role; null for none."
  type        = string
  default     = null
}

variable "audit" {
  description = "Settings of the audit trail, which is always on here; see module audit."
  type = object({
    log_retention_days = optional(number, 400)
    archive_days       = optional(number, 2557)
    lock_days          = optional(number, 365)
    alarm_emails       = optional(list(string), [])
  })
  nullable = false
  default  = {}
}
