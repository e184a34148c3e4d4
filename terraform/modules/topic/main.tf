locals {
  # By name rather than from the resource: a plan then shows every policy in full.
  arn = "arn:${var.account.partition}:sns:${var.account.region}:${var.account.id}:${aws_sns_topic.this.name}"
}

resource "aws_sns_topic" "this" {
  name              = var.name
  display_name      = var.display_name
  kms_master_key_id = var.kms_key_arn
}

resource "aws_sns_topic_policy" "this" {
  arn = aws_sns_topic.this.arn
  policy = jsonencode({
    Version = "2012-10-17"
    Statement = concat(
      [{
        Sid       = "OnlyOverTls"
        Effect    = "Deny"
        Principal = "*"
        Action = [
          "sns:AddPermission", "sns:DeleteTopic", "sns:GetTopicAttributes", "sns:ListSubscriptionsByTopic",
          "sns:Publish", "sns:RemovePermission", "sns:SetTopicAttributes", "sns:Subscribe",
        ]
        Resource  = local.arn
        Condition = { Bool = { "aws:SecureTransport" = "false" } }
      }],
      [for service in var.services : {
        Sid       = "From${title(trimsuffix(service, ".amazonaws.com"))}"
        Effect    = "Allow"
        Principal = { Service = service }
        Action    = "sns:Publish"
        Resource  = local.arn
        Condition = { StringEquals = { "aws:SourceAccount" = var.account.id } }
      }]
    )
  })
}

# What a subscriber did not take. Without it SNS discards a message when its retries are used up.
module "dead_letters" {
  source  = "../dead_letters"
  account = var.account
  name    = "${var.name}-dlq"
  senders = { "sns.amazonaws.com" = [local.arn] }
}

resource "aws_sns_topic_subscription" "this" {
  for_each = var.subscriptions

  topic_arn            = aws_sns_topic.this.arn
  protocol             = each.value.protocol
  endpoint             = each.value.endpoint
  filter_policy        = each.value.filter_policy
  filter_policy_scope  = each.value.filter_policy == null ? null : each.value.filter_scope
  raw_message_delivery = each.value.raw
  redrive_policy       = jsonencode({ deadLetterTargetArn = module.dead_letters.arn })
}
