data "aws_caller_identity" "current" {}
data "aws_partition" "current" {}
data "aws_region" "current" {}

locals {
  definitions = "${path.module}/../definitions"

  account = {
    partition = data.aws_partition.current.partition
    region    = data.aws_region.current.name
    id        = data.aws_caller_identity.current.account_id
  }

  package = merge(module.package.object, {
    runtime      = var.functions.runtime
    architecture = var.functions.architecture
  })

  # The delay's label has the largest unit that it is a whole number of: timer-15s, timer-4h.
  timers = { for delay in distinct(var.retry_delays) : format("timer-%s",
    delay % 86400 == 0 ? "${delay / 86400}d" :
    delay % 3600 == 0 ? "${delay / 3600}h" :
    delay % 60 == 0 ? "${delay / 60}m" :
    "${delay}s"
  ) => delay }

  secrets = merge(
    { for id in var.capability_key_ids : "capability-${id}" => "Signs and verifies ACK capabilities, as the key ${id}." },
    { for channel in keys(var.channels) : "webhook-key" => "From which each target's secret derives, by which it knows our webhooks." if channel == "webhook" },
  )

  secret_arns = merge({ for noun, secret in module.secret : noun => secret.arn }, var.existing_secrets)

  queues = merge(module.channel_queue.queues, module.timer_queue.queues)

  dead_letters = merge(
    module.channel_queue.dead_letters,
    module.timer_queue.dead_letters,
    { events = module.events.dead_letters, alerts = module.alerts.dead_letters, sweep = module.sweep_dead_letters },
    { for bus in module.bus : "attempts" => bus.dead_letters },
    { for queue in module.settle_dead_letters : "settle" => queue },
  )

  functions = merge(
    module.api_function,
    { for channel, function in module.deliver : "deliver-${channel}" => function },
    { check-ack = module.check_ack, sweep = module.sweep },
    module.invoked_function,
  )

  api_functions = { for noun, function in {
    submit = {
      description = "Takes messages in: durable first, then the first attempt."
      environment = local.submit_environment
      statements  = local.submit_statements
      in_loop     = true
    }
    query = {
      description = "Reads, lists and cancels messages."
      environment = local.query_environment
      statements  = local.query_statements
      in_loop     = false
    }
    redeliver = {
      description = "Opens the next life of a message that ended undelivered."
      environment = local.redeliver_environment
      statements  = local.redeliver_statements
      in_loop     = true
    }
    ack = {
      description = "Takes the targets' answers: ACK and NACK."
      environment = local.ack_environment
      statements  = local.ack_statements
      in_loop     = true
    }
    attempts = {
      description = "Sends the attempts that executions ask for to their channels' queues."
      environment = local.attempts_environment
      statements  = local.attempts_statements
      in_loop     = true
    }
    tasks = {
      description = "Lets workers take the tasks that they have pulled, and report how it went."
      environment = local.tasks_environment
      statements  = local.tasks_statements
      in_loop     = false
    }
  } : noun => function if contains(["submit", "query", "redeliver", "ack"], noun) || contains(local.workflow_functions, noun) }
}
