output "role_arns" {
  description = "ARN of every role by name."
  value       = { for name, role in aws_iam_role.this : name => role.arn }
}

output "grants" {
  description = "The rights on the KEK that the roles need, in the form that module kek expects."
  value = [
    for r in local.rights : {
      sid             = r.sid
      principal       = aws_iam_role.this[r.role].arn
      action          = r.action
      states          = r.states
      bound_to        = r.bound_to
      without_context = r.without_context
    }
  ]
}

output "policies" {
  description = "The rendered identity policy of every role by name."
  value       = { for name, document in data.aws_iam_policy_document.role : name => document.json }
}
