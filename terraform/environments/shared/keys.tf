# What every environment says about its table and its KEKs; each has this file by a link.

variable "alias" {
  description = "Name of the KEK's alias, if it is not `alias/<name_prefix>`: that of an imported KEK."
  type        = string
  default     = null
}

variable "context_name" {
  description = "`context_name` of the table in dekctl.toml."
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

# Module dekctl checks these two: with a type of their own, Terraform would drop misspelt attributes here already.
variable "generations" {
  description = "The KEK's generations; set in generations.auto.tfvars."
  type        = any
  nullable    = false
}

variable "tenants" {
  description = "Tenants with a KEK of their own (`kek_by` in dekctl.toml), each with its generations."
  type        = any
  nullable    = false
  default     = {}
}

variable "tenants_by_key_policy" {
  description = "Whether the tenants' key policies alone give the roles their rights, so that any number of tenants fits."
  type        = bool
  nullable    = false
  default     = false
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
