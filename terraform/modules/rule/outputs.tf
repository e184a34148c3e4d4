output "arn" {
  description = "The rule's ARN."
  value       = aws_cloudwatch_event_rule.this.arn
}

output "pattern" {
  description = "The rule's pattern, as JSON."
  value       = aws_cloudwatch_event_rule.this.event_pattern
}
