variable "account_id" {
  description = "The only account that this environment can be applied to: the emulator's."
  type        = string
  nullable    = false
  default     = "000000000000"

  validation {
    condition     = can(regex("^[0-9]{12}$", var.account_id))
    error_message = "account_id must be 12 digits."
  }
}

variable "name_prefix" {
  description = "Prefix of every resource name; the KEK's alias is `alias/<name_prefix>`."
  type        = string
  nullable    = false
  default     = "dekctl-localstack"
}
