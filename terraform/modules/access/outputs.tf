output "role_arns" {
  description = "ARN of every role by name."
  value       = local.role_arns

  # A key policy can only name a role that exists.
  depends_on = [aws_iam_role.this]
}

output "grants" {
  description = "The rights on the KEK that the roles need, in the form that module kek expects."
  value = [
    for r in local.rights : {
      sid             = r.sid
      principal       = local.role_arns[r.role]
      action          = r.action
      states          = r.states
      bound_to        = r.bound_to
      without_context = r.without_context
    }
  ]

  depends_on = [aws_iam_role.this]
}

output "policies" {
  description = "The rendered identity policy of every role by name."
  value       = { for role in local.roles : role => data.aws_iam_policy_document.role[role].json }
}
