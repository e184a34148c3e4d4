variable "account" {
  description = "Where the resources are: the AWS partition, the region and the account's id, of which ARNs are made."
  type = object({
    partition = string
    region    = string
    id        = string
  })
  nullable = false
}

variable "name" {
  description = "The event bus's name, and the first part of its rules' names."
  type        = string
  nullable    = false

  validation {
    condition     = can(regex("^[A-Za-z0-9_-]{1,52}$", var.name))
    error_message = "name must have at most 52 letters, digits, hyphens and underscores: its rules' names end at 64."
  }
}

variable "rules" {
  description = "Which events are handed on, by noun. pattern: as JSON. input_path: the part of the event that is sent; all of it without."
  type = map(object({
    description = string
    pattern     = string
    input_path  = optional(string)
  }))
  nullable = false

  validation {
    condition     = alltrue([for rule in values(var.rules) : can(keys(jsondecode(rule.pattern)))])
    error_message = "rules' pattern must be a JSON object."
  }
}

variable "queues" {
  description = "The queue (ARN) that each rule's events go to, by the same noun. Its policy must let the rule send."
  type        = map(string)
  nullable    = false
}

variable "max_age" {
  description = "Seconds for which EventBridge tries to hand an event over."
  type        = number
  default     = 3600
  nullable    = false

  validation {
    condition     = var.max_age >= 60 && var.max_age <= 86400
    error_message = "max_age must be 60 to 86400 seconds."
  }
}
