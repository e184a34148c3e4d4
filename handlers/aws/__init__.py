"""The adapters: the only boto3."""
