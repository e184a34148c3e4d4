output "name" {
  description = "The function's name."
  value       = aws_lambda_function.this.function_name
}

output "arn" {
  description = "The function's ARN."
  value       = aws_lambda_function.this.arn
}

output "invoke_arn" {
  description = "The ARN by which API Gateway invokes it."
  value       = aws_lambda_function.this.invoke_arn
}

output "policy" {
  description = "What its role may do, as JSON."
  value       = aws_iam_role_policy.this.policy
}

output "environment" {
  description = "What it is told."
  value       = aws_lambda_function.this.environment[0].variables
}

output "sources" {
  description = "The queues that it reads, by name: arn, batch_size, window, maximum_concurrency, enabled, and how it reports failures."
  value = { for name, source in aws_lambda_event_source_mapping.this : name => {
    arn                 = source.event_source_arn
    batch_size          = source.batch_size
    window              = source.maximum_batching_window_in_seconds
    maximum_concurrency = source.scaling_config[0].maximum_concurrency
    enabled             = source.enabled
    response_types      = source.function_response_types
  } }
}

output "recursive_loop" {
  description = "Allow for a function in the loop of queues and functions, else null: Lambda's own choice."
  value       = one(aws_lambda_function_recursion_config.this[*].recursive_loop)
}
