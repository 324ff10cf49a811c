variable "account_id" {
  description = "The only account that this environment may be applied to: the one that the emulator pretends to be."
  type        = string
  nullable    = false
  default     = "000000000000"

  validation {
    condition     = can(regex("^[0-9]{12}$", var.account_id))
    error_message = "account_id must be 12 digits."
  }
}

variable "name_prefix" {
  description = "Start of every name in the account; the KEK's alias is `alias/<name_prefix>`."
  type        = string
  nullable    = false
  default     = "dekctl-localstack"
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
