variable "name_prefix" {
  description = "Prefix of every resource name; the KEK's alias is `alias/<name_prefix>` unless `alias` says otherwise."
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

variable "alias" {
  description = "Name of the KEK's alias, if it is not `alias/<name_prefix>`: that of an imported KEK, which applications use already."
  type        = string
  default     = null
}

variable "path" {
  description = "Path of every role in IAM, for example `/dekctl/`."
  type        = string
  nullable    = false
  default     = "/"
}

variable "tags" {
  description = "Tags of every resource that can have any, in addition to the provider's default tags."
  type        = map(string)
  nullable    = false
  default     = {}
}

variable "context_name" {
  description = "`context_name` of the table in dekctl.toml: the value of `dekctl:table` in every encryption context."
  type        = string
  nullable    = false
  default     = "encrypted_files"
}

variable "further_context_names" {
  description = "`context_name` of additional tables (`[[table]]` in dekctl.toml) whose DEKs are wrapped by the same KEKs."
  type        = list(string)
  nullable    = false
  default     = []

  validation {
    condition     = length(distinct(concat([var.context_name], var.further_context_names))) == length(var.further_context_names) + 1
    error_message = "context_name and further_context_names must be distinct: tables with the same name could use each other's keys."
  }

  validation {
    condition     = alltrue([for name in concat([var.context_name], var.further_context_names) : can(regex("^[A-Za-z0-9_.-]{1,128}$", name))])
    error_message = "A context name must be 1 to 128 letters, digits, dots, hyphens and underscores."
  }
}

# The types of these four are open, because Terraform drops attributes that a declared type does not have: a typing error
# would leave a setting at its default, without a word. The validations and the modules below check them.
variable "generations" {
  description = <<-EOT
    The KEK's generations by name: `state` (active, exactly one; retired or disabled), `still_wraps` and `multi_region`
    (true or false); see module kek.
  EOT
  type        = any
  nullable    = false

  validation {
    condition     = length(flatten([for name, g in var.generations : [for key in keys(g) : "${name}.${key}" if !contains(local.attributes.generation, key)]])) == 0
    error_message = "generations has what no generation has: ${join(", ", flatten([for name, g in var.generations : [for key in keys(g) : "${name}.${key}" if !contains(local.attributes.generation, key)]]))}. A generation has state, still_wraps and multi_region."
  }

  validation {
    condition     = length([for g in values(var.generations) : g if try(g.state, "") == "active"]) == 1
    error_message = "Exactly one generation must be active."
  }

  validation {
    condition     = alltrue([for g in values(var.generations) : contains(["active", "retired", "disabled"], try(g.state, ""))])
    error_message = "The state of a generation must be active, retired or disabled."
  }

  validation {
    condition     = alltrue([for name in keys(var.generations) : can(regex("^[a-z][a-z0-9-]{0,19}$", name))])
    error_message = "The name of a generation must be 1 to 20 lower-case letters, digits and hyphens, starting with a letter."
  }
}

variable "tenants" {
  description = <<-EOT
    Tenants with a KEK of their own (`kek_by` in dekctl.toml), each with its `generations` (`state`, `still_wraps`). The alias
    of such a KEK is `alias/<name_prefix>-<tenant>`. The roles have the same rights on it as on the shared KEK.
  EOT
  type        = any
  nullable    = false
  default     = {}

  validation {
    condition = length(flatten([for tenant, t in var.tenants : concat(
      [for key in keys(t) : "${tenant}.${key}" if key != "generations"],
      flatten([for name, g in try(t.generations, {}) : [for key in keys(g) : "${tenant}.${name}.${key}" if !contains(local.attributes.generation_of_tenant, key)]]),
    )])) == 0
    error_message = "tenants has what no tenant has: ${join(", ", flatten([for tenant, t in var.tenants : concat(
      [for key in keys(t) : "${tenant}.${key}" if key != "generations"],
      flatten([for name, g in try(t.generations, {}) : [for key in keys(g) : "${tenant}.${name}.${key}" if !contains(local.attributes.generation_of_tenant, key)]]),
    )]))}. A tenant has generations, and each of them state and still_wraps."
  }

  validation {
    condition     = alltrue([for name in keys(var.tenants) : can(regex("^[a-z0-9][a-z0-9-]{0,19}$", name))])
    error_message = "The name of a tenant must be 1 to 20 lower-case letters, digits and hyphens."
  }

  validation {
    condition     = alltrue([for name in ["trail", "alerts"] : !contains(keys(var.tenants), name)])
    error_message = "A tenant cannot be called trail or alerts: the audit keys have those aliases."
  }

  validation {
    condition     = alltrue([for name in keys(var.tenants) : length("${var.name_prefix}-${name}") <= 41])
    error_message = "name_prefix, a hyphen and the name of a tenant must not be longer than 41 characters together."
  }
}

variable "tenants_by_key_policy" {
  description = <<-EOT
    Whether the tenants' key policies alone give the roles their rights on the tenants' KEKs. The roles' own policies then
    do not list these keys, and any number of tenants fits; see the README, "Many tenants".
  EOT
  type        = bool
  nullable    = false
  default     = false
}

variable "rotation_period_in_days" {
  description = "Days between automatic rotations of the key material (90 to 2560); null uses the KMS default of 365."
  type        = number
  default     = 365
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
  description = <<-EOT
    Who may assume which role, by role name (app, wrapper, rewrapper, verifier, auditor, key_admin): `principals`, `services`,
    `require_mfa`, `external_id`, and `oidc` with `provider_arn`, `issuer`, `audience` and `subjects`; see module access.
  EOT
  type        = any
  nullable    = false

  validation {
    condition = length(flatten([for role, t in var.trust : concat(
      [for key in keys(t) : "${role}.${key}" if !contains(local.attributes.trust, key)],
      [for key in try(keys(t.oidc), []) : "${role}.oidc.${key}" if !contains(local.attributes.oidc, key)],
    )])) == 0
    error_message = "trust has what no role has: ${join(", ", flatten([for role, t in var.trust : concat(
      [for key in keys(t) : "${role}.${key}" if !contains(local.attributes.trust, key)],
      [for key in try(keys(t.oidc), []) : "${role}.oidc.${key}" if !contains(local.attributes.oidc, key)],
    )]))}. A role has principals, services, require_mfa, external_id and oidc, which has provider_arn, issuer, audience and subjects."
  }

  validation {
    condition     = toset(keys(var.trust)) == toset(["app", "wrapper", "rewrapper", "verifier", "auditor", "key_admin"])
    error_message = "trust needs one entry for each of app, wrapper, rewrapper, verifier, auditor and key_admin, and no other."
  }
}

variable "administrator_arns" {
  description = "Principals that may change the key policies: the role that runs Terraform. They are of this account, and none of them uses the keys."
  type        = list(string)
  nullable    = false

  validation {
    condition     = length(var.administrator_arns) > 0 && alltrue([for arn in var.administrator_arns : can(regex("^arn:aws[a-z-]*:iam::[0-9]{12}:(role|user)/[^*]+$", arn))])
    error_message = "Name at least one administrator, a role or a user, by its exact ARN: the role that runs Terraform."
  }

  validation {
    condition     = alltrue([for arn in var.administrator_arns : try(split(":", arn)[4] == local.account_id, true)])
    error_message = "administrator_arns names a principal of another account than ${local.account_id}, which would decide who can use these keys."
  }

  validation {
    condition     = length(setintersection(var.administrator_arns, local.own_role_arns)) == 0
    error_message = "administrator_arns names a role that this module makes: who uses the keys must not change their policies."
  }

  validation {
    condition     = length(setintersection(var.administrator_arns, try(var.trust.app.principals, []))) == 0
    error_message = "administrator_arns names a principal that trust lets act as the application: it could change the policy of the keys that it uses."
  }
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

variable "replica_regions" {
  description = "Regions in which multi-Region generations have a replica (module replica); the roles may use the replicas."
  type        = list(string)
  nullable    = false
  default     = []

  validation {
    condition     = length(var.replica_regions) == 0 || anytrue([for g in values(var.generations) : coalesce(try(g.multi_region, null), false)])
    error_message = "replica_regions needs at least one generation with multi_region = true."
  }

  validation {
    condition     = alltrue([for region in var.replica_regions : can(regex("^[a-z]{2,4}(-[a-z]+)+-[0-9]+$", region))])
    error_message = "replica_regions must be names of AWS Regions such as eu-west-1."
  }
}

variable "audit" {
  description = <<-EOT
    Settings of the audit trail (module audit: `log_retention_days`, `archive_days`, `lock_days`, `lock_mode`, `force_destroy`) and
    of its alarms (module alarms: `alarm_emails`, `topic_arn`). `existing` names a trail that is there already, which is then used
    instead of a new one: `trail_arn`, `bucket`, and where it has them `prefix`, `organization_id`, `log_group` (a name) and
    `key_arn`. Null turns the trail off, which is only for emulators without CloudTrail.
  EOT
  type        = any
  default     = {}

  validation {
    condition = length(concat(
      [for key in try(keys(var.audit), []) : key if !contains(local.attributes.audit, key)],
      [for key in try(keys(var.audit.existing), []) : "existing.${key}" if !contains(local.attributes.existing, key)],
    )) == 0
    error_message = "audit has what it does not have: ${join(", ", concat(
      [for key in try(keys(var.audit), []) : key if !contains(local.attributes.audit, key)],
      [for key in try(keys(var.audit.existing), []) : "existing.${key}" if !contains(local.attributes.existing, key)],
    ))}. It has ${join(", ", local.attributes.audit)}; existing has ${join(", ", local.attributes.existing)}."
  }

  validation {
    condition     = try(var.audit.existing, null) == null || (can(regex("^arn:aws[a-z-]*:cloudtrail:[a-z0-9-]+:[0-9]{12}:trail/[A-Za-z0-9._-]+$", var.audit.existing.trail_arn)) && can(regex("^[a-z0-9.-]{3,63}$", var.audit.existing.bucket)))
    error_message = "audit.existing needs trail_arn, the ARN of the trail, and bucket, the name of its bucket."
  }

  validation {
    condition     = try(var.audit.existing.organization_id, null) == null || can(regex("^o-[a-z0-9]{10,32}$", var.audit.existing.organization_id))
    error_message = "audit.existing.organization_id must be the id of the organisation, for example o-exampleorgid."
  }

  validation {
    condition     = try(var.audit.existing.key_arn, null) == null || can(regex("^arn:aws[a-z-]*:kms:[a-z0-9-]+:[0-9]{12}:key/[^*]+$", var.audit.existing.key_arn))
    error_message = "audit.existing.key_arn must be the ARN of the KMS key of the trail's files."
  }

  validation {
    condition     = try(var.audit.existing, null) == null || alltrue([for name in ["log_retention_days", "archive_days", "lock_days", "force_destroy"] : try(var.audit[name], null) == null])
    error_message = "log_retention_days, archive_days, lock_days and force_destroy are settings of a new trail: with audit.existing they would change nothing."
  }

  validation {
    condition     = try(var.audit.lock_days == null || (var.audit.lock_days >= 1 && var.audit.lock_days <= 36500 && floor(var.audit.lock_days) == var.audit.lock_days), !can(var.audit.lock_days))
    error_message = "audit.lock_days must be a whole number from 1 to 36500."
  }
}
