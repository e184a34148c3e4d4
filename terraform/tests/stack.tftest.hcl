# The whole stack: how its parts are wired.

# Mocks do not know the ephemeral values of which secrets are made, so this plans with the provider itself. It
# asks nobody: what it would have to ask for is given below.
provider "aws" {
  region                      = "eu-central-1"
  access_key                  = "none"
  secret_key                  = "none"
  skip_credentials_validation = true
  skip_metadata_api_check     = true
  skip_region_validation      = true
  skip_requesting_account_id  = true
}

override_data {
  target          = data.aws_caller_identity.current
  values          = { account_id = "123456789012" }
  override_during = plan
}

override_resource {
  target          = module.channel_queue.aws_sqs_queue.this
  values          = { url = "https://sqs.eu-central-1.amazonaws.com/123456789012/a-queue" }
  override_during = plan
}

override_resource {
  target          = module.timer_queue.aws_sqs_queue.this
  values          = { url = "https://sqs.eu-central-1.amazonaws.com/123456789012/a-queue" }
  override_during = plan
}

override_resource {
  target          = module.channel_queue.module.dead_letters["webhook"].aws_sqs_queue.this
  values          = { url = "https://sqs.eu-central-1.amazonaws.com/123456789012/a-queue" }
  override_during = plan
}

override_resource {
  target          = module.channel_queue.module.dead_letters["email"].aws_sqs_queue.this
  values          = { url = "https://sqs.eu-central-1.amazonaws.com/123456789012/a-queue" }
  override_during = plan
}

override_resource {
  target          = module.timer_queue.module.dead_letters["timer-15s"].aws_sqs_queue.this
  values          = { url = "https://sqs.eu-central-1.amazonaws.com/123456789012/a-queue" }
  override_during = plan
}

override_resource {
  target          = module.timer_queue.module.dead_letters["timer-30s"].aws_sqs_queue.this
  values          = { url = "https://sqs.eu-central-1.amazonaws.com/123456789012/a-queue" }
  override_during = plan
}

override_resource {
  target          = module.timer_queue.module.dead_letters["timer-4h"].aws_sqs_queue.this
  values          = { url = "https://sqs.eu-central-1.amazonaws.com/123456789012/a-queue" }
  override_during = plan
}

override_resource {
  target          = module.topics_key.aws_kms_key.this
  values          = { arn = "arn:aws:kms:eu-central-1:123456789012:key/11111111-2222-3333-4444-555555555555" }
  override_during = plan
}

# State machines are not planned by the provider, which would ask AWS whether their definitions are valid.
override_resource {
  target          = module.workflow["delivery_poll"].aws_sfn_state_machine.this
  override_during = plan
}

override_resource {
  target          = module.workflow["poll_express"].aws_sfn_state_machine.this
  override_during = plan
}

override_resource {
  target          = module.workflow["delivery_stop_on_ack"].aws_sfn_state_machine.this
  override_during = plan
}

override_resource {
  target          = module.workflow["delivery_callback"].aws_sfn_state_machine.this
  override_during = plan
}

override_resource {
  target          = module.workflow["delivery_event"].aws_sfn_state_machine.this
  override_during = plan
}

override_resource {
  target          = module.workflow["delivery_activity"].aws_sfn_state_machine.this
  override_during = plan
}

override_resource {
  target          = module.workflow["delivery_push"].aws_sfn_state_machine.this
  override_during = plan
}

override_resource {
  target          = module.workflow["delivery_job_poller"].aws_sfn_state_machine.this
  override_during = plan
}

override_resource {
  target = module.api.aws_api_gateway_rest_api.this
  values = {
    id            = "a1b2c3d4e5"
    execution_arn = "arn:aws:execute-api:eu-central-1:123456789012:a1b2c3d4e5"
  }
  override_during = plan
}

variables {
  existing_secrets = {
    capability-k1 = "arn:aws:secretsmanager:eu-central-1:123456789012:secret:ua-capability-AbCdEf"
    webhook-key   = "arn:aws:secretsmanager:eu-central-1:123456789012:secret:ua-webhook-key-AbCdEf"
  }

  prefix       = "ua"
  package_path = "tests/package.txt"
  mail_sender  = "messages@example.com"
  alert_emails = ["ops@example.com"]

  channels = {
    webhook = { timeout = 30, send_seconds = 20, lease = 45, reserved_concurrency = 10 }
    email   = { paused = true, batch_size = 500, batch_window = 5, maximum_concurrency = 3 }
  }

  schedules = { patient = [3600, 86400] }
}

run "stack" {
  command = plan

  # ---- what there is

  assert {
    condition = { for noun, queue in merge(module.channel_queue.queues, module.timer_queue.queues) : noun => [queue.name, queue.delay, queue.visibility_timeout, queue.retention] } == {
      webhook   = ["ua-webhook", 0, 180, 345600]
      email     = ["ua-email", 0, 125, 345600]
      timer-15s = ["ua-timer-15s", 15, 120, 345600]
      timer-30s = ["ua-timer-30s", 30, 120, 345600]
      timer-4h  = ["ua-timer-4h", 900, 120, 345600]
    }
    error_message = "There must be a queue a channel and a timer, delayed by at most SQS's 900 s, with six times their function's timeout and the batches' window."
  }

  assert {
    condition     = keys(output.queues) == ["email", "timer-15s", "timer-30s", "timer-4h", "webhook"] && keys(output.dlqs) == ["alerts", "attempts", "email", "events", "settle", "sweep", "timer-15s", "timer-30s", "timer-4h", "webhook"]
    error_message = "Every queue must have a dead-letter queue, and so must the topics, the bus, the sweep and settle."
  }

  assert {
    condition = output.functions == {
      submit          = "ua-submit"
      query           = "ua-query"
      ack             = "ua-ack"
      redeliver       = "ua-redeliver"
      check-ack       = "ua-check-ack"
      sweep           = "ua-sweep"
      deliver-webhook = "ua-deliver-webhook"
      deliver-email   = "ua-deliver-email"
      attempts        = "ua-attempts"
      tasks           = "ua-tasks"
      settle          = "ua-settle"
      push            = "ua-push"
      job             = "ua-job"
    }
    error_message = "There must be a function for each part, by its name."
  }

  assert {
    condition     = alltrue([for noun, function in local.functions : function.recursive_loop == "Allow" || contains(["query", "tasks", "job"], noun)])
    error_message = "Lambda must not end the loop: every function that is in it, or sends into it, must say so."
  }

  assert {
    condition = { for name, source in merge(module.deliver["webhook"].sources, module.deliver["email"].sources, module.check_ack.sources) : name => [source.arn, source.batch_size, source.window, source.maximum_concurrency, source.enabled, join(",", source.response_types)] } == {
      webhook   = ["arn:aws:sqs:eu-central-1:123456789012:ua-webhook", 10, 0, 10, true, "ReportBatchItemFailures"]
      email     = ["arn:aws:sqs:eu-central-1:123456789012:ua-email", 500, 5, 3, false, "ReportBatchItemFailures"]
      timer-15s = ["arn:aws:sqs:eu-central-1:123456789012:ua-timer-15s", 10, 0, 10, true, "ReportBatchItemFailures"]
      timer-30s = ["arn:aws:sqs:eu-central-1:123456789012:ua-timer-30s", 10, 0, 10, true, "ReportBatchItemFailures"]
      timer-4h  = ["arn:aws:sqs:eu-central-1:123456789012:ua-timer-4h", 10, 0, 10, true, "ReportBatchItemFailures"]
    }
    error_message = "Each queue must be read by its function as set; a paused channel's is not read."
  }

  assert {
    condition     = output.api_url == "https://a1b2c3d4e5.execute-api.eu-central-1.amazonaws.com/v1" && output.ack_base_url == output.api_url
    error_message = "ACK URLs must begin with the API's address."
  }

  assert {
    condition     = output.mail_template == "ua-message" && output.mail_dns_records == {} && output.table == "ua-messages" && output.region == "eu-central-1"
    error_message = "The outputs must say what is where."
  }

  # ---- what the functions are told

  assert {
    condition = { for noun, names in {
      common    = ["HEARTBEAT", "MACHINES", "POWERTOOLS_LOG_LEVEL", "POWERTOOLS_METRICS_NAMESPACE", "POWERTOOLS_SERVICE_NAME", "SWEEP_GRACE", "TABLE"]
      submit    = ["CHANNEL_QUEUES", "DEFAULT_EXPIRES_IN", "MAX_PAYLOAD_BYTES", "SCHEDULES", "WEBHOOK_ALLOWED_NETWORKS", "WEBHOOK_ALLOW_HTTP"]
      query     = ["ALERTS_TOPIC", "EVENTS_TOPIC", "RETENTION"]
      redeliver = ["ALERTS_TOPIC", "CHANNEL_QUEUES", "DEFAULT_EXPIRES_IN", "EVENTS_TOPIC", "RETENTION"]
      ack       = ["ALERTS_TOPIC", "CAPABILITY_KEYS", "EVENTS_TOPIC", "RETENTION", "TIMER_CAP", "TIMER_QUEUES"]
      check-ack = ["ALERTS_TOPIC", "CHANNEL_QUEUES", "DLQS", "EVENTS_TOPIC", "RETENTION", "TIMER_CAP", "TIMER_QUEUES"]
      sweep     = ["ALERTS_TOPIC", "CHANNEL_QUEUES", "EVENTS_TOPIC", "PAUSED_CHANNELS", "RETENTION", "SWEEP_LIMIT"]
      deliver-webhook = [
        "ACK_BASE_URL", "ALERTS_TOPIC", "CAPABILITY_KEYS", "CHANNEL", "CHANNEL_QUEUES", "CONNECT_TIMEOUT", "DLQS", "EVENTS_TOPIC",
        "LATE_WINDOW", "LEASE_SECONDS", "READ_TIMEOUT", "RETENTION", "SEND_SECONDS", "TIMER_CAP", "TIMER_QUEUES",
        "WEBHOOK_ALLOWED_NETWORKS", "WEBHOOK_ALLOW_HTTP", "WEBHOOK_KEY",
      ]
      deliver-email = [
        "ACK_BASE_URL", "ALERTS_TOPIC", "CAPABILITY_KEYS", "CHANNEL", "CHANNEL_QUEUES", "DLQS", "EVENTS_TOPIC", "LATE_WINDOW",
        "LEASE_SECONDS", "MAIL_SENDER", "MAIL_TEMPLATE", "RETENTION", "SEND_SECONDS", "TIMER_CAP", "TIMER_QUEUES",
      ]
      attempts = ["ALERTS_TOPIC", "CHANNEL_QUEUES", "EVENTS_TOPIC", "RETENTION"]
      tasks = [
        "ACK_BASE_URL", "ALERTS_TOPIC", "CAPABILITY_KEYS", "CHANNEL", "CHANNEL_QUEUES", "EVENTS_TOPIC", "LATE_WINDOW", "LEASE_SECONDS",
        "RETENTION", "SEND_SECONDS", "TIMER_CAP", "TIMER_QUEUES",
      ]
      settle = ["ALERTS_TOPIC", "CHANNEL_QUEUES", "EVENTS_TOPIC", "RETENTION", "TIMER_CAP", "TIMER_QUEUES"]
      push   = ["CHANNEL_QUEUES", "PUSH_ACTIVITY"]
      job = [
        "ALERTS_TOPIC", "CONNECT_TIMEOUT", "EVENTS_TOPIC", "READ_TIMEOUT", "RETENTION", "SEND_SECONDS", "WEBHOOK_ALLOWED_NETWORKS",
        "WEBHOOK_ALLOW_HTTP", "WEBHOOK_KEY",
      ]
      } : noun => sort(names) if noun != "common" } == { for noun, function in local.functions : noun => sort([
        for name in keys(function.environment) : name
        if !contains(["HEARTBEAT", "MACHINES", "POWERTOOLS_LOG_LEVEL", "POWERTOOLS_METRICS_NAMESPACE", "POWERTOOLS_SERVICE_NAME", "SWEEP_GRACE", "TABLE"], name)
    ]) }
    error_message = "Each function must be told what it reads, and nothing else."
  }

  assert {
    condition     = alltrue([for noun, function in local.functions : function.environment["POWERTOOLS_SERVICE_NAME"] == noun && (noun == "push" ? !contains(keys(function.environment), "TABLE") : function.environment["TABLE"] == "ua-messages" && function.environment["SWEEP_GRACE"] == "60")])
    error_message = "Each function must know its name, the table and the sweep's grace; push has no part in the table."
  }

  assert {
    condition = { for name, value in module.deliver["webhook"].environment : name => value if contains(["CHANNEL", "LEASE_SECONDS", "SEND_SECONDS", "LATE_WINDOW", "RETENTION", "TIMER_CAP", "WEBHOOK_ALLOW_HTTP", "WEBHOOK_ALLOWED_NETWORKS", "CONNECT_TIMEOUT", "READ_TIMEOUT", "ACK_BASE_URL"], name) } == {
      CHANNEL                  = "webhook"
      LEASE_SECONDS            = "45"
      SEND_SECONDS             = "20"
      LATE_WINDOW              = "1209600"
      RETENTION                = "2592000"
      TIMER_CAP                = "900"
      WEBHOOK_ALLOW_HTTP       = "false"
      WEBHOOK_ALLOWED_NETWORKS = "[]"
      CONNECT_TIMEOUT          = "3"
      READ_TIMEOUT             = "10"
      ACK_BASE_URL             = "https://a1b2c3d4e5.execute-api.eu-central-1.amazonaws.com/v1"
    }
    error_message = "deliver-webhook must be told what is set, as text."
  }

  assert {
    condition     = module.deliver["email"].environment["LEASE_SECONDS"] == "40" && module.deliver["email"].environment["MAIL_SENDER"] == "messages@example.com" && module.deliver["email"].environment["MAIL_TEMPLATE"] == "ua-message"
    error_message = "The lease must be twice the timeout where none is set, and mails must have sender and template."
  }

  assert {
    condition     = jsondecode(module.api_function["submit"].environment["SCHEDULES"]) == { default = [15, 30, 14400], patient = [3600, 86400] }
    error_message = "submit must know the named schedules."
  }

  assert {
    condition     = keys(jsondecode(module.check_ack.environment["TIMER_QUEUES"])) == ["14400", "15", "30"] && keys(jsondecode(module.check_ack.environment["CHANNEL_QUEUES"])) == ["email", "webhook"]
    error_message = "check-ack must know the timer queues by their delay, and all channels."
  }

  assert {
    condition     = keys(jsondecode(module.deliver["email"].environment["CHANNEL_QUEUES"])) == ["email"] && keys(jsondecode(module.deliver["email"].environment["DLQS"])) == ["arn:aws:sqs:eu-central-1:123456789012:ua-email"]
    error_message = "A channel's function must know its own queue and dead-letter queue only."
  }

  assert {
    condition     = module.sweep.environment["PAUSED_CHANNELS"] == "[\"email\"]" && module.sweep.environment["SWEEP_LIMIT"] == "1000"
    error_message = "The sweep must know which channels are paused."
  }

  assert {
    condition     = module.api_function["ack"].environment["CAPABILITY_KEYS"] == "[{\"id\":\"k1\",\"secret\":\"arn:aws:secretsmanager:eu-central-1:123456789012:secret:ua-capability-AbCdEf\"}]"
    error_message = "ack must know where the keys are."
  }

  # ---- what is watched

  assert {
    condition = toset(output.alarms) == toset(concat(
      [for noun in ["webhook", "email", "timer-15s", "timer-30s", "timer-4h", "events", "alerts", "sweep", "attempts", "settle"] : "ua-${noun}-dead-letters"],
      [for noun in ["webhook", "email", "timer-15s", "timer-30s", "timer-4h"] : "ua-${noun}-age"],
      [for noun in keys(output.functions) : "ua-${noun}-errors"],
      [for noun in keys(output.functions) : "ua-${noun}-throttles"],
      [for noun in keys(output.functions) : "ua-${noun}-recursion" if !contains(["query", "tasks", "job"], noun)],
      flatten([for workflow in keys(output.machines) : [for fault in ["failed", "timed-out", "throttled"] : "ua-${replace(workflow, "_", "-")}-${fault}"]]),
      ["ua-api-5xx"],
    ))
    error_message = "Every dead-letter queue, every queue, every function, every workflow and the API must be watched."
  }

  assert {
    condition     = module.alarms.alarms["ua-webhook-age"].threshold == 300 && module.alarms.alarms["ua-timer-15s-age"].threshold == 1200 && module.alarms.alarms["ua-webhook-age"].period == 60
    error_message = "A timer may wait for the longest hop before it is late."
  }

  assert {
    condition     = module.alarms.alarms["ua-sweep-dead-letters"].dimensions["QueueName"] == "ua-sweep-dlq"
    error_message = "An alarm must watch the queue that it is named for."
  }

  # ---- what the functions may do

  assert {
    # Its own log streams, and the two services that know no resources.
    condition = toset(flatten([for noun, function in local.functions : [for s in jsondecode(function.policy).Statement : [for resource in s.Resource : "${s.Sid} ${resource}" if strcontains(resource, "*")]]])) == toset(concat(
      ["QueueAges *", "Traces *", "CompleteTasks *", "KeepTasksAlive *", "StopExecutions arn:aws:states:eu-central-1:123456789012:execution:ua-delivery-stop-on-ack:*", "StopExecutions arn:aws:states:eu-central-1:123456789012:execution:ua-delivery-activity:*", "StopExecutions arn:aws:states:eu-central-1:123456789012:execution:ua-delivery-push:*"],
      [for noun, name in output.functions : "Logs arn:aws:logs:eu-central-1:123456789012:log-group:/aws/lambda/${name}:*"],
    ))
    error_message = "No policy may have a wildcard beyond those that are commented."
  }

  assert {
    condition     = !anytrue(flatten([for function in local.functions : [for s in jsondecode(function.policy).Statement : [for action in s.Action : strcontains(action, "*")]]]))
    error_message = "No policy may allow more than named actions."
  }

  assert {
    condition     = toset(flatten([for noun, function in local.functions : [for s in jsondecode(function.policy).Statement : noun if s.Sid == "QueueAges"]])) == toset(["sweep"])
    error_message = "Only the sweep may look at metrics."
  }

  assert {
    condition = { for s in jsondecode(module.api_function["submit"].policy).Statement : s.Sid => "${join(" ", s.Action)} on ${join(" ", [for r in s.Resource : replace(r, "/^arn:aws:[a-z]+:eu-central-1:123456789012:/", "")])}" } == {
      Start         = "states:StartExecution on stateMachine:ua-delivery-activity stateMachine:ua-delivery-callback stateMachine:ua-delivery-event stateMachine:ua-delivery-job-poller stateMachine:ua-delivery-poll stateMachine:ua-delivery-push stateMachine:ua-delivery-stop-on-ack stateMachine:ua-poll-express"
      FirstAttempts = "sqs:SendMessage on ua-email ua-webhook"
      Logs          = "logs:CreateLogStream logs:PutLogEvents on log-group:/aws/lambda/ua-submit:*"
      Messages      = "dynamodb:PutItem on table/ua-messages"
      Traces        = "xray:PutTelemetryRecords xray:PutTraceSegments on *"
    }
    error_message = "submit may store messages and enqueue their first attempts."
  }

  assert {
    condition = { for s in jsondecode(module.api_function["query"].policy).Statement : s.Sid => "${join(" ", s.Action)} on ${join(" ", [for r in s.Resource : replace(r, "/^arn:aws:[a-z]+:eu-central-1:123456789012:/", "")])}" } == {
      CompleteTasks  = "states:SendTaskSuccess on *"
      StopExecutions = "states:StopExecution on execution:ua-delivery-stop-on-ack:* execution:ua-delivery-activity:* execution:ua-delivery-push:*"
      Listings       = "dynamodb:Query on table/ua-messages/index/by-target table/ua-messages/index/overdue table/ua-messages/index/undelivered"
      Logs           = "logs:CreateLogStream logs:PutLogEvents on log-group:/aws/lambda/ua-query:*"
      Messages       = "dynamodb:BatchGetItem dynamodb:GetItem dynamodb:UpdateItem on table/ua-messages"
      Tell           = "sns:Publish on ua-events ua-alerts"
      TellEncrypted  = "kms:Decrypt kms:GenerateDataKey on key/11111111-2222-3333-4444-555555555555"
      Traces         = "xray:PutTelemetryRecords xray:PutTraceSegments on *"
    }
    error_message = "query may read, list and cancel."
  }

  assert {
    condition = { for s in jsondecode(module.api_function["redeliver"].policy).Statement : s.Sid => "${join(" ", s.Action)} on ${join(" ", [for r in s.Resource : replace(r, "/^arn:aws:[a-z]+:eu-central-1:123456789012:/", "")])}" } == {
      CompleteTasks  = "states:SendTaskSuccess on *"
      Start          = "states:StartExecution on stateMachine:ua-delivery-activity stateMachine:ua-delivery-callback stateMachine:ua-delivery-event stateMachine:ua-delivery-job-poller stateMachine:ua-delivery-poll stateMachine:ua-delivery-push stateMachine:ua-delivery-stop-on-ack stateMachine:ua-poll-express"
      StopExecutions = "states:StopExecution on execution:ua-delivery-stop-on-ack:* execution:ua-delivery-activity:* execution:ua-delivery-push:*"
      Logs           = "logs:CreateLogStream logs:PutLogEvents on log-group:/aws/lambda/ua-redeliver:*"
      Messages       = "dynamodb:GetItem dynamodb:UpdateItem on table/ua-messages"
      NextAttempts   = "sqs:SendMessage on ua-email ua-webhook"
      Tell           = "sns:Publish on ua-events ua-alerts"
      TellEncrypted  = "kms:Decrypt kms:GenerateDataKey on key/11111111-2222-3333-4444-555555555555"
      Traces         = "xray:PutTelemetryRecords xray:PutTraceSegments on *"
    }
    error_message = "redeliver may reopen messages and enqueue their next attempts."
  }

  assert {
    condition = { for s in jsondecode(module.api_function["ack"].policy).Statement : s.Sid => "${join(" ", s.Action)} on ${join(" ", [for r in s.Resource : replace(r, "/^arn:aws:[a-z]+:eu-central-1:123456789012:/", "")])}" } == {
      CompleteTasks  = "states:SendTaskSuccess on *"
      StopExecutions = "states:StopExecution on execution:ua-delivery-stop-on-ack:* execution:ua-delivery-activity:* execution:ua-delivery-push:*"
      Capabilities   = "secretsmanager:GetSecretValue on secret:ua-capability-AbCdEf"
      Logs           = "logs:CreateLogStream logs:PutLogEvents on log-group:/aws/lambda/ua-ack:*"
      Messages       = "dynamodb:GetItem dynamodb:UpdateItem on table/ua-messages"
      Tell           = "sns:Publish on ua-events ua-alerts"
      TellEncrypted  = "kms:Decrypt kms:GenerateDataKey on key/11111111-2222-3333-4444-555555555555"
      Timers         = "sqs:SendMessage on ua-timer-15s ua-timer-30s ua-timer-4h"
      Traces         = "xray:PutTelemetryRecords xray:PutTraceSegments on *"
    }
    error_message = "ack may end messages and put their timers off."
  }

  assert {
    condition = { for s in jsondecode(module.deliver["webhook"].policy).Statement : s.Sid => "${join(" ", s.Action)} on ${join(" ", [for r in s.Resource : replace(r, "/^arn:aws:[a-z]+:eu-central-1:123456789012:/", "")])}" } == {
      CompleteTasks    = "states:SendTaskSuccess on *"
      KeepTasksAlive   = "states:SendTaskHeartbeat on *"
      StopExecutions   = "states:StopExecution on execution:ua-delivery-stop-on-ack:* execution:ua-delivery-activity:* execution:ua-delivery-push:*"
      Bury             = "sqs:SendMessage on ua-webhook-dlq"
      Capabilities     = "secretsmanager:GetSecretValue on secret:ua-capability-AbCdEf"
      Logs             = "logs:CreateLogStream logs:PutLogEvents on log-group:/aws/lambda/ua-deliver-webhook:*"
      Messages         = "dynamodb:UpdateItem on table/ua-messages"
      Sources          = "sqs:DeleteMessage sqs:GetQueueAttributes sqs:ReceiveMessage on ua-webhook"
      Tell             = "sns:Publish on ua-events ua-alerts"
      TellEncrypted    = "kms:Decrypt kms:GenerateDataKey on key/11111111-2222-3333-4444-555555555555"
      TimersAndPutBack = "sqs:SendMessage on ua-timer-15s ua-timer-30s ua-timer-4h ua-webhook"
      Traces           = "xray:PutTelemetryRecords xray:PutTraceSegments on *"
      WebhookKey       = "secretsmanager:GetSecretValue on secret:ua-webhook-key-AbCdEf"
    }
    error_message = "deliver-webhook may make the attempts of its own channel."
  }

  assert {
    condition = { for s in jsondecode(module.deliver["email"].policy).Statement : s.Sid => "${join(" ", s.Action)} on ${join(" ", [for r in s.Resource : replace(r, "/^arn:aws:[a-z]+:eu-central-1:123456789012:/", "")])}" } == {
      CompleteTasks    = "states:SendTaskSuccess on *"
      KeepTasksAlive   = "states:SendTaskHeartbeat on *"
      StopExecutions   = "states:StopExecution on execution:ua-delivery-stop-on-ack:* execution:ua-delivery-activity:* execution:ua-delivery-push:*"
      Bury             = "sqs:SendMessage on ua-email-dlq"
      Capabilities     = "secretsmanager:GetSecretValue on secret:ua-capability-AbCdEf"
      Logs             = "logs:CreateLogStream logs:PutLogEvents on log-group:/aws/lambda/ua-deliver-email:*"
      Mail             = "ses:SendTemplatedEmail on identity/messages@example.com template/ua-message"
      Messages         = "dynamodb:UpdateItem on table/ua-messages"
      Sources          = "sqs:DeleteMessage sqs:GetQueueAttributes sqs:ReceiveMessage on ua-email"
      Tell             = "sns:Publish on ua-events ua-alerts"
      TellEncrypted    = "kms:Decrypt kms:GenerateDataKey on key/11111111-2222-3333-4444-555555555555"
      TimersAndPutBack = "sqs:SendMessage on ua-timer-15s ua-timer-30s ua-timer-4h ua-email"
      Traces           = "xray:PutTelemetryRecords xray:PutTraceSegments on *"
    }
    error_message = "deliver-email may make the attempts of its own channel, and has no part in webhooks."
  }

  assert {
    condition = { for s in jsondecode(module.check_ack.policy).Statement : s.Sid => "${join(" ", s.Action)} on ${join(" ", [for r in s.Resource : replace(r, "/^arn:aws:[a-z]+:eu-central-1:123456789012:/", "")])}" } == {
      CompleteTasks   = "states:SendTaskSuccess on *"
      StopExecutions  = "states:StopExecution on execution:ua-delivery-stop-on-ack:* execution:ua-delivery-activity:* execution:ua-delivery-push:*"
      Bury            = "sqs:SendMessage on ua-timer-15s-dlq ua-timer-30s-dlq ua-timer-4h-dlq"
      HopsAndAttempts = "sqs:SendMessage on ua-timer-15s ua-timer-30s ua-timer-4h ua-email ua-webhook"
      Logs            = "logs:CreateLogStream logs:PutLogEvents on log-group:/aws/lambda/ua-check-ack:*"
      Messages        = "dynamodb:BatchGetItem dynamodb:UpdateItem on table/ua-messages"
      Sources         = "sqs:DeleteMessage sqs:GetQueueAttributes sqs:ReceiveMessage on ua-timer-15s ua-timer-30s ua-timer-4h"
      Tell            = "sns:Publish on ua-events ua-alerts"
      TellEncrypted   = "kms:Decrypt kms:GenerateDataKey on key/11111111-2222-3333-4444-555555555555"
      Traces          = "xray:PutTelemetryRecords xray:PutTraceSegments on *"
    }
    error_message = "check-ack may answer timers."
  }

  assert {
    condition = { for s in jsondecode(module.sweep.policy).Statement : s.Sid => "${join(" ", s.Action)} on ${join(" ", [for r in s.Resource : replace(r, "/^arn:aws:[a-z]+:eu-central-1:123456789012:/", "")])}" } == {
      CompleteTasks  = "states:SendTaskSuccess on *"
      Start          = "states:StartExecution on stateMachine:ua-delivery-activity stateMachine:ua-delivery-callback stateMachine:ua-delivery-event stateMachine:ua-delivery-job-poller stateMachine:ua-delivery-poll stateMachine:ua-delivery-push stateMachine:ua-delivery-stop-on-ack stateMachine:ua-poll-express"
      StopExecutions = "states:StopExecution on execution:ua-delivery-stop-on-ack:* execution:ua-delivery-activity:* execution:ua-delivery-push:*"
      Attempts       = "sqs:SendMessage on ua-email ua-webhook"
      Failures       = "sqs:SendMessage on ua-sweep-dlq"
      Logs           = "logs:CreateLogStream logs:PutLogEvents on log-group:/aws/lambda/ua-sweep:*"
      Messages       = "dynamodb:BatchGetItem dynamodb:UpdateItem on table/ua-messages"
      Overdue        = "dynamodb:Query on table/ua-messages/index/overdue"
      QueueAges      = "cloudwatch:GetMetricData on *"
      Tell           = "sns:Publish on ua-events ua-alerts"
      TellEncrypted  = "kms:Decrypt kms:GenerateDataKey on key/11111111-2222-3333-4444-555555555555"
      Traces         = "xray:PutTelemetryRecords xray:PutTraceSegments on *"
    }
    error_message = "sweep may take over what is overdue."
  }
}

run "a_stack_of_webhooks_alone_with_a_key_of_one_s_own" {
  command = plan

  variables {
    mail_sender  = null
    channels     = { webhook = {} }
    retry_delays = [90, 3600, 172800, 3600]
    schedules    = {}
    timer_cap    = 60
    table        = { kms_key_arn = "arn:aws:kms:eu-central-1:123456789012:key/99999999-2222-3333-4444-555555555555" }
  }

  assert {
    condition     = keys(output.functions) == ["ack", "attempts", "check-ack", "deliver-webhook", "job", "push", "query", "redeliver", "settle", "submit", "sweep", "tasks"] && output.mail_template == null
    error_message = "Without the email channel there is neither its function nor its template."
  }

  assert {
    condition     = { for noun, queue in module.timer_queue.queues : noun => queue.delay } == { timer-90s = 60, timer-1h = 60, timer-2d = 60 }
    error_message = "Each different delay must have one queue, labelled in its largest unit and delayed by the longest hop."
  }

  assert {
    condition     = jsondecode(module.api_function["submit"].environment["SCHEDULES"]) == { default = [90, 3600, 172800, 3600] }
    error_message = "The default schedule must be the retry delays, repeats included."
  }

  assert {
    condition     = alltrue([for noun, function in local.functions : noun == "push" ? true : { for s in jsondecode(function.policy).Statement : s.Sid => concat(s.Action, s.Resource) }["TableKey"] == ["kms:Decrypt", "arn:aws:kms:eu-central-1:123456789012:key/99999999-2222-3333-4444-555555555555"]])
    error_message = "Every function must be able to use the table's key."
  }

  assert {
    condition     = [for s in jsondecode(module.workflow["delivery_poll"].policy).Statement : s.Resource if s.Sid == "TableKey"] == [["arn:aws:kms:eu-central-1:123456789012:key/99999999-2222-3333-4444-555555555555"]]
    error_message = "A workflow that reads the table must be able to use its key."
  }

  assert {
    condition     = module.alarms.alarms["ua-timer-2d-age"].threshold == 360
    error_message = "A timer may be as old as the longest hop, and a little more."
  }
}

run "names_stay_within_aws_s_limits" {
  command = plan

  variables {
    prefix       = "a234567890-234567890-234567890-234567890"
    retry_delays = [31535999]
  }

  assert {
    condition     = alltrue([for name in values(output.functions) : length(name) <= 64]) && alltrue([for queue in values(local.dead_letters) : length(queue.name) <= 80]) && alltrue([for name in output.alarms : length(name) <= 255]) && length(output.mail_template) <= 64 && length(module.package.bucket) <= 63
    error_message = "The longest prefix must leave every name within its service's limit."
  }
}

run "nobody_hears" {
  command = plan

  variables {
    alert_emails = []
  }

  expect_failures = [check.somebody_hears]
}
