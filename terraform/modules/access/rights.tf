# The single table of who may do what with a KEK. The key policies (module kek) and the identity policies (policies.tf)
# are both rendered from it.

locals {
  roles = ["app", "wrapper", "rewrapper", "verifier", "auditor", "key_admin"]
  live  = ["active", "retired"]

  row_rights = [
    { sid = "AppUnwraps", role = "app", action = "kms:Decrypt", states = local.live },
    { sid = "AppIssues", role = "app", action = "kms:GenerateDataKey", states = ["active"] },
    { sid = "WrapperWraps", role = "wrapper", action = "kms:Encrypt", states = ["active"] },
    # From the active generation too: V1 rows and rows under older key material are rewrapped by the same key.
    { sid = "RewrapperTakes", role = "rewrapper", action = "kms:ReEncryptFrom", states = local.live },
    { sid = "RewrapperPuts", role = "rewrapper", action = "kms:ReEncryptTo", states = ["active"] },
    { sid = "VerifierUnwraps", role = "verifier", action = "kms:Decrypt", states = local.live },
  ]

  # Branch keys (V3): KMS wraps one branch key for many rows, and the rows' keys are wrapped under it without KMS. A
  # branch key has its own encryption context.
  branch_key_rights = [
    { sid = "AppOpensBranchKeys", role = "app", action = "kms:Decrypt", states = local.live },
    { sid = "WrapperMakesBranchKeys", role = "wrapper", action = "kms:GenerateDataKey", states = ["active"] },
    { sid = "RewrapperTakesBranchKeys", role = "rewrapper", action = "kms:ReEncryptFrom", states = local.live },
    { sid = "RewrapperPutsBranchKeys", role = "rewrapper", action = "kms:ReEncryptTo", states = ["active"] },
    { sid = "VerifierOpensBranchKeys", role = "verifier", action = "kms:Decrypt", states = local.live },
  ]

  # `bound_to` is the context key that is required in addition to dekctl:table.
  rights = concat(
    [for r in local.row_rights : merge(r, {
      bound_to        = "dekctl:pk"
      without_context = contains(local.without_context, r.action)
    })],
    [for r in local.branch_key_rights : merge(r, {
      bound_to        = "dekctl:branch"
      without_context = false
    }) if var.allow_branch_keys],
  )

  without_context = var.allow_rows_without_context ? ["kms:Decrypt", "kms:ReEncryptFrom"] : []
}
