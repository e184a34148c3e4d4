variable "account" {
  description = "Where the resources are: the AWS partition, the region and the account's id, of which ARNs are made."
  type = object({
    partition = string
    region    = string
    id        = string
  })
  nullable = false
}

variable "alias" {
  description = "The key's name, without `alias/`."
  type        = string
  nullable    = false
}

variable "description" {
  description = "What the key protects."
  type        = string
  nullable    = false
}

variable "services" {
  description = "Service principals that use the key on behalf of this account, such as cloudwatch.amazonaws.com."
  type        = list(string)
  default     = []
  nullable    = false

  validation {
    condition     = alltrue([for s in var.services : can(regex("^[a-z.-]+\\.amazonaws\\.com$", s))])
    error_message = "services must be service principals, such as cloudwatch.amazonaws.com."
  }
}
