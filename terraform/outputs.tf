output "region" {
  description = "Where the stack is."
  value       = data.aws_region.current.name
}

output "api_id" {
  description = "The REST API's id."
  value       = module.api.id
}

output "api_url" {
  description = "The API's address, without a slash at its end."
  value       = module.api.url
}

output "ack_base_url" {
  description = "What ACK URLs begin with."
  value       = module.api.url
}

output "api_execution_arn" {
  description = "For producers' policies: execute-api:Invoke on <this>/v1/POST/messages and so on."
  value       = module.api.execution_arn
}

output "api_domain_target" {
  description = "Where the DNS record of the API's own domain must point; null without such a domain."
  value       = module.api.domain_target
}

output "table" {
  description = "The messages table's name."
  value       = module.table.name
}

output "queues" {
  description = "The queues' URLs, by noun: webhook, email, timer-15s and so on."
  value       = { for noun, queue in local.queues : noun => queue.url }
}

output "dlqs" {
  description = "The dead-letter queues' URLs, by the noun of the queue, topic, function or event bus (attempts) whose they are."
  value       = { for noun, queue in local.dead_letters : noun => queue.url }
}

output "topics" {
  description = "The topics' ARNs: events, alerts."
  value       = { events = module.events.arn, alerts = module.alerts.arn }
}

output "topics_key" {
  description = "ARN of the key that encrypts the topics. Who reads them is not concerned by it."
  value       = module.topics_key.arn
}

output "functions" {
  description = "The functions' names, by noun."
  value       = { for noun, function in local.functions : noun => function.name }
}

output "capability_key_secrets" {
  description = "ARNs of the secrets that sign capabilities, by key id."
  value       = { for id in var.capability_key_ids : id => local.secret_arns["capability-${id}"] }
}

output "webhook_key_secret" {
  description = "ARN of the secret from which each webhook target's secret derives; null without that channel."
  value       = lookup(local.secret_arns, "webhook-key", null)
}

output "mail_template" {
  description = "The mail template's name; null without the email channel."
  value       = one([for mail in module.mail : mail.template])
}

output "mail_dns_records" {
  description = "With mail_identity `domain`: the records that verify the domain and sign its mails."
  value       = merge([for mail in module.mail : mail.dns_records]...)
}

output "machines" {
  description = "The state machines' ARNs, by workflow: delivery_poll, poll_express and so on."
  value       = { for workflow, machine in module.workflow : workflow => machine.arn }
}

output "workflow_log_groups" {
  description = "The names of the state machines' log groups, by workflow."
  value       = { for workflow, machine in module.workflow : workflow => machine.log_group }
}

output "activities" {
  description = "ARNs of the activities: `delivery`, whose tasks workers pull, and `push`, whose tasks only wait."
  value       = { for noun, activity in aws_sfn_activity.this : noun => activity.id }
}

output "bus" {
  description = "The name of the event bus by which the workflow delivery_event asks for attempts; null without it."
  value       = one([for bus in module.bus : bus.name])
}

output "worker_policy" {
  description = "ARN of the IAM policy for workers of the channel activity; null without the workflow delivery_activity."
  value       = one(aws_iam_policy.worker[*].arn)
}

output "alarms" {
  description = "The alarms' names."
  value       = module.alarms.names
}
