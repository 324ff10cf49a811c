output "bucket" {
  description = "Name of the state bucket, for backend.hcl."
  value       = aws_s3_bucket.state.id
}

output "region" {
  description = "Region of the state bucket, for backend.hcl."
  value       = var.region
}
