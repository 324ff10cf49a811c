output "dekctl" {
  description = "What the dekctl command reads. Contains no secrets."
  value = {
    schema_version = 1
    region         = local.region
    account_id     = local.account_id
    context_name   = var.context_name
    context_names  = local.context_names

    allow_rows_without_context = var.allow_rows_without_context

    # The roles' trust policies allow it: each run bears its id as source identity.
    source_identity = true

    kek = {
      arn         = module.kek.arn
      alias       = module.kek.alias
      generations = module.kek.generations
    }

    tenants = { for name, kek in module.tenant : name => { arn = kek.arn, alias = kek.alias, generations = kek.generations } }

    roles = module.access.role_arns

    audit = {
      trail_arn = one(module.audit[*].trail_arn)
      bucket    = one(module.audit[*].bucket)
      log_group = one(module.audit[*].log_group)
    }
  }
}

output "replicable" {
  description = "The multi-Region generations, in the form that module replica expects."
  value = {
    for name, g in module.kek.generations : name => {
      arn    = g.arn
      state  = g.state
      policy = module.kek.policies[name]
    } if var.generations[name].multi_region
  }
}
