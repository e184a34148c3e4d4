locals {
  statements = merge(
    {
      Logs = {
        actions = ["logs:CreateLogStream", "logs:PutLogEvents"]
        # The streams of its own group; their names are Lambda's to choose.
        resources = ["arn:${var.account.partition}:logs:${var.account.region}:${var.account.id}:log-group:${aws_cloudwatch_log_group.this.name}:*"]
      }
      Traces = {
        actions = ["xray:PutTelemetryRecords", "xray:PutTraceSegments"]
        # X-Ray knows no resources for these.
        resources = ["*"]
      }
    },
    length(var.sources) == 0 ? {} : {
      Sources = {
        actions   = ["sqs:DeleteMessage", "sqs:GetQueueAttributes", "sqs:ReceiveMessage"]
        resources = [for source in values(var.sources) : source.arn]
      }
    },
    length(var.failures) == 0 ? {} : {
      Failures = {
        actions   = ["sqs:SendMessage"]
        resources = [for failures in var.failures : failures.queue]
      }
    },
    var.statements,
  )
}

# Before the function: Lambda would make one itself, which keeps its logs for ever.
resource "aws_cloudwatch_log_group" "this" {
  name              = "/aws/lambda/${var.name}"
  retention_in_days = var.log_retention_days
}

resource "aws_iam_role" "this" {
  name        = var.name
  description = "What the function ${var.name} may do."

  assume_role_policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Effect    = "Allow"
      Principal = { Service = "lambda.amazonaws.com" }
      Action    = "sts:AssumeRole"
    }]
  })
}

resource "aws_iam_role_policy" "this" {
  name = var.name
  role = aws_iam_role.this.id

  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [for sid, statement in local.statements : {
      Sid      = sid
      Effect   = "Allow"
      Action   = statement.actions
      Resource = statement.resources
    }]
  })
}

resource "aws_lambda_function" "this" {
  function_name = var.name
  description   = var.description
  role          = aws_iam_role.this.arn

  # From S3: one upload for all functions, and the provider creates them side by side.
  s3_bucket         = var.package.bucket
  s3_key            = var.package.key
  s3_object_version = var.package.version
  source_code_hash  = var.package.hash
  handler           = var.handler
  runtime           = var.package.runtime
  architectures     = [var.package.architecture]

  memory_size                    = var.memory
  timeout                        = var.timeout
  reserved_concurrent_executions = coalesce(var.reserved_concurrency, -1)

  environment {
    variables = var.environment
  }

  logging_config {
    # The functions write JSON themselves.
    log_format = "Text"
    log_group  = aws_cloudwatch_log_group.this.name
  }

  tracing_config {
    mode = "Active"
  }

  # Lambda checks at once that the role may read the queues.
  depends_on = [aws_iam_role_policy.this]

  lifecycle {
    precondition {
      condition     = var.reserved_concurrency == null ? true : var.reserved_concurrency >= sum(concat([0], [for source in values(var.sources) : source.maximum_concurrency]))
      error_message = "The reserved concurrency of ${var.name} must be at least the sum of its queues' maximum concurrency: throttled receives count towards the dead-letter queue."
    }

    precondition {
      condition     = sum(concat([0], [for name, value in var.environment : length(name) + length(value)])) <= 4096
      error_message = "The environment of ${var.name} is over Lambda's limit of 4 KB: use fewer retry delays or shorter schedules."
    }
  }
}

resource "aws_lambda_function_recursion_config" "this" {
  count = var.in_loop ? 1 : 0

  function_name  = aws_lambda_function.this.function_name
  recursive_loop = "Allow"
}

resource "aws_lambda_event_source_mapping" "this" {
  for_each = var.sources

  function_name           = aws_lambda_function.this.arn
  event_source_arn        = each.value.arn
  enabled                 = each.value.enabled
  batch_size              = each.value.batch_size
  function_response_types = ["ReportBatchItemFailures"]

  maximum_batching_window_in_seconds = each.value.window

  scaling_config {
    maximum_concurrency = each.value.maximum_concurrency
  }
}

resource "aws_lambda_function_event_invoke_config" "this" {
  count = length(var.failures)

  function_name                = aws_lambda_function.this.function_name
  maximum_event_age_in_seconds = var.failures[0].max_age
  maximum_retry_attempts       = var.failures[0].retries

  destination_config {
    on_failure {
      destination = var.failures[0].queue
    }
  }
}
