variable "prefix" {
  description = "First part of every name, so that several stacks can share an account."
  type        = string
  default     = "until-ack"
  nullable    = false

  validation {
    condition     = can(regex("^[a-z][a-z0-9]*(-[a-z0-9]+)*$", var.prefix)) && length(var.prefix) <= 40
    error_message = "prefix must be lower-case letters, digits and single hyphens, begin with a letter and have at most 40 characters: functions' names end at 64."
  }
}

variable "package_path" {
  description = "The functions' package, a zip file made by `make build`. Its content decides whether the functions are updated."
  type        = string
  nullable    = false

  validation {
    condition     = fileexists(var.package_path)
    error_message = "package_path must name a file that exists. `make build` makes the package."
  }
}

variable "functions" {
  description = <<-EOT
    What the functions have in common.
    runtime, architecture: must be the ones that the package was built for.
    memory: MB. timeout: seconds, of the functions behind the API, which has 29 s itself.
    log_level: DEBUG, INFO, WARNING or ERROR. log_retention_days: as CloudWatch Logs knows them.
    reserved_concurrency: by function (submit, query, ack, redeliver, sweep, attempts, tasks, settle, push, job);
    none is reserved without it. package_force_destroy: the bucket of the package may be destroyed with what
    else is in it.
  EOT
  type = object({
    runtime               = optional(string, "python3.13")
    architecture          = optional(string, "arm64")
    memory                = optional(number, 256)
    timeout               = optional(number, 25)
    log_level             = optional(string, "INFO")
    log_retention_days    = optional(number, 30)
    reserved_concurrency  = optional(map(number), {})
    package_force_destroy = optional(bool, false)
  })
  default  = {}
  nullable = false

  validation {
    condition     = var.functions.timeout >= 3 && var.functions.timeout <= 29
    error_message = "functions.timeout must be 3 to 29 seconds: API Gateway waits no longer."
  }

  validation {
    condition     = contains(["DEBUG", "INFO", "WARNING", "ERROR"], var.functions.log_level)
    error_message = "functions.log_level must be DEBUG, INFO, WARNING or ERROR."
  }

  validation {
    condition     = length(setsubtract(keys(var.functions.reserved_concurrency), ["submit", "query", "ack", "redeliver", "sweep", "attempts", "tasks", "settle", "push", "job"])) == 0
    error_message = "functions.reserved_concurrency is by function: submit, query, ack, redeliver, sweep, attempts, tasks, settle, push or job. Those of channels and timers are in their own settings."
  }
}

variable "retry_delays" {
  description = "The default schedule: seconds after attempts 1, 2, 3 and so on; the last repeats. Each different delay has a timer queue of its own."
  type        = list(number)
  default     = [15, 30, 14400]
  nullable    = false

  validation {
    condition     = length(var.retry_delays) >= 1 && length(var.retry_delays) <= 20
    error_message = "retry_delays must have 1 to 20 delays."
  }

  validation {
    condition     = alltrue([for d in var.retry_delays : d >= 1 && d <= 31536000 && floor(d) == d])
    error_message = "retry_delays must be whole seconds from 1 to 31536000 (a year)."
  }

  validation {
    condition     = length(distinct(var.retry_delays)) <= 10
    error_message = "retry_delays must have at most 10 different delays: each is a queue, and their addresses must fit into the functions' 4 KB of environment."
  }
}

variable "schedules" {
  description = "Further schedules that messages may name: seconds after attempts 1, 2, 3 and so on. `default` is retry_delays."
  type        = map(list(number))
  default     = {}
  nullable    = false

  validation {
    condition     = !contains(keys(var.schedules), "default")
    error_message = "schedules must not have a `default`: that is retry_delays."
  }

  validation {
    condition     = alltrue([for name in keys(var.schedules) : can(regex("^[a-z][a-z0-9-]{0,31}$", name))])
    error_message = "schedules' names must be 1 to 32 lower-case letters, digits and hyphens, and begin with a letter."
  }

  validation {
    condition     = alltrue([for delays in values(var.schedules) : length(delays) >= 1 && length(delays) <= 20])
    error_message = "schedules must have 1 to 20 delays each."
  }

  validation {
    condition     = alltrue(flatten([for delays in values(var.schedules) : [for d in delays : d >= 1 && d <= 31536000 && floor(d) == d]]))
    error_message = "schedules must be whole seconds from 1 to 31536000 (a year)."
  }
}

variable "timer_cap" {
  description = "Seconds of the longest hop of a timer. SQS delays a message by 900 s at most; tests hop sooner."
  type        = number
  default     = 900
  nullable    = false

  validation {
    condition     = var.timer_cap >= 1 && var.timer_cap <= 900 && floor(var.timer_cap) == var.timer_cap
    error_message = "timer_cap must be whole seconds from 1 to 900: SQS delays a message no longer."
  }
}

variable "timers" {
  description = <<-EOT
    The function check-ack, which answers the timer queues.
    timeout: seconds; the queues' visibility timeout is six times that. memory: MB.
    maximum_concurrency: of each timer queue. reserved_concurrency: none is reserved without it.
  EOT
  type = object({
    timeout              = optional(number, 20)
    memory               = optional(number, 256)
    batch_size           = optional(number, 10)
    maximum_concurrency  = optional(number, 10)
    reserved_concurrency = optional(number)
  })
  default  = {}
  nullable = false

  validation {
    condition     = var.timers.timeout >= 2 && var.timers.timeout <= 900
    error_message = "timers.timeout must be 2 to 900 seconds."
  }

  validation {
    condition     = var.timers.batch_size >= 1 && var.timers.batch_size <= 10 && floor(var.timers.batch_size) == var.timers.batch_size
    error_message = "timers.batch_size must be a whole number from 1 to 10: a larger batch waits to fill, and timers may not."
  }
}

variable "channels" {
  description = <<-EOT
    The ways to reach targets, by name: webhook, email. Each has a queue and a function of its own.
    paused: messages are taken in and wait. timeout: seconds, of the function; the queue's visibility
    timeout is six times that. send_seconds: the most that one sending may take. lease: seconds for which
    an attempt is its function's alone; by default twice the timeout. memory: MB. batch_size: messages that
    the function takes at once; over 10 it needs a batch_window. batch_window: seconds for which a batch may
    wait to fill; attempts come later by as much. maximum_concurrency: of the queue. reserved_concurrency: none
    is reserved without it.
  EOT
  type = map(object({
    paused               = optional(bool, false)
    timeout              = optional(number, 20)
    send_seconds         = optional(number, 15)
    lease                = optional(number)
    memory               = optional(number, 256)
    batch_size           = optional(number, 10)
    batch_window         = optional(number, 0)
    maximum_concurrency  = optional(number, 10)
    reserved_concurrency = optional(number)
  }))
  default = {
    webhook = {}
  }
  nullable = false

  validation {
    condition     = length(var.channels) >= 1 && length(setsubtract(keys(var.channels), ["webhook", "email"])) == 0
    error_message = "channels must be webhook, email or both."
  }

  validation {
    condition     = alltrue([for c in values(var.channels) : c.timeout >= 3 && c.timeout <= 900])
    error_message = "channels' timeout must be 3 to 900 seconds."
  }

  validation {
    condition     = alltrue([for c in values(var.channels) : c.send_seconds > 0 && c.send_seconds + 2 < c.timeout])
    error_message = "channels' send_seconds must leave more than 2 s of the function's timeout: for claiming, arming and recording around the sending."
  }

  validation {
    condition     = alltrue([for c in values(var.channels) : c.lease == null ? true : c.timeout < c.lease && c.lease < 6 * c.timeout])
    error_message = "channels' lease must lie between the function's timeout and the queue's visibility timeout (six times that)."
  }

  validation {
    condition     = alltrue([for c in values(var.channels) : c.batch_window >= 0 && c.batch_window <= 300 && floor(c.batch_window) == c.batch_window])
    error_message = "channels' batch_window must be whole seconds from 0 to 300."
  }

  validation {
    condition     = alltrue([for c in values(var.channels) : c.batch_size >= 1 && c.batch_size <= (c.batch_window >= 1 ? 10000 : 10) && floor(c.batch_size) == c.batch_size])
    error_message = "channels' batch_size must be 1 to 10; with a batch_window of at least 1 second, up to 10000."
  }
}

variable "webhook" {
  description = <<-EOT
    The webhook channel. allow_http: targets without TLS are accepted. allowed_networks: CIDR blocks
    that may be reached although they are private, loopback or link-local. connect_timeout,
    read_timeout: seconds.
  EOT
  type = object({
    allow_http       = optional(bool, false)
    allowed_networks = optional(list(string), [])
    connect_timeout  = optional(number, 3)
    read_timeout     = optional(number, 10)
  })
  default  = {}
  nullable = false

  validation {
    condition     = alltrue([for n in var.webhook.allowed_networks : can(cidrhost(n, 0))])
    error_message = "webhook.allowed_networks must be CIDR blocks, such as 10.0.0.0/8."
  }

  validation {
    condition     = var.webhook.connect_timeout > 0 && var.webhook.read_timeout > 0
    error_message = "webhook.connect_timeout and webhook.read_timeout must be above 0."
  }

  validation {
    condition     = !contains(keys(var.channels), "webhook") ? true : var.webhook.connect_timeout + var.webhook.read_timeout < var.channels["webhook"].send_seconds
    error_message = "webhook.connect_timeout and webhook.read_timeout together must stay below the channel's send_seconds, which stay below the function's timeout."
  }
}

variable "mail_sender" {
  description = "The address that mails of the email channel come from. Needed with that channel, and only then."
  type        = string
  default     = null

  validation {
    condition     = var.mail_sender == null ? true : can(regex("^[A-Za-z0-9.!#$%&'*+/=?^_`{|}~-]+@[A-Za-z0-9.-]+\\.[A-Za-z]{2,}$", var.mail_sender))
    error_message = "mail_sender must be a plain mail address, such as messages@example.com."
  }

  validation {
    condition     = (var.mail_sender != null) == contains(keys(var.channels), "email")
    error_message = "mail_sender and the channel email belong together: set both, or neither."
  }
}

variable "mail_identity" {
  description = "What SES is asked to verify for mail_sender: its `address`, its `domain`, or nothing, because it has been verified elsewhere (`existing`)."
  type        = string
  default     = "address"
  nullable    = false

  validation {
    condition     = contains(["address", "domain", "existing"], var.mail_identity)
    error_message = "mail_identity must be address, domain or existing."
  }
}

variable "messages" {
  description = <<-EOT
    What holds for messages, in seconds and bytes. default_expires_in: life of a message that names none.
    retention: for which an ended message is kept. late_window: for which a capability outlives its
    message, so that a late ACK is heard. max_payload_bytes: the largest payload accepted.
  EOT
  type = object({
    default_expires_in = optional(number, 604800)
    retention          = optional(number, 2592000)
    late_window        = optional(number, 1209600)
    max_payload_bytes  = optional(number, 262144)
  })
  default  = {}
  nullable = false

  validation {
    condition     = var.messages.default_expires_in >= 1 && var.messages.default_expires_in <= 31536000
    error_message = "messages.default_expires_in must be 1 to 31536000 seconds (a year)."
  }

  validation {
    condition     = var.messages.late_window >= 1209600 && var.messages.late_window <= 315360000
    error_message = "messages.late_window must be at least 1209600 seconds (14 days)."
  }

  validation {
    condition     = var.messages.retention >= var.messages.late_window && var.messages.retention <= 315360000
    error_message = "messages.retention must be at least messages.late_window: a late ACK needs the record that it is for."
  }

  validation {
    condition     = var.messages.max_payload_bytes >= 1 && var.messages.max_payload_bytes <= 262144
    error_message = "messages.max_payload_bytes must be 1 to 262144."
  }
}

variable "queues" {
  description = "What holds for all queues that functions read. retention: seconds. max_receive_count: receives before a record counts as a dead letter."
  type = object({
    retention         = optional(number, 345600)
    max_receive_count = optional(number, 5)
  })
  default  = {}
  nullable = false
}

variable "capability_key_ids" {
  description = "The keys of ACK capabilities: the first signs, all verify. To rotate, put a new one first; to retire one, remove it when its last capability has expired."
  type        = list(string)
  default     = ["k1"]
  nullable    = false

  validation {
    condition     = length(var.capability_key_ids) >= 1 && length(var.capability_key_ids) == length(distinct(var.capability_key_ids))
    error_message = "capability_key_ids must have at least one key, and none twice."
  }

  validation {
    condition     = alltrue([for id in var.capability_key_ids : can(regex("^[a-z0-9]{1,16}$", id))])
    error_message = "capability_key_ids must be 1 to 16 lower-case letters and digits each."
  }
}

variable "existing_secrets" {
  description = "Secrets (ARNs) to use instead of making them, by noun: capability-<key id>, webhook-key. A stack that takes another's place then honours the capabilities that are out."
  type        = map(string)
  default     = {}
  nullable    = false

  validation {
    condition     = length(setsubtract(keys(var.existing_secrets), concat(["webhook-key"], [for id in var.capability_key_ids : "capability-${id}"]))) == 0
    error_message = "existing_secrets must be webhook-key, or capability-<id> with an id of capability_key_ids."
  }

  validation {
    condition     = alltrue([for arn in values(var.existing_secrets) : can(regex("^arn:[a-z-]+:secretsmanager:[a-z0-9-]+:[0-9]{12}:secret:[^*]+$", arn))])
    error_message = "existing_secrets must be ARNs of Secrets Manager's."
  }
}

variable "secret_recovery_days" {
  description = "Days for which a deleted secret can be had back; 0 deletes at once."
  type        = number
  default     = 7
  nullable    = false

  validation {
    condition     = var.secret_recovery_days == 0 || (var.secret_recovery_days >= 7 && var.secret_recovery_days <= 30)
    error_message = "secret_recovery_days must be 0, or 7 to 30."
  }
}

variable "sweep" {
  description = <<-EOT
    The reconciler. rate: how often, as EventBridge says it. enabled: whether it runs by itself.
    grace: seconds that a message may be late before it is taken over. limit: messages a run.
    timeout: seconds, of the function. memory: MB.
  EOT
  type = object({
    rate    = optional(string, "rate(1 minute)")
    enabled = optional(bool, true)
    grace   = optional(number, 60)
    limit   = optional(number, 1000)
    timeout = optional(number, 50)
    memory  = optional(number, 256)
  })
  default  = {}
  nullable = false

  validation {
    condition     = var.sweep.grace >= 1 && var.sweep.grace <= 86400 && floor(var.sweep.grace) == var.sweep.grace
    error_message = "sweep.grace must be whole seconds from 1 to 86400."
  }

  validation {
    condition     = var.sweep.limit >= 1 && var.sweep.limit <= 100000 && floor(var.sweep.limit) == var.sweep.limit
    error_message = "sweep.limit must be a whole number from 1 to 100000."
  }
}

variable "alert_emails" {
  description = "Who hears of alarms and of messages that ended undelivered. Each address gets a mail that asks it to confirm."
  type        = list(string)
  default     = []
  nullable    = false

  validation {
    condition     = alltrue([for a in var.alert_emails : can(regex("^[^@\\s]+@[^@\\s]+\\.[^@\\s]+$", a))])
    error_message = "alert_emails must be mail addresses."
  }
}

variable "event_subscriptions" {
  description = <<-EOT
    Who subscribes to the events, by a name of your own. protocol: sqs, lambda, https or email.
    endpoint: ARN, URL or address. filter_policy: as JSON; events have the attributes `type` (ended,
    late_ack, stuck), `status` and `channel`. filter_scope: MessageAttributes or MessageBody. raw: the event
    alone, without SNS's envelope (sqs and https). What SNS cannot deliver goes to the queue events-dlq.
    The queue's policy, or the function's permission, is the subscriber's own.
  EOT
  type = map(object({
    protocol      = string
    endpoint      = string
    filter_policy = optional(string)
    filter_scope  = optional(string, "MessageAttributes")
    raw           = optional(bool, false)
  }))
  default  = {}
  nullable = false
}

variable "api" {
  description = <<-EOT
    The REST API. rate, burst: requests a second over all callers. url_template: the base of ACK URLs
    when it is not the API's own, with {api_id} and {stage}. domain_name, certificate_arn: a domain of your
    own, with TLS 1.2 at least; the API's own address is then closed, unless a workflow needs it.
    invoke_domain: where workflows find the API, with {api_id} and {region}; by default AWS's own. access_logs: one line a
    request, without its query. account_role: make the role by which API Gateway writes logs; there
    is one for all APIs of an account and region, so false where another stack has made it.
  EOT
  type = object({
    rate            = optional(number, 1000)
    burst           = optional(number, 2000)
    url_template    = optional(string, "")
    invoke_domain   = optional(string, "")
    domain_name     = optional(string)
    certificate_arn = optional(string)
    access_logs     = optional(bool, true)
    account_role    = optional(bool, true)
  })
  default  = {}
  nullable = false

  validation {
    condition     = var.api.invoke_domain == "" || can(regex("^[a-z0-9.-]*\\{api_id\\}([a-z0-9.-]|\\{region\\})+$", var.api.invoke_domain))
    error_message = "api.invoke_domain must be a host name with {api_id}, such as {api_id}.execute-api.{region}.amazonaws.com."
  }
}

variable "workflows" {
  description = "The workflows that messages may choose instead of the queues, each with its state machine; none with []."
  type        = set(string)
  default = [
    "delivery_poll", "poll_express", "delivery_stop_on_ack", "delivery_callback", "delivery_event", "delivery_activity",
    "delivery_push", "delivery_job_poller",
  ]
  nullable = false

  validation {
    condition = length(setsubtract(var.workflows, [
      "delivery_poll", "poll_express", "delivery_stop_on_ack", "delivery_callback", "delivery_event", "delivery_activity",
      "delivery_push", "delivery_job_poller",
    ])) == 0
    error_message = "workflows must be delivery_poll, poll_express, delivery_stop_on_ack, delivery_callback, delivery_event, delivery_activity, delivery_push or delivery_job_poller."
  }

  validation {
    condition     = !contains(var.workflows, "delivery_job_poller") || contains(keys(var.channels), "webhook")
    error_message = "workflows must not have delivery_job_poller without the channel webhook: it asks webhook targets for their jobs."
  }
}

variable "workflow_settings" {
  description = <<-EOT
    What holds for all workflows. heartbeat: seconds after which a worker that is not heard of counts as dead.
    activity_lease: seconds for which an attempt is the worker's alone that took it. log_level,
    express_log_level: what standard and Express machines log (ALL, ERROR, FATAL, OFF). include_execution_data:
    log the states' inputs and outputs too.
  EOT
  type = object({
    heartbeat              = optional(number, 60)
    activity_lease         = optional(number, 300)
    log_level              = optional(string, "ERROR")
    express_log_level      = optional(string, "ERROR")
    include_execution_data = optional(bool, false)
  })
  default  = {}
  nullable = false

  validation {
    condition     = var.workflow_settings.heartbeat >= 3 && var.workflow_settings.heartbeat <= 3600 && floor(var.workflow_settings.heartbeat) == var.workflow_settings.heartbeat
    error_message = "workflow_settings.heartbeat must be whole seconds from 3 to 3600."
  }

  validation {
    condition     = var.workflow_settings.activity_lease >= 1 && var.workflow_settings.activity_lease <= 43200 && floor(var.workflow_settings.activity_lease) == var.workflow_settings.activity_lease
    error_message = "workflow_settings.activity_lease must be whole seconds from 1 to 43200 (12 hours)."
  }

  validation {
    condition     = alltrue([for level in [var.workflow_settings.log_level, var.workflow_settings.express_log_level] : contains(["ALL", "ERROR", "FATAL", "OFF"], level)])
    error_message = "workflow_settings' log levels must be ALL, ERROR, FATAL or OFF."
  }
}

variable "table" {
  description = "The messages table. deletion_protection: it cannot be destroyed. point_in_time_recovery: it can be had back as of any second of 35 days. kms_key_arn: encrypt with a key of your own."
  type = object({
    deletion_protection    = optional(bool, true)
    point_in_time_recovery = optional(bool, true)
    kms_key_arn            = optional(string)
  })
  default  = {}
  nullable = false
}

variable "alarms" {
  description = <<-EOT
    When people are called. period: seconds. queue_age: seconds that a channel's queue may be late; a
    timer queue has the longest hop on top. errors, throttles: of one function or workflow in a period.
    api_5xx: answers 5xx of the API in a period. tell_ok: mail the end of an alarm too; a new stack then
    sends one such mail for each alarm at once.
  EOT
  type = object({
    period    = optional(number, 60)
    queue_age = optional(number, 300)
    errors    = optional(number, 1)
    throttles = optional(number, 1)
    api_5xx   = optional(number, 1)
    tell_ok   = optional(bool, false)
  })
  default  = {}
  nullable = false
}
