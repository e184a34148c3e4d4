# The modules table, mail, schedule and alarms.

mock_provider "aws" {
  source = "./tests/mocks"
}

variables {
  account = { partition = "aws", region = "eu-central-1", id = "123456789012" }
}

run "table" {
  module {
    source = "./modules/table"
  }

  variables {
    name = "ua-messages"
  }

  assert {
    condition     = aws_dynamodb_table.this.billing_mode == "PAY_PER_REQUEST" && aws_dynamodb_table.this.hash_key == "id"
    error_message = "The table must be on demand, with the message's id as key."
  }

  assert {
    condition     = aws_dynamodb_table.this.deletion_protection_enabled && aws_dynamodb_table.this.point_in_time_recovery[0].enabled
    error_message = "The table must be protected from deletion and from mistakes unless somebody says otherwise."
  }

  assert {
    condition     = aws_dynamodb_table.this.ttl[0].attribute_name == "ttl" && aws_dynamodb_table.this.ttl[0].enabled
    error_message = "Ended messages must go by their attribute ttl."
  }

  assert {
    condition = { for index in aws_dynamodb_table.this.global_secondary_index : index.name => [index.hash_key, index.range_key, index.projection_type] } == {
      overdue     = ["sweep_shard", "sweep_at", "KEYS_ONLY"]
      undelivered = ["undelivered_shard", "ended_at", "KEYS_ONLY"]
      by-target   = ["target_hash", "created_at", "KEYS_ONLY"]
    }
    error_message = "The indexes must be those that the store reads, with keys only."
  }

  assert {
    condition = { for attribute in aws_dynamodb_table.this.attribute : attribute.name => attribute.type } == {
      id = "S", sweep_shard = "S", sweep_at = "N", undelivered_shard = "S", ended_at = "N", target_hash = "S", created_at = "N"
    }
    error_message = "Keys must have the types that the store writes."
  }

  assert {
    condition = output.index_arns == {
      overdue     = "arn:aws:dynamodb:eu-central-1:123456789012:table/ua-messages/index/overdue"
      undelivered = "arn:aws:dynamodb:eu-central-1:123456789012:table/ua-messages/index/undelivered"
      by-target   = "arn:aws:dynamodb:eu-central-1:123456789012:table/ua-messages/index/by-target"
    }
    error_message = "The indexes' ARNs must be the table's."
  }

  assert {
    condition     = !aws_dynamodb_table.this.server_side_encryption[0].enabled
    error_message = "Without a key of one's own, DynamoDB encrypts with its own."
  }
}

run "table_with_a_key_of_one_s_own" {
  module {
    source = "./modules/table"
  }

  variables {
    name                = "ua-messages"
    deletion_protection = false
    kms_key_arn         = "arn:aws:kms:eu-central-1:123456789012:key/99999999-2222-3333-4444-555555555555"
  }

  assert {
    condition     = aws_dynamodb_table.this.server_side_encryption[0].enabled && aws_dynamodb_table.this.server_side_encryption[0].kms_key_arn == var.kms_key_arn && !aws_dynamodb_table.this.deletion_protection_enabled
    error_message = "The table must be encrypted with the key, and deletable where that is wanted."
  }
}

run "refuses_a_table_without_a_proper_name" {
  command = plan
  module {
    source = "./modules/table"
  }
  variables {
    name = "ua messages"
  }
  expect_failures = [var.name]
}

run "mail_from_an_address" {
  module {
    source = "./modules/mail"
  }

  variables {
    template = "ua-message"
    folder   = "../definitions/mail"
    sender   = "messages@example.com"
    identity = "address"
  }

  assert {
    condition     = aws_ses_email_identity.this[0].email == "messages@example.com" && length(aws_ses_domain_identity.this) == 0
    error_message = "SES must be asked to verify the sender's address alone."
  }

  assert {
    condition     = output.arns == ["arn:aws:ses:eu-central-1:123456789012:identity/messages@example.com", "arn:aws:ses:eu-central-1:123456789012:template/ua-message"]
    error_message = "A sender needs the identity and the template."
  }

  assert {
    condition     = alltrue([for part in [aws_ses_template.message.html, aws_ses_template.message.text] : strcontains(part, "{{ack_url}}") && strcontains(part, "{{message_id}}") && strcontains(part, "{{attempt}}")])
    error_message = "Both parts of a mail must have the ACK link, the message's id and the attempt."
  }

  assert {
    condition     = strcontains(aws_ses_template.message.html, "{{html}}") && strcontains(aws_ses_template.message.text, "{{text}}") && aws_ses_template.message.subject == "{{subject}}"
    error_message = "Each part must have its own form of the text."
  }

  assert {
    condition     = !can(regex("\\{\\{(text|subject)\\}\\}", aws_ses_template.message.html))
    error_message = "SES escapes nothing: no unescaped text may get into the HTML."
  }

  assert {
    # What the channel gives; SES drops a mail silently when a variable is missing.
    condition = alltrue([
      for variable in regexall("\\{\\{([a-z_]+)\\}\\}", "${aws_ses_template.message.subject}${aws_ses_template.message.html}${aws_ses_template.message.text}") :
      contains(["subject", "text", "html", "ack_url", "message_id", "attempt"], variable[0])
    ])
    error_message = "A mail may have no variable that the channel does not give."
  }
}

run "mail_from_a_domain" {
  module {
    source = "./modules/mail"
  }

  variables {
    template = "ua-message"
    folder   = "../definitions/mail"
    sender   = "messages@example.com"
    identity = "domain"
  }

  assert {
    condition     = aws_ses_domain_identity.this[0].domain == "example.com" && aws_ses_domain_dkim.this[0].domain == "example.com" && length(aws_ses_email_identity.this) == 0
    error_message = "SES must be asked to verify and sign for the sender's domain."
  }

  assert {
    condition     = contains(keys(output.dns_records), "_amazonses.example.com TXT")
    error_message = "The record that verifies the domain must be told."
  }

  assert {
    condition     = output.arns[0] == "arn:aws:ses:eu-central-1:123456789012:identity/example.com"
    error_message = "The identity must be the domain."
  }
}

run "mail_from_an_identity_that_exists" {
  module {
    source = "./modules/mail"
  }

  variables {
    template = "ua-message"
    folder   = "../definitions/mail"
    sender   = "messages@example.com"
    identity = "existing"
  }

  assert {
    condition     = length(aws_ses_email_identity.this) + length(aws_ses_domain_identity.this) == 0 && output.dns_records == {}
    error_message = "Nothing is to be verified."
  }

  assert {
    condition     = join(" ", output.arns) == "arn:aws:ses:eu-central-1:123456789012:identity/messages@example.com arn:aws:ses:eu-central-1:123456789012:identity/example.com arn:aws:ses:eu-central-1:123456789012:template/ua-message"
    error_message = "It may be the address or its domain that has been verified."
  }
}

run "refuses_unknown_identities" {
  command = plan
  module {
    source = "./modules/mail"
  }
  variables {
    template = "a template"
    folder   = "../definitions/mail"
    sender   = "messages@example.com"
    identity = "mailbox"
  }
  expect_failures = [var.template, var.identity]
}

run "schedule" {
  module {
    source = "./modules/schedule"
  }

  variables {
    name         = "ua-sweep"
    description  = "How often."
    rate         = "rate(5 minutes)"
    function     = { name = "ua-sweep", arn = "arn:aws:lambda:eu-central-1:123456789012:function:ua-sweep" }
    dead_letters = "arn:aws:sqs:eu-central-1:123456789012:ua-sweep-dlq"
  }

  assert {
    condition     = aws_cloudwatch_event_rule.this.schedule_expression == "rate(5 minutes)" && aws_cloudwatch_event_rule.this.state == "ENABLED"
    error_message = "The rule must run at the rate that is set."
  }

  assert {
    condition     = aws_cloudwatch_event_target.this.arn == var.function.arn && aws_cloudwatch_event_target.this.dead_letter_config[0].arn == var.dead_letters
    error_message = "The rule must invoke the function, and keep what it could not hand over."
  }

  assert {
    condition     = aws_lambda_permission.this.principal == "events.amazonaws.com" && aws_lambda_permission.this.source_arn == aws_cloudwatch_event_rule.this.arn && aws_lambda_permission.this.function_name == "ua-sweep"
    error_message = "That rule, and no other, may invoke the function."
  }
}

run "a_schedule_that_rests" {
  module {
    source = "./modules/schedule"
  }

  variables {
    name         = "ua-sweep"
    description  = "How often."
    rate         = "rate(1 minute)"
    enabled      = false
    function     = { name = "ua-sweep", arn = "arn:aws:lambda:eu-central-1:123456789012:function:ua-sweep" }
    dead_letters = "arn:aws:sqs:eu-central-1:123456789012:ua-sweep-dlq"
  }

  assert {
    condition     = aws_cloudwatch_event_rule.this.state == "DISABLED"
    error_message = "A rule that is not enabled must not run."
  }
}

run "refuses_rates_that_eventbridge_does_not_know" {
  command = plan
  module {
    source = "./modules/schedule"
  }
  variables {
    name         = "a name"
    description  = "How often."
    rate         = "rate(1 minutes)"
    function     = { name = "ua-sweep", arn = "arn:aws:lambda:eu-central-1:123456789012:function:ua-sweep" }
    dead_letters = "arn:aws:sqs:eu-central-1:123456789012:ua-sweep-dlq"
  }
  expect_failures = [var.name, var.rate]
}

run "alarms" {
  module {
    source = "./modules/alarms"
  }

  variables {
    prefix       = "ua"
    topic_arn    = "arn:aws:sns:eu-central-1:123456789012:ua-alerts"
    period       = 60
    errors       = 2
    throttles    = 3
    api_5xx      = 4
    dead_letters = { webhook = "ua-webhook-dlq" }
    queues       = { webhook = { name = "ua-webhook", max_age = 300 } }
    functions    = { query = { name = "ua-query", in_loop = false }, check-ack = { name = "ua-check-ack", in_loop = true } }
    machines     = { delivery_poll = "arn:aws:states:eu-central-1:123456789012:stateMachine:ua-delivery-poll" }
    api          = { name = "ua-api", stage = "v1" }
  }

  assert {
    condition = { for name, alarm in output.alarms : name => [alarm.metric, join(" ", [for k, v in alarm.dimensions : "${k}=${v}"]), alarm.threshold] } == {
      ua-webhook-dead-letters    = ["AWS/SQS ApproximateNumberOfMessagesVisible", "QueueName=ua-webhook-dlq", 1]
      ua-webhook-age             = ["AWS/SQS ApproximateAgeOfOldestMessage", "QueueName=ua-webhook", 300]
      ua-query-errors            = ["AWS/Lambda Errors", "FunctionName=ua-query", 2]
      ua-query-throttles         = ["AWS/Lambda Throttles", "FunctionName=ua-query", 3]
      ua-check-ack-errors        = ["AWS/Lambda Errors", "FunctionName=ua-check-ack", 2]
      ua-check-ack-throttles     = ["AWS/Lambda Throttles", "FunctionName=ua-check-ack", 3]
      ua-check-ack-recursion     = ["AWS/Lambda RecursiveInvocationsDropped", "FunctionName=ua-check-ack", 1]
      ua-delivery-poll-failed    = ["AWS/States ExecutionsFailed", "StateMachineArn=arn:aws:states:eu-central-1:123456789012:stateMachine:ua-delivery-poll", 2]
      ua-delivery-poll-timed-out = ["AWS/States ExecutionsTimedOut", "StateMachineArn=arn:aws:states:eu-central-1:123456789012:stateMachine:ua-delivery-poll", 2]
      ua-delivery-poll-throttled = ["AWS/States ExecutionThrottled", "StateMachineArn=arn:aws:states:eu-central-1:123456789012:stateMachine:ua-delivery-poll", 3]
      ua-api-5xx                 = ["AWS/ApiGateway 5XXError", "ApiName=ua-api Stage=v1", 4]
    }
    error_message = "Each fault must have its alarm, on the right metric."
  }

  assert {
    condition     = alltrue([for alarm in aws_cloudwatch_metric_alarm.this : alarm.alarm_actions == toset([var.topic_arn]) && length(alarm.ok_actions) == 0])
    error_message = "An alarm must be told; its end only where that is asked for."
  }

  assert {
    condition     = alltrue([for alarm in aws_cloudwatch_metric_alarm.this : alarm.treat_missing_data == "notBreaching" && alarm.comparison_operator == "GreaterThanOrEqualToThreshold" && alarm.period == 60])
    error_message = "An idle stack must not alarm; a value at its threshold must."
  }

  assert {
    condition = { for name, alarm in output.alarms : name => regex("docs/operations\\.md#[a-z0-9-]+$", alarm.description) } == {
      ua-webhook-dead-letters    = "docs/operations.md#dead-letters"
      ua-webhook-age             = "docs/operations.md#queue-age"
      ua-query-errors            = "docs/operations.md#function-errors"
      ua-query-throttles         = "docs/operations.md#function-throttles"
      ua-check-ack-errors        = "docs/operations.md#function-errors"
      ua-check-ack-throttles     = "docs/operations.md#function-throttles"
      ua-check-ack-recursion     = "docs/operations.md#recursion"
      ua-delivery-poll-failed    = "docs/operations.md#workflow-failures"
      ua-delivery-poll-timed-out = "docs/operations.md#workflow-failures"
      ua-delivery-poll-throttled = "docs/operations.md#workflow-throttles"
      ua-api-5xx                 = "docs/operations.md#api-5xx"
    }
    error_message = "Each alarm must say where to read what to do."
  }
}

run "alarms_whose_end_is_told" {
  command = plan
  module {
    source = "./modules/alarms"
  }

  variables {
    prefix       = "ua"
    topic_arn    = "arn:aws:sns:eu-central-1:123456789012:ua-alerts"
    period       = 60
    tell_ok      = true
    errors       = 1
    throttles    = 1
    api_5xx      = 1
    dead_letters = {}
    queues       = {}
    functions    = {}
    api          = { name = "ua-api", stage = "v1" }
  }

  assert {
    condition     = aws_cloudwatch_metric_alarm.this["api-5xx"].ok_actions == toset([var.topic_arn])
    error_message = "The end of an alarm must be told where that is wanted."
  }
}

run "refuses_alarms_that_cannot_be" {
  command = plan
  module {
    source = "./modules/alarms"
  }
  variables {
    prefix       = "ua"
    topic_arn    = "arn:aws:sns:eu-central-1:123456789012:ua-alerts"
    period       = 45
    errors       = 0
    throttles    = 0
    api_5xx      = 0
    dead_letters = {}
    queues       = { webhook = { name = "ua-webhook", max_age = 0 } }
    functions    = {}
    api          = { name = "ua-api", stage = "v1" }
  }
  expect_failures = [var.period, var.errors, var.throttles, var.api_5xx, var.queues]
}
