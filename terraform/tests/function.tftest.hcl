mock_provider "aws" {
  source = "./tests/mocks"
}

variables {
  account = { partition = "aws", region = "eu-central-1", id = "123456789012" }

  name        = "ua-check-ack"
  description = "Answers timers."
  handler     = "handlers.check_ack.handler"
  package     = { bucket = "ua-package", key = "package.zip", version = "v1", hash = "c29tZXRoaW5n", runtime = "python3.13", architecture = "arm64" }
  timeout     = 20
}

run "a_reader_of_queues" {
  module {
    source = "./modules/function"
  }

  variables {
    in_loop              = true
    reserved_concurrency = 12
    log_retention_days   = 14
    environment          = { TABLE = "ua-messages" }
    statements = {
      Messages = { actions = ["dynamodb:UpdateItem"], resources = ["arn:aws:dynamodb:eu-central-1:123456789012:table/ua-messages"] }
    }
    sources = {
      timer-15s = { arn = "arn:aws:sqs:eu-central-1:123456789012:ua-timer-15s", batch_size = 5000, window = 3, maximum_concurrency = 2 }
      timer-4h  = { arn = "arn:aws:sqs:eu-central-1:123456789012:ua-timer-4h", enabled = false }
    }
  }

  assert {
    condition = jsondecode(aws_iam_role_policy.this.policy) == {
      Version = "2012-10-17"
      Statement = [
        {
          Sid      = "Logs"
          Effect   = "Allow"
          Action   = ["logs:CreateLogStream", "logs:PutLogEvents"]
          Resource = ["arn:aws:logs:eu-central-1:123456789012:log-group:/aws/lambda/ua-check-ack:*"]
        },
        {
          Sid      = "Messages"
          Effect   = "Allow"
          Action   = ["dynamodb:UpdateItem"]
          Resource = ["arn:aws:dynamodb:eu-central-1:123456789012:table/ua-messages"]
        },
        {
          Sid      = "Sources"
          Effect   = "Allow"
          Action   = ["sqs:DeleteMessage", "sqs:GetQueueAttributes", "sqs:ReceiveMessage"]
          Resource = ["arn:aws:sqs:eu-central-1:123456789012:ua-timer-15s", "arn:aws:sqs:eu-central-1:123456789012:ua-timer-4h"]
        },
        {
          Sid      = "Traces"
          Effect   = "Allow"
          Action   = ["xray:PutTelemetryRecords", "xray:PutTraceSegments"]
          Resource = ["*"]
        },
      ]
    }
    error_message = "A function may write its own logs and traces, read its own queues, and do what its statements say."
  }

  assert {
    condition     = jsondecode(aws_iam_role.this.assume_role_policy).Statement == [{ Effect = "Allow", Principal = { Service = "lambda.amazonaws.com" }, Action = "sts:AssumeRole" }]
    error_message = "Only Lambda may take the role."
  }

  assert {
    condition     = aws_iam_role.this.name == "ua-check-ack" && aws_iam_role_policy.this.role == aws_iam_role.this.id && aws_lambda_function.this.role == aws_iam_role.this.arn
    error_message = "The role must be the function's own."
  }

  assert {
    condition     = aws_lambda_function_recursion_config.this[0].recursive_loop == "Allow" && aws_lambda_function_recursion_config.this[0].function_name == "ua-check-ack"
    error_message = "Lambda must not end the loop of queues and functions."
  }

  assert {
    condition = { for name, source in aws_lambda_event_source_mapping.this : name => [source.event_source_arn, source.enabled, source.batch_size, source.maximum_batching_window_in_seconds, source.scaling_config[0].maximum_concurrency, join(",", source.function_response_types)] } == {
      timer-15s = ["arn:aws:sqs:eu-central-1:123456789012:ua-timer-15s", true, 5000, 3, 2, "ReportBatchItemFailures"]
      timer-4h  = ["arn:aws:sqs:eu-central-1:123456789012:ua-timer-4h", false, 10, 0, 10, "ReportBatchItemFailures"]
    }
    error_message = "Each queue must be read as set, with failures reported record by record."
  }

  assert {
    condition     = aws_lambda_function.this.reserved_concurrent_executions == 12
    error_message = "The reserved concurrency must be the one that is set: exactly the sum of the queues' maxima is enough."
  }

  assert {
    condition     = aws_lambda_function.this.tracing_config[0].mode == "Active"
    error_message = "X-Ray must be on."
  }

  assert {
    condition     = aws_cloudwatch_log_group.this.name == "/aws/lambda/ua-check-ack" && aws_cloudwatch_log_group.this.retention_in_days == 14 && aws_lambda_function.this.logging_config[0].log_group == "/aws/lambda/ua-check-ack"
    error_message = "Logs must go to the function's own group, and be kept as long as is set."
  }

  assert {
    condition     = aws_lambda_function.this.source_code_hash == "c29tZXRoaW5n" && aws_lambda_function.this.runtime == "python3.13" && join(",", aws_lambda_function.this.architectures) == "arm64"
    error_message = "The package's content must decide whether the function is updated."
  }

  assert {
    condition     = aws_lambda_function.this.s3_bucket == "ua-package" && aws_lambda_function.this.s3_key == "package.zip" && aws_lambda_function.this.s3_object_version == "v1"
    error_message = "The function must be made from the package that was uploaded, in that version."
  }

  assert {
    condition     = length(aws_lambda_function_event_invoke_config.this) == 0
    error_message = "A reader of queues has no asynchronous invocations to care for."
  }
}

run "an_asynchronous_function" {
  module {
    source = "./modules/function"
  }

  variables {
    failures = [{ queue = "arn:aws:sqs:eu-central-1:123456789012:ua-sweep-dlq" }]
  }

  assert {
    condition     = { for s in jsondecode(aws_iam_role_policy.this.policy).Statement : s.Sid => concat(s.Action, s.Resource) }["Failures"] == ["sqs:SendMessage", "arn:aws:sqs:eu-central-1:123456789012:ua-sweep-dlq"]
    error_message = "It may send its failures to their queue."
  }

  assert {
    condition     = aws_lambda_function_event_invoke_config.this[0].destination_config[0].on_failure[0].destination == "arn:aws:sqs:eu-central-1:123456789012:ua-sweep-dlq" && aws_lambda_function_event_invoke_config.this[0].maximum_retry_attempts == 0
    error_message = "A failed invocation must go to the queue for failures, without retries."
  }

  assert {
    condition     = length(aws_lambda_function_recursion_config.this) == 0 && output.recursive_loop == null
    error_message = "A function outside the loop keeps Lambda's protection."
  }

  assert {
    condition     = aws_lambda_function.this.reserved_concurrent_executions == -1
    error_message = "Without a setting nothing is reserved."
  }
}

run "refuses_less_concurrency_than_its_queues_take" {
  command = plan
  module {
    source = "./modules/function"
  }
  variables {
    reserved_concurrency = 11
    sources = {
      a = { arn = "arn:aws:sqs:eu-central-1:123456789012:a", maximum_concurrency = 2 }
      b = { arn = "arn:aws:sqs:eu-central-1:123456789012:b", maximum_concurrency = 10 }
    }
  }
  expect_failures = [aws_lambda_function.this]
}

run "refuses_an_environment_over_4_kb" {
  command = plan
  module {
    source = "./modules/function"
  }
  variables {
    environment = { LONG = format("%4093s", "x") }
  }
  expect_failures = [aws_lambda_function.this]
}

run "refuses_settings_out_of_range" {
  command = plan
  module {
    source = "./modules/function"
  }
  variables {
    name                 = "a name"
    description          = format("%257s", "x")
    package              = { bucket = "ua-package", key = "package.zip", version = "v1", hash = "c29tZXRoaW5n", runtime = "python3.14", architecture = "arm64" }
    memory               = 64
    timeout              = 901
    reserved_concurrency = 0
    statements           = { All = { actions = ["sqs:*"], resources = ["*"] } }
    sources              = { a = { arn = "arn:aws:sqs:eu-central-1:123456789012:a", batch_size = 10001, window = 1 } }
    failures             = [{ queue = "arn:aws:sqs:eu-central-1:123456789012:a" }, { queue = "arn:aws:sqs:eu-central-1:123456789012:b" }]
    log_retention_days   = 31
  }
  expect_failures = [
    var.name, var.description, var.package, var.memory, var.timeout, var.reserved_concurrency, var.statements,
    var.sources, var.failures, var.log_retention_days,
  ]
}

run "refuses_other_settings_out_of_range" {
  command = plan
  module {
    source = "./modules/function"
  }
  variables {
    package  = { bucket = "ua-package", key = "package.zip", version = "v1", hash = "c29tZXRoaW5n", runtime = "python3.13", architecture = "i386" }
    memory   = 128.5
    timeout  = 0.5
    sources  = { a = { arn = "arn:aws:sqs:eu-central-1:123456789012:a", maximum_concurrency = 1 } }
    failures = [{ queue = "arn:aws:sqs:eu-central-1:123456789012:a", retries = 3 }]
  }
  expect_failures = [var.package, var.memory, var.timeout, var.sources, var.failures]
}

run "refuses_a_large_batch_without_a_window" {
  command = plan
  module {
    source = "./modules/function"
  }
  variables {
    sources = { a = { arn = "arn:aws:sqs:eu-central-1:123456789012:a", batch_size = 11 } }
  }
  expect_failures = [var.sources]
}

run "refuses_a_window_of_more_than_5_minutes" {
  command = plan
  module {
    source = "./modules/function"
  }
  variables {
    sources  = { a = { arn = "arn:aws:sqs:eu-central-1:123456789012:a", window = 301 } }
    failures = [{ queue = "arn:aws:sqs:eu-central-1:123456789012:a", max_age = 59 }]
  }
  expect_failures = [var.sources, var.failures]
}

run "an_asynchronous_function_that_is_tried_again" {
  command = plan
  module {
    source = "./modules/function"
  }
  variables {
    failures = [{ queue = "arn:aws:sqs:eu-central-1:123456789012:ua-settle-dlq", retries = 2, max_age = 3600 }]
  }

  assert {
    condition     = aws_lambda_function_event_invoke_config.this[0].maximum_retry_attempts == 2 && aws_lambda_function_event_invoke_config.this[0].maximum_event_age_in_seconds == 3600
    error_message = "A failed invocation must be retried as set."
  }
}
