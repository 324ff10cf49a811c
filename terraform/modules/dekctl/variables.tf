variable "name_prefix" {
  description = "Prefix of every resource name; the KEK's alias is `alias/<name_prefix>`."
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
  description = "`context_name` of additional tables (`[[table]]` in dekctl.toml) whose DEKs are wrapped by the same KEKs."
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
    Tenants with a KEK of their own (`kek_by` in dekctl.toml), each with its generations. The alias of such a KEK is
    `alias/<name_prefix>-<tenant>`. The roles have the same rights on it as on the shared KEK.
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
    error_message = "A tenant cannot be called trail or alerts: the audit keys have those aliases."
  }

  validation {
    condition     = alltrue([for name in keys(var.tenants) : length("${var.name_prefix}-${name}") <= 41])
    error_message = "name_prefix, a hyphen and the name of a tenant must not be longer than 41 characters together."
  }
}

variable "rotation_period_in_days" {
  description = "Days between automatic rotations of the key material (90 to 2560); null uses the KMS default of 365."
  type        = number
  default     = 365
}

variable "allow_rows_without_context" {
  description = "Whether V1 rows, which were wrapped without an encryption context, can still be unwrapped and rewrapped."
  type        = bool
  nullable    = false
  default     = false
}

variable "allow_branch_keys" {
  description = "Whether hierarchical wrapping (V3) is allowed: the wrapper creates branch keys; app, verifier and rewrapper use them."
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
  description = "Maximum session duration of a role, in seconds (3600 to 43200)."
  type        = number
  nullable    = false
  default     = 14400
}

variable "permissions_boundary" {
  description = "ARN of a managed policy used as permissions boundary of every role; null for none."
  type        = string
  default     = null
}

variable "replica_regions" {
  description = "Regions in which multi-Region generations have a replica (module replica); the roles may use the replicas."
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
  description = "Settings of the audit trail (see module audit); null turns it off, which is only for emulators without CloudTrail."
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
