# The workflows in the stack: what there is of them, what they may do, and what is told to whom.

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
    webhook = {}
    email   = {}
  }
}

run "workflows" {
  command = plan

  # ---- what there is

  assert {
    condition = { for workflow, machine in module.workflow : workflow => "${machine.name} ${machine.type} ${machine.log_level}" } == {
      delivery_poll        = "ua-delivery-poll STANDARD ERROR"
      poll_express         = "ua-poll-express EXPRESS ERROR"
      delivery_stop_on_ack = "ua-delivery-stop-on-ack STANDARD ERROR"
      delivery_callback    = "ua-delivery-callback STANDARD ERROR"
      delivery_event       = "ua-delivery-event STANDARD ERROR"
      delivery_activity    = "ua-delivery-activity STANDARD ERROR"
      delivery_push        = "ua-delivery-push STANDARD ERROR"
      delivery_job_poller  = "ua-delivery-job-poller STANDARD ERROR"
    }
    error_message = "There must be a machine for each workflow of the catalogue, by its name, and all of them standard but one."
  }

  assert {
    condition     = output.workflow_log_groups == { for workflow in keys(local.catalogue) : workflow => "/aws/vendedlogs/states/ua-${replace(workflow, "_", "-")}" } && output.bus == "ua-attempts"
    error_message = "The outputs must say where the logs are, and what the bus is called."
  }

  assert {
    condition     = { for noun, activity in aws_sfn_activity.this : noun => activity.name } == { delivery = "ua-delivery", push = "ua-push" }
    error_message = "There must be an activity whose tasks workers pull, and one whose tasks only wait."
  }

  assert {
    condition     = local.machine_arns["delivery_poll"] == "arn:aws:states:eu-central-1:123456789012:stateMachine:ua-delivery-poll" && local.activity_arns["push"] == "arn:aws:states:eu-central-1:123456789012:activity:ua-push"
    error_message = "What is known by its name must have the ARN that AWS gives it."
  }

  # ---- what the definitions say

  assert {
    condition     = alltrue([for machine in module.workflow : !strcontains(machine.definition, "${"$"}{")])
    error_message = "No variable may be left in a definition."
  }

  assert {
    condition     = module.workflow["delivery_poll"].definition == module.workflow["poll_express"].definition
    error_message = "The Express machine must run the same definition."
  }

  assert {
    condition     = alltrue([for workflow in ["delivery_poll", "delivery_stop_on_ack", "delivery_job_poller"] : strcontains(module.workflow[workflow].definition, "a1b2c3d4e5.execute-api.eu-central-1.amazonaws.com")])
    error_message = "Step Functions must be told the API's own address."
  }

  assert {
    condition     = strcontains(module.workflow["delivery_poll"].definition, "\"ua-messages\"") && strcontains(module.workflow["delivery_event"].definition, "\"ua-attempts\"")
    error_message = "The table and the bus must be the stack's."
  }

  assert {
    condition     = strcontains(module.workflow["delivery_activity"].definition, "\"arn:aws:states:eu-central-1:123456789012:activity:ua-delivery\"") && strcontains(module.workflow["delivery_push"].definition, "\"arn:aws:states:eu-central-1:123456789012:activity:ua-push\"")
    error_message = "Each activity must be its own workflow's."
  }

  assert {
    condition     = strcontains(module.workflow["delivery_push"].definition, "\"arn:aws:lambda:eu-central-1:123456789012:function:ua-push\"") && strcontains(module.workflow["delivery_job_poller"].definition, "\"arn:aws:lambda:eu-central-1:123456789012:function:ua-job\"") && alltrue([for machine in module.workflow : strcontains(machine.definition, "\"arn:aws:lambda:eu-central-1:123456789012:function:ua-settle\"")])
    error_message = "Each machine must invoke its own functions, and all of them settle."
  }

  # ---- what the machines may do

  assert {
    condition = { for s in jsondecode(module.workflow["delivery_poll"].policy).Statement : s.Sid => "${join(" ", s.Action)} on ${join(" ", [for r in s.Resource : replace(r, "/^arn:aws:[a-z-]+:eu-central-1:123456789012:/", "")])}" if !contains(["Logs", "Traces"], s.Sid) } == {
      Ask    = "execute-api:Invoke on a1b2c3d4e5/v1/POST/internal/attempts"
      Read   = "dynamodb:GetItem on table/ua-messages"
      Settle = "lambda:InvokeFunction on function:ua-settle"
    }
    error_message = "delivery_poll may ask for attempts by the route, read records and settle."
  }

  assert {
    condition = { for s in jsondecode(module.workflow["poll_express"].policy).Statement : s.Sid => "${join(" ", s.Action)} on ${join(" ", [for r in s.Resource : replace(r, "/^arn:aws:[a-z-]+:eu-central-1:123456789012:/", "")])}" if !contains(["Logs", "Traces"], s.Sid) } == {
      Ask    = "execute-api:Invoke on a1b2c3d4e5/v1/POST/internal/attempts"
      Read   = "dynamodb:GetItem on table/ua-messages"
      Settle = "lambda:InvokeFunction on function:ua-settle"
    }
    error_message = "poll_express may do what delivery_poll may."
  }

  assert {
    condition = { for s in jsondecode(module.workflow["delivery_stop_on_ack"].policy).Statement : s.Sid => "${join(" ", s.Action)} on ${join(" ", [for r in s.Resource : replace(r, "/^arn:aws:[a-z-]+:eu-central-1:123456789012:/", "")])}" if !contains(["Logs", "Traces"], s.Sid) } == {
      Ask    = "execute-api:Invoke on a1b2c3d4e5/v1/POST/internal/attempts"
      Settle = "lambda:InvokeFunction on function:ua-settle"
    }
    error_message = "delivery_stop_on_ack may ask and settle, and has no part in the table."
  }

  assert {
    condition = { for s in jsondecode(module.workflow["delivery_callback"].policy).Statement : s.Sid => "${join(" ", s.Action)} on ${join(" ", [for r in s.Resource : replace(r, "/^arn:aws:[a-z-]+:eu-central-1:123456789012:/", "")])}" if !contains(["Logs", "Traces"], s.Sid) } == {
      Ask    = "sqs:SendMessage on ua-email ua-webhook"
      Settle = "lambda:InvokeFunction on function:ua-settle"
    }
    error_message = "delivery_callback may send to the channels' queues."
  }

  assert {
    condition = { for s in jsondecode(module.workflow["delivery_event"].policy).Statement : s.Sid => "${join(" ", s.Action)} on ${join(" ", [for r in s.Resource : replace(r, "/^arn:aws:[a-z-]+:eu-central-1:123456789012:/", "")])}" if !contains(["Logs", "Traces"], s.Sid) } == {
      Ask    = "events:PutEvents on event-bus/ua-attempts"
      Settle = "lambda:InvokeFunction on function:ua-settle"
    }
    error_message = "delivery_event may put events on its bus."
  }

  assert {
    condition = { for s in jsondecode(module.workflow["delivery_activity"].policy).Statement : s.Sid => "${join(" ", s.Action)} on ${join(" ", [for r in s.Resource : replace(r, "/^arn:aws:[a-z-]+:eu-central-1:123456789012:/", "")])}" if !contains(["Logs", "Traces"], s.Sid) } == {
      Settle = "lambda:InvokeFunction on function:ua-settle"
    }
    error_message = "An activity needs no right."
  }

  assert {
    condition = { for s in jsondecode(module.workflow["delivery_push"].policy).Statement : s.Sid => "${join(" ", s.Action)} on ${join(" ", [for r in s.Resource : replace(r, "/^arn:aws:[a-z-]+:eu-central-1:123456789012:/", "")])}" if !contains(["Logs", "Traces"], s.Sid) } == {
      Settle = "lambda:InvokeFunction on function:ua-settle"
      Start  = "lambda:InvokeFunction on function:ua-push"
    }
    error_message = "delivery_push may invoke its starter."
  }

  assert {
    condition = { for s in jsondecode(module.workflow["delivery_job_poller"].policy).Statement : s.Sid => "${join(" ", s.Action)} on ${join(" ", [for r in s.Resource : replace(r, "/^arn:aws:[a-z-]+:eu-central-1:123456789012:/", "")])}" if !contains(["Logs", "Traces"], s.Sid) } == {
      Ask       = "execute-api:Invoke on a1b2c3d4e5/v1/POST/internal/attempts"
      AskTarget = "lambda:InvokeFunction on function:ua-job"
      Settle    = "lambda:InvokeFunction on function:ua-settle"
    }
    error_message = "delivery_job_poller may ask for attempts, and have the target asked."
  }

  assert {
    condition     = [for s in jsondecode(module.workflow["delivery_event"].policy).Statement : s.Condition if s.Sid == "Ask"] == [{ StringEquals = { "events:source" = ["until-ack"] } }]
    error_message = "delivery_event may speak for until-ack only."
  }

  # ---- what the functions may do

  assert {
    condition = { for s in jsondecode(module.api_function["attempts"].policy).Statement : s.Sid => "${join(" ", s.Action)} on ${join(" ", [for r in s.Resource : replace(r, "/^arn:aws:[a-z-]+:eu-central-1:123456789012:/", "")])}" if !contains(["Logs", "Traces"], s.Sid) } == {
      Attempts      = "sqs:SendMessage on ua-email ua-webhook"
      Messages      = "dynamodb:GetItem dynamodb:UpdateItem on table/ua-messages"
      Tell          = "sns:Publish on ua-events ua-alerts"
      TellEncrypted = "kms:Decrypt kms:GenerateDataKey on key/11111111-2222-3333-4444-555555555555"
    }
    error_message = "attempts may enqueue attempts and end messages. The execution that asks is told by the answer: there is nothing to complete."
  }

  assert {
    condition = { for s in jsondecode(module.api_function["tasks"].policy).Statement : s.Sid => "${join(" ", s.Action)} on ${join(" ", [for r in s.Resource : replace(r, "/^arn:aws:[a-z-]+:eu-central-1:123456789012:/", "")])}" if !contains(["Logs", "Traces"], s.Sid) } == {
      Capabilities   = "secretsmanager:GetSecretValue on secret:ua-capability-AbCdEf"
      CompleteTasks  = "states:SendTaskSuccess on *"
      Messages       = "dynamodb:GetItem dynamodb:UpdateItem on table/ua-messages"
      StopExecutions = "states:StopExecution on execution:ua-delivery-stop-on-ack:* execution:ua-delivery-activity:* execution:ua-delivery-push:*"
      Tell           = "sns:Publish on ua-events ua-alerts"
      TellEncrypted  = "kms:Decrypt kms:GenerateDataKey on key/11111111-2222-3333-4444-555555555555"
    }
    error_message = "tasks may claim attempts for workers and record how they went. It sends nothing."
  }

  assert {
    condition = { for s in jsondecode(module.invoked_function["settle"].policy).Statement : s.Sid => "${join(" ", s.Action)} on ${join(" ", [for r in s.Resource : replace(r, "/^arn:aws:[a-z-]+:eu-central-1:123456789012:/", "")])}" if !contains(["Logs", "Traces"], s.Sid) } == {
      Failures          = "sqs:SendMessage on ua-settle-dlq"
      Messages          = "dynamodb:GetItem dynamodb:UpdateItem on table/ua-messages"
      Start             = "states:StartExecution on stateMachine:ua-delivery-activity stateMachine:ua-delivery-callback stateMachine:ua-delivery-event stateMachine:ua-delivery-job-poller stateMachine:ua-delivery-poll stateMachine:ua-delivery-push stateMachine:ua-delivery-stop-on-ack stateMachine:ua-poll-express"
      Tell              = "sns:Publish on ua-events ua-alerts"
      TellEncrypted     = "kms:Decrypt kms:GenerateDataKey on key/11111111-2222-3333-4444-555555555555"
      TimersAndAttempts = "sqs:SendMessage on ua-timer-15s ua-timer-30s ua-timer-4h ua-email ua-webhook"
    }
    error_message = "settle may end messages, hand them to the queues, or start them anew."
  }

  assert {
    condition = { for s in jsondecode(module.invoked_function["push"].policy).Statement : s.Sid => "${join(" ", s.Action)} on ${join(" ", [for r in s.Resource : replace(r, "/^arn:aws:[a-z-]+:eu-central-1:123456789012:/", "")])}" if !contains(["Logs", "Traces"], s.Sid) } == {
      Attempts = "sqs:SendMessage on ua-email ua-webhook"
      Pull     = "states:GetActivityTask on activity:ua-push"
    }
    error_message = "push may pull its activity's tasks and enqueue their attempts. It has no part in the table."
  }

  assert {
    condition = { for s in jsondecode(module.invoked_function["job"].policy).Statement : s.Sid => "${join(" ", s.Action)} on ${join(" ", [for r in s.Resource : replace(r, "/^arn:aws:[a-z-]+:eu-central-1:123456789012:/", "")])}" if !contains(["Logs", "Traces"], s.Sid) } == {
      Messages      = "dynamodb:GetItem dynamodb:UpdateItem on table/ua-messages"
      Tell          = "sns:Publish on ua-events ua-alerts"
      TellEncrypted = "kms:Decrypt kms:GenerateDataKey on key/11111111-2222-3333-4444-555555555555"
      WebhookKey    = "secretsmanager:GetSecretValue on secret:ua-webhook-key-AbCdEf"
    }
    error_message = "job may end messages, and know its targets' secrets."
  }

  assert {
    condition = { for noun, function in local.functions : noun => join(", ", sort(flatten([
      for s in jsondecode(function.policy).Statement : [for action in s.Action : "${s.Sid} ${action}" if startswith(action, "states:")]
      ]))) } == {
      submit          = "Start states:StartExecution"
      query           = "CompleteTasks states:SendTaskSuccess, StopExecutions states:StopExecution"
      redeliver       = "CompleteTasks states:SendTaskSuccess, Start states:StartExecution, StopExecutions states:StopExecution"
      ack             = "CompleteTasks states:SendTaskSuccess, StopExecutions states:StopExecution"
      check-ack       = "CompleteTasks states:SendTaskSuccess, StopExecutions states:StopExecution"
      sweep           = "CompleteTasks states:SendTaskSuccess, Start states:StartExecution, StopExecutions states:StopExecution"
      deliver-webhook = "CompleteTasks states:SendTaskSuccess, KeepTasksAlive states:SendTaskHeartbeat, StopExecutions states:StopExecution"
      deliver-email   = "CompleteTasks states:SendTaskSuccess, KeepTasksAlive states:SendTaskHeartbeat, StopExecutions states:StopExecution"
      attempts        = ""
      tasks           = "CompleteTasks states:SendTaskSuccess, StopExecutions states:StopExecution"
      settle          = "Start states:StartExecution"
      push            = "Pull states:GetActivityTask"
      job             = ""
    }
    error_message = "Who ends messages may complete what waits for them, who starts lives may start executions, and nobody else."
  }

  assert {
    condition     = alltrue(flatten([for function in local.functions : [for s in jsondecode(function.policy).Statement : s.Resource == [for name in ["stop-on-ack", "activity", "push"] : "arn:aws:states:eu-central-1:123456789012:execution:ua-delivery-${name}:*"] if s.Sid == "StopExecutions"]]))
    error_message = "Only executions may be stopped that an ACK stops, or whose tasks wait to be pulled."
  }

  assert {
    condition     = alltrue(flatten([for function in local.functions : [for s in jsondecode(function.policy).Statement : sort(s.Resource) == sort(values(local.machine_arns)) if s.Sid == "Start"]]))
    error_message = "Only the stack's own machines may be started."
  }

  assert {
    condition = { for s in jsondecode(aws_iam_policy.worker[0].policy).Statement : s.Sid => "${join(" ", s.Action)} on ${join(" ", s.Resource)}" } == {
      Pull           = "states:GetActivityTask on arn:aws:states:eu-central-1:123456789012:activity:ua-delivery"
      KeepTasksAlive = "states:SendTaskHeartbeat on *"
      TakeAndReport  = "execute-api:Invoke on arn:aws:execute-api:eu-central-1:123456789012:a1b2c3d4e5/v1/POST/internal/tasks arn:aws:execute-api:eu-central-1:123456789012:a1b2c3d4e5/v1/POST/internal/tasks/*/outcome"
    } && aws_iam_policy.worker[0].name == "ua-worker"
    error_message = "A worker may pull tasks, keep them alive, take and report them. It completes none."
  }

  # ---- what the functions are told

  assert {
    condition     = alltrue([for noun, function in local.functions : noun == "push" ? !contains(keys(function.environment), "MACHINES") : jsondecode(function.environment["MACHINES"]) == local.machine_arns && function.environment["HEARTBEAT"] == "60"])
    error_message = "Who starts, stops or answers executions must know the machines by workflow."
  }

  assert {
    condition = { for name, value in module.api_function["tasks"].environment : name => value if contains(["CHANNEL", "LEASE_SECONDS", "SEND_SECONDS", "ACK_BASE_URL", "LATE_WINDOW"], name) } == {
      CHANNEL       = "activity"
      LEASE_SECONDS = "300"
      SEND_SECONDS  = "300"
      ACK_BASE_URL  = "https://a1b2c3d4e5.execute-api.eu-central-1.amazonaws.com/v1"
      LATE_WINDOW   = "1209600"
    }
    error_message = "tasks must be told what a channel's function is."
  }

  assert {
    condition     = module.invoked_function["push"].environment["PUSH_ACTIVITY"] == "arn:aws:states:eu-central-1:123456789012:activity:ua-push" && module.invoked_function["job"].environment["WEBHOOK_KEY"] == "arn:aws:secretsmanager:eu-central-1:123456789012:secret:ua-webhook-key-AbCdEf"
    error_message = "push must know its activity, and job where its targets' secrets come from."
  }

  assert {
    condition     = alltrue([for function in local.functions : sum([for name, value in function.environment : length(name) + length(value)]) < 3600])
    error_message = "What the functions are told must leave room within Lambda's 4 KB."
  }

  # ---- the rules

  assert {
    condition = { for channel, rule in module.bus["attempts"].rules : channel => [rule.arn, rule.pattern, rule.queue, rule.input_path, rule.dead_letters] } == { for channel in ["webhook", "email"] : channel => [
      "arn:aws:events:eu-central-1:123456789012:rule/ua-attempts/ua-attempts-${channel}",
      jsonencode({ source = ["until-ack"], "detail-type" = ["attempt.${channel}"] }),
      "arn:aws:sqs:eu-central-1:123456789012:ua-${channel}",
      "$.detail",
      "arn:aws:sqs:eu-central-1:123456789012:ua-attempts-dlq",
    ] }
    error_message = "An event that asks for an attempt must go to its channel's queue, without its envelope."
  }

  assert {
    condition = { for channel, queue in module.channel_queue.queues : channel => [for s in jsondecode(queue.policy).Statement : "${s.Sid} ${s.Effect} ${try(s.Condition.ArnEquals["aws:SourceArn"][0], s.Condition.Bool["aws:SecureTransport"])}"] } == { for channel in ["webhook", "email"] : channel => [
      "OnlyOverTls Deny false",
      "FromEvents Allow arn:aws:events:eu-central-1:123456789012:rule/ua-attempts/ua-attempts-${channel}",
    ] }
    error_message = "A channel's queue must take events by its own rule alone, and nothing without TLS."
  }

  assert {
    condition     = alltrue([for queue in module.timer_queue.queues : length(jsondecode(queue.policy).Statement) == 1])
    error_message = "Nobody sends to a timer's queue by the queue's policy."
  }

  assert {
    condition = jsondecode(module.settle_rule["settle"].pattern) == {
      source        = ["aws.states"]
      "detail-type" = ["Step Functions Execution Status Change"]
      detail = {
        status = ["FAILED", "TIMED_OUT", "ABORTED"]
        stateMachineArn = [for workflow in ["delivery-activity", "delivery-callback", "delivery-event", "delivery-job-poller", "delivery-poll", "delivery-push", "delivery-stop-on-ack"] :
          "arn:aws:states:eu-central-1:123456789012:stateMachine:ua-${workflow}"
        ]
      }
    }
    error_message = "settle must hear of the stack's own executions that end badly. Express ones tell nobody."
  }

  # ---- what is watched

  assert {
    condition = { for noun in ["failed", "timed-out", "throttled"] : noun => "${module.alarms.alarms["ua-delivery-poll-${noun}"].metric} ${module.alarms.alarms["ua-delivery-poll-${noun}"].dimensions["StateMachineArn"]}" } == {
      failed    = "AWS/States ExecutionsFailed arn:aws:states:eu-central-1:123456789012:stateMachine:ua-delivery-poll"
      timed-out = "AWS/States ExecutionsTimedOut arn:aws:states:eu-central-1:123456789012:stateMachine:ua-delivery-poll"
      throttled = "AWS/States ExecutionThrottled arn:aws:states:eu-central-1:123456789012:stateMachine:ua-delivery-poll"
    }
    error_message = "Each machine must be watched for what ends badly and what is held back."
  }

  assert {
    condition     = module.alarms.alarms["ua-attempts-dead-letters"].dimensions["QueueName"] == "ua-attempts-dlq" && module.alarms.alarms["ua-settle-dead-letters"].dimensions["QueueName"] == "ua-settle-dlq"
    error_message = "What EventBridge could not hand over must be watched."
  }
}

run "no_workflows" {
  command = plan

  variables {
    workflows = []
  }

  assert {
    condition     = length(module.workflow) + length(module.invoked_function) + length(module.bus) + length(aws_sfn_activity.this) + length(module.settle_rule) + length(module.settle_dead_letters) + length(aws_iam_policy.worker) == 0
    error_message = "Without workflows nothing of them is there."
  }

  assert {
    condition     = keys(output.functions) == ["ack", "check-ack", "deliver-email", "deliver-webhook", "query", "redeliver", "submit", "sweep"] && keys(output.dlqs) == ["alerts", "email", "events", "sweep", "timer-15s", "timer-30s", "timer-4h", "webhook"]
    error_message = "Without workflows there are neither their functions nor their dead-letter queues."
  }

  assert {
    condition     = output.machines == {} && output.activities == {} && output.workflow_log_groups == {} && output.bus == null && output.worker_policy == null
    error_message = "The outputs must say that there is nothing."
  }

  assert {
    condition     = alltrue([for function in local.functions : !strcontains(function.policy, "states:") && !contains(keys(function.environment), "MACHINES") && !contains(keys(function.environment), "HEARTBEAT")])
    error_message = "Without workflows no function knows of them or has a right to them."
  }

  assert {
    condition     = alltrue([for queue in module.channel_queue.queues : length(jsondecode(queue.policy).Statement) == 1]) && length([for alarm in output.alarms : alarm if strcontains(alarm, "delivery-")]) == 0
    error_message = "Without workflows no rule sends to the queues, and nothing of them is watched."
  }
}

run "some_workflows" {
  command = plan

  variables {
    workflows         = ["poll_express", "delivery_push"]
    workflow_settings = { heartbeat = 10, express_log_level = "ALL", include_execution_data = true }
    api               = { invoke_domain = "{api_id}.execute-api.{region}.localhost.localstack.cloud" }
  }

  assert {
    condition     = { for workflow, machine in module.workflow : workflow => machine.log_level } == { poll_express = "ALL", delivery_push = "ERROR" } && keys(aws_sfn_activity.this) == ["push"] && output.bus == null && output.worker_policy == null
    error_message = "What is chosen must be there, and nothing else."
  }

  assert {
    condition     = keys(output.functions) == ["ack", "attempts", "check-ack", "deliver-email", "deliver-webhook", "push", "query", "redeliver", "settle", "submit", "sweep"]
    error_message = "Only the functions that the chosen workflows need must be there."
  }

  assert {
    condition     = jsondecode(module.settle_rule["settle"].pattern).detail.stateMachineArn == ["arn:aws:states:eu-central-1:123456789012:stateMachine:ua-delivery-push"]
    error_message = "settle must hear of the chosen machines."
  }

  assert {
    condition     = strcontains(module.workflow["poll_express"].definition, "\"a1b2c3d4e5.execute-api.eu-central-1.localhost.localstack.cloud\"")
    error_message = "Where workflows find the API is a setting."
  }

  assert {
    condition     = module.api_function["submit"].environment["HEARTBEAT"] == "10" && keys(jsondecode(module.api_function["submit"].environment["MACHINES"])) == ["delivery_push", "poll_express"]
    error_message = "submit must know the chosen workflows, and no others."
  }

  assert {
    condition     = alltrue(flatten([for function in local.functions : [for s in jsondecode(function.policy).Statement : s.Resource == ["arn:aws:states:eu-central-1:123456789012:execution:ua-delivery-push:*"] if s.Sid == "StopExecutions"]]))
    error_message = "What is not there cannot be stopped."
  }
}

run "an_express_workflow_alone" {
  command = plan

  variables {
    workflows = ["poll_express"]
  }

  assert {
    condition     = length(module.settle_rule) == 0 && length(module.settle_dead_letters) == 0 && keys(module.invoked_function) == ["settle"]
    error_message = "Express executions tell no rule how they end; settle is invoked by the machine itself."
  }

  assert {
    condition     = alltrue([for function in local.functions : !strcontains(function.policy, "states:SendTask")])
    error_message = "Without tasks none is completed."
  }
}
