mock_provider "aws" {
  source = "./tests/mocks"
}

variables {
  name               = "ua-api"
  definition         = "../definitions/api.openapi.yaml"
  rate               = 100
  burst              = 200
  access_logs        = true
  account_role       = true
  log_retention_days = 30

  functions = { submit = "ua-submit", query = "ua-query", redeliver = "ua-redeliver", ack = "ua-ack", attempts = "ua-attempts", tasks = "ua-tasks" }
  integrations = {
    submit    = "arn:aws:apigateway:eu-central-1:lambda:path/2015-03-31/functions/submit/invocations"
    query     = "arn:aws:apigateway:eu-central-1:lambda:path/2015-03-31/functions/query/invocations"
    redeliver = "arn:aws:apigateway:eu-central-1:lambda:path/2015-03-31/functions/redeliver/invocations"
    ack       = "arn:aws:apigateway:eu-central-1:lambda:path/2015-03-31/functions/ack/invocations"
    attempts  = "arn:aws:apigateway:eu-central-1:lambda:path/2015-03-31/functions/attempts/invocations"
    tasks     = "arn:aws:apigateway:eu-central-1:lambda:path/2015-03-31/functions/tasks/invocations"
  }

  routes = {
    "POST /messages"                    = "submit"
    "POST /messages/batch"              = "submit"
    "GET /messages"                     = "query"
    "GET /messages/{id}"                = "query"
    "DELETE /messages/{id}"             = "query"
    "POST /messages/{id}/redeliver"     = "redeliver"
    "GET /messages/{id}/ack"            = "ack"
    "POST /messages/{id}/ack"           = "ack"
    "POST /messages/{id}/nack"          = "ack"
    "POST /acks"                        = "ack"
    "POST /internal/attempts"           = "attempts"
    "POST /internal/tasks"              = "tasks"
    "POST /internal/tasks/{id}/outcome" = "tasks"
  }
}

run "api" {
  module {
    source = "./modules/api"
  }

  assert {
    condition = merge([for path, item in jsondecode(aws_api_gateway_rest_api.this.body).paths : {
      for method, operation in item : "${upper(method)} ${path}" => join(" ", [
        length(operation.security) == 0 ? "anyone" : join(",", keys(operation.security[0])),
        split("/", operation.x-amazon-apigateway-integration.uri)[3],
        operation.x-amazon-apigateway-integration.type,
      ])
      }]...) == {
      "POST /messages"                    = "iam submit aws_proxy"
      "POST /messages/batch"              = "iam submit aws_proxy"
      "GET /messages"                     = "iam query aws_proxy"
      "GET /messages/{id}"                = "iam query aws_proxy"
      "DELETE /messages/{id}"             = "iam query aws_proxy"
      "POST /messages/{id}/redeliver"     = "iam redeliver aws_proxy"
      "GET /messages/{id}/ack"            = "anyone ack aws_proxy"
      "POST /messages/{id}/ack"           = "anyone ack aws_proxy"
      "POST /messages/{id}/nack"          = "anyone ack aws_proxy"
      "POST /acks"                        = "anyone ack aws_proxy"
      "POST /internal/attempts"           = "iam attempts aws_proxy"
      "POST /internal/tasks"              = "iam tasks aws_proxy"
      "POST /internal/tasks/{id}/outcome" = "iam tasks aws_proxy"
    }
    error_message = "The producers' routes must be IAM's, the targets' open to whoever has a capability, and each its function's."
  }

  assert {
    condition     = jsondecode(aws_api_gateway_rest_api.this.body).components.securitySchemes.iam.x-amazon-apigateway-authtype == "awsSigv4"
    error_message = "`iam` must mean Signature Version 4."
  }

  assert {
    condition = { for route, permission in aws_lambda_permission.route : route => "${permission.function_name} ${trimprefix(permission.source_arn, "arn:aws:execute-api:eu-central-1:123456789012:a1b2c3d4e5")}" } == {
      "POST /messages"                    = "ua-submit /v1/POST/messages"
      "POST /messages/batch"              = "ua-submit /v1/POST/messages/batch"
      "GET /messages"                     = "ua-query /v1/GET/messages"
      "GET /messages/{id}"                = "ua-query /v1/GET/messages/*"
      "DELETE /messages/{id}"             = "ua-query /v1/DELETE/messages/*"
      "POST /messages/{id}/redeliver"     = "ua-redeliver /v1/POST/messages/*/redeliver"
      "GET /messages/{id}/ack"            = "ua-ack /v1/GET/messages/*/ack"
      "POST /messages/{id}/ack"           = "ua-ack /v1/POST/messages/*/ack"
      "POST /messages/{id}/nack"          = "ua-ack /v1/POST/messages/*/nack"
      "POST /acks"                        = "ua-ack /v1/POST/acks"
      "POST /internal/attempts"           = "ua-attempts /v1/POST/internal/attempts"
      "POST /internal/tasks"              = "ua-tasks /v1/POST/internal/tasks"
      "POST /internal/tasks/{id}/outcome" = "ua-tasks /v1/POST/internal/tasks/*/outcome"
    }
    error_message = "The API may invoke a function for its own routes only."
  }

  assert {
    condition = alltrue([for response in jsondecode(aws_api_gateway_rest_api.this.body).x-amazon-apigateway-gateway-responses :
      response.responseParameters["gatewayresponse.header.Content-Type"] == "'application/problem+json'" &&
      startswith(jsondecode(response.responseTemplates["application/json"]).type, "urn:until-ack:problem:") &&
      !strcontains(response.responseTemplates["application/json"], "$")
    ])
    error_message = "API Gateway's own answers must be problem+json, and repeat nothing of the request."
  }

  assert {
    condition     = jsondecode(aws_api_gateway_rest_api.this.body).x-amazon-apigateway-gateway-responses.THROTTLED.statusCode == "429" && jsondecode(jsondecode(aws_api_gateway_rest_api.this.body).x-amazon-apigateway-gateway-responses.THROTTLED.responseTemplates["application/json"]).status == 429
    error_message = "A problem's status must be the answer's."
  }

  assert {
    condition     = !can(regex("(?i)querystring|\\$context\\.path|header|authorizer", aws_api_gateway_stage.this.access_log_settings[0].format))
    error_message = "A capability travels in the query or a header: neither may get into the access log, nor the path, which holds the id."
  }

  assert {
    condition     = aws_api_gateway_method_settings.all.settings[0].logging_level == "OFF" && !aws_api_gateway_method_settings.all.settings[0].data_trace_enabled
    error_message = "Execution logs hold queries, and with them capabilities."
  }

  assert {
    condition     = aws_api_gateway_method_settings.all.method_path == "*/*" && aws_api_gateway_method_settings.all.settings[0].throttling_rate_limit == 100 && aws_api_gateway_method_settings.all.settings[0].throttling_burst_limit == 200
    error_message = "The API must be throttled as set, on all routes."
  }

  assert {
    condition     = aws_api_gateway_stage.this.xray_tracing_enabled && aws_api_gateway_stage.this.stage_name == "v1"
    error_message = "The stage must be v1, with X-Ray on."
  }

  assert {
    condition     = aws_api_gateway_deployment.this.triggers["body"] == sha256(aws_api_gateway_rest_api.this.body)
    error_message = "A change of the API must deploy it anew."
  }

  assert {
    condition     = output.url == "https://a1b2c3d4e5.execute-api.eu-central-1.amazonaws.com/v1"
    error_message = "The address must be the API's own."
  }

  assert {
    condition     = aws_iam_role.account[0].name == "ua-api-logs" && aws_api_gateway_account.this[0].cloudwatch_role_arn == aws_iam_role.account[0].arn
    error_message = "API Gateway must have a role to write logs."
  }
}

run "an_api_without_workflows" {
  command = plan
  module {
    source = "./modules/api"
  }

  variables {
    left_out = ["POST /internal/attempts", "POST /internal/tasks", "POST /internal/tasks/{id}/outcome"]
    routes = {
      "POST /messages"                = "submit"
      "POST /messages/batch"          = "submit"
      "GET /messages"                 = "query"
      "GET /messages/{id}"            = "query"
      "DELETE /messages/{id}"         = "query"
      "POST /messages/{id}/redeliver" = "redeliver"
      "GET /messages/{id}/ack"        = "ack"
      "POST /messages/{id}/ack"       = "ack"
      "POST /messages/{id}/nack"      = "ack"
      "POST /acks"                    = "ack"
    }
  }

  assert {
    condition     = length([for path in keys(local.body.paths) : path if startswith(path, "/internal")]) == 0 && length(local.body.paths) == 7
    error_message = "What is left out must not be in the API."
  }
}

run "refuses_a_route_that_is_left_out" {
  command = plan
  module {
    source = "./modules/api"
  }
  variables {
    left_out = ["POST /acks"]
  }
  expect_failures = [aws_api_gateway_rest_api.this]
}

run "an_api_at_a_domain_with_workflows" {
  command = plan
  module {
    source = "./modules/api"
  }

  variables {
    domain      = { name = "messages.example.com", certificate_arn = "arn:aws:acm:eu-central-1:123456789012:certificate/11111111-2222-3333-4444-555555555555" }
    own_address = true
  }

  assert {
    condition     = !aws_api_gateway_rest_api.this.disable_execute_api_endpoint && output.url == "https://messages.example.com/v1"
    error_message = "Step Functions knows the API by its own address alone, which must then stay open."
  }
}

run "an_api_at_a_domain" {
  module {
    source = "./modules/api"
  }

  variables {
    domain       = { name = "messages.example.com", certificate_arn = "arn:aws:acm:eu-central-1:123456789012:certificate/11111111-2222-3333-4444-555555555555" }
    account_role = false
  }

  assert {
    condition     = aws_api_gateway_domain_name.this[0].security_policy == "TLS_1_2" && aws_api_gateway_rest_api.this.disable_execute_api_endpoint
    error_message = "The domain must want TLS 1.2, and be the only way in."
  }

  assert {
    condition     = output.url == "https://messages.example.com/v1" && aws_api_gateway_base_path_mapping.this[0].base_path == "v1"
    error_message = "The address must be the domain's."
  }

  assert {
    condition     = length(aws_api_gateway_account.this) == 0 && length(aws_iam_role.account) == 0
    error_message = "The account's role is another's."
  }
}

run "an_api_elsewhere" {
  module {
    source = "./modules/api"
  }

  variables {
    url_template = "http://127.0.0.1:4566/_aws/execute-api/{api_id}/{stage}"
    access_logs  = false
  }

  assert {
    condition     = output.url == "http://127.0.0.1:4566/_aws/execute-api/a1b2c3d4e5/v1"
    error_message = "The address must be made from the template."
  }

  assert {
    condition     = length(aws_cloudwatch_log_group.access) == 0 && length(aws_api_gateway_stage.this.access_log_settings) == 0
    error_message = "Nothing is logged where that is not wanted."
  }
}

run "refuses_a_route_without_operation" {
  command = plan
  module {
    source = "./modules/api"
  }
  variables {
    routes = {
      "POST /messages"                    = "submit"
      "POST /messages/batch"              = "submit"
      "GET /messages"                     = "query"
      "GET /messages/{id}"                = "query"
      "DELETE /messages/{id}"             = "query"
      "POST /messages/{id}/redeliver"     = "redeliver"
      "GET /messages/{id}/ack"            = "ack"
      "POST /messages/{id}/ack"           = "ack"
      "POST /messages/{id}/nack"          = "ack"
      "POST /acks"                        = "ack"
      "GET /acks"                         = "ack"
      "POST /internal/attempts"           = "attempts"
      "POST /internal/tasks"              = "tasks"
      "POST /internal/tasks/{id}/outcome" = "tasks"
    }
  }
  expect_failures = [aws_api_gateway_rest_api.this]
}

run "refuses_an_operation_without_route" {
  command = plan
  module {
    source = "./modules/api"
  }
  variables {
    routes = { "POST /messages" = "submit" }
  }
  expect_failures = [aws_api_gateway_rest_api.this]
}

run "refuses_settings_out_of_range" {
  command = plan
  module {
    source = "./modules/api"
  }
  variables {
    name         = "an api"
    rate         = 0
    burst        = 5001
    url_template = "https://example.com/"
  }
  expect_failures = [var.name, var.rate, var.burst, var.url_template]
}
