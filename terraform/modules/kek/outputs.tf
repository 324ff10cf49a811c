output "arn" {
  description = "ARN of the active generation, which wraps new DEKs."
  value       = aws_kms_key.generation[local.active].arn
}

output "alias" {
  description = "Name of the alias, which always points to the active generation."
  value       = local.alias

  depends_on = [aws_kms_alias.this]
}

output "generations" {
  description = "Every generation by name, with its ARN, key id and state."
  value = {
    for name, g in var.generations : name => {
      arn    = aws_kms_key.generation[name].arn
      key_id = aws_kms_key.generation[name].key_id
      state  = g.state
    }
  }
}

output "policies" {
  description = "The rendered key policy of every generation by name; replicas in other Regions use the same policy."
  value       = { for name, document in data.aws_iam_policy_document.key : name => document.json }
}

output "counts_as" {
  description = "The states whose rights each generation has: its own and, while still_wraps is set, active."
  value       = local.counts_as
}
