variable "name" {
  description = "Name of the job definition, queue and compute environment."
  type        = string
  nullable    = false
  default     = "dekctl"

  validation {
    condition     = can(regex("^[A-Za-z0-9][A-Za-z0-9_-]{0,121}$", var.name))
    error_message = "name must be 1 to 122 letters, digits, hyphens and underscores: Batch allows 128, and `-shard` is appended."
  }
}

variable "image" {
  description = "Container image with `dekctl[fast,postgresql]` installed, and `dekctl.toml` and the Terraform outputs in its working directory."
  type        = string
  nullable    = false

  validation {
    condition     = can(regex("^[^[:space:]]+$", var.image))
    error_message = "image must be the name of a container image."
  }
}

variable "dekctl_env" {
  description = "The environment in `dekctl.toml` to work on."
  type        = string
  nullable    = false

  validation {
    condition     = can(regex("^[A-Za-z0-9_-]+$", var.dekctl_env))
    error_message = "dekctl_env must be the NAME of an [env.NAME]."
  }
}

variable "shards" {
  description = "Number of shards; submit the array job with this size."
  type        = number
  nullable    = false
  default     = 8

  validation {
    condition     = var.shards >= 2 && var.shards <= 10000
    error_message = "AWS Batch supports arrays of 2 to 10,000 jobs."
  }
}

variable "rate" {
  description = "Maximum KMS calls per second, for all shards together. Half of the quota leaves the other half to the application."
  type        = number
  nullable    = false
  default     = 5000

  validation {
    condition     = var.rate > 0
    error_message = "rate must be above 0."
  }
}

variable "database_url_secret_arn" {
  description = "Secrets Manager secret whose value is the SQLAlchemy URL of the database, read as `env:DATABASE_URL`."
  type        = string
  nullable    = false

  validation {
    condition     = can(regex("^arn:aws[a-z-]*:secretsmanager:", var.database_url_secret_arn))
    error_message = "database_url_secret_arn must be the ARN of a Secrets Manager secret."
  }
}

variable "job_role_arn" {
  description = "Role of the jobs: it needs to assume the roles of the `dekctl` output, and nothing else."
  type        = string
  nullable    = false

  validation {
    condition     = can(regex("^arn:aws[a-z-]*:iam::[0-9]{12}:role/.+$", var.job_role_arn))
    error_message = "job_role_arn must be the ARN of a role."
  }
}

variable "execution_role_arn" {
  description = "Role that pulls the image, reads the secret and writes the log."
  type        = string
  nullable    = false

  validation {
    condition     = can(regex("^arn:aws[a-z-]*:iam::[0-9]{12}:role/.+$", var.execution_role_arn))
    error_message = "execution_role_arn must be the ARN of a role."
  }
}

variable "subnet_ids" {
  description = "Subnets from which the database and KMS can be reached."
  type        = list(string)
  nullable    = false

  validation {
    condition     = length(var.subnet_ids) > 0
    error_message = "Name at least one subnet."
  }
}

variable "security_group_ids" {
  description = "Security groups that may connect to the database."
  type        = list(string)
  nullable    = false

  validation {
    condition     = length(var.security_group_ids) > 0
    error_message = "Name at least one security group."
  }
}

variable "log_key_arn" {
  description = "KMS key of the log group, whose policy lets CloudWatch Logs use it; null for CloudWatch's own encryption. The logs hold no key material."
  type        = string
  default     = null
}
