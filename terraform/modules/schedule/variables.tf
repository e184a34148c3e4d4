variable "name" {
  description = "The rule's name."
  type        = string
  nullable    = false

  validation {
    condition     = can(regex("^[A-Za-z0-9_.-]{1,64}$", var.name))
    error_message = "name must have at most 64 letters, digits, hyphens, dots and underscores."
  }
}

variable "description" {
  description = "What is done at that rate."
  type        = string
  nullable    = false
}

variable "rate" {
  description = "How often, as EventBridge says it: rate(1 minute), rate(5 minutes)."
  type        = string
  nullable    = false

  validation {
    condition     = can(regex("^rate\\((1 (minute|hour|day)|([2-9]|[1-9][0-9]+) (minutes|hours|days))\\)$", var.rate))
    error_message = "rate must be as EventBridge says it: rate(1 minute), rate(5 minutes), rate(1 hour)."
  }
}

variable "enabled" {
  description = "Whether the rule runs."
  type        = bool
  default     = true
  nullable    = false
}

variable "function" {
  description = "The function that it invokes."
  type = object({
    name = string
    arn  = string
  })
  nullable = false
}

variable "dead_letters" {
  description = "Queue (ARN) for invocations that EventBridge could not hand over."
  type        = string
  nullable    = false
}
