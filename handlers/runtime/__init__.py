"""What turns the domain into Lambda functions."""
