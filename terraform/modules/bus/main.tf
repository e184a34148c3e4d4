locals {
  arn_base = "arn:${var.account.partition}:events:${var.account.region}:${var.account.id}"

  # By name rather than from the resource: the dead-letter queue, which takes the longest to make, waits for nothing.
  rule_arns = { for noun in keys(var.rules) : noun => "${local.arn_base}:rule/${var.name}/${var.name}-${noun}" }
}

resource "aws_cloudwatch_event_bus" "this" {
  name = var.name
}

resource "aws_cloudwatch_event_rule" "this" {
  for_each = var.rules

  name           = "${var.name}-${each.key}"
  description    = each.value.description
  event_bus_name = aws_cloudwatch_event_bus.this.name
  event_pattern  = each.value.pattern
}

resource "aws_cloudwatch_event_target" "this" {
  for_each = var.rules

  event_bus_name = aws_cloudwatch_event_bus.this.name
  rule           = aws_cloudwatch_event_rule.this[each.key].name
  target_id      = each.key
  arn            = var.queues[each.key]
  input_path     = each.value.input_path

  retry_policy {
    maximum_event_age_in_seconds = var.max_age
    maximum_retry_attempts       = 185
  }

  dead_letter_config {
    arn = module.dead_letters.arn
  }
}

# What EventBridge could not hand over. Without it an event is gone when its retries are used up.
module "dead_letters" {
  source = "../dead_letters"

  account = var.account
  name    = "${var.name}-dlq"
  senders = { "events.amazonaws.com" = values(local.rule_arns) }
}
