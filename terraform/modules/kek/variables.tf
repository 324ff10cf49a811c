variable "name_prefix" {
  description = "Prefix of every resource name, and the name of the alias: `alias/<name_prefix>`."
  type        = string
  nullable    = false

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{1,40}$", var.name_prefix))
    error_message = "name_prefix must be 2 to 41 lower-case letters, digits and hyphens, starting with a letter."
  }
}

variable "alias" {
  description = "Name of the alias, if it is not `alias/<name_prefix>`: that of an imported KEK, which applications use already."
  type        = string
  default     = null

  validation {
    condition     = var.alias == null || (can(regex("^alias/[A-Za-z0-9/_-]{1,250}$", var.alias)) && !startswith(coalesce(var.alias, "-"), "alias/aws/"))
    error_message = "alias must be alias/ and letters, digits, slashes, hyphens and underscores; alias/aws/ is reserved."
  }
}

variable "tags" {
  description = "Tags of every key, in addition to the provider's default tags."
  type        = map(string)
  nullable    = false
  default     = {}
}

variable "generations" {
  description = <<-EOT
    The KEK's generations by name. Exactly one is `active`: the alias points to it and new DEKs are wrapped by it.
    A `retired` generation only unwraps. A `disabled` one cannot be used, but can be enabled again. Removing the entry
    of a disabled one schedules its deletion. `still_wraps` lets a retired one wrap until every writer uses the new
    one. `multi_region` cannot be changed after the key has been created.
  EOT
  type = map(object({
    state        = string
    still_wraps  = optional(bool, false)
    multi_region = optional(bool, false)
  }))
  nullable = false
  default  = { g1 = { state = "active" } }

  validation {
    condition     = alltrue([for g in values(var.generations) : contains(["active", "retired", "disabled"], g.state)])
    error_message = "The state of a generation must be active, retired or disabled."
  }

  validation {
    condition     = length([for g in values(var.generations) : g if g.state == "active"]) == 1
    error_message = "Exactly one generation must be active."
  }

  validation {
    condition     = alltrue([for g in values(var.generations) : !g.still_wraps || g.state == "retired"])
    error_message = "still_wraps is for a retired generation."
  }

  validation {
    condition     = alltrue([for name in keys(var.generations) : can(regex("^[a-z][a-z0-9-]{0,19}$", name))])
    error_message = "The name of a generation must be 1 to 20 lower-case letters, digits and hyphens, starting with a letter."
  }
}

variable "grants" {
  description = <<-EOT
    Who may use a generation for what. Each entry allows one principal one KMS action on generations in the given
    states. The encryption context must contain `dekctl:table` and the key named by `bound_to`: `dekctl:pk` for a row's
    key, `dekctl:branch` for a branch key. With `without_context`, the action is also allowed without any context.
  EOT
  type = list(object({
    sid             = string
    principal       = string
    action          = string
    states          = list(string)
    bound_to        = optional(string, "dekctl:pk")
    without_context = optional(bool, false)
  }))
  nullable = false

  validation {
    condition = alltrue([for g in var.grants : contains(
      ["kms:Encrypt", "kms:Decrypt", "kms:GenerateDataKey", "kms:ReEncryptFrom", "kms:ReEncryptTo"], g.action
    )])
    error_message = "A grant allows exactly one of kms:Encrypt, kms:Decrypt, kms:GenerateDataKey, kms:ReEncryptFrom, kms:ReEncryptTo; patterns are not allowed."
  }

  validation {
    condition     = alltrue([for g in var.grants : !g.without_context || contains(["kms:Decrypt", "kms:ReEncryptFrom"], g.action)])
    error_message = "Only kms:Decrypt and kms:ReEncryptFrom may be granted without an encryption context: nothing new is wrapped without one."
  }

  validation {
    condition     = alltrue([for g in var.grants : contains(["dekctl:pk", "dekctl:branch"], g.bound_to)])
    error_message = "A grant is bound to dekctl:pk or dekctl:branch."
  }

  validation {
    condition     = alltrue([for g in var.grants : can(regex("^arn:aws[a-z-]*:iam::[0-9]{12}:(role|user)/.+$", g.principal)) && !strcontains(g.principal, "*")])
    error_message = "A principal must be the exact ARN of one role or user: the account root would delegate the decision to IAM."
  }
}

variable "context_names" {
  description = "Values of `dekctl:table` in the encryption context, one per table; every use of the key must include one of them."
  type        = list(string)
  nullable    = false

  validation {
    condition     = length(var.context_names) > 0 && alltrue([for name in var.context_names : can(regex("^[A-Za-z0-9_.-]{1,128}$", name))])
    error_message = "context_names needs at least one name, each of 1 to 128 letters, digits, dots, hyphens and underscores (they are not patterns)."
  }

  validation {
    condition     = length(distinct(var.context_names)) == length(var.context_names)
    error_message = "context_names must be distinct: tables with the same name could use each other's keys."
  }
}

variable "operator_arns" {
  description = <<-EOT
    Principals that manage the life cycle of the keys (enable, disable, rotate, schedule deletion, alias, tags) but
    cannot change the key policy.
  EOT
  type        = list(string)
  nullable    = false
  default     = []

  validation {
    condition     = alltrue([for arn in var.operator_arns : can(regex("^arn:aws[a-z-]*:iam::[0-9]{12}:(role|user)/.+$", arn)) && !strcontains(arn, "*")])
    error_message = "operator_arns must be exact ARNs of roles or users: the account root would delegate the decision to IAM."
  }
}

variable "administrator_arns" {
  description = <<-EOT
    Principals that may also change the key policy: the role that runs Terraform. KMS refuses to create a key whose
    policy locks out its creator.
  EOT
  type        = list(string)
  nullable    = false

  validation {
    condition     = length(var.administrator_arns) > 0
    error_message = "Name at least one administrator: the role that runs Terraform."
  }

  validation {
    condition     = alltrue([for arn in var.administrator_arns : can(regex("^arn:aws[a-z-]*:iam::[0-9]{12}:(role|user)/.+$", arn)) && !strcontains(arn, "*")])
    error_message = "administrator_arns must be exact ARNs of roles or users, without a wildcard: administrators are denied all use of the keys."
  }
}

variable "auditor_arns" {
  description = "Principals that may read the keys' state, policy, grants and rotation, and nothing else."
  type        = list(string)
  nullable    = false
  default     = []

  validation {
    condition     = alltrue([for arn in var.auditor_arns : can(regex("^arn:aws[a-z-]*:iam::[0-9]{12}:(role|user)/.+$", arn)) && !strcontains(arn, "*")])
    error_message = "auditor_arns must be exact ARNs of roles or users: the account root would delegate the decision to IAM."
  }
}

variable "rotation_period_in_days" {
  description = "Days between automatic rotations of the key material (90 to 2560); null uses the KMS default of 365."
  type        = number
  default     = 365

  validation {
    condition     = var.rotation_period_in_days == null || (coalesce(var.rotation_period_in_days, 0) >= 90 && coalesce(var.rotation_period_in_days, 0) <= 2560)
    error_message = "rotation_period_in_days must be between 90 and 2560, or null."
  }
}
