output "generations" {
  description = "ARN of every replica in this Region by generation."
  value       = { for name, key in aws_kms_replica_key.generation : name => key.arn }
}
