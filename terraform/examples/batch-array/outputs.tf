output "submit" {
  description = "The command that starts all shards."
  value       = "aws batch submit-job --job-name ${var.name} --job-queue ${aws_batch_job_queue.dekctl.name} --job-definition ${aws_batch_job_definition.shard.name} --array-properties size=${var.shards}"
}
