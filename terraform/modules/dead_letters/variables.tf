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
  description = "The queue's name."
  type        = string
  nullable    = false

  validation {
    condition     = can(regex("^[A-Za-z0-9_-]{1,80}$", var.name)) && endswith(var.name, "-dlq")
    error_message = "name must have at most 80 letters, digits, hyphens and underscores, and end in -dlq."
  }
}

variable "source_queue" {
  description = "Name of the one queue whose dead letters it takes; none when it takes what topics, rules or functions could not deliver."
  type        = string
  default     = null
}

variable "senders" {
  description = "Services that may send to it (as sns.amazonaws.com), each with the ARNs of the resources that it may do so for."
  type        = map(list(string))
  default     = {}
  nullable    = false

  validation {
    condition     = alltrue([for service in keys(var.senders) : can(regex("^[a-z]+\\.amazonaws\\.com$", service))])
    error_message = "senders must be by service principal, such as sns.amazonaws.com."
  }
}
