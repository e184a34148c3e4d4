output "arn" {
  description = "The topic's ARN."
  value       = local.arn
}

output "dead_letters" {
  description = "The queue of what subscribers did not take: arn, url and name."
  value = {
    arn  = module.dead_letters.arn
    url  = module.dead_letters.url
    name = module.dead_letters.name
  }
}
