# What the root refuses. Settings that are independent of each other are refused together: every one that
# is expected to fail must.

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

variables {
  existing_secrets = {
    capability-k1 = "arn:aws:secretsmanager:eu-central-1:123456789012:secret:ua-capability-AbCdEf"
    webhook-key   = "arn:aws:secretsmanager:eu-central-1:123456789012:secret:ua-webhook-key-AbCdEf"
  }

  package_path = "tests/package.txt"
  alert_emails = ["ops@example.com"]

  # For these the provider would ask AWS whether their definitions are valid.
  workflows = []
}

run "delays_of_zero_and_the_like" {
  command = plan

  variables {
    prefix               = "Until-Ack"
    package_path         = "tests/no-such-package.zip"
    functions            = { timeout = 30 }
    retry_delays         = [15, 0]
    schedules            = { default = [60] }
    timer_cap            = 0
    timers               = { timeout = 1 }
    channels             = {}
    mail_identity        = "mailbox"
    messages             = { default_expires_in = 0 }
    capability_key_ids   = []
    secret_recovery_days = 6
    sweep                = { grace = 0 }
    alert_emails         = ["ops at example.com"]
  }
  expect_failures = [
    var.prefix, var.package_path, var.functions, var.retry_delays, var.schedules, var.timer_cap, var.timers, var.channels,
    var.mail_identity, var.messages, var.capability_key_ids, var.secret_recovery_days, var.sweep, var.alert_emails,
  ]
}

run "no_delays_and_the_like" {
  command = plan

  variables {
    prefix             = "until--ack"
    functions          = { timeout = 2 }
    retry_delays       = []
    schedules          = { Patient = [60] }
    timer_cap          = 901
    timers             = { timeout = 901 }
    channels           = { webhook = {}, sms = {} }
    messages           = { late_window = 1209599 }
    capability_key_ids = ["k1", "k1"]
    sweep              = { limit = 0 }
  }
  expect_failures = [
    var.prefix, var.functions, var.retry_delays, var.schedules, var.timer_cap, var.timers, var.channels, var.messages,
    var.capability_key_ids, var.sweep,
  ]
}

run "negative_delays_and_the_like" {
  command = plan

  variables {
    prefix             = "a2345678901234567890123456789012345678901"
    functions          = { log_level = "LOUD" }
    retry_delays       = [-15]
    schedules          = { patient = [] }
    timer_cap          = 1.5
    channels           = { webhook = { timeout = 2, send_seconds = 1 } }
    messages           = { retention = 1209599 }
    capability_key_ids = ["K1"]
    sweep              = { grace = 1.5 }
  }
  expect_failures = [
    var.prefix, var.functions, var.retry_delays, var.schedules, var.timer_cap, var.channels, var.messages,
    var.capability_key_ids, var.sweep,
  ]
}

run "delays_over_a_year_and_the_like" {
  command = plan

  variables {
    functions    = { reserved_concurrency = { deliver-webhook = 5 } }
    retry_delays = [31536001]
    schedules    = { patient = [60, 31536001] }
    # Claiming, arming and recording need more than what is left.
    channels = { webhook = { timeout = 17, send_seconds = 15 } }
    messages = { max_payload_bytes = 262145 }
    # No such key.
    existing_secrets = { capability-k9 = "arn:aws:secretsmanager:eu-central-1:123456789012:secret:x" }
  }
  expect_failures = [var.functions, var.retry_delays, var.schedules, var.channels, var.messages, var.existing_secrets]
}

run "half_seconds_of_delay_and_a_lease_that_ends_before_its_function" {
  command = plan

  variables {
    retry_delays = [15.5]
    schedules    = { patient = [0.5] }
    channels     = { webhook = { timeout = 20, lease = 20 } }
    messages     = { default_expires_in = 31536001 }
    # A name is no ARN.
    existing_secrets = { capability-k1 = "until-ack-capability-k1" }
  }
  expect_failures = [var.retry_delays, var.schedules, var.channels, var.messages, var.existing_secrets]
}

run "too_many_delays_and_a_lease_that_outlasts_the_visibility_timeout" {
  command = plan

  variables {
    retry_delays = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11]
    schedules    = { patient = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21] }
    channels     = { webhook = { timeout = 20, lease = 120 } }
    messages     = { max_payload_bytes = 0 }
  }
  expect_failures = [var.retry_delays, var.schedules, var.channels, var.messages]
}

run "a_sending_longer_than_its_time_and_a_schedule_too_long" {
  command = plan

  variables {
    retry_delays = [1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1]
    webhook      = { connect_timeout = 5, read_timeout = 10 }
    mail_sender  = "messages"
  }
  expect_failures = [var.retry_delays, var.webhook, var.mail_sender]
}

run "a_sender_without_its_channel_and_networks_that_are_none" {
  command = plan

  variables {
    mail_sender = "messages@example.com"
    webhook     = { allowed_networks = ["10.0.0.0"] }
  }
  expect_failures = [var.mail_sender, var.webhook]
}

run "a_channel_without_its_sender_and_no_time_to_connect" {
  command = plan

  variables {
    channels  = { email = {} }
    workflows = []
    webhook   = { connect_timeout = 0 }
  }
  expect_failures = [var.mail_sender, var.webhook]
}

run "workflows_that_are_not_in_the_catalogue" {
  command = plan

  variables {
    workflows         = ["delivery_poll", "delivery_by_pigeon"]
    workflow_settings = { heartbeat = 2 }
    api               = { invoke_domain = "api.example.com" }
    timers            = { batch_size = 11 }
  }
  expect_failures = [var.workflows, var.workflow_settings, var.api, var.timers]
}

run "jobs_without_webhooks" {
  command = plan

  variables {
    workflows         = ["delivery_job_poller"]
    mail_sender       = "messages@example.com"
    workflow_settings = { activity_lease = 0 }
    channels          = { email = {} }
  }
  expect_failures = [var.workflows, var.workflow_settings]
}

run "log_levels_that_step_functions_does_not_know_and_a_large_batch_without_a_window" {
  command = plan

  variables {
    workflow_settings = { express_log_level = "DEBUG" }
    channels          = { webhook = { batch_size = 11 } }
  }
  expect_failures = [var.workflow_settings, var.channels]
}

run "a_window_of_more_than_5_minutes" {
  command = plan

  variables {
    channels = { webhook = { batch_window = 301 } }
  }
  expect_failures = [var.channels]
}
