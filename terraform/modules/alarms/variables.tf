variable "name_prefix" {
  description = "Prefix of every resource name, and of the names of the roles, alarms and rules that are watched."
  type        = string
  nullable    = false

  validation {
    condition     = can(regex("^[a-z][a-z0-9]*(-[a-z0-9]+)*$", var.name_prefix)) && length(var.name_prefix) >= 2 && length(var.name_prefix) <= 41
    error_message = "name_prefix must be 2 to 41 lower-case letters, digits and single hyphens, starting with a letter and not ending with a hyphen: CloudTrail accepts no adjacent hyphens."
  }

  validation {
    condition     = alltrue([for reserved in ["sthree-", "amzn-s3-demo-"] : !startswith("${var.name_prefix}-", reserved)])
    error_message = "name_prefix must not begin with sthree- or amzn-s3-demo-: S3 reserves such bucket names."
  }
}

variable "administrator_arns" {
  description = "Principals that may change the policies of the audit keys: the role that runs Terraform."
  type        = list(string)
  nullable    = false

  validation {
    condition     = length(var.administrator_arns) > 0 && alltrue([for arn in var.administrator_arns : can(regex("^arn:aws[a-z-]*:iam::[0-9]{12}:(role|user)/.+$", arn)) && !strcontains(arn, "*")])
    error_message = "Name at least one administrator, a role or a user, by its exact ARN: the role that runs Terraform."
  }
}

variable "log_group_name" {
  description = "Log group that gets the trail's events: metric filters and alarms are on it. Null for a trail without one: EventBridge's notices remain."
  type        = string
  default     = null
}

variable "bucket_names" {
  description = "Buckets of the trail, whose settings are watched."
  type        = list(string)
  nullable    = false
  default     = []
}

variable "alarm_emails" {
  description = "E-mail addresses that receive the alarms; each one must confirm its subscription."
  type        = list(string)
  nullable    = false
  default     = []

  validation {
    condition     = alltrue([for address in var.alarm_emails : can(regex("^[^@[:space:]]+@[^@[:space:]]+$", address))])
    error_message = "alarm_emails must be e-mail addresses."
  }
}

variable "topic_arn" {
  description = "ARN of a topic of your own for alarms and notices; null creates one, with its key. Its policy must let cloudwatch.amazonaws.com and events.amazonaws.com publish (and use its key, if it has one)."
  type        = string
  default     = null

  validation {
    condition     = var.topic_arn == null || can(regex("^arn:aws[a-z-]*:sns:[a-z0-9-]+:[0-9]{12}:[A-Za-z0-9_-]{1,256}$", var.topic_arn))
    error_message = "topic_arn must be the ARN of an SNS topic (not a FIFO topic: CloudWatch alarms cannot use one), or null."
  }
}

variable "rotation_period_in_days" {
  description = "Days between automatic rotations of the key's material (90 to 2560); null uses the KMS default of 365."
  type        = number
  default     = 365

  validation {
    condition     = var.rotation_period_in_days == null || (coalesce(var.rotation_period_in_days, 0) >= 90 && coalesce(var.rotation_period_in_days, 0) <= 2560)
    error_message = "rotation_period_in_days must be between 90 and 2560, or null."
  }
}

variable "tags" {
  description = "Tags of every resource that can have any, in addition to the provider's default tags."
  type        = map(string)
  nullable    = false
  default     = {}
}
