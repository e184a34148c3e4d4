variable "prefix" {
  description = "First part of the alarms' names."
  type        = string
  nullable    = false
}

variable "topic_arn" {
  description = "Topic that hears of an alarm."
  type        = string
  nullable    = false
}

variable "tell_ok" {
  description = "Whether the topic hears of an alarm's end too."
  type        = bool
  default     = false
  nullable    = false
}

variable "period" {
  description = "Seconds over which a metric is looked at."
  type        = number
  nullable    = false

  validation {
    condition     = contains([10, 20, 30], var.period) || (var.period >= 60 && var.period <= 86400 && var.period % 60 == 0)
    error_message = "period must be 10, 20, 30 or a multiple of 60 seconds. AWS's own metrics come once a minute."
  }
}

variable "dead_letters" {
  description = "Names of the dead-letter queues, by noun."
  type        = map(string)
  nullable    = false
}

variable "queues" {
  description = "Queues that functions read, by noun: name, and the age in seconds that their oldest message may have."
  type = map(object({
    name    = string
    max_age = number
  }))
  nullable = false

  validation {
    condition     = alltrue([for queue in values(var.queues) : queue.max_age >= 1])
    error_message = "queues' max_age must be at least 1 second."
  }
}

variable "functions" {
  description = "The functions, by noun: name, and whether they are in the loop of queues and functions."
  type = map(object({
    name    = string
    in_loop = bool
  }))
  nullable = false
}

variable "machines" {
  description = "The workflows' state machines (ARNs), by name."
  type        = map(string)
  default     = {}
  nullable    = false
}

variable "api" {
  description = "The API: name and stage."
  type = object({
    name  = string
    stage = string
  })
  nullable = false
}

variable "errors" {
  description = "Errors of one function, or failed executions of one workflow, in a period that are too many."
  type        = number
  nullable    = false

  validation {
    condition     = var.errors >= 1
    error_message = "errors must be at least 1."
  }
}

variable "throttles" {
  description = "Throttled invocations of one function, or throttled steps of one workflow, in a period that are too many."
  type        = number
  nullable    = false

  validation {
    condition     = var.throttles >= 1
    error_message = "throttles must be at least 1."
  }
}

variable "api_5xx" {
  description = "Answers 5xx of the API in a period that are too many."
  type        = number
  nullable    = false

  validation {
    condition     = var.api_5xx >= 1
    error_message = "api_5xx must be at least 1."
  }
}
