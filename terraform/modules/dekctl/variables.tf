variable "name_prefix" {
  description = "Start of every name in the account; the KEK's alias is `alias/<name_prefix>`."
  type        = string
  nullable    = false
}

variable "context_name" {
  description = "`context_name` of the table in dekctl.toml: the value of `dekctl:table` in every encryption context."
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
  description = "The KEK's generations by name, with their state: active (exactly one), retired or disabled."
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

  validation {
    condition     = alltrue([for name in keys(var.tenants) : can(regex("^[a-z0-9][a-z0-9-]{0,19}$", name))])
    error_message = "The name of a tenant must be 1 to 20 lower-case letters, digits and hyphens."
  }

  validation {
    condition     = alltrue([for name in ["trail", "alerts"] : !contains(keys(var.tenants), name)])
    error_message = "No tenant can be called trail or alerts: the audit keys have those aliases."
  }

  validation {
    condition     = alltrue([for name in keys(var.tenants) : length("${var.name_prefix}-${name}") <= 41])
    error_message = "name_prefix, a hyphen and the name of a tenant must not be longer than 41 characters together."
  }
}

variable "rotation_period_in_days" {
  description = "Days between automatic rotations of the key material (90 to 2560); null leaves it to KMS, which takes 365."
  type        = number
  default     = 365
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
  description = "Principals that may change the key policies: the role that runs Terraform."
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

variable "replica_regions" {
  description = "Regions in which multi-Region generations have a replica (module replica) that the roles may use."
  type        = list(string)
  nullable    = false
  default     = []

  validation {
    condition     = length(var.replica_regions) == 0 || anytrue([for g in values(var.generations) : g.multi_region])
    error_message = "replica_regions needs at least one generation with multi_region = true."
  }

  validation {
    condition     = alltrue([for region in var.replica_regions : can(regex("^[a-z]{2,4}(-[a-z]+)+-[0-9]+$", region))])
    error_message = "replica_regions must be names of AWS Regions such as eu-west-1."
  }
}

variable "audit" {
  description = "Settings of the audit trail (see module audit); null turns it off, which only an emulator without CloudTrail should."
  type = object({
    log_retention_days = optional(number, 400)
    archive_days       = optional(number, 2557)
    lock_days          = optional(number, 365)
    lock_mode          = optional(string, "GOVERNANCE")
    alarm_emails       = optional(list(string), [])
    force_destroy      = optional(bool, false)
  })
  default = {}
}
