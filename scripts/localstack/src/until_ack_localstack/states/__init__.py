"""Step Functions: where LocalStack's interpreter of state machines is not as AWS's, or slow."""
