output "name" {
  description = "The event bus's name."
  value       = aws_cloudwatch_event_bus.this.name
}

output "rules" {
  description = "The rules, by noun: arn, pattern, queue, input_path, and the queue of what could not be handed over."
  value = { for noun, target in aws_cloudwatch_event_target.this : noun => {
    arn          = local.rule_arns[noun]
    pattern      = aws_cloudwatch_event_rule.this[noun].event_pattern
    queue        = target.arn
    input_path   = target.input_path
    dead_letters = target.dead_letter_config[0].arn
  } }
}

output "dead_letters" {
  description = "The queue of what could not be handed over: arn, url and name."
  value = {
    arn  = module.dead_letters.arn
    url  = module.dead_letters.url
    name = module.dead_letters.name
  }
}
