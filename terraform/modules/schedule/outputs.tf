output "arn" {
  description = "The rule's ARN."
  value       = aws_cloudwatch_event_rule.this.arn
}
