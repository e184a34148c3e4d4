locals {
  # By name rather than from the resource: a plan then shows every policy in full.
  arn = "arn:${var.account.partition}:dynamodb:${var.account.region}:${var.account.id}:table/${aws_dynamodb_table.this.name}"

  indexes = {
    overdue     = { hash = "sweep_shard", range = "sweep_at" }
    undelivered = { hash = "undelivered_shard", range = "ended_at" }
    by-target   = { hash = "target_hash", range = "created_at" }
  }
}

resource "aws_dynamodb_table" "this" {
  name                        = var.name
  billing_mode                = "PAY_PER_REQUEST"
  hash_key                    = "id"
  deletion_protection_enabled = var.deletion_protection

  attribute {
    name = "id"
    type = "S"
  }

  # The indexes are sparse: a message is in one for as long as it has the attributes.
  dynamic "attribute" {
    for_each = merge([for index in local.indexes : { (index.hash) = "S", (index.range) = "N" }]...)

    content {
      name = attribute.key
      type = attribute.value
    }
  }

  dynamic "global_secondary_index" {
    for_each = local.indexes

    content {
      name            = global_secondary_index.key
      hash_key        = global_secondary_index.value.hash
      range_key       = global_secondary_index.value.range
      projection_type = "KEYS_ONLY"
    }
  }

  ttl {
    attribute_name = "ttl"
    enabled        = true
  }

  point_in_time_recovery {
    enabled = var.point_in_time_recovery
  }

  server_side_encryption {
    enabled     = var.kms_key_arn != null
    kms_key_arn = var.kms_key_arn
  }
}
