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
      generations = { for name, g in module.kek.generations : name => { arn = g.arn, state = g.state } }
    }

    tenants = { for name, kek in module.tenant : name => { arn = kek.arn, alias = kek.alias, generations = { for g, key in kek.generations : g => { arn = key.arn, state = key.state } } } }

    roles = module.access.role_arns

    audit = {
      trail_arn       = try(local.trail.trail_arn, null)
      bucket          = try(local.trail.bucket, null)
      existing        = local.existing_trail != null
      prefix          = try(local.trail.prefix, null)
      organization_id = try(local.trail.organization_id, null)
      log_group       = try(local.trail.log_group, null)
      topic_arn       = one(module.alarms[*].topic_arn)
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
    } if coalesce(try(var.generations[name].multi_region, null), false)
  }
}
