output "trail_arn" {
  description = "ARN of the trail."
  value       = local.trail_arn

  depends_on = [aws_cloudtrail.this]
}

output "bucket" {
  description = "Name of the bucket with the trail's files."
  value       = local.bucket_names["trail"]

  depends_on = [aws_s3_bucket.trail]
}

output "bucket_names" {
  description = "Names of the bucket with the trail's files and of the bucket with its access log."
  value       = values(local.bucket_names)

  depends_on = [aws_s3_bucket.trail, aws_s3_bucket.access]
}

output "bucket_arn" {
  description = "ARN of the bucket with the trail's files."
  value       = local.bucket_arns["trail"]

  depends_on = [aws_s3_bucket.trail]
}

output "log_group" {
  description = "Name of the log group that gets the trail's events."
  value       = local.log_group

  depends_on = [aws_cloudwatch_log_group.trail]
}

output "log_group_arn" {
  description = "ARN of the log group that gets the trail's events."
  value       = local.log_group_arn

  depends_on = [aws_cloudwatch_log_group.trail]
}

output "key_arn" {
  description = "ARN of the trail's own key."
  value       = aws_kms_key.trail.arn
}
