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
  description = "The function's name, and its role's."
  type        = string
  nullable    = false

  validation {
    condition     = can(regex("^[A-Za-z0-9_-]{1,64}$", var.name))
    error_message = "name must have at most 64 letters, digits, hyphens and underscores."
  }
}

variable "description" {
  description = "What the function does, in a sentence."
  type        = string
  nullable    = false

  validation {
    condition     = length(var.description) <= 256
    error_message = "description must have at most 256 characters."
  }
}

variable "handler" {
  description = "Module and function, as handlers.submit.handler."
  type        = string
  nullable    = false
}

variable "package" {
  description = "The zip file in S3 (bucket, key, version), its hash, which decides whether the function is updated, and the runtime and architecture that it was built for."
  type = object({
    bucket       = string
    key          = string
    version      = string
    hash         = string
    runtime      = string
    architecture = string
  })
  nullable = false

  validation {
    condition     = can(regex("^python3\\.1[1-3]$", var.package.runtime))
    error_message = "package.runtime must be python3.11, python3.12 or python3.13."
  }

  validation {
    condition     = contains(["arm64", "x86_64"], var.package.architecture)
    error_message = "package.architecture must be arm64 or x86_64."
  }
}

variable "memory" {
  description = "Memory in MB."
  type        = number
  default     = 256
  nullable    = false

  validation {
    condition     = var.memory >= 128 && var.memory <= 10240 && floor(var.memory) == var.memory
    error_message = "memory must be a whole number from 128 to 10240."
  }
}

variable "timeout" {
  description = "Seconds after which the function is ended."
  type        = number
  nullable    = false

  validation {
    condition     = var.timeout >= 1 && var.timeout <= 900 && floor(var.timeout) == var.timeout
    error_message = "timeout must be whole seconds from 1 to 900."
  }
}

variable "reserved_concurrency" {
  description = "Execution environments that are the function's own and its limit; none are reserved without it."
  type        = number
  default     = null

  validation {
    condition     = var.reserved_concurrency == null ? true : var.reserved_concurrency >= 1
    error_message = "reserved_concurrency must be at least 1: 0 would stop the function."
  }
}

variable "environment" {
  description = "The function's variables."
  type        = map(string)
  default     = {}
  nullable    = false
}

variable "statements" {
  description = "What the function may do, by statement id: exact actions on exact resources. Logs, traces, its queues and its failures are added."
  type = map(object({
    actions   = list(string)
    resources = list(string)
  }))
  default  = {}
  nullable = false

  validation {
    condition     = alltrue([for s in values(var.statements) : !anytrue([for a in s.actions : strcontains(a, "*")])])
    error_message = "statements must name exact actions."
  }
}

variable "sources" {
  description = "Queues that the function reads, by name. window: seconds for which a batch may wait to fill."
  type = map(object({
    arn                 = string
    batch_size          = optional(number, 10)
    window              = optional(number, 0)
    maximum_concurrency = optional(number, 10)
    enabled             = optional(bool, true)
  }))
  default  = {}
  nullable = false

  validation {
    condition     = alltrue([for s in values(var.sources) : s.batch_size >= 1 && s.batch_size <= 10000 && floor(s.batch_size) == s.batch_size])
    error_message = "sources' batch_size must be a whole number from 1 to 10000."
  }

  validation {
    condition     = alltrue([for s in values(var.sources) : s.window >= 0 && s.window <= 300 && floor(s.window) == s.window])
    error_message = "sources' window must be whole seconds from 0 to 300."
  }

  validation {
    condition     = alltrue([for s in values(var.sources) : s.batch_size <= 10 || s.window >= 1])
    error_message = "sources' batch_size above 10 needs a window of at least 1 second: Lambda fills no larger batch without."
  }

  validation {
    condition     = alltrue([for s in values(var.sources) : s.maximum_concurrency >= 2 && s.maximum_concurrency <= 1000 && floor(s.maximum_concurrency) == s.maximum_concurrency])
    error_message = "sources' maximum_concurrency must be a whole number from 2 to 1000."
  }
}

variable "in_loop" {
  description = "Whether the function is, or starts, a part of the loop of queues and functions. Lambda would end that loop after some 16 rounds, which is one wait of 4 hours."
  type        = bool
  default     = false
  nullable    = false
}

variable "failures" {
  description = "What becomes of an asynchronous invocation that fails: how often it is retried, for how many seconds at most, and the queue (ARN) that it goes to then. At most one."
  type = list(object({
    queue   = string
    retries = optional(number, 0)
    max_age = optional(number, 60)
  }))
  default  = []
  nullable = false

  validation {
    condition     = length(var.failures) <= 1
    error_message = "failures must be one at most."
  }

  validation {
    condition     = alltrue([for f in var.failures : contains([0, 1, 2], f.retries) && f.max_age >= 60 && f.max_age <= 21600])
    error_message = "failures' retries must be 0, 1 or 2, and max_age 60 to 21600 seconds."
  }
}

variable "log_retention_days" {
  description = "Days for which its logs are kept."
  type        = number
  default     = 30
  nullable    = false

  validation {
    condition     = contains([1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731, 1096, 1827, 2192, 2557, 2922, 3288, 3653], var.log_retention_days)
    error_message = "log_retention_days must be a number that CloudWatch Logs knows, such as 7, 14, 30, 90 or 365."
  }
}
