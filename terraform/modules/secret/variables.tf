variable "name" {
  description = "The secret's name."
  type        = string
  nullable    = false

  validation {
    condition     = can(regex("^[A-Za-z0-9/_+=.@-]{1,512}$", var.name))
    error_message = "name must have at most 512 letters, digits and /_+=.@-."
  }
}

variable "description" {
  description = "What the secret is for."
  type        = string
  nullable    = false
}

variable "recovery_days" {
  description = "Days for which the secret can be had back after its deletion; 0 deletes at once."
  type        = number
  default     = 7
  nullable    = false

  validation {
    condition     = var.recovery_days == 0 || (var.recovery_days >= 7 && var.recovery_days <= 30)
    error_message = "recovery_days must be 0, or 7 to 30."
  }
}
