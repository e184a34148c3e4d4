# The modules of the workflows, and the package's.

mock_provider "aws" {
  source = "./tests/mocks"
}

variables {
  account = { partition = "aws", region = "eu-central-1", id = "123456789012" }
}

run "a_machine" {
  module {
    source = "./modules/workflow"
  }

  variables {
    name               = "ua-delivery-example"
    definition         = "tests/machine.asl.json"
    substitutions      = { function = "arn:aws:lambda:eu-central-1:123456789012:function:ua-settle", partition = "aws", left = "aside" }
    log_retention_days = 14
    statements = {
      Ask = {
        actions    = ["events:PutEvents"]
        resources  = ["arn:aws:events:eu-central-1:123456789012:event-bus/ua-attempts"]
        conditions = { StringEquals = { "events:source" = ["until-ack"] } }
      }
      Settle = { actions = ["lambda:InvokeFunction"], resources = ["arn:aws:lambda:eu-central-1:123456789012:function:ua-settle"] }
    }
  }

  assert {
    condition = jsondecode(aws_sfn_state_machine.this.definition).States.Settle.Parameters == {
      FunctionName = "arn:aws:lambda:eu-central-1:123456789012:function:ua-settle"
      "Payload.$"  = "$"
    } && jsondecode(aws_sfn_state_machine.this.definition).States.Settle.Resource == "arn:aws:states:::lambda:invoke"
    error_message = "The definition's variables must be replaced, and its paths be left alone."
  }

  assert {
    condition = jsondecode(aws_iam_role_policy.this.policy) == {
      Version = "2012-10-17"
      Statement = [
        {
          Sid       = "Ask"
          Effect    = "Allow"
          Action    = ["events:PutEvents"]
          Resource  = ["arn:aws:events:eu-central-1:123456789012:event-bus/ua-attempts"]
          Condition = { StringEquals = { "events:source" = ["until-ack"] } }
        },
        {
          Sid    = "Logs"
          Effect = "Allow"
          Action = [
            "logs:CreateLogDelivery", "logs:DeleteLogDelivery", "logs:DescribeLogGroups", "logs:DescribeResourcePolicies",
            "logs:GetLogDelivery", "logs:ListLogDeliveries", "logs:PutResourcePolicy", "logs:UpdateLogDelivery",
          ]
          Resource = ["*"]
        },
        {
          Sid      = "Settle"
          Effect   = "Allow"
          Action   = ["lambda:InvokeFunction"]
          Resource = ["arn:aws:lambda:eu-central-1:123456789012:function:ua-settle"]
        },
        {
          Sid      = "Traces"
          Effect   = "Allow"
          Action   = ["xray:GetSamplingRules", "xray:GetSamplingTargets", "xray:PutTelemetryRecords", "xray:PutTraceSegments"]
          Resource = ["*"]
        },
      ]
    }
    error_message = "A machine may log and trace, and do what its statements say on their conditions."
  }

  assert {
    condition = jsondecode(aws_iam_role.this.assume_role_policy).Statement == [{
      Effect    = "Allow"
      Principal = { Service = "states.amazonaws.com" }
      Action    = "sts:AssumeRole"
      Condition = {
        ArnLike      = { "aws:SourceArn" = "arn:aws:states:eu-central-1:123456789012:stateMachine:*" }
        StringEquals = { "aws:SourceAccount" = "123456789012" }
      }
    }]
    error_message = "Only Step Functions may take the role, for this account's machines."
  }

  assert {
    condition     = aws_iam_role.this.name == "ua-delivery-example" && aws_iam_role_policy.this.role == aws_iam_role.this.id && aws_sfn_state_machine.this.role_arn == aws_iam_role.this.arn
    error_message = "The role must be the machine's own."
  }

  assert {
    condition     = aws_sfn_state_machine.this.logging_configuration[0].level == "ERROR" && !aws_sfn_state_machine.this.logging_configuration[0].include_execution_data
    error_message = "Errors are logged, without the messages' data."
  }

  assert {
    condition     = aws_cloudwatch_log_group.this.name == "/aws/vendedlogs/states/ua-delivery-example" && aws_cloudwatch_log_group.this.retention_in_days == 14 && aws_sfn_state_machine.this.logging_configuration[0].log_destination == "arn:aws:logs:eu-central-1:123456789012:log-group:/aws/vendedlogs/states/ua-delivery-example:*"
    error_message = "Logs must go to the machine's own group, and be kept as long as is set."
  }

  assert {
    condition     = aws_sfn_state_machine.this.tracing_configuration[0].enabled && aws_sfn_state_machine.this.type == "STANDARD" && output.name == "ua-delivery-example"
    error_message = "X-Ray must be on, and the machine a standard one unless somebody says otherwise."
  }
}

run "an_express_machine_that_logs_nothing" {
  command = plan
  module {
    source = "./modules/workflow"
  }

  variables {
    # As long as a machine's name may be, and longer than a role's.
    name          = "a2345678901234567890123456789012345678901234567890123456789012345678901234567890"
    definition    = "tests/machine.asl.json"
    substitutions = { function = "f", partition = "aws" }
    type          = "EXPRESS"
    log_level     = "OFF"
  }

  assert {
    condition     = aws_sfn_state_machine.this.type == "EXPRESS" && [for s in jsondecode(aws_iam_role_policy.this.policy).Statement : s.Sid] == ["Traces"]
    error_message = "A machine that logs nothing needs no right to."
  }

  assert {
    condition     = length(aws_iam_role.this.name) == 64 && startswith(aws_iam_role.this.name, "a234567890123456789012345678901234567890123456789012345-")
    error_message = "A role's name has at most 64 characters; a longer one is cut, and told apart by its hash."
  }
}

run "refuses_a_name_over_80_characters" {
  command = plan
  module {
    source = "./modules/workflow"
  }
  variables {
    name          = "a23456789012345678901234567890123456789012345678901234567890123456789012345678901"
    definition    = "tests/machine.asl.json"
    substitutions = { function = "f", partition = "aws" }
  }
  expect_failures = [aws_sfn_state_machine.this]
}

run "refuses_a_definition_that_is_no_machine" {
  command = plan
  module {
    source = "./modules/workflow"
  }
  variables {
    name       = "ua-delivery-example"
    definition = "tests/package.txt"
  }
  expect_failures = [aws_sfn_state_machine.this]
}

run "refuses_machines_that_cannot_be" {
  command = plan
  module {
    source = "./modules/workflow"
  }
  variables {
    name       = "a machine"
    definition = "tests/no-such-machine.asl.json"
    type       = "FAST"
    log_level  = "INFO"
    statements = { All = { actions = ["sqs:*"], resources = ["*"] } }
  }
  expect_failures = [var.name, var.definition, var.type, var.log_level, var.statements]
}

run "a_bus" {
  module {
    source = "./modules/bus"
  }

  variables {
    name    = "ua-attempts"
    max_age = 600
    rules = {
      webhook = { description = "Attempts of webhook.", pattern = "{\"detail-type\":[\"attempt.webhook\"]}", input_path = "$.detail" }
      email   = { description = "Attempts of email.", pattern = "{\"detail-type\":[\"attempt.email\"]}" }
    }
    queues = {
      webhook = "arn:aws:sqs:eu-central-1:123456789012:ua-webhook"
      email   = "arn:aws:sqs:eu-central-1:123456789012:ua-email"
    }
  }

  assert {
    condition = { for noun, target in aws_cloudwatch_event_target.this : noun => [target.event_bus_name, target.rule, target.arn, coalesce(target.input_path, "all")] } == {
      webhook = ["ua-attempts", "ua-attempts-webhook", "arn:aws:sqs:eu-central-1:123456789012:ua-webhook", "$.detail"]
      email   = ["ua-attempts", "ua-attempts-email", "arn:aws:sqs:eu-central-1:123456789012:ua-email", "all"]
    }
    error_message = "Each rule must send to its queue."
  }

  assert {
    condition     = { for noun, rule in aws_cloudwatch_event_rule.this : noun => "${rule.event_bus_name} ${rule.event_pattern}" } == { for noun in ["webhook", "email"] : noun => "ua-attempts {\"detail-type\":[\"attempt.${noun}\"]}" }
    error_message = "Each rule must look for its own events, on this bus."
  }

  assert {
    condition     = alltrue([for target in aws_cloudwatch_event_target.this : target.dead_letter_config[0].arn == "arn:aws:sqs:eu-central-1:123456789012:ua-attempts-dlq" && target.retry_policy[0].maximum_event_age_in_seconds == 600 && target.retry_policy[0].maximum_retry_attempts == 185])
    error_message = "What could not be handed over in time must go to the bus's dead-letter queue."
  }

  assert {
    condition     = output.rules["webhook"].arn == "arn:aws:events:eu-central-1:123456789012:rule/ua-attempts/ua-attempts-webhook"
    error_message = "A rule's ARN has its bus's name."
  }
}

run "refuses_buses_that_cannot_be" {
  command = plan
  module {
    source = "./modules/bus"
  }
  variables {
    name    = "a bus"
    max_age = 59
    rules   = { webhook = { description = "Attempts of webhook.", pattern = "attempt.webhook" } }
    queues  = { webhook = "arn:aws:sqs:eu-central-1:123456789012:ua-webhook" }
  }
  expect_failures = [var.name, var.max_age, var.rules]
}

run "a_rule" {
  module {
    source = "./modules/rule"
  }

  variables {
    name         = "ua-settle"
    description  = "Executions that failed."
    pattern      = "{\"source\":[\"aws.states\"]}"
    function     = { name = "ua-settle", arn = "arn:aws:lambda:eu-central-1:123456789012:function:ua-settle" }
    dead_letters = "arn:aws:sqs:eu-central-1:123456789012:ua-settle-dlq"
  }

  assert {
    condition     = aws_cloudwatch_event_target.this.arn == var.function.arn && aws_cloudwatch_event_target.this.dead_letter_config[0].arn == var.dead_letters && aws_cloudwatch_event_target.this.retry_policy[0].maximum_event_age_in_seconds == 86400
    error_message = "The rule must invoke the function, try for as long as it can, and keep what it could not hand over."
  }

  assert {
    condition     = aws_lambda_permission.this.principal == "events.amazonaws.com" && aws_lambda_permission.this.source_arn == aws_cloudwatch_event_rule.this.arn && aws_lambda_permission.this.function_name == "ua-settle"
    error_message = "That rule, and no other, may invoke the function."
  }
}

run "refuses_rules_that_cannot_be" {
  command = plan
  module {
    source = "./modules/rule"
  }
  variables {
    name         = "a rule"
    description  = "Executions that failed."
    pattern      = "aws.states"
    function     = { name = "ua-settle", arn = "arn:aws:lambda:eu-central-1:123456789012:function:ua-settle" }
    dead_letters = "arn:aws:sqs:eu-central-1:123456789012:ua-settle-dlq"
  }
  expect_failures = [var.name, var.pattern]
}

run "refuses_a_pattern_that_is_too_long" {
  command = plan
  module {
    source = "./modules/rule"
  }
  variables {
    name         = "ua-settle"
    description  = "Executions that failed."
    pattern      = jsonencode({ source = [format("%2048s", "x")] })
    function     = { name = "ua-settle", arn = "arn:aws:lambda:eu-central-1:123456789012:function:ua-settle" }
    dead_letters = "arn:aws:sqs:eu-central-1:123456789012:ua-settle-dlq"
  }
  expect_failures = [var.pattern]
}

run "the_package" {
  module {
    source = "./modules/package"
  }

  variables {
    prefix = "ua"
    path   = "tests/package.txt"
  }

  assert {
    condition     = aws_s3_bucket.this.bucket == "ua-package-123456789012-eu-central-1" && !aws_s3_bucket.this.force_destroy
    error_message = "The bucket's name must be one that nobody else in the world has."
  }

  assert {
    condition     = aws_s3_bucket_public_access_block.this.block_public_acls && aws_s3_bucket_public_access_block.this.block_public_policy && aws_s3_bucket_public_access_block.this.ignore_public_acls && aws_s3_bucket_public_access_block.this.restrict_public_buckets
    error_message = "The bucket must be private."
  }

  assert {
    condition     = aws_s3_bucket_versioning.this.versioning_configuration[0].status == "Enabled" && one(one(aws_s3_bucket_server_side_encryption_configuration.this.rule).apply_server_side_encryption_by_default).sse_algorithm == "AES256"
    error_message = "The bucket must keep versions, encrypted."
  }

  assert {
    condition = jsondecode(aws_s3_bucket_policy.this.policy).Statement == [{
      Sid       = "OnlyOverTls"
      Effect    = "Deny"
      Principal = "*"
      Action    = "s3:*"
      Resource  = ["arn:aws:s3:::ua-package-123456789012-eu-central-1", "arn:aws:s3:::ua-package-123456789012-eu-central-1/*"]
      Condition = { Bool = { "aws:SecureTransport" = "false" } }
    }]
    error_message = "The bucket must refuse what comes without TLS."
  }

  assert {
    condition = output.object == {
      bucket  = aws_s3_object.this.bucket
      key     = "package.zip"
      version = "a-version"
      hash    = filebase64sha256("tests/package.txt")
    }
    error_message = "Lambda must be told where the package is, and in which version."
  }
}

run "the_package_under_a_long_prefix" {
  command = plan
  module {
    source = "./modules/package"
  }

  variables {
    prefix        = "a234567890-234567890-234567890-234567890"
    path          = "tests/package.txt"
    force_destroy = true
  }

  assert {
    condition     = length(output.bucket) == 63 && endswith(output.bucket, "-package-123456789012-eu-central-1") && aws_s3_bucket.this.force_destroy
    error_message = "A bucket's name has at most 63 characters; a long prefix is cut, and told apart by its hash."
  }
}

run "refuses_a_package_that_is_not_there" {
  command = plan
  module {
    source = "./modules/package"
  }
  variables {
    prefix = "UA"
    path   = "tests/no-such-package.zip"
  }
  expect_failures = [var.prefix, var.path]
}
