output "queues" {
  description = "The queues, by noun: arn, url, name and policy; and, in seconds, delay, visibility_timeout and retention."
  value = { for noun, queue in aws_sqs_queue.this : noun => {
    arn                = local.arns[noun]
    url                = queue.url
    name               = queue.name
    policy             = queue.policy
    delay              = queue.delay_seconds
    visibility_timeout = queue.visibility_timeout_seconds
    retention          = queue.message_retention_seconds
  } }
}

output "dead_letters" {
  description = "Their dead-letter queues, by the same noun: arn, url and name."
  value       = { for noun, queue in module.dead_letters : noun => { arn = queue.arn, url = queue.url, name = queue.name } }
}
