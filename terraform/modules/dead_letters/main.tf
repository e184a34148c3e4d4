locals {
  arn_base = "arn:${var.account.partition}:sqs:${var.account.region}:${var.account.id}"
}

resource "aws_sqs_queue" "this" {
  name                      = var.name
  message_retention_seconds = 1209600 # 14 days, the longest that SQS has: dead letters wait for people
  sqs_managed_sse_enabled   = true

  redrive_allow_policy = var.source_queue == null ? jsonencode({ redrivePermission = "denyAll" }) : jsonencode({
    redrivePermission = "byQueue"
    sourceQueueArns   = ["${local.arn_base}:${var.source_queue}"]
  })

  policy = jsonencode({
    Version = "2012-10-17"
    Statement = concat(
      [{
        # A denial is the one place where "every action" is the narrow choice.
        Sid       = "OnlyOverTls"
        Effect    = "Deny"
        Principal = "*"
        Action    = "sqs:*"
        Resource  = "${local.arn_base}:${var.name}"
        Condition = { Bool = { "aws:SecureTransport" = "false" } }
      }],
      [for service, sources in var.senders : {
        Sid       = "From${title(trimsuffix(service, ".amazonaws.com"))}"
        Effect    = "Allow"
        Principal = { Service = service }
        Action    = "sqs:SendMessage"
        Resource  = "${local.arn_base}:${var.name}"
        Condition = { ArnEquals = { "aws:SourceArn" = sources } }
      }]
    )
  })
}
