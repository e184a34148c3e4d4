"""REST APIs: IAM authorisation, gateway responses, and their requests in the log."""
