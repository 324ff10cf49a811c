variable "name_prefix" {
  description = "Prefix of every resource name, and the name of the alias in this Region: `alias/<name_prefix>`."
  type        = string
  nullable    = false

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{1,40}$", var.name_prefix))
    error_message = "name_prefix must be 2 to 41 lower-case letters, digits and hyphens, starting with a letter."
  }
}

variable "alias" {
  description = "Name of the alias in this Region, if it is not `alias/<name_prefix>`."
  type        = string
  default     = null
}

variable "tags" {
  description = "Tags of every replica, in addition to the provider's default tags."
  type        = map(string)
  nullable    = false
  default     = {}
}

variable "generations" {
  description = "The multi-Region generations to replicate: ARN of the primary key, its state, and its key policy."
  type = map(object({
    arn    = string
    state  = string
    policy = string
  }))
  nullable = false

  validation {
    condition     = length([for g in values(var.generations) : g if g.state == "active"]) <= 1
    error_message = "At most one generation can be active."
  }

  validation {
    condition     = alltrue([for g in values(var.generations) : can(regex("^arn:aws[a-z-]*:kms:[a-z0-9-]+:[0-9]{12}:key/mrk-.+$", g.arn))])
    error_message = "Only a multi-Region key can be replicated: its ARN ends in key/mrk-…"
  }
}
