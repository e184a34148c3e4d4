output "name" {
  description = "The table's name."
  value       = aws_dynamodb_table.this.name
}

output "arn" {
  description = "The table's ARN."
  value       = local.arn
}

output "index_arns" {
  description = "The indexes' ARNs, by name."
  value       = { for name in keys(local.indexes) : name => "${local.arn}/index/${name}" }
}
