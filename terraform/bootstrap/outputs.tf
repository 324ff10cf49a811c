output "bucket" {
  description = "Name of the state bucket, for backend.hcl."
  value       = aws_s3_bucket.state.id
}

output "kms_key_id" {
  description = "ARN of the key that encrypts the state, for backend.hcl: without it, Terraform requests AES256 from S3."
  value       = data.aws_kms_key.s3.arn
}

output "region" {
  description = "Region of the state bucket, for backend.hcl."
  value       = var.region
}
