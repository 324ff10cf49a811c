variable "name_prefix" {
  description = "Prefix of every role name: `<name_prefix>-app` and so on."
  type        = string
  nullable    = false

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{1,40}$", var.name_prefix))
    error_message = "name_prefix must be 2 to 41 lower-case letters, digits and hyphens, starting with a letter."
  }
}

variable "path" {
  description = "Path of every role in IAM, for example `/dekctl/`."
  type        = string
  nullable    = false
  default     = "/"

  validation {
    condition     = can(regex("^/([A-Za-z0-9+=,.@_-]+/)*$", var.path)) && length(var.path) <= 512
    error_message = "path must begin and end with a slash, for example /dekctl/, and have at most 512 characters."
  }
}

variable "tags" {
  description = "Tags of every role, in addition to the provider's default tags."
  type        = map(string)
  nullable    = false
  default     = {}
}

variable "trust" {
  description = <<-EOT
    Who may assume which role, by role name (app, wrapper, rewrapper, verifier, auditor, key_admin). `principals` are
    ARNs of accounts, roles or users; MFA or an external id can be required of them. `services` are AWS services
    that run the application. `oidc` is a CI system's identity provider with its audience and the exact subjects.
  EOT
  type = map(object({
    principals  = optional(list(string), [])
    services    = optional(list(string), [])
    require_mfa = optional(bool, false)
    external_id = optional(string)
    oidc = optional(object({
      provider_arn = string
      issuer       = string
      audience     = string
      subjects     = list(string)
    }))
  }))
  nullable = false

  validation {
    condition     = toset(keys(var.trust)) == toset(["app", "wrapper", "rewrapper", "verifier", "auditor", "key_admin"])
    error_message = "trust needs one entry for each of app, wrapper, rewrapper, verifier, auditor and key_admin, and no other."
  }

  validation {
    condition = alltrue([
      for t in values(var.trust) : length(t.principals) + length(t.services) > 0 || t.oidc != null
    ])
    error_message = "Every role must trust somebody: set principals, services or oidc."
  }

  validation {
    condition = alltrue(flatten([
      for t in values(var.trust) : [for p in t.principals : can(regex("^arn:aws[a-z-]*:iam::[0-9]{12}:(root|role/.+|user/.+)$", p)) && !strcontains(p, "*")]
    ]))
    error_message = "principals must be ARNs of an account (…:root), a role or a user, without a wildcard."
  }

  validation {
    condition = alltrue(flatten([
      for t in values(var.trust) : [for s in t.services : can(regex("^[a-z0-9.-]+\\.amazonaws\\.com(\\.cn)?$", s))]
    ]))
    error_message = "services must be AWS service principals such as ecs-tasks.amazonaws.com."
  }

  # AssumeRole from a role session drops MFA: a role that must present it could never be admitted.
  validation {
    condition = alltrue([
      for t in values(var.trust) : !t.require_mfa || (length(t.principals) > 0 && alltrue([for p in t.principals : can(regex(":(root$|user/)", p))]))
    ])
    error_message = "require_mfa is for principals that are users or an account (…:user/…, …:root): a role session never carries MFA."
  }

  validation {
    condition = alltrue([
      for t in values(var.trust) : try(length(t.external_id) >= 2 && length(t.external_id) <= 1224 && can(regex("^[\\w+=,.@:/-]+$", t.external_id)), t.external_id == null)
    ])
    error_message = "external_id must be 2 to 1224 letters, digits and any of _+=,.@:/- (it is not a pattern)."
  }

  validation {
    condition = alltrue([
      for t in values(var.trust) : try(
        length(t.oidc.subjects) > 0 && alltrue([for s in t.oidc.subjects : s != "" && !strcontains(s, "*")]), t.oidc == null
      )
    ])
    error_message = "oidc.subjects must be exact: at least one, none of them empty, without a wildcard."
  }

  validation {
    condition     = alltrue([for t in values(var.trust) : try(t.oidc.audience != "" && !strcontains(t.oidc.audience, "*"), t.oidc == null)])
    error_message = "oidc.audience must be exact: not empty, without a wildcard."
  }

  # The condition keys of the trust policy start with the issuer: they would never match another provider's token.
  validation {
    condition = alltrue([
      for t in values(var.trust) : try(
        can(regex("^[a-z0-9.-]+(/[A-Za-z0-9._/-]+)?$", t.oidc.issuer))
        && can(regex("^arn:aws[a-z-]*:iam::[0-9]{12}:oidc-provider/", t.oidc.provider_arn))
        && endswith(t.oidc.provider_arn, ":oidc-provider/${t.oidc.issuer}"),
        t.oidc == null
      )
    ])
    error_message = "oidc.issuer must be the provider's host and path without https://, and oidc.provider_arn must end in oidc-provider/<issuer>."
  }
}

variable "keys" {
  description = "The generations that the roles may use: the states whose rights they have, their key id, and every Region in which they exist."
  type = map(object({
    states  = list(string)
    key_id  = string
    regions = list(string)
  }))
  nullable = false

  validation {
    condition     = anytrue([for k in values(var.keys) : contains(k.states, "active")])
    error_message = "keys needs an active generation: without one, nothing could be wrapped."
  }

  validation {
    condition     = alltrue(flatten([for k in values(var.keys) : [for s in k.states : contains(["active", "retired", "disabled"], s)]]))
    error_message = "The states of a generation must be active, retired or disabled."
  }
}

variable "alias_arns" {
  description = "ARNs of the KEKs' aliases; the key admin may update them."
  type        = list(string)
  nullable    = false

  validation {
    condition     = alltrue([for arn in var.alias_arns : can(regex("^arn:aws[a-z-]*:kms:[a-z0-9-]+:[0-9]{12}:alias/[A-Za-z0-9/_-]+(-\\*)?$", arn))])
    error_message = "alias_arns must be ARNs of KMS aliases; the only wildcard is -* at the end, for the aliases of tenants."
  }
}

variable "context_names" {
  description = "Values of `dekctl:table` in the encryption context, one per table; every use of a key must include one of them."
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

variable "audit" {
  description = <<-EOT
    What the auditor may read: the trail; its bucket, there what begins with `log_prefix`; its log group, if it has one; and
    the key of its files, if they are `encrypted` with one. Null if the trail is off.
  EOT
  type = object({
    trail_arn     = string
    bucket_arn    = string
    log_prefix    = optional(string, "")
    log_group_arn = optional(string)
    encrypted     = optional(bool, true)
    key_arn       = optional(string)
  })
  default = null
}

variable "max_session_duration" {
  description = "Maximum session duration of a role, in seconds (3600 to 43200). A backfill that takes longer has to be started again."
  type        = number
  nullable    = false
  default     = 14400

  validation {
    condition     = var.max_session_duration >= 3600 && var.max_session_duration <= 43200 && floor(var.max_session_duration) == var.max_session_duration
    error_message = "max_session_duration must be between 3600 and 43200 seconds, without a fraction."
  }
}

variable "permissions_boundary" {
  description = "ARN of a managed policy used as permissions boundary of every role; null for none."
  type        = string
  default     = null

  validation {
    condition     = var.permissions_boundary == null || can(regex("^arn:aws[a-z-]*:iam::([0-9]{12}|aws):policy/[^*]+$", var.permissions_boundary))
    error_message = "permissions_boundary must be the ARN of a managed policy."
  }
}
