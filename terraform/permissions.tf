# What each function may do: exactly what it does. Logs, traces and reading its own queues are added by
# the function module.

locals {
  channel_queue_arns = [for queue in module.channel_queue.queues : queue.arn]
  timer_queue_arns   = [for queue in module.timer_queue.queues : queue.arn]

  # Publishing to an encrypted topic takes both.
  publish = {
    Tell = {
      actions   = ["sns:Publish"]
      resources = [module.events.arn, module.alerts.arn]
    }
    TellEncrypted = {
      actions   = ["kms:Decrypt", "kms:GenerateDataKey"]
      resources = [module.topics_key.arn]
    }
  }

  # Only where the table has a key of your own.
  table_key = var.table.kms_key_arn == null ? {} : {
    TableKey = {
      actions   = ["kms:Decrypt"]
      resources = [var.table.kms_key_arn]
    }
  }

  capability_keys = {
    Capabilities = {
      actions   = ["secretsmanager:GetSecretValue"]
      resources = [for id in var.capability_key_ids : local.secret_arns["capability-${id}"]]
    }
  }

  submit_statements = merge(local.table_key, {
    Messages = {
      actions   = ["dynamodb:PutItem"]
      resources = [module.table.arn]
    }
    FirstAttempts = {
      actions   = ["sqs:SendMessage"]
      resources = local.channel_queue_arns
    }
  })

  query_statements = merge(local.table_key, local.publish, {
    Messages = {
      actions   = ["dynamodb:BatchGetItem", "dynamodb:GetItem", "dynamodb:UpdateItem"]
      resources = [module.table.arn]
    }
    Listings = {
      actions   = ["dynamodb:Query"]
      resources = values(module.table.index_arns)
    }
  })

  redeliver_statements = merge(local.table_key, local.publish, {
    Messages = {
      actions   = ["dynamodb:GetItem", "dynamodb:UpdateItem"]
      resources = [module.table.arn]
    }
    NextAttempts = {
      actions   = ["sqs:SendMessage"]
      resources = local.channel_queue_arns
    }
  })

  ack_statements = merge(local.table_key, local.publish, local.capability_keys, {
    Messages = {
      actions   = ["dynamodb:GetItem", "dynamodb:UpdateItem"]
      resources = [module.table.arn]
    }
    # A NACK that puts the next attempt off arms another timer.
    Timers = {
      actions   = ["sqs:SendMessage"]
      resources = local.timer_queue_arns
    }
  })

  check_ack_statements = merge(local.table_key, local.publish, {
    Messages = {
      actions   = ["dynamodb:BatchGetItem", "dynamodb:UpdateItem"]
      resources = [module.table.arn]
    }
    HopsAndAttempts = {
      actions   = ["sqs:SendMessage"]
      resources = concat(local.timer_queue_arns, local.channel_queue_arns)
    }
    Bury = {
      actions   = ["sqs:SendMessage"]
      resources = [for queue in module.timer_queue.dead_letters : queue.arn]
    }
  })

  sweep_statements = merge(local.table_key, local.publish, {
    Messages = {
      actions   = ["dynamodb:BatchGetItem", "dynamodb:UpdateItem"]
      resources = [module.table.arn]
    }
    Overdue = {
      actions   = ["dynamodb:Query"]
      resources = [module.table.index_arns["overdue"]]
    }
    Attempts = {
      actions   = ["sqs:SendMessage"]
      resources = local.channel_queue_arns
    }
    QueueAges = {
      actions = ["cloudwatch:GetMetricData"]
      # CloudWatch knows no resources for it.
      resources = ["*"]
    }
  })

  deliver_statements = { for channel, queue in module.channel_queue.queues : channel => merge(
    local.table_key,
    local.publish,
    local.capability_keys,
    {
      Messages = {
        actions   = ["dynamodb:UpdateItem"]
        resources = [module.table.arn]
      }
      # Its own queue: for attempts that came too early.
      TimersAndPutBack = {
        actions   = ["sqs:SendMessage"]
        resources = concat(local.timer_queue_arns, [queue.arn])
      }
      Bury = {
        actions   = ["sqs:SendMessage"]
        resources = [module.channel_queue.dead_letters[channel].arn]
      }
    },
    channel != "webhook" ? {} : {
      WebhookKey = {
        actions   = ["secretsmanager:GetSecretValue"]
        resources = [local.secret_arns["webhook-key"]]
      }
    },
    channel != "email" ? {} : {
      Mail = {
        actions   = ["ses:SendTemplatedEmail"]
        resources = module.mail["email"].arns
      }
    },
  ) }
}
