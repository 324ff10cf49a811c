variable "region" {
  description = "AWS Region of the state bucket."
  type        = string
  nullable    = false

  validation {
    condition     = can(regex("^[a-z]{2,4}(-[a-z]+)+-[0-9]+$", var.region))
    error_message = "region must be the name of an AWS Region such as eu-central-1."
  }
}

variable "account_id" {
  description = "The only account that this can be applied to."
  type        = string
  nullable    = false

  validation {
    condition     = can(regex("^[0-9]{12}$", var.account_id))
    error_message = "account_id must be 12 digits."
  }
}

variable "name_prefix" {
  description = "Prefix of the bucket name; the account id follows."
  type        = string
  nullable    = false
  default     = "dekctl-terraform-state"

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{1,48}$", var.name_prefix))
    error_message = "name_prefix must be 2 to 49 lower-case letters, digits and hyphens, starting with a letter."
  }
}

variable "access_log_bucket" {
  description = "Bucket for the access log of the state's bucket, of the same account and Region; null for none. Its policy must let logging.s3.amazonaws.com write."
  type        = string
  default     = null
}
