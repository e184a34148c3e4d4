# The way a message goes, from left to right:
#
#   producer ── api ── submit ──> table                                     the truth
#                        └─────> channel queue ──> deliver-<channel> ──> target
#                                     ▲                └──> timer queue    timer n, before the sending
#                                     └── check-ack <─────────┘ ▲
#                                              └────────────────┘          hops, until it is due
#   target ──── api ── ack ────> table
#   workflows: executions in place of the timers, for messages that ask for one.
#   sweep: takes over what got lost on the way. events, alerts: what happened, and what a person must hear of.

module "table" {
  source = "./modules/table"

  account                = local.account
  name                   = "${var.prefix}-messages"
  deletion_protection    = var.table.deletion_protection
  point_in_time_recovery = var.table.point_in_time_recovery
  kms_key_arn            = var.table.kms_key_arn
}

module "package" {
  source = "./modules/package"

  account       = local.account
  prefix        = var.prefix
  path          = var.package_path
  force_destroy = var.functions.package_force_destroy
}

# ---- the channels: one queue, one dead-letter queue, one function and one role each (bulkheads)

module "channel_queue" {
  source = "./modules/queue"

  account = local.account
  queues = { for channel, settings in var.channels : channel => {
    name               = "${var.prefix}-${channel}"
    consumer_timeout   = settings.timeout
    consumer_window    = settings.batch_window
    visibility_timeout = 6 * settings.timeout + settings.batch_window
    retention          = var.queues.retention
    max_receive_count  = var.queues.max_receive_count
    senders            = { for service in ["events.amazonaws.com"] : service => [local.bus_rule_arns[channel]] if contains(keys(local.bus_rule_arns), channel) }
  } }
}

module "deliver" {
  source   = "./modules/function"
  for_each = var.channels

  account              = local.account
  name                 = "${var.prefix}-deliver-${each.key}"
  description          = "Makes the attempts of the channel ${each.key}: claim, arm the timer, send, record."
  handler              = "handlers.deliver.handler"
  package              = local.package
  memory               = each.value.memory
  timeout              = each.value.timeout
  reserved_concurrency = each.value.reserved_concurrency
  environment          = local.deliver_environment[each.key]
  statements           = local.deliver_statements[each.key]
  in_loop              = true
  log_retention_days   = var.functions.log_retention_days

  sources = {
    (each.key) = {
      arn                 = module.channel_queue.queues[each.key].arn
      batch_size          = each.value.batch_size
      window              = each.value.batch_window
      maximum_concurrency = each.value.maximum_concurrency
      enabled             = !each.value.paused
    }
  }
}

# ---- the timers: one queue for each different delay

module "timer_queue" {
  source = "./modules/queue"

  account = local.account
  queues = { for timer, delay in local.timers : timer => {
    name               = "${var.prefix}-${timer}"
    delay              = min(delay, var.timer_cap)
    consumer_timeout   = var.timers.timeout
    visibility_timeout = 6 * var.timers.timeout
    retention          = var.queues.retention
    max_receive_count  = var.queues.max_receive_count
  } }
}

module "check_ack" {
  source = "./modules/function"

  account              = local.account
  name                 = "${var.prefix}-check-ack"
  description          = "Answers timers: has it been ACKed? If not: hop, ask for the next attempt, or end the message."
  handler              = "handlers.check_ack.handler"
  package              = local.package
  memory               = var.timers.memory
  timeout              = var.timers.timeout
  reserved_concurrency = var.timers.reserved_concurrency
  environment          = local.check_ack_environment
  statements           = local.check_ack_statements
  in_loop              = true
  log_retention_days   = var.functions.log_retention_days

  sources = { for timer, queue in module.timer_queue.queues : timer => {
    arn                 = queue.arn
    batch_size          = var.timers.batch_size
    maximum_concurrency = var.timers.maximum_concurrency
  } }
}

# ---- the API, and the functions behind it

module "api_function" {
  source   = "./modules/function"
  for_each = local.api_functions

  account              = local.account
  name                 = "${var.prefix}-${each.key}"
  description          = each.value.description
  handler              = "handlers.${each.key}.handler"
  package              = local.package
  memory               = var.functions.memory
  timeout              = var.functions.timeout
  reserved_concurrency = lookup(var.functions.reserved_concurrency, each.key, null)
  environment          = each.value.environment
  statements           = each.value.statements
  in_loop              = each.value.in_loop
  log_retention_days   = var.functions.log_retention_days
}

module "api" {
  source = "./modules/api"

  name               = "${var.prefix}-api"
  definition         = "${local.definitions}/api.openapi.yaml"
  functions          = { for noun, function in module.api_function : noun => function.name }
  rate               = var.api.rate
  burst              = var.api.burst
  url_template       = var.api.url_template
  own_address        = anytrue([for settings in values(local.workflows) : settings.asks == "route"])
  domain             = var.api.domain_name == null ? null : { name = var.api.domain_name, certificate_arn = var.api.certificate_arn }
  access_logs        = var.api.access_logs
  account_role       = var.api.account_role
  log_retention_days = var.functions.log_retention_days

  integrations = { for noun in ["submit", "query", "redeliver", "ack", "attempts", "tasks"] : noun =>
    "arn:${local.account.partition}:apigateway:${local.account.region}:lambda:path/2015-03-31/functions/${local.function_arns[noun]}/invocations"
  }

  left_out = [for route, noun in local.internal_routes : route if !contains(local.workflow_functions, noun)]
  routes = merge({ for route, noun in local.internal_routes : route => noun if contains(local.workflow_functions, noun) }, {
    "POST /messages"                = "submit"
    "POST /messages/batch"          = "submit"
    "GET /messages"                 = "query"
    "GET /messages/{id}"            = "query"
    "DELETE /messages/{id}"         = "query"
    "POST /messages/{id}/redeliver" = "redeliver"
    "GET /messages/{id}/ack"        = "ack"
    "POST /messages/{id}/ack"       = "ack"
    "POST /messages/{id}/nack"      = "ack"
    "POST /acks"                    = "ack"
  })
}

# ---- the workflows: who holds the time between attempts where a message asks for one of them

module "workflow" {
  source   = "./modules/workflow"
  for_each = local.workflows

  account                = local.account
  name                   = local.machine_names[each.key]
  definition             = "${local.definitions}/${each.value.definition}.asl.json"
  substitutions          = local.substitutions
  type                   = each.value.type
  statements             = local.machine_statements[each.key]
  log_level              = each.value.type == "EXPRESS" ? var.workflow_settings.express_log_level : var.workflow_settings.log_level
  include_execution_data = var.workflow_settings.include_execution_data
  log_retention_days     = var.functions.log_retention_days

  depends_on = [aws_sfn_activity.this]
}

module "invoked_function" {
  source   = "./modules/function"
  for_each = local.invoked_functions

  account              = local.account
  name                 = "${var.prefix}-${each.key}"
  description          = each.value.description
  handler              = "handlers.${each.key}.handler"
  package              = local.package
  memory               = var.functions.memory
  timeout              = each.value.timeout
  reserved_concurrency = lookup(var.functions.reserved_concurrency, each.key, null)
  environment          = each.value.environment
  statements           = each.value.statements
  in_loop              = each.value.in_loop
  failures             = [for queue in module.settle_dead_letters : { queue = queue.arn, retries = 2, max_age = 3600 } if each.key == "settle"]
  log_retention_days   = var.functions.log_retention_days
}

# delivery_event: executions put events on a bus, which hands each to its channel's queue.
module "bus" {
  source   = "./modules/bus"
  for_each = toset([for name in [local.bus] : "attempts" if name != null])

  account = local.account
  name    = local.bus
  queues  = { for channel, queue in module.channel_queue.queues : channel => queue.arn }
  rules = { for channel in keys(var.channels) : channel => {
    description = "Attempts of the channel ${channel} that executions ask for."
    pattern     = jsonencode({ source = ["until-ack"], "detail-type" = ["attempt.${channel}"] })
    input_path  = "$.detail"
  } }
}

# delivery_activity, delivery_push: tasks that wait until somebody pulls them.
resource "aws_sfn_activity" "this" {
  for_each = local.activity_names

  name = each.value
}

# An execution that ends badly leaves its message to settle.
module "settle_rule" {
  source   = "./modules/rule"
  for_each = toset(length(local.standard_arns) == 0 ? [] : ["settle"])

  name         = "${var.prefix}-settle"
  description  = "Executions that failed, timed out or were stopped."
  pattern      = jsonencode(local.failures)
  function     = { name = module.invoked_function["settle"].name, arn = module.invoked_function["settle"].arn }
  dead_letters = module.settle_dead_letters["settle"].arn
}

module "settle_dead_letters" {
  source   = "./modules/dead_letters"
  for_each = toset(length(local.standard_arns) == 0 ? [] : ["settle"])

  account = local.account
  name    = "${var.prefix}-settle-dlq"
  senders = { "events.amazonaws.com" = ["arn:${local.account.partition}:events:${local.account.region}:${local.account.id}:rule/${var.prefix}-settle"] }
}

# For people to attach to what their workers run as.
resource "aws_iam_policy" "worker" {
  count = contains(var.workflows, "delivery_activity") ? 1 : 0

  name        = "${var.prefix}-worker"
  description = "What a worker of ${var.prefix} may do: pull tasks, keep them alive, and report how it went."
  policy      = jsonencode(local.worker_policy)
}

# ---- the sweep

module "sweep" {
  source = "./modules/function"

  account              = local.account
  name                 = "${var.prefix}-sweep"
  description          = "Takes over what its timers or attempts have lost, and tells what nobody told."
  handler              = "handlers.sweep.handler"
  package              = local.package
  memory               = var.sweep.memory
  timeout              = var.sweep.timeout
  reserved_concurrency = lookup(var.functions.reserved_concurrency, "sweep", null)
  environment          = local.sweep_environment
  statements           = local.sweep_statements
  in_loop              = true
  failures             = [{ queue = module.sweep_dead_letters.arn }]
  log_retention_days   = var.functions.log_retention_days
}

module "sweep_schedule" {
  source = "./modules/schedule"

  name         = "${var.prefix}-sweep"
  description  = "How often the sweep looks for what is overdue or untold."
  rate         = var.sweep.rate
  enabled      = var.sweep.enabled
  function     = { name = module.sweep.name, arn = module.sweep.arn }
  dead_letters = module.sweep_dead_letters.arn
}

module "sweep_dead_letters" {
  source = "./modules/dead_letters"

  account = local.account
  name    = "${var.prefix}-sweep-dlq"
  senders = { "events.amazonaws.com" = [module.sweep_schedule.arn] }
}

# ---- failure is heard

module "topics_key" {
  source = "./modules/key"

  account     = local.account
  alias       = "${var.prefix}-topics"
  description = "Encrypts the topics of ${var.prefix}."
  services    = ["cloudwatch.amazonaws.com"]
}

module "events" {
  source = "./modules/topic"

  account       = local.account
  name          = "${var.prefix}-events"
  display_name  = "until-ack events"
  kms_key_arn   = module.topics_key.arn
  subscriptions = var.event_subscriptions
}

module "alerts" {
  source = "./modules/topic"

  account       = local.account
  name          = "${var.prefix}-alerts"
  display_name  = "until-ack alerts"
  kms_key_arn   = module.topics_key.arn
  services      = ["cloudwatch.amazonaws.com"]
  subscriptions = { for address in var.alert_emails : address => { protocol = "email", endpoint = address } }
}

check "somebody_hears" {
  assert {
    condition     = length(var.alert_emails) > 0
    error_message = "Nobody hears of alarms and of messages that ended undelivered: name somebody in alert_emails."
  }
}

module "alarms" {
  source = "./modules/alarms"

  prefix       = var.prefix
  topic_arn    = module.alerts.arn
  period       = var.alarms.period
  errors       = var.alarms.errors
  throttles    = var.alarms.throttles
  api_5xx      = var.alarms.api_5xx
  tell_ok      = var.alarms.tell_ok
  dead_letters = { for noun, queue in local.dead_letters : noun => queue.name }
  api          = { name = module.api.name, stage = module.api.stage }

  functions = { for noun, function in local.functions : noun => {
    name    = function.name
    in_loop = function.recursive_loop == "Allow"
  } }

  machines = local.machine_arns

  queues = merge(
    { for channel, queue in module.channel_queue.queues : channel => { name = queue.name, max_age = var.alarms.queue_age } },
    { for timer, queue in module.timer_queue.queues : timer => { name = queue.name, max_age = var.alarms.queue_age + var.timer_cap } },
  )
}

# ---- what the channels need

module "mail" {
  source   = "./modules/mail"
  for_each = toset([for channel in keys(var.channels) : channel if channel == "email"])

  account  = local.account
  template = "${var.prefix}-message"
  folder   = "${local.definitions}/mail"
  sender   = var.mail_sender
  identity = var.mail_identity
}

module "secret" {
  source   = "./modules/secret"
  for_each = { for noun, purpose in local.secrets : noun => purpose if !contains(keys(var.existing_secrets), noun) }

  name          = "${var.prefix}-${each.key}"
  description   = each.value
  recovery_days = var.secret_recovery_days
}
