variable "account" {
  description = "Where the resources are: the AWS partition, the region and the account's id, of which ARNs are made."
  type = object({
    partition = string
    region    = string
    id        = string
  })
  nullable = false
}

variable "queues" {
  description = <<-EOT
    Queues that functions read, by noun. name: in AWS. delay: seconds by which messages wait that name
    no delay of their own. consumer_timeout: seconds, of the function that reads it. visibility_timeout:
    seconds for which a received message is hidden from others. retention: seconds. max_receive_count:
    receives after which a message counts as a dead letter. consumer_window: seconds for which the function's
    batches may wait to fill. senders: services that may send to it (as events.amazonaws.com), each with the
    ARNs of the resources that it may do so for.
  EOT
  type = map(object({
    name               = string
    consumer_timeout   = number
    visibility_timeout = number
    delay              = optional(number, 0)
    retention          = optional(number, 345600)
    max_receive_count  = optional(number, 5)
    consumer_window    = optional(number, 0)
    senders            = optional(map(list(string)), {})
  }))
  nullable = false

  validation {
    condition     = alltrue([for queue in values(var.queues) : can(regex("^[A-Za-z0-9_-]{1,76}$", queue.name))])
    error_message = "queues' name must have at most 76 letters, digits, hyphens and underscores: its dead-letter queue adds 4."
  }

  validation {
    condition     = alltrue([for queue in values(var.queues) : queue.delay >= 0 && queue.delay <= 900 && floor(queue.delay) == queue.delay])
    error_message = "queues' delay must be whole seconds from 0 to 900: SQS delays no longer."
  }

  validation {
    condition     = alltrue([for queue in values(var.queues) : queue.visibility_timeout >= 0 && queue.visibility_timeout <= 43200])
    error_message = "queues' visibility_timeout must be at most 43200 seconds (12 hours)."
  }

  validation {
    condition     = alltrue([for queue in values(var.queues) : queue.retention >= 60 && queue.retention <= 1209600])
    error_message = "queues' retention must be 60 to 1209600 seconds (14 days)."
  }

  validation {
    condition     = alltrue(flatten([for queue in values(var.queues) : [for service, sources in queue.senders : can(regex("^[a-z]+\\.amazonaws\\.com$", service)) && length(sources) > 0]]))
    error_message = "queues' senders must be by service principal, such as events.amazonaws.com, with at least one ARN each."
  }
}
