# until-ack as a part of somebody's own root: they bring the provider, and subscribe a queue of theirs to
# what ends badly.

terraform {
  required_version = ">= 1.11"

  required_providers {
    aws = {
      source  = "hashicorp/aws"
      version = "~> 5.100"
    }
  }
}

module "until_ack" {
  source = "../.."

  prefix       = "acme"
  package_path = "${path.module}/../package.txt"
  alert_emails = ["ops@example.com"]

  # Secrets that were there before. Without it they are made.
  existing_secrets = {
    capability-k1 = "arn:aws:secretsmanager:eu-central-1:123456789012:secret:acme-capability-AbCdEf"
    webhook-key   = "arn:aws:secretsmanager:eu-central-1:123456789012:secret:acme-webhook-key-AbCdEf"
  }

  event_subscriptions = {
    undelivered = {
      protocol      = "sqs"
      endpoint      = aws_sqs_queue.undelivered.arn
      filter_policy = jsonencode({ type = ["ended"], status = ["EXPIRED", "EXHAUSTED", "REJECTED"] })
      raw           = true
    }
  }
}

resource "aws_sqs_queue" "undelivered" {
  name = "acme-undelivered"
}

resource "aws_sqs_queue_policy" "undelivered" {
  queue_url = aws_sqs_queue.undelivered.url
  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Effect    = "Allow"
      Principal = { Service = "sns.amazonaws.com" }
      Action    = "sqs:SendMessage"
      Resource  = aws_sqs_queue.undelivered.arn
      Condition = { ArnEquals = { "aws:SourceArn" = module.until_ack.topics.events } }
    }]
  })
}

output "until_ack" {
  description = "What the module tells."
  value       = module.until_ack
}
