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
  description = "Prefix of every resource name; null for `dekctl-staging` or `dekctl-production`. The KEK's alias is `alias/<name_prefix>`."
  type        = string
  default     = null
}

variable "path" {
  description = "Path of every role in IAM."
  type        = string
  nullable    = false
  default     = "/"
}

# Module dekctl checks these two, like `generations` and `tenants`.
variable "trust" {
  description = "Who may assume which role, by role name; see module access."
  type        = any
  nullable    = false
}

variable "audit" {
  description = "Settings of the audit trail, which cannot be turned off here, or `existing`, a trail that is there already; see module dekctl."
  type        = any
  nullable    = false
  default     = {}
}

variable "replica_region" {
  description = "Second Region in which multi-Region generations are replicated; null for none."
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

variable "administrator_arns" {
  description = "Principals that may change the key policies: the role that runs Terraform here."
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
