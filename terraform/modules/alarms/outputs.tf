output "topic_arn" {
  description = "ARN of the topic that alarms and notices go to."
  value       = local.told
}
