# All queues of a kind in one module, not one module a queue: whoever needs a queue's address then
# waits for the queues, and not for their redrive policies too.

locals {
  # By name rather than from the resource: a plan then shows every policy in full.
  arns = { for noun, queue in aws_sqs_queue.this : noun => "${local.arn_base}:${queue.name}" }

  arn_base = "arn:${var.account.partition}:sqs:${var.account.region}:${var.account.id}"

  # 14 days, which the module dead_letters sets.
  dead_letter_retention = 1209600
}

resource "aws_sqs_queue" "this" {
  for_each = var.queues

  name                       = each.value.name
  delay_seconds              = each.value.delay
  visibility_timeout_seconds = each.value.visibility_timeout
  message_retention_seconds  = each.value.retention
  sqs_managed_sse_enabled    = true

  # Who may send and receive is said by the roles of functions and workflows; here only how, and which services.
  policy = jsonencode({
    Version = "2012-10-17"
    Statement = concat(
      [{
        # A denial is the one place where "every action" is the narrow choice.
        Sid       = "OnlyOverTls"
        Effect    = "Deny"
        Principal = "*"
        Action    = "sqs:*"
        Resource  = "${local.arn_base}:${each.value.name}"
        Condition = { Bool = { "aws:SecureTransport" = "false" } }
      }],
      [for service, sources in each.value.senders : {
        Sid       = "From${title(trimsuffix(service, ".amazonaws.com"))}"
        Effect    = "Allow"
        Principal = { Service = service }
        Action    = "sqs:SendMessage"
        Resource  = "${local.arn_base}:${each.value.name}"
        Condition = { ArnEquals = { "aws:SourceArn" = sources } }
      }]
    )
  })

  lifecycle {
    precondition {
      condition     = each.value.visibility_timeout >= 6 * each.value.consumer_timeout + each.value.consumer_window
      error_message = "The visibility timeout of ${each.value.name} must be at least six times its function's timeout, and the batches' window: a message must not come again while its batch is being retried."
    }

    precondition {
      condition     = each.value.retention < local.dead_letter_retention
      error_message = "The retention of ${each.value.name} must be shorter than its dead-letter queue's (14 days): a dead letter keeps its age, and would be gone at once."
    }

    precondition {
      condition     = each.value.max_receive_count >= 5
      error_message = "The max_receive_count of ${each.value.name} must be at least 5: receives that Lambda throttles count too."
    }
  }
}

# They inherit neither delay nor retention.
module "dead_letters" {
  source   = "../dead_letters"
  for_each = var.queues

  account      = var.account
  name         = "${each.value.name}-dlq"
  source_queue = each.value.name
}

resource "aws_sqs_queue_redrive_policy" "this" {
  for_each = var.queues

  queue_url = aws_sqs_queue.this[each.key].url
  redrive_policy = jsonencode({
    deadLetterTargetArn = module.dead_letters[each.key].arn
    maxReceiveCount     = each.value.max_receive_count
  })
}
