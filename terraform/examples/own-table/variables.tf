variable "environment" {
  description = "Name of the environment, as in [env.NAME] of dekctl.toml; used as a tag only."
  type        = string
  nullable    = false
}

variable "region" {
  description = "AWS Region of the keys and all other resources."
  type        = string
  nullable    = false

  validation {
    condition     = can(regex("^[a-z]{2,4}(-[a-z]+)+-[0-9]+$", var.region))
    error_message = "region must be the name of an AWS Region such as eu-central-1."
  }
}

variable "account_id" {
  description = "The only account that this environment can be applied to."
  type        = string
  nullable    = false

  validation {
    condition     = can(regex("^[0-9]{12}$", var.account_id))
    error_message = "account_id must be 12 digits."
  }
}

variable "name_prefix" {
  description = "Prefix of every resource name; the KEK's alias is `alias/<name_prefix>`."
  type        = string
  nullable    = false
}

variable "context_name" {
  description = "`context_name` of the table in dekctl.toml."
  type        = string
  nullable    = false
}

variable "further_context_names" {
  description = "`context_name` of additional tables (`[[table]]` in dekctl.toml) whose DEKs are wrapped by the same KEKs."
  type        = list(string)
  nullable    = false
  default     = []
}

# Module dekctl checks these: with a type of their own, Terraform would drop misspelt attributes here already.
variable "generations" {
  description = "The KEK's generations; set in generations.auto.tfvars."
  type        = any
  nullable    = false
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
  type        = any
  nullable    = false
}

variable "administrator_arns" {
  description = "Principals that may change the key policies: the role that runs Terraform."
  type        = list(string)
  nullable    = false
}

variable "audit" {
  description = "Settings of the audit trail and its alarms, or `existing`, a trail that is there already; see module dekctl."
  type        = any
  nullable    = false
  default     = {}
}
