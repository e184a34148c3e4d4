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
  description = "What is done when such an event comes."
  type        = string
  nullable    = false
}

variable "pattern" {
  description = "Which events of the default event bus, as JSON."
  type        = string
  nullable    = false

  validation {
    condition     = can(keys(jsondecode(var.pattern)))
    error_message = "pattern must be a JSON object."
  }

  validation {
    condition     = length(var.pattern) <= 2048
    error_message = "pattern must have at most 2048 characters: EventBridge takes no longer one."
  }
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
