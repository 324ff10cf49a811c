output "trail_arn" {
  description = "ARN of the trail."
  value       = aws_cloudtrail.this.arn
}

output "bucket" {
  description = "Name of the bucket with the trail's files."
  value       = aws_s3_bucket.trail.id
}

output "bucket_arn" {
  description = "ARN of the bucket with the trail's files."
  value       = aws_s3_bucket.trail.arn
}

output "log_group" {
  description = "Name of the log group that gets the trail's events."
  value       = aws_cloudwatch_log_group.trail.name
}

output "log_group_arn" {
  description = "ARN of the log group that gets the trail's events."
  value       = aws_cloudwatch_log_group.trail.arn
}

output "key_arn" {
  description = "ARN of the trail's own key."
  value       = aws_kms_key.trail.arn
}

output "topic_arn" {
  description = "ARN of the topic that alarms and notices go to."
  value       = aws_sns_topic.alerts.arn
}
