variable "account" {
  description = "Where the resources are: the AWS partition, the region and the account's id, of which ARNs are made."
  type = object({
    partition = string
    region    = string
    id        = string
  })
  nullable = false
}

variable "template" {
  description = "The template's name."
  type        = string
  nullable    = false

  validation {
    condition     = can(regex("^[A-Za-z0-9_-]{1,64}$", var.template))
    error_message = "template must have at most 64 letters, digits, hyphens and underscores."
  }
}

variable "folder" {
  description = "Folder of the template's parts, message.html and message.txt."
  type        = string
  nullable    = false
}

variable "sender" {
  description = "The address that mails come from."
  type        = string
  nullable    = false
}

variable "identity" {
  description = "What SES is asked to verify: the sender's `address`, its `domain`, or nothing (`existing`)."
  type        = string
  nullable    = false

  validation {
    condition     = contains(["address", "domain", "existing"], var.identity)
    error_message = "identity must be address, domain or existing."
  }
}
