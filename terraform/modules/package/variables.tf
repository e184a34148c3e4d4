variable "account" {
  description = "Where the resources are: the AWS partition, the region and the account's id, of which names and ARNs are made."
  type = object({
    partition = string
    region    = string
    id        = string
  })
  nullable = false
}

variable "prefix" {
  description = "First part of the bucket's name; a long one is cut, and told apart by its hash."
  type        = string
  nullable    = false

  validation {
    condition     = can(regex("^[a-z0-9][a-z0-9-]*[a-z0-9]$", var.prefix))
    error_message = "prefix must be lower-case letters, digits and hyphens."
  }
}

variable "path" {
  description = "The zip file."
  type        = string
  nullable    = false

  validation {
    condition     = fileexists(var.path)
    error_message = "path must name a file that exists."
  }
}

variable "force_destroy" {
  description = "Whether the bucket can be destroyed with the packages in it."
  type        = bool
  default     = false
  nullable    = false
}
