variable "name" {
  description = "The API's name."
  type        = string
  nullable    = false

  validation {
    condition     = can(regex("^[A-Za-z0-9_-]{1,128}$", var.name))
    error_message = "name must have at most 128 letters, digits, hyphens and underscores."
  }
}

variable "definition" {
  description = "The OpenAPI file (YAML): the API's contract."
  type        = string
  nullable    = false
}

variable "routes" {
  description = "Which function answers which route: \"POST /messages\" to a key of functions."
  type        = map(string)
  nullable    = false
}

variable "left_out" {
  description = "Operations of the contract that this API does without, as \"POST /messages\"."
  type        = set(string)
  default     = []
  nullable    = false
}

variable "integrations" {
  description = "The ARNs by which API Gateway invokes the functions, by a name of their own. As text, not from the functions: some of them must know the API's address."
  type        = map(string)
  nullable    = false
}

variable "functions" {
  description = "The functions' names, by the same name of their own: they are there before they may be invoked."
  type        = map(string)
  nullable    = false
}

variable "rate" {
  description = "Requests a second that the API takes in the long run."
  type        = number
  nullable    = false

  validation {
    condition     = var.rate >= 1 && var.rate <= 10000
    error_message = "rate must be 1 to 10000 requests a second: an account's limit, unless AWS has raised it."
  }
}

variable "burst" {
  description = "Requests that it takes at once."
  type        = number
  nullable    = false

  validation {
    condition     = var.burst >= 1 && var.burst <= 5000
    error_message = "burst must be 1 to 5000 requests: an account's limit, unless AWS has raised it."
  }
}

variable "url_template" {
  description = "The API's address, with {api_id} and {stage}, when it is neither AWS's nor the domain's."
  type        = string
  default     = ""
  nullable    = false

  validation {
    condition     = var.url_template == "" || can(regex("^https?://[^?#]+[^/?#]$", var.url_template))
    error_message = "url_template must be a URL without query and without a slash at its end."
  }
}

variable "domain" {
  description = "A domain for the API, and the ARN of its certificate in the API's region; its own address is then closed, unless own_address says otherwise."
  type = object({
    name            = string
    certificate_arn = string
  })
  default = null
}

variable "own_address" {
  description = "Whether the API's own address stays open beside the domain. Step Functions knows APIs by that alone."
  type        = bool
  default     = false
  nullable    = false
}

variable "access_logs" {
  description = "Whether each request is logged, in one line."
  type        = bool
  nullable    = false
}

variable "account_role" {
  description = "Whether to make the role by which API Gateway writes logs: one for all APIs of an account and region."
  type        = bool
  nullable    = false
}

variable "log_retention_days" {
  description = "Days for which the access log is kept."
  type        = number
  nullable    = false
}
