output "policy" {
  description = "The statements, as a policy document in JSON."
  value       = data.aws_iam_policy_document.this.json
}
