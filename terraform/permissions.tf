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

  # Of the functions that start executions.
  start = { for sid in ["Start"] : sid => {
    actions   = ["states:StartExecution"]
    resources = values(local.machine_arns)
  } if length(local.workflows) > 0 }

  # Of the functions that end messages: they complete what waits for the end.
  complete = merge(
    { for sid in ["CompleteTasks"] : sid => {
      actions = ["states:SendTaskSuccess"]
      # Step Functions knows no resources for it: the right to a task is its token.
      resources = ["*"]
    } if local.has_tasks },
    { for sid in ["StopExecutions"] : sid => {
      actions   = ["states:StopExecution"]
      resources = [for workflow in local.stopped : "${local.states_arn}:execution:${local.machine_names[workflow]}:*"]
    } if length(local.stopped) > 0 },
  )
  # One that an ACK stops, and those whose tasks might wait to be pulled for ever. Executions are named for messages.
  stopped   = [for workflow in ["delivery_stop_on_ack", "delivery_activity", "delivery_push"] : workflow if contains(var.workflows, workflow)]
  has_tasks = anytrue([for settings in values(local.workflows) : settings.asks == "task"])

  submit_statements = merge(local.table_key, local.start, {
    Messages = {
      actions   = ["dynamodb:PutItem"]
      resources = [module.table.arn]
    }
    FirstAttempts = {
      actions   = ["sqs:SendMessage"]
      resources = local.channel_queue_arns
    }
  })

  query_statements = merge(local.table_key, local.publish, local.complete, {
    Messages = {
      actions   = ["dynamodb:BatchGetItem", "dynamodb:GetItem", "dynamodb:UpdateItem"]
      resources = [module.table.arn]
    }
    Listings = {
      actions   = ["dynamodb:Query"]
      resources = values(module.table.index_arns)
    }
  })

  redeliver_statements = merge(local.table_key, local.publish, local.start, local.complete, {
    Messages = {
      actions   = ["dynamodb:GetItem", "dynamodb:UpdateItem"]
      resources = [module.table.arn]
    }
    NextAttempts = {
      actions   = ["sqs:SendMessage"]
      resources = local.channel_queue_arns
    }
  })

  ack_statements = merge(local.table_key, local.publish, local.capability_keys, local.complete, {
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

  check_ack_statements = merge(local.table_key, local.publish, local.complete, {
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

  sweep_statements = merge(local.table_key, local.publish, local.start, local.complete, {
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
    local.complete,
    { for sid in ["KeepTasksAlive"] : sid => {
      actions = ["states:SendTaskHeartbeat"]
      # As for SendTaskSuccess.
      resources = ["*"]
    } if local.has_tasks },
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

  # ---- of the workflows' functions. An execution that asks learns of an end by the answer: nothing is to complete.

  reading_and_writing = {
    Messages = {
      actions   = ["dynamodb:GetItem", "dynamodb:UpdateItem"]
      resources = [module.table.arn]
    }
  }

  attempts_statements = merge(local.table_key, local.publish, local.reading_and_writing, {
    Attempts = {
      actions   = ["sqs:SendMessage"]
      resources = local.channel_queue_arns
    }
  })

  tasks_statements = merge(local.table_key, local.publish, local.reading_and_writing, local.capability_keys, local.complete)

  settle_statements = merge(local.table_key, local.publish, local.reading_and_writing, local.start, {
    TimersAndAttempts = {
      actions   = ["sqs:SendMessage"]
      resources = concat(local.timer_queue_arns, local.channel_queue_arns)
    }
  })

  push_statements = {
    Pull = {
      actions   = ["states:GetActivityTask"]
      resources = [local.activity_arns["push"]]
    }
    Attempts = {
      actions   = ["sqs:SendMessage"]
      resources = local.channel_queue_arns
    }
  }

  job_statements = merge(local.table_key, local.publish, local.reading_and_writing, {
    WebhookKey = {
      actions   = ["secretsmanager:GetSecretValue"]
      resources = [for noun, arn in local.secret_arns : arn if noun == "webhook-key"]
    }
  })

  # ---- of the machines. Activities need no right.

  ask_by_route = {
    Ask = {
      actions   = ["execute-api:Invoke"]
      resources = ["${module.api.execution_arn}/${module.api.stage}/POST/internal/attempts"]
    }
  }

  settle = {
    Settle = {
      actions   = ["lambda:InvokeFunction"]
      resources = [local.function_arns["settle"]]
    }
  }

  read_record = merge(local.table_key, {
    Read = {
      actions   = ["dynamodb:GetItem"]
      resources = [module.table.arn]
    }
  })

  machine_statements = {
    delivery_poll        = merge(local.ask_by_route, local.read_record, local.settle)
    poll_express         = merge(local.ask_by_route, local.read_record, local.settle)
    delivery_stop_on_ack = merge(local.ask_by_route, local.settle)
    delivery_callback = merge(local.settle, {
      Ask = {
        actions   = ["sqs:SendMessage"]
        resources = local.channel_queue_arns
      }
    })
    delivery_event = merge(local.settle, {
      Ask = {
        actions    = ["events:PutEvents"]
        resources  = [for name in [local.bus] : "arn:${local.account.partition}:events:${local.account.region}:${local.account.id}:event-bus/${name}" if name != null]
        conditions = { StringEquals = { "events:source" = ["until-ack"] } }
      }
    })
    delivery_activity = local.settle
    delivery_push = merge(local.settle, {
      Start = {
        actions   = ["lambda:InvokeFunction"]
        resources = [local.function_arns["push"]]
      }
    })
    delivery_job_poller = merge(local.ask_by_route, local.settle, {
      AskTarget = {
        actions   = ["lambda:InvokeFunction"]
        resources = [local.function_arns["job"]]
      }
    })
  }

  # ---- of workers, which are not ours

  worker_policy = {
    Version = "2012-10-17"
    Statement = [
      {
        Sid      = "Pull"
        Effect   = "Allow"
        Action   = ["states:GetActivityTask"]
        Resource = [local.activity_arns["delivery"]]
      },
      {
        # Success and failure are not theirs to report here: they report outcomes, and the table decides.
        Sid    = "KeepTasksAlive"
        Effect = "Allow"
        Action = ["states:SendTaskHeartbeat"]
        # Step Functions knows no resources for it: the right to a task is its token.
        Resource = ["*"]
      },
      {
        Sid    = "TakeAndReport"
        Effect = "Allow"
        Action = ["execute-api:Invoke"]
        Resource = [
          "${module.api.execution_arn}/${module.api.stage}/POST/internal/tasks",
          "${module.api.execution_arn}/${module.api.stage}/POST/internal/tasks/*/outcome",
        ]
      },
    ]
  }
}
