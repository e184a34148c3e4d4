terraform {
  required_version = ">= 1.11"

  required_providers {
    # Configured by the environment (or by the root that uses this folder as a module): credentials,
    # region and, for LocalStack, AWS_ENDPOINT_URL.
    aws = {
      source  = "hashicorp/aws"
      version = "~> 5.100"
    }
  }
}
