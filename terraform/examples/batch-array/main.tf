# One array job with one shard per child. A child that fails is retried and resumes where it stopped.

data "aws_region" "current" {}

resource "aws_cloudwatch_log_group" "dekctl" {
  name              = "/aws/batch/${var.name}"
  retention_in_days = 365
  kms_key_id        = var.log_key_arn
}

resource "aws_batch_compute_environment" "dekctl" {
  type  = "MANAGED"
  state = "ENABLED"

  compute_resources {
    type               = "FARGATE"
    max_vcpus          = var.shards
    subnets            = var.subnet_ids
    security_group_ids = var.security_group_ids
  }
}

resource "aws_batch_job_queue" "dekctl" {
  name     = var.name
  state    = "ENABLED"
  priority = 1

  compute_environment_order {
    order               = 1
    compute_environment = aws_batch_compute_environment.dekctl.arn
  }
}

resource "aws_batch_job_definition" "shard" {
  name                  = "${var.name}-shard"
  type                  = "container"
  platform_capabilities = ["FARGATE"]

  # The verb is a parameter: `--parameters verb=verify`.
  parameters = { verb = "wrap" }

  retry_strategy {
    attempts = 5
  }

  container_properties = jsonencode({
    image            = var.image
    jobRoleArn       = var.job_role_arn
    executionRoleArn = var.execution_role_arn
    # AWS_BATCH_JOB_ARRAY_INDEX starts at 0, --shard at 1.
    command = [
      "/bin/sh", "-c",
      "exec dekctl --env \"$DEKCTL_ENV\" --log-format json --json \"$0\" --shard \"$((AWS_BATCH_JOB_ARRAY_INDEX + 1))/$SHARDS\" --rate \"$RATE\"",
      "Ref::verb",
    ]
    environment = [
      { name = "DEKCTL_ENV", value = var.dekctl_env },
      { name = "SHARDS", value = tostring(var.shards) },
      { name = "RATE", value = tostring(var.rate / var.shards) },
    ]
    secrets = [{ name = "DATABASE_URL", valueFrom = var.database_url_secret_arn }]
    resourceRequirements = [
      { type = "VCPU", value = "1" },
      { type = "MEMORY", value = "2048" },
    ]
    networkConfiguration   = { assignPublicIp = "DISABLED" }
    readonlyRootFilesystem = true
    logConfiguration = {
      logDriver = "awslogs"
      options = {
        awslogs-group         = aws_cloudwatch_log_group.dekctl.name
        awslogs-region        = data.aws_region.current.id
        awslogs-stream-prefix = "shard"
      }
    }
  })
}
