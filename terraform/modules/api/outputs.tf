output "id" {
  description = "The API's id."
  value       = aws_api_gateway_rest_api.this.id
}

output "url" {
  description = "The API's address, stage included, without a slash at its end."
  value       = local.url
}

output "execution_arn" {
  description = "What callers' policies name: <this>/v1/POST/messages and so on."
  value       = aws_api_gateway_rest_api.this.execution_arn
}

output "name" {
  description = "The API's name, as its metrics have it."
  value       = aws_api_gateway_rest_api.this.name
}

output "stage" {
  description = "The stage's name."
  value       = local.stage
}

output "domain_target" {
  description = "Where the domain's DNS record must point; null without a domain."
  value       = one(aws_api_gateway_domain_name.this[*].regional_domain_name)
}
