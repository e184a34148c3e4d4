# The catalogue of workflows: ways of orchestrating a delivery, which a message may choose instead of the queues.
# Those of var.workflows are deployed, with just the functions, activities and rules that they need.

locals {
  # Beside these, every workflow has the function settle at its end.
  catalogue = {
    delivery_poll = {
      definition = "delivery_poll"
      type       = "STANDARD"
      asks       = "route" # the attempts are asked for by POST /internal/attempts
      functions  = ["attempts"]
    }
    poll_express = {
      definition = "delivery_poll"
      type       = "EXPRESS"
      asks       = "route"
      functions  = ["attempts"]
    }
    delivery_stop_on_ack = {
      definition = "delivery_stop_on_ack"
      type       = "STANDARD"
      asks       = "route"
      functions  = ["attempts"]
    }
    delivery_callback = {
      definition = "delivery_callback"
      type       = "STANDARD"
      asks       = "task" # by a task that waits for its answer
      functions  = []
    }
    delivery_event = {
      definition = "delivery_event"
      type       = "STANDARD"
      asks       = "task"
      functions  = []
    }
    delivery_activity = {
      definition = "delivery_activity"
      type       = "STANDARD"
      asks       = "task"
      functions  = ["tasks"]
    }
    delivery_push = {
      definition = "delivery_push"
      type       = "STANDARD"
      asks       = "task"
      functions  = ["push"]
    }
    delivery_job_poller = {
      definition = "delivery_job_poller"
      type       = "STANDARD"
      asks       = "route"
      functions  = ["attempts", "job"]
    }
  }

  workflows = { for workflow, settings in local.catalogue : workflow => settings if contains(var.workflows, workflow) }

  # The functions that only workflows need.
  workflow_functions = toset(flatten([for settings in values(local.workflows) : concat(settings.functions, ["settle"])]))

  # Functions and workflows know of each other, so each knows the other by its name.
  states_arn     = "arn:${local.account.partition}:states:${local.account.region}:${local.account.id}"
  machine_names  = { for workflow in keys(local.workflows) : workflow => "${var.prefix}-${replace(workflow, "_", "-")}" }
  machine_arns   = { for workflow, name in local.machine_names : workflow => "${local.states_arn}:stateMachine:${name}" }
  standard_arns  = [for workflow, settings in local.workflows : local.machine_arns[workflow] if settings.type == "STANDARD"]
  activity_names = { for noun in ["delivery", "push"] : noun => "${var.prefix}-${noun}" if contains(var.workflows, noun == "push" ? "delivery_push" : "delivery_activity") }
  activity_arns  = { for noun in ["delivery", "push"] : noun => "${local.states_arn}:activity:${var.prefix}-${noun}" }

  function_arns = { for noun in ["attempts", "tasks", "settle", "push", "job", "submit", "query", "redeliver", "ack"] :
    noun => "arn:${local.account.partition}:lambda:${local.account.region}:${local.account.id}:function:${var.prefix}-${noun}"
  }

  # The event bus of delivery_event, where there is one: a rule for each channel.
  bus = contains(var.workflows, "delivery_event") ? "${var.prefix}-attempts" : null
  bus_rule_arns = local.bus == null ? {} : { for channel in keys(var.channels) :
    channel => "arn:${local.account.partition}:events:${local.account.region}:${local.account.id}:rule/${local.bus}/${local.bus}-${channel}"
  }

  # What the definitions' variables stand for.
  substitutions = {
    partition       = local.account.partition
    api_endpoint    = local.api_endpoint
    stage           = module.api.stage
    table           = module.table.name
    bus             = coalesce(local.bus, "none")
    activity        = local.activity_arns["delivery"]
    push_activity   = local.activity_arns["push"]
    settle_function = local.function_arns["settle"]
    push_function   = local.function_arns["push"]
    job_function    = local.function_arns["job"]
  }

  # Step Functions takes an API by its own address and no other.
  api_endpoint = replace(replace(local.invoke_domain, "{api_id}", module.api.id), "{region}", local.account.region)
  invoke_domain = (
    var.api.invoke_domain != "" ? var.api.invoke_domain :
    "{api_id}.execute-api.{region}.${data.aws_partition.current.dns_suffix}"
  )

  # Operations of the contract that are there for workflows only.
  internal_routes = {
    "POST /internal/attempts"           = "attempts"
    "POST /internal/tasks"              = "tasks"
    "POST /internal/tasks/{id}/outcome" = "tasks"
  }

  # What a machine's end tells the function settle. The machines are named one by one: others' are none of ours.
  failures = {
    source        = ["aws.states"]
    "detail-type" = ["Step Functions Execution Status Change"]
    detail = {
      status          = ["FAILED", "TIMED_OUT", "ABORTED"]
      stateMachineArn = local.standard_arns
    }
  }

  # Functions that are invoked by machines and rules, not by the API.
  invoked_functions = { for noun, function in {
    settle = {
      description = "Settles what an execution leaves behind: ends the message, or lets it go on otherwise."
      timeout     = var.functions.timeout
      environment = local.settle_environment
      statements  = local.settle_statements
      in_loop     = true
    }
    push = {
      description = "Fetches a waiting task, and sends its attempt to the channel's queue."
      timeout     = 70 # GetActivityTask waits for 60 s
      environment = local.push_environment
      statements  = local.push_statements
      in_loop     = true
    }
    job = {
      description = "Asks a target how far its job is."
      timeout     = try(var.channels["webhook"].timeout, var.functions.timeout)
      environment = local.job_environment
      statements  = local.job_statements
      in_loop     = false
    }
  } : noun => function if contains(local.workflow_functions, noun) }
}
