output "arn" {
  description = "The state machine's ARN."
  value       = aws_sfn_state_machine.this.arn
}

output "name" {
  description = "The state machine's name."
  value       = aws_sfn_state_machine.this.name
}

output "type" {
  description = "STANDARD or EXPRESS."
  value       = aws_sfn_state_machine.this.type
}

output "definition" {
  description = "The definition, with its variables replaced."
  value       = local.definition
}

output "policy" {
  description = "What its role may do, as JSON."
  value       = aws_iam_role_policy.this.policy
}

output "log_group" {
  description = "The name of its log group."
  value       = aws_cloudwatch_log_group.this.name
}

output "log_level" {
  description = "What is logged."
  value       = var.log_level
}
