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
  description = "The table's name."
  type        = string
  nullable    = false

  validation {
    condition     = can(regex("^[A-Za-z0-9_.-]{3,255}$", var.name))
    error_message = "name must have 3 to 255 letters, digits, hyphens, dots and underscores."
  }
}

variable "deletion_protection" {
  description = "Whether the table cannot be deleted."
  type        = bool
  default     = true
  nullable    = false
}

variable "point_in_time_recovery" {
  description = "Whether the table can be had back as of any second of the last 35 days."
  type        = bool
  default     = true
  nullable    = false
}

variable "kms_key_arn" {
  description = "Customer-managed key that encrypts the table; DynamoDB's own without it."
  type        = string
  default     = null
}
