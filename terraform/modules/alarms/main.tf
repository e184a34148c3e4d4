locals {
  runbook = "docs/operations.md"

  dead_letters = { for noun, name in var.dead_letters : "${noun}-dead-letters" => {
    description = "The queue ${name} holds dead letters: something could not be processed or handed over, and waits for a person."
    anchor      = "dead-letters"
    namespace   = "AWS/SQS"
    metric      = "ApproximateNumberOfMessagesVisible"
    dimensions  = { QueueName = name }
    statistic   = "Maximum"
    threshold   = 1
  } }

  ages = { for noun, queue in var.queues : "${noun}-age" => {
    description = "The oldest message in the queue ${queue.name} is over ${queue.max_age} s old: its function does not keep up, fails, or is paused."
    anchor      = "queue-age"
    namespace   = "AWS/SQS"
    metric      = "ApproximateAgeOfOldestMessage"
    dimensions  = { QueueName = queue.name }
    statistic   = "Maximum"
    threshold   = queue.max_age
  } }

  errors = { for noun, function in var.functions : "${noun}-errors" => {
    description = "The function ${function.name} failed or was ended; what it was doing comes again, if it came from a queue."
    anchor      = "function-errors"
    namespace   = "AWS/Lambda"
    metric      = "Errors"
    dimensions  = { FunctionName = function.name }
    statistic   = "Sum"
    threshold   = var.errors
  } }

  throttles = { for noun, function in var.functions : "${noun}-throttles" => {
    description = "The function ${function.name} was not let run: its reserved concurrency, or the account's, is used up."
    anchor      = "function-throttles"
    namespace   = "AWS/Lambda"
    metric      = "Throttles"
    dimensions  = { FunctionName = function.name }
    statistic   = "Sum"
    threshold   = var.throttles
  } }

  # Not one may be dropped: it is a timer or an attempt that is gone until the sweep finds out.
  recursion = { for noun, function in var.functions : "${noun}-recursion" => {
    description = "Lambda dropped an invocation of ${function.name} because it took the timers' hops for an endless loop: the function's recursion setting must be Allow."
    anchor      = "recursion"
    namespace   = "AWS/Lambda"
    metric      = "RecursiveInvocationsDropped"
    dimensions  = { FunctionName = function.name }
    statistic   = "Sum"
    threshold   = 1
  } if function.in_loop }

  # One that is stopped (ExecutionsAborted) is no fault: an ACK stops executions.
  machines = merge([for workflow, arn in var.machines : {
    "${replace(workflow, "_", "-")}-failed" = {
      description = "An execution of the workflow ${workflow} failed. Its message goes on without it, and the function settle or the sweep sees to it."
      anchor      = "workflow-failures"
      namespace   = "AWS/States"
      metric      = "ExecutionsFailed"
      dimensions  = { StateMachineArn = arn }
      statistic   = "Sum"
      threshold   = var.errors
    }
    "${replace(workflow, "_", "-")}-timed-out" = {
      description = "An execution of the workflow ${workflow} timed out. Its message goes on without it, and the function settle or the sweep sees to it."
      anchor      = "workflow-failures"
      namespace   = "AWS/States"
      metric      = "ExecutionsTimedOut"
      dimensions  = { StateMachineArn = arn }
      statistic   = "Sum"
      threshold   = var.errors
    }
    "${replace(workflow, "_", "-")}-throttled" = {
      description = "Step Functions held executions of the workflow ${workflow} back: more of them go on at once than the account may have, and attempts come late."
      anchor      = "workflow-throttles"
      namespace   = "AWS/States"
      metric      = "ExecutionThrottled"
      dimensions  = { StateMachineArn = arn }
      statistic   = "Sum"
      threshold   = var.throttles
    }
  }]...)

  api = {
    api-5xx = {
      description = "The API ${var.api.name} answers with errors of its own (5xx): producers cannot submit, or targets cannot acknowledge."
      anchor      = "api-5xx"
      namespace   = "AWS/ApiGateway"
      metric      = "5XXError"
      dimensions  = { ApiName = var.api.name, Stage = var.api.stage }
      statistic   = "Sum"
      threshold   = var.api_5xx
    }
  }

  alarms = merge(local.dead_letters, local.ages, local.errors, local.throttles, local.recursion, local.machines, local.api)
}

resource "aws_cloudwatch_metric_alarm" "this" {
  for_each = local.alarms

  alarm_name        = "${var.prefix}-${each.key}"
  alarm_description = "${each.value.description} What to do: ${local.runbook}#${each.value.anchor}"

  namespace           = each.value.namespace
  metric_name         = each.value.metric
  dimensions          = each.value.dimensions
  statistic           = each.value.statistic
  comparison_operator = "GreaterThanOrEqualToThreshold"
  threshold           = each.value.threshold
  period              = var.period
  evaluation_periods  = 1

  # An idle queue and an idle function report nothing.
  treat_missing_data = "notBreaching"

  alarm_actions = [var.topic_arn]
  # Every new alarm goes to OK at once: over ten mails a second and SNS suspends an e-mail subscription.
  ok_actions = var.tell_ok ? [var.topic_arn] : []
}
