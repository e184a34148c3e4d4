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
  description = "The topic's name."
  type        = string
  nullable    = false

  validation {
    condition     = can(regex("^[A-Za-z0-9_-]{1,76}$", var.name))
    error_message = "name must have at most 76 letters, digits, hyphens and underscores: its dead-letter queue adds 4."
  }
}

variable "display_name" {
  description = "Sender's name of its mails."
  type        = string
  nullable    = false

  validation {
    condition     = length(var.display_name) <= 100
    error_message = "display_name must have at most 100 characters."
  }
}

variable "kms_key_arn" {
  description = "Customer-managed key that encrypts the topic. CloudWatch cannot publish to a topic under AWS's own key."
  type        = string
  nullable    = false
}

variable "services" {
  description = "Service principals that may publish on behalf of this account, such as cloudwatch.amazonaws.com. Functions may by their own policies."
  type        = list(string)
  default     = []
  nullable    = false
}

variable "subscriptions" {
  description = "Subscribers by name: protocol, endpoint, filter policy (JSON), its scope, and raw delivery."
  type = map(object({
    protocol      = string
    endpoint      = string
    filter_policy = optional(string)
    filter_scope  = optional(string, "MessageAttributes")
    raw           = optional(bool, false)
  }))
  default  = {}
  nullable = false

  validation {
    condition     = alltrue([for s in values(var.subscriptions) : contains(["sqs", "lambda", "https", "email"], s.protocol)])
    error_message = "subscriptions' protocol must be sqs, lambda, https or email."
  }

  validation {
    condition     = alltrue([for s in values(var.subscriptions) : s.filter_policy == null ? true : can(keys(jsondecode(s.filter_policy)))])
    error_message = "subscriptions' filter_policy must be a JSON object."
  }

  validation {
    condition     = alltrue([for s in values(var.subscriptions) : contains(["MessageAttributes", "MessageBody"], s.filter_scope)])
    error_message = "subscriptions' filter_scope must be MessageAttributes or MessageBody."
  }

  validation {
    condition     = alltrue([for s in values(var.subscriptions) : contains(["sqs", "https"], s.protocol) || !s.raw])
    error_message = "subscriptions can be raw over sqs and https only."
  }

  validation {
    condition     = alltrue([for s in values(var.subscriptions) : s.protocol != "https" || startswith(s.endpoint, "https://")])
    error_message = "subscriptions' endpoint must begin with https:// where the protocol is https."
  }
}
