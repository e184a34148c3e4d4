# What each function is told: exactly what it reads.

locals {
  channel_queues = jsonencode({ for channel, queue in module.channel_queue.queues : channel => queue.url })
  timer_queues   = jsonencode({ for timer, queue in module.timer_queue.queues : tostring(local.timers[timer]) => queue.url })

  observed_environment = { for noun in concat(
    ["submit", "query", "redeliver", "ack", "check-ack", "sweep", "attempts", "tasks", "settle", "push", "job"],
    [for channel in keys(var.channels) : "deliver-${channel}"],
    ) : noun => {
    POWERTOOLS_SERVICE_NAME      = noun
    POWERTOOLS_LOG_LEVEL         = var.functions.log_level
    POWERTOOLS_METRICS_NAMESPACE = "until-ack"
  } }

  # Of all but push, which does not know the table.
  common_environment = { for noun, observed in local.observed_environment : noun => merge(observed, local.workflow_environment, {
    TABLE       = module.table.name
    SWEEP_GRACE = var.sweep.grace
  }) }

  # The workflows that there are.
  workflow_environment = { for name, value in {
    MACHINES  = jsonencode(local.machine_arns)
    HEARTBEAT = var.workflow_settings.heartbeat
  } : name => value if length(local.workflows) > 0 }

  # Of the functions that end messages and tell of it.
  telling_environment = {
    EVENTS_TOPIC = module.events.arn
    ALERTS_TOPIC = module.alerts.arn
    RETENTION    = var.messages.retention
  }

  capability_environment = {
    CAPABILITY_KEYS = jsonencode([for id in var.capability_key_ids : { id = id, secret = local.secret_arns["capability-${id}"] }])
  }

  timer_environment = {
    TIMER_QUEUES = local.timer_queues
    TIMER_CAP    = var.timer_cap
  }

  webhook_environment = {
    WEBHOOK_ALLOW_HTTP       = var.webhook.allow_http
    WEBHOOK_ALLOWED_NETWORKS = jsonencode(var.webhook.allowed_networks)
  }

  submit_environment = merge(local.common_environment["submit"], local.webhook_environment, {
    CHANNEL_QUEUES     = local.channel_queues
    SCHEDULES          = jsonencode(merge({ default = var.retry_delays }, var.schedules))
    DEFAULT_EXPIRES_IN = var.messages.default_expires_in
    MAX_PAYLOAD_BYTES  = var.messages.max_payload_bytes
  })

  query_environment = merge(local.common_environment["query"], local.telling_environment)

  redeliver_environment = merge(local.common_environment["redeliver"], local.telling_environment, {
    CHANNEL_QUEUES     = local.channel_queues
    DEFAULT_EXPIRES_IN = var.messages.default_expires_in
  })

  ack_environment = merge(
    local.common_environment["ack"], local.telling_environment, local.timer_environment, local.capability_environment,
  )

  check_ack_environment = merge(local.common_environment["check-ack"], local.telling_environment, local.timer_environment, {
    CHANNEL_QUEUES = local.channel_queues
    DLQS           = jsonencode({ for timer, queue in module.timer_queue.queues : queue.arn => module.timer_queue.dead_letters[timer].url })
  })

  sweep_environment = merge(local.common_environment["sweep"], local.telling_environment, {
    CHANNEL_QUEUES  = local.channel_queues
    PAUSED_CHANNELS = jsonencode([for channel, settings in var.channels : channel if settings.paused])
    SWEEP_LIMIT     = var.sweep.limit
  })

  deliver_environment = { for channel, settings in var.channels : channel => merge(
    local.common_environment["deliver-${channel}"],
    local.telling_environment,
    local.timer_environment,
    local.capability_environment,
    {
      CHANNEL        = channel
      CHANNEL_QUEUES = jsonencode({ (channel) = module.channel_queue.queues[channel].url })
      DLQS           = jsonencode({ (module.channel_queue.queues[channel].arn) = module.channel_queue.dead_letters[channel].url })
      ACK_BASE_URL   = module.api.url
      LEASE_SECONDS  = coalesce(settings.lease, 2 * settings.timeout)
      LATE_WINDOW    = var.messages.late_window
      SEND_SECONDS   = settings.send_seconds
    },
    channel != "webhook" ? {} : merge(local.webhook_environment, {
      WEBHOOK_KEY     = local.secret_arns["webhook-key"]
      CONNECT_TIMEOUT = var.webhook.connect_timeout
      READ_TIMEOUT    = var.webhook.read_timeout
    }),
    channel != "email" ? {} : {
      MAIL_SENDER   = var.mail_sender
      MAIL_TEMPLATE = module.mail["email"].template
    },
  ) }

  attempts_environment = merge(local.common_environment["attempts"], local.telling_environment, {
    CHANNEL_QUEUES = local.channel_queues
  })

  # As a channel's, whose workers send.
  tasks_environment = merge(
    local.common_environment["tasks"],
    local.telling_environment,
    local.timer_environment,
    local.capability_environment,
    {
      CHANNEL        = "activity"
      CHANNEL_QUEUES = local.channel_queues
      ACK_BASE_URL   = module.api.url
      LEASE_SECONDS  = var.workflow_settings.activity_lease
      LATE_WINDOW    = var.messages.late_window
      # Nothing is sent here: what a worker may take is its lease.
      SEND_SECONDS = min(900, var.workflow_settings.activity_lease)
    },
  )

  settle_environment = merge(local.common_environment["settle"], local.telling_environment, local.timer_environment, {
    CHANNEL_QUEUES = local.channel_queues
  })

  push_environment = merge(local.observed_environment["push"], {
    CHANNEL_QUEUES = local.channel_queues
    PUSH_ACTIVITY  = local.activity_arns["push"]
  })

  job_environment = merge(local.common_environment["job"], local.telling_environment, local.webhook_environment, {
    WEBHOOK_KEY     = lookup(local.secret_arns, "webhook-key", "")
    CONNECT_TIMEOUT = var.webhook.connect_timeout
    READ_TIMEOUT    = var.webhook.read_timeout
    SEND_SECONDS    = try(var.channels["webhook"].send_seconds, 0)
  })
}
