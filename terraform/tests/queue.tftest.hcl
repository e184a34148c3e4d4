mock_provider "aws" {
  source = "./tests/mocks"
}

variables {
  account = { partition = "aws", region = "eu-central-1", id = "123456789012" }

  queues = {
    webhook = { name = "ua-webhook", consumer_timeout = 20, visibility_timeout = 120, retention = 345600 }
    timer   = { name = "ua-timer-4h", consumer_timeout = 20, visibility_timeout = 120, delay = 900, max_receive_count = 7 }
  }
}

run "queues" {
  module {
    source = "./modules/queue"
  }

  assert {
    condition = { for noun, queue in aws_sqs_queue.this : noun => [queue.name, queue.delay_seconds, queue.visibility_timeout_seconds, queue.message_retention_seconds] } == {
      webhook = ["ua-webhook", 0, 120, 345600]
      timer   = ["ua-timer-4h", 900, 120, 345600]
    }
    error_message = "A queue must have its own name, delay, visibility timeout and retention."
  }

  assert {
    condition     = alltrue([for queue in aws_sqs_queue.this : queue.sqs_managed_sse_enabled])
    error_message = "A queue must be encrypted."
  }

  assert {
    condition = { for noun, queue in aws_sqs_queue.this : noun => queue.policy } == { for noun in ["webhook", "timer"] : noun => jsonencode({
      Version = "2012-10-17"
      Statement = [{
        Sid       = "OnlyOverTls"
        Effect    = "Deny"
        Principal = "*"
        Action    = "sqs:*"
        Resource  = "arn:aws:sqs:eu-central-1:123456789012:${var.queues[noun].name}"
        Condition = { Bool = { "aws:SecureTransport" = "false" } }
      }]
    }) }
    error_message = "A queue's policy must refuse what comes without TLS, and grant nothing."
  }

  assert {
    condition = { for noun, redrive in aws_sqs_queue_redrive_policy.this : noun => redrive.redrive_policy } == {
      webhook = jsonencode({ deadLetterTargetArn = "arn:aws:sqs:eu-central-1:123456789012:ua-webhook-dlq", maxReceiveCount = 5 })
      timer   = jsonencode({ deadLetterTargetArn = "arn:aws:sqs:eu-central-1:123456789012:ua-timer-4h-dlq", maxReceiveCount = 7 })
    }
    error_message = "A queue's dead letters must go to its own dead-letter queue."
  }

  assert {
    condition = output.queues["timer"] == {
      arn                = "arn:aws:sqs:eu-central-1:123456789012:ua-timer-4h"
      url                = "https://sqs.eu-central-1.amazonaws.com/123456789012/a-queue"
      name               = "ua-timer-4h"
      policy             = aws_sqs_queue.this["timer"].policy
      delay              = 900
      visibility_timeout = 120
      retention          = 345600
    }
    error_message = "The outputs must say what a queue is."
  }
}

run "a_queue_that_rules_send_to" {
  command = plan
  module {
    source = "./modules/queue"
  }

  variables {
    queues = {
      webhook = {
        name    = "ua-webhook", consumer_timeout = 20, consumer_window = 5, visibility_timeout = 125
        senders = { "events.amazonaws.com" = ["arn:aws:events:eu-central-1:123456789012:rule/ua-attempts/ua-attempts-webhook"] }
      }
    }
  }

  assert {
    condition = jsondecode(aws_sqs_queue.this["webhook"].policy).Statement == [
      {
        Sid       = "OnlyOverTls"
        Effect    = "Deny"
        Principal = "*"
        Action    = "sqs:*"
        Resource  = "arn:aws:sqs:eu-central-1:123456789012:ua-webhook"
        Condition = { Bool = { "aws:SecureTransport" = "false" } }
      },
      {
        Sid       = "FromEvents"
        Effect    = "Allow"
        Principal = { Service = "events.amazonaws.com" }
        Action    = "sqs:SendMessage"
        Resource  = "arn:aws:sqs:eu-central-1:123456789012:ua-webhook"
        Condition = { ArnEquals = { "aws:SourceArn" = ["arn:aws:events:eu-central-1:123456789012:rule/ua-attempts/ua-attempts-webhook"] } }
      },
    ]
    error_message = "EventBridge may send for that one rule, and nothing comes without TLS."
  }
}

run "refuses_a_visibility_timeout_that_forgets_the_window" {
  command = plan
  module {
    source = "./modules/queue"
  }
  variables {
    queues = { q = { name = "q", consumer_timeout = 20, consumer_window = 5, visibility_timeout = 124 } }
  }
  expect_failures = [aws_sqs_queue.this]
}

run "refuses_senders_that_are_no_services_to_a_queue" {
  command = plan
  module {
    source = "./modules/queue"
  }
  variables {
    queues = { q = { name = "q", consumer_timeout = 20, visibility_timeout = 120, senders = { "*" = ["arn:aws:events:eu-central-1:123456789012:rule/r"] } } }
  }
  expect_failures = [var.queues]
}

run "dead_letters_of_a_queue" {
  module {
    source = "./modules/dead_letters"
  }

  variables {
    name         = "ua-timer-4h-dlq"
    source_queue = "ua-timer-4h"
  }

  assert {
    condition     = aws_sqs_queue.this.message_retention_seconds == 1209600
    error_message = "Dead letters must be kept for 14 days, whatever their queue's retention."
  }

  assert {
    condition     = coalesce(aws_sqs_queue.this.delay_seconds, 0) == 0
    error_message = "A dead-letter queue must not inherit its queue's delay."
  }

  assert {
    condition     = aws_sqs_queue.this.sqs_managed_sse_enabled
    error_message = "A dead-letter queue must be encrypted."
  }

  assert {
    condition = aws_sqs_queue.this.redrive_allow_policy == jsonencode({
      redrivePermission = "byQueue"
      sourceQueueArns   = ["arn:aws:sqs:eu-central-1:123456789012:ua-timer-4h"]
    })
    error_message = "A dead-letter queue must take dead letters of its own queue alone."
  }

  assert {
    condition     = [for s in jsondecode(aws_sqs_queue.this.policy).Statement : s.Sid] == ["OnlyOverTls"]
    error_message = "Nobody but the queue itself may put dead letters there by the queue's policy."
  }

  assert {
    condition     = output.arn == "arn:aws:sqs:eu-central-1:123456789012:ua-timer-4h-dlq"
    error_message = "The output must be the queue's ARN."
  }
}

run "dead_letters_of_a_topic" {
  module {
    source = "./modules/dead_letters"
  }

  variables {
    name    = "ua-events-dlq"
    senders = { "sns.amazonaws.com" = ["arn:aws:sns:eu-central-1:123456789012:ua-events"] }
  }

  assert {
    condition     = aws_sqs_queue.this.redrive_allow_policy == jsonencode({ redrivePermission = "denyAll" })
    error_message = "No queue may put dead letters into a topic's dead-letter queue."
  }

  assert {
    condition = jsondecode(aws_sqs_queue.this.policy).Statement[0] == {
      Sid       = "OnlyOverTls"
      Effect    = "Deny"
      Principal = "*"
      Action    = "sqs:*"
      Resource  = "arn:aws:sqs:eu-central-1:123456789012:ua-events-dlq"
      Condition = { Bool = { "aws:SecureTransport" = "false" } }
    }
    error_message = "A dead-letter queue must refuse what comes without TLS."
  }

  assert {
    condition = jsondecode(aws_sqs_queue.this.policy).Statement[1] == {
      Sid       = "FromSns"
      Effect    = "Allow"
      Principal = { Service = "sns.amazonaws.com" }
      Action    = "sqs:SendMessage"
      Resource  = "arn:aws:sqs:eu-central-1:123456789012:ua-events-dlq"
      Condition = { ArnEquals = { "aws:SourceArn" = ["arn:aws:sns:eu-central-1:123456789012:ua-events"] } }
    }
    error_message = "SNS may send for that one topic, and not for others."
  }

  assert {
    condition     = length(jsondecode(aws_sqs_queue.this.policy).Statement) == 2
    error_message = "Nobody else may send."
  }
}

run "refuses_a_short_visibility_timeout" {
  command = plan
  module {
    source = "./modules/queue"
  }
  variables {
    queues = { q = { name = "q", consumer_timeout = 20, visibility_timeout = 119 } }
  }
  expect_failures = [aws_sqs_queue.this]
}

run "refuses_a_retention_as_long_as_the_dead_letter_queue_s" {
  command = plan
  module {
    source = "./modules/queue"
  }
  variables {
    queues = { q = { name = "q", consumer_timeout = 20, visibility_timeout = 120, retention = 1209600 } }
  }
  expect_failures = [aws_sqs_queue.this]
}

run "refuses_few_receives" {
  command = plan
  module {
    source = "./modules/queue"
  }
  variables {
    queues = { q = { name = "q", consumer_timeout = 20, visibility_timeout = 120, max_receive_count = 4 } }
  }
  expect_failures = [aws_sqs_queue.this]
}

run "refuses_a_delay_over_sqs_s_limit" {
  command = plan
  module {
    source = "./modules/queue"
  }
  variables {
    queues = { q = { name = "q", consumer_timeout = 20, visibility_timeout = 120, delay = 901 } }
  }
  expect_failures = [var.queues]
}

run "refuses_half_seconds_of_delay" {
  command = plan
  module {
    source = "./modules/queue"
  }
  variables {
    queues = { q = { name = "q", consumer_timeout = 20, visibility_timeout = 120, delay = 0.5 } }
  }
  expect_failures = [var.queues]
}

run "refuses_a_visibility_timeout_over_12_hours" {
  command = plan
  module {
    source = "./modules/queue"
  }
  variables {
    queues = { q = { name = "q", consumer_timeout = 900, visibility_timeout = 43201 } }
  }
  expect_failures = [var.queues]
}

run "refuses_a_retention_under_a_minute" {
  command = plan
  module {
    source = "./modules/queue"
  }
  variables {
    queues = { q = { name = "q", consumer_timeout = 5, visibility_timeout = 30, retention = 59 } }
  }
  expect_failures = [var.queues]
}

run "refuses_a_name_too_long_for_its_dead_letter_queue" {
  command = plan
  module {
    source = "./modules/queue"
  }
  variables {
    queues = { q = { name = "a234567890123456789012345678901234567890123456789012345678901234567890123456x", consumer_timeout = 5, visibility_timeout = 30 } }
  }
  expect_failures = [var.queues]
}

run "refuses_a_dead_letter_queue_by_another_name" {
  command = plan
  module {
    source = "./modules/dead_letters"
  }
  variables {
    name = "ua-webhook-failures"
  }
  expect_failures = [var.name]
}

run "refuses_senders_that_are_no_services" {
  command = plan
  module {
    source = "./modules/dead_letters"
  }
  variables {
    name    = "ua-events-dlq"
    senders = { "*" = [] }
  }
  expect_failures = [var.senders]
}
