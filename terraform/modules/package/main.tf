# The functions' package, uploaded once: Lambda takes it from here for every function.

locals {
  # Bucket names are the whole world's, and have at most 63 characters.
  place = "${var.account.id}-${var.account.region}"
  most  = 63 - length("-package-${local.place}")
  first = length(var.prefix) <= local.most ? var.prefix : "${substr(var.prefix, 0, local.most - 9)}-${substr(sha256(var.prefix), 0, 8)}"
  name  = "${local.first}-package-${local.place}"
  arn   = "arn:${var.account.partition}:s3:::${local.name}"
}

resource "aws_s3_bucket" "this" {
  bucket        = local.name
  force_destroy = var.force_destroy
}

resource "aws_s3_bucket_public_access_block" "this" {
  bucket = aws_s3_bucket.this.id

  block_public_acls       = true
  block_public_policy     = true
  ignore_public_acls      = true
  restrict_public_buckets = true
}

resource "aws_s3_bucket_server_side_encryption_configuration" "this" {
  bucket = aws_s3_bucket.this.id

  rule {
    apply_server_side_encryption_by_default {
      sse_algorithm = "AES256"
    }
  }
}

resource "aws_s3_bucket_versioning" "this" {
  bucket = aws_s3_bucket.this.id

  versioning_configuration {
    status = "Enabled"
  }
}

resource "aws_s3_bucket_policy" "this" {
  bucket = aws_s3_bucket.this.id

  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      # A denial is the one place where "every action" is the narrow choice.
      Sid       = "OnlyOverTls"
      Effect    = "Deny"
      Principal = "*"
      Action    = "s3:*"
      Resource  = [local.arn, "${local.arn}/*"]
      Condition = { Bool = { "aws:SecureTransport" = "false" } }
    }]
  })

  # Both change the bucket's access, one after the other.
  depends_on = [aws_s3_bucket_public_access_block.this]
}

resource "aws_s3_object" "this" {
  bucket      = aws_s3_bucket.this.id
  key         = "package.zip"
  source      = var.path
  source_hash = filebase64sha256(var.path)

  # So that it has a version, and is encrypted.
  depends_on = [aws_s3_bucket_versioning.this, aws_s3_bucket_server_side_encryption_configuration.this]
}
