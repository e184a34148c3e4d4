mock_provider "aws" {
  source = "./tests/mocks"
}

variables {
  account = { partition = "aws", region = "eu-central-1", id = "123456789012" }

  name         = "ua-events"
  display_name = "until-ack events"
  kms_key_arn  = "arn:aws:kms:eu-central-1:123456789012:key/11111111-2222-3333-4444-555555555555"
}

run "topic" {
  module {
    source = "./modules/topic"
  }

  variables {
    services = ["cloudwatch.amazonaws.com"]
    subscriptions = {
      queue    = { protocol = "sqs", endpoint = "arn:aws:sqs:eu-central-1:123456789012:theirs", raw = true, filter_policy = "{\"status\":[\"EXHAUSTED\"]}" }
      function = { protocol = "lambda", endpoint = "arn:aws:lambda:eu-central-1:123456789012:function:theirs", filter_policy = "{\"attempts\":[{\"numeric\":[\">\",3]}]}", filter_scope = "MessageBody" }
      web      = { protocol = "https", endpoint = "https://example.com/events" }
      person   = { protocol = "email", endpoint = "ops@example.com" }
    }
  }

  assert {
    condition     = aws_sns_topic.this.kms_master_key_id == var.kms_key_arn
    error_message = "The topic must be encrypted with the key that is given."
  }

  assert {
    condition = jsondecode(aws_sns_topic_policy.this.policy).Statement == [
      {
        Sid       = "OnlyOverTls"
        Effect    = "Deny"
        Principal = "*"
        Action = [
          "sns:AddPermission", "sns:DeleteTopic", "sns:GetTopicAttributes", "sns:ListSubscriptionsByTopic",
          "sns:Publish", "sns:RemovePermission", "sns:SetTopicAttributes", "sns:Subscribe",
        ]
        Resource  = "arn:aws:sns:eu-central-1:123456789012:ua-events"
        Condition = { Bool = { "aws:SecureTransport" = "false" } }
      },
      {
        Sid       = "FromCloudwatch"
        Effect    = "Allow"
        Principal = { Service = "cloudwatch.amazonaws.com" }
        Action    = "sns:Publish"
        Resource  = "arn:aws:sns:eu-central-1:123456789012:ua-events"
        Condition = { StringEquals = { "aws:SourceAccount" = "123456789012" } }
      },
    ]
    error_message = "The topic must refuse what comes without TLS, and take from CloudWatch what is this account's."
  }

  assert {
    condition = { for name, s in aws_sns_topic_subscription.this : name => [s.protocol, s.endpoint, coalesce(s.filter_policy, "all"), coalesce(s.raw_message_delivery, false)] } == {
      queue    = ["sqs", "arn:aws:sqs:eu-central-1:123456789012:theirs", "{\"status\":[\"EXHAUSTED\"]}", true]
      function = ["lambda", "arn:aws:lambda:eu-central-1:123456789012:function:theirs", "{\"attempts\":[{\"numeric\":[\">\",3]}]}", false]
      web      = ["https", "https://example.com/events", "all", false]
      person   = ["email", "ops@example.com", "all", false]
    }
    error_message = "Each subscriber must be subscribed as it asked."
  }

  assert {
    condition     = aws_sns_topic_subscription.this["queue"].filter_policy_scope == "MessageAttributes" && aws_sns_topic_subscription.this["function"].filter_policy_scope == "MessageBody"
    error_message = "A filter must look where it was told to."
  }

  assert {
    condition     = alltrue([for s in aws_sns_topic_subscription.this : s.redrive_policy == jsonencode({ deadLetterTargetArn = "arn:aws:sqs:eu-central-1:123456789012:ua-events-dlq" })])
    error_message = "What a subscriber does not take must go to the topic's dead-letter queue."
  }

  assert {
    condition     = output.dead_letters.name == "ua-events-dlq" && output.arn == "arn:aws:sns:eu-central-1:123456789012:ua-events"
    error_message = "The outputs must be the topic's."
  }
}

run "a_topic_that_no_service_publishes_to" {
  module {
    source = "./modules/topic"
  }

  assert {
    condition     = [for s in jsondecode(aws_sns_topic_policy.this.policy).Statement : s.Sid] == ["OnlyOverTls"]
    error_message = "Nobody is allowed that was not named."
  }
}

run "refuses_unknown_protocols" {
  command = plan
  module {
    source = "./modules/topic"
  }
  variables {
    name          = "a topic"
    display_name  = format("%101s", "x")
    subscriptions = { s = { protocol = "sms", endpoint = "+41790000000" } }
  }
  expect_failures = [var.name, var.display_name, var.subscriptions]
}

run "refuses_a_filter_that_is_not_json" {
  command = plan
  module {
    source = "./modules/topic"
  }
  variables {
    subscriptions = { s = { protocol = "email", endpoint = "ops@example.com", filter_policy = "status = EXHAUSTED" } }
  }
  expect_failures = [var.subscriptions]
}

run "refuses_an_unknown_scope" {
  command = plan
  module {
    source = "./modules/topic"
  }
  variables {
    subscriptions = { s = { protocol = "email", endpoint = "ops@example.com", filter_scope = "Body" } }
  }
  expect_failures = [var.subscriptions]
}

run "refuses_raw_mails" {
  command = plan
  module {
    source = "./modules/topic"
  }
  variables {
    subscriptions = { s = { protocol = "email", endpoint = "ops@example.com", raw = true } }
  }
  expect_failures = [var.subscriptions]
}

run "refuses_https_without_tls" {
  command = plan
  module {
    source = "./modules/topic"
  }
  variables {
    subscriptions = { s = { protocol = "https", endpoint = "http://example.com/events" } }
  }
  expect_failures = [var.subscriptions]
}

run "the_topics_key" {
  module {
    source = "./modules/key"
  }

  variables {
    alias       = "ua-topics"
    description = "Encrypts the topics of ua."
    services    = ["cloudwatch.amazonaws.com"]
  }

  assert {
    condition = jsondecode(aws_kms_key.this.policy).Statement == [
      {
        Sid       = "AccountByItsOwnPolicies"
        Effect    = "Allow"
        Principal = { AWS = "arn:aws:iam::123456789012:root" }
        Action    = "kms:*"
        Resource  = "*"
      },
      {
        Sid       = "FromCloudwatch"
        Effect    = "Allow"
        Principal = { Service = "cloudwatch.amazonaws.com" }
        Action    = ["kms:Decrypt", "kms:GenerateDataKey"]
        Resource  = "*"
        Condition = { StringEquals = { "aws:SourceAccount" = "123456789012" } }
      },
    ]
    error_message = "The key is the account's to manage, and CloudWatch may use it for this account's alarms."
  }

  assert {
    condition     = aws_kms_key.this.enable_key_rotation && aws_kms_alias.this.name == "alias/ua-topics" && aws_kms_alias.this.target_key_id == aws_kms_key.this.key_id
    error_message = "The key must be rotated, and be found by its alias."
  }
}

run "refuses_services_that_are_none" {
  command = plan
  module {
    source = "./modules/key"
  }
  variables {
    alias       = "ua-topics"
    description = "Encrypts the topics of ua."
    services    = ["*"]
  }
  expect_failures = [var.services]
}
