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
  description = "The state machine's name."
  type        = string
  nullable    = false

  validation {
    condition     = can(regex("^[A-Za-z0-9_-]+$", var.name))
    error_message = "name must be letters, digits, hyphens and underscores."
  }
}

variable "definition" {
  description = "The Amazon States Language file: JSON, with variables as a template has them."
  type        = string
  nullable    = false

  validation {
    condition     = fileexists(var.definition)
    error_message = "definition must name a file that exists."
  }
}

variable "substitutions" {
  description = "What the definition's variables stand for. Those that a definition does not have are left aside."
  type        = map(string)
  default     = {}
  nullable    = false
}

variable "type" {
  description = "STANDARD, which lasts up to a year and runs exactly once, or EXPRESS, which lasts up to 5 minutes and runs at least once."
  type        = string
  default     = "STANDARD"
  nullable    = false

  validation {
    condition     = contains(["STANDARD", "EXPRESS"], var.type)
    error_message = "type must be STANDARD or EXPRESS."
  }
}

variable "statements" {
  description = "What the machine may do, by statement id: exact actions on exact resources, on conditions where there are any. Logs and traces are added."
  type = map(object({
    actions    = list(string)
    resources  = list(string)
    conditions = optional(map(map(list(string))), {})
  }))
  default  = {}
  nullable = false

  validation {
    condition     = alltrue([for s in values(var.statements) : !anytrue([for a in s.actions : strcontains(a, "*")])])
    error_message = "statements must name exact actions."
  }
}

variable "log_level" {
  description = "What is logged: ALL, ERROR, FATAL, or nothing (OFF)."
  type        = string
  default     = "ERROR"
  nullable    = false

  validation {
    condition     = contains(["ALL", "ERROR", "FATAL", "OFF"], var.log_level)
    error_message = "log_level must be ALL, ERROR, FATAL or OFF."
  }
}

variable "include_execution_data" {
  description = "Whether the log has the states' inputs and outputs too."
  type        = bool
  default     = false
  nullable    = false
}

variable "log_retention_days" {
  description = "Days for which its logs are kept."
  type        = number
  default     = 30
  nullable    = false
}
