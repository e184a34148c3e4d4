# until-ack as a module of somebody's own root.

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
  target          = module.until_ack.data.aws_caller_identity.current
  values          = { account_id = "123456789012" }
  override_during = plan
}

override_resource {
  target          = module.until_ack.module.channel_queue.aws_sqs_queue.this
  values          = { url = "https://sqs.eu-central-1.amazonaws.com/123456789012/a-queue" }
  override_during = plan
}

override_resource {
  target          = module.until_ack.module.timer_queue.aws_sqs_queue.this
  values          = { url = "https://sqs.eu-central-1.amazonaws.com/123456789012/a-queue" }
  override_during = plan
}

override_resource {
  target          = module.until_ack.module.channel_queue.module.dead_letters["webhook"].aws_sqs_queue.this
  values          = { url = "https://sqs.eu-central-1.amazonaws.com/123456789012/a-queue" }
  override_during = plan
}

override_resource {
  target          = module.until_ack.module.timer_queue.module.dead_letters["timer-15s"].aws_sqs_queue.this
  values          = { url = "https://sqs.eu-central-1.amazonaws.com/123456789012/a-queue" }
  override_during = plan
}

override_resource {
  target          = module.until_ack.module.timer_queue.module.dead_letters["timer-30s"].aws_sqs_queue.this
  values          = { url = "https://sqs.eu-central-1.amazonaws.com/123456789012/a-queue" }
  override_during = plan
}

override_resource {
  target          = module.until_ack.module.timer_queue.module.dead_letters["timer-4h"].aws_sqs_queue.this
  values          = { url = "https://sqs.eu-central-1.amazonaws.com/123456789012/a-queue" }
  override_during = plan
}

override_resource {
  target          = module.until_ack.module.topics_key.aws_kms_key.this
  values          = { arn = "arn:aws:kms:eu-central-1:123456789012:key/11111111-2222-3333-4444-555555555555" }
  override_during = plan
}

# State machines are not planned by the provider, which would ask AWS whether their definitions are valid.
override_resource {
  target          = module.until_ack.module.workflow["delivery_poll"].aws_sfn_state_machine.this
  override_during = plan
}

override_resource {
  target          = module.until_ack.module.workflow["poll_express"].aws_sfn_state_machine.this
  override_during = plan
}

override_resource {
  target          = module.until_ack.module.workflow["delivery_stop_on_ack"].aws_sfn_state_machine.this
  override_during = plan
}

override_resource {
  target          = module.until_ack.module.workflow["delivery_callback"].aws_sfn_state_machine.this
  override_during = plan
}

override_resource {
  target          = module.until_ack.module.workflow["delivery_event"].aws_sfn_state_machine.this
  override_during = plan
}

override_resource {
  target          = module.until_ack.module.workflow["delivery_activity"].aws_sfn_state_machine.this
  override_during = plan
}

override_resource {
  target          = module.until_ack.module.workflow["delivery_push"].aws_sfn_state_machine.this
  override_during = plan
}

override_resource {
  target          = module.until_ack.module.workflow["delivery_job_poller"].aws_sfn_state_machine.this
  override_during = plan
}

override_resource {
  target = module.until_ack.module.api.aws_api_gateway_rest_api.this
  values = {
    id            = "a1b2c3d4e5"
    execution_arn = "arn:aws:execute-api:eu-central-1:123456789012:a1b2c3d4e5"
  }
  override_during = plan
}

override_resource {
  target          = aws_sqs_queue.undelivered
  values          = { arn = "arn:aws:sqs:eu-central-1:123456789012:acme-undelivered" }
  override_during = plan
}

run "as_a_module" {
  command = plan

  module {
    source = "./tests/own_root"
  }

  assert {
    condition     = output.until_ack.topics.events == "arn:aws:sns:eu-central-1:123456789012:acme-events" && output.until_ack.functions["deliver-webhook"] == "acme-deliver-webhook"
    error_message = "The module must work in another's root, under another's prefix."
  }

  assert {
    condition     = jsondecode(aws_sqs_queue_policy.undelivered.policy).Statement[0].Condition.ArnEquals["aws:SourceArn"] == "arn:aws:sns:eu-central-1:123456789012:acme-events"
    error_message = "A subscriber must be able to name the topic that it takes events from."
  }
}
