# A KEK that exists already (docs/existing.md). Once it is in the state, these blocks do nothing.

variable "imported_keys" {
  description = "Key ids of generations that exist already, by generation. Set `alias` too if applications use an alias."
  type        = map(string)
  nullable    = false
  default     = {}
}

import {
  # A generation that was dropped since is no target any more.
  for_each = { for name, id in var.imported_keys : name => id if contains(keys(var.generations), name) }
  to       = module.dekctl.module.kek.aws_kms_key.generation[each.key]
  id       = each.value
}

import {
  for_each = length(var.imported_keys) > 0 && var.alias != null ? toset([var.alias]) : toset([])
  to       = module.dekctl.module.kek.aws_kms_alias.this
  id       = each.value
}
