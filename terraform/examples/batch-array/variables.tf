variable "name" {
  description = "Name of the job definition, queue and compute environment."
  type        = string
  default     = "dekctl"
}

variable "image" {
  description = "Container image with `dekctl[fast,postgresql]`, `dekctl.toml` and the Terraform outputs in its working directory."
  type        = string
}

variable "dekctl_env" {
  description = "The environment of `dekctl.toml` to work on."
  type        = string
}

variable "shards" {
  description = "How many shards; submit the array job with this size."
  type        = number
  default     = 8

  validation {
    condition     = var.shards >= 2 && var.shards <= 10000
    error_message = "AWS Batch takes arrays of 2 to 10,000 jobs."
  }
}

variable "rate" {
  description = "KMS calls a second of all shards together; half of the quota leaves the other half to the application."
  type        = number
  default     = 5000
}

variable "database_url_secret_arn" {
  description = "Secrets Manager secret whose value is the SQLAlchemy URL of the database, read as `env:DATABASE_URL`."
  type        = string
}

variable "job_role_arn" {
  description = "Role of the jobs: it may assume the roles of the `dekctl` output, and nothing else."
  type        = string
}

variable "execution_role_arn" {
  description = "Role that pulls the image, reads the secret and writes the log."
  type        = string
}

variable "subnet_ids" {
  description = "Subnets that reach the database and KMS."
  type        = list(string)
}

variable "security_group_ids" {
  description = "Security groups that the database admits."
  type        = list(string)
}
