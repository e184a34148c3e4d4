output "bucket" {
  description = "The bucket's name."
  value       = local.name
}

output "object" {
  description = "Where the package is, for Lambda: bucket, key, version; and its hash."
  value = {
    bucket  = aws_s3_object.this.bucket
    key     = aws_s3_object.this.key
    version = aws_s3_object.this.version_id
    hash    = aws_s3_object.this.source_hash
  }
}
