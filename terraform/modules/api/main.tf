data "aws_partition" "current" {}
data "aws_region" "current" {}

locals {
  stage    = "v1"
  document = yamldecode(file(var.definition))

  operations = merge([for path, item in local.document.paths : {
    for method, operation in item : "${upper(method)} ${path}" => operation
  }]...)

  paths = { for path, item in local.document.paths : path => {
    for method, operation in item : method => operation if !contains(var.left_out, "${upper(method)} ${path}")
  } }

  # Routes and who may use them. Bodies and answers stay out: API Gateway's models know a part of JSON
  # Schema only, refuse a whole import over an `example`, and nobody would check by them, as the
  # handlers check by the contract's own schemas.
  body = {
    openapi    = local.document.openapi
    info       = { title = var.name, version = local.document.info.version }
    components = { securitySchemes = { iam = local.document.components.securitySchemes.iam } }
    paths = { for path, item in local.paths : path => {
      for method, operation in item : method => {
        operationId = operation.operationId
        summary     = operation.summary
        # The capability is the handlers' to check. API Gateway knows of IAM alone.
        security  = [for scheme in operation.security : scheme if can(scheme.iam)]
        responses = { "200" = { description = "As the contract says." } }
        x-amazon-apigateway-integration = {
          type       = "aws_proxy"
          httpMethod = "POST"
          uri        = try(var.integrations[var.routes["${upper(method)} ${path}"]], null)
        }
      }
    } if length(item) > 0 }
    x-amazon-apigateway-gateway-responses = { for type, problem in local.problems : type => merge(
      {
        responseParameters = { "gatewayresponse.header.Content-Type" = "'application/problem+json'" }
        responseTemplates = {
          "application/json" = jsonencode(merge({ type = "urn:until-ack:problem:${problem.code}", title = problem.title }, problem.status == null ? {} : { status = problem.status }))
        }
      },
      problem.status == null ? {} : { statusCode = tostring(problem.status) },
    ) }
  }

  # What API Gateway answers without asking a function. Nothing of the request is repeated.
  problems = {
    DEFAULT_4XX                  = { status = null, code = "refused", title = "The request was refused" }
    DEFAULT_5XX                  = { status = null, code = "internal", title = "Something is wrong here" }
    ACCESS_DENIED                = { status = 403, code = "access-denied", title = "Not with these credentials" }
    EXPIRED_TOKEN                = { status = 403, code = "access-denied", title = "Not with these credentials" }
    INVALID_SIGNATURE            = { status = 403, code = "access-denied", title = "The signature is not valid" }
    MISSING_AUTHENTICATION_TOKEN = { status = 403, code = "access-denied", title = "Not signed, or no such route" }
    UNAUTHORIZED                 = { status = 401, code = "access-denied", title = "Not with these credentials" }
    BAD_REQUEST_BODY             = { status = 400, code = "invalid-field", title = "The body is not what it may be" }
    BAD_REQUEST_PARAMETERS       = { status = 400, code = "invalid-field", title = "A parameter is not what it may be" }
    RESOURCE_NOT_FOUND           = { status = 404, code = "not-found", title = "There is no such route" }
    REQUEST_TOO_LARGE            = { status = 413, code = "too-large", title = "The body is too large" }
    UNSUPPORTED_MEDIA_TYPE       = { status = 415, code = "media-type", title = "Not with this content type" }
    QUOTA_EXCEEDED               = { status = 429, code = "throttled", title = "Too many requests" }
    THROTTLED                    = { status = 429, code = "throttled", title = "Too many requests" }
    INTEGRATION_FAILURE          = { status = 503, code = "unavailable", title = "Try again" }
    INTEGRATION_TIMEOUT          = { status = 503, code = "unavailable", title = "Try again" }
  }

  own_url = "https://${aws_api_gateway_rest_api.this.id}.execute-api.${data.aws_region.current.name}.${data.aws_partition.current.dns_suffix}/${local.stage}"
  url = (
    var.url_template != "" ? replace(replace(var.url_template, "{api_id}", aws_api_gateway_rest_api.this.id), "{stage}", local.stage) :
    var.domain != null ? "https://${var.domain.name}/${local.stage}" :
    local.own_url
  )
}

resource "aws_api_gateway_rest_api" "this" {
  name                         = var.name
  body                         = jsonencode(local.body)
  disable_execute_api_endpoint = var.domain != null && !var.own_address

  endpoint_configuration {
    types = ["REGIONAL"]
  }

  lifecycle {
    precondition {
      condition     = toset(keys(local.operations)) == setunion(keys(var.routes), var.left_out) && length(setintersection(keys(var.routes), var.left_out)) == 0
      error_message = "Every operation of the contract needs a route to a function unless it is left out, and every route an operation."
    }
  }
}

resource "aws_api_gateway_deployment" "this" {
  rest_api_id = aws_api_gateway_rest_api.this.id

  triggers = {
    body = sha256(aws_api_gateway_rest_api.this.body)
  }

  lifecycle {
    create_before_destroy = true
  }
}

resource "aws_api_gateway_stage" "this" {
  rest_api_id          = aws_api_gateway_rest_api.this.id
  deployment_id        = aws_api_gateway_deployment.this.id
  stage_name           = local.stage
  xray_tracing_enabled = true

  dynamic "access_log_settings" {
    for_each = aws_cloudwatch_log_group.access

    content {
      destination_arn = access_log_settings.value.arn
      # The route, not the path, and no query: a capability travels in it.
      format = jsonencode({
        time    = "$context.requestTimeEpoch"
        request = "$context.requestId"
        method  = "$context.httpMethod"
        route   = "$context.resourcePath"
        status  = "$context.status"
        caller  = "$context.identity.userArn"
        source  = "$context.identity.sourceIp"
        latency = "$context.responseLatency"
        length  = "$context.responseLength"
        error   = "$context.error.responseType"
        trace   = "$context.xrayTraceId"
      })
    }
  }

  depends_on = [aws_api_gateway_account.this]
}

resource "aws_api_gateway_method_settings" "all" {
  rest_api_id = aws_api_gateway_rest_api.this.id
  stage_name  = aws_api_gateway_stage.this.stage_name
  method_path = "*/*"

  settings {
    metrics_enabled        = true
    throttling_rate_limit  = var.rate
    throttling_burst_limit = var.burst
    # Execution logs hold whole requests, queries included.
    logging_level      = "OFF"
    data_trace_enabled = false
  }
}

resource "aws_lambda_permission" "route" {
  for_each = var.routes

  statement_id  = trim(replace(lower(each.key), "/[^a-z]+/", "-"), "-")
  function_name = var.functions[each.value]
  action        = "lambda:InvokeFunction"
  principal     = "apigateway.amazonaws.com"
  # A path's parameter is a * in an ARN.
  source_arn = "${aws_api_gateway_rest_api.this.execution_arn}/${local.stage}/${replace(replace(each.key, " /", "/"), "/\\{[^}]+\\}/", "*")}"
}

resource "aws_cloudwatch_log_group" "access" {
  count = var.access_logs ? 1 : 0

  name              = "/aws/apigateway/${var.name}"
  retention_in_days = var.log_retention_days
}

resource "aws_iam_role" "account" {
  count = var.access_logs && var.account_role ? 1 : 0

  name        = "${var.name}-logs"
  description = "How API Gateway writes the logs of all APIs of this account and region."

  assume_role_policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Effect    = "Allow"
      Principal = { Service = "apigateway.amazonaws.com" }
      Action    = "sts:AssumeRole"
    }]
  })
}

resource "aws_iam_role_policy_attachment" "account" {
  count = length(aws_iam_role.account)

  role = aws_iam_role.account[0].name
  # AWS's own, for all log groups: the setting is the whole account's.
  policy_arn = "arn:${data.aws_partition.current.partition}:iam::aws:policy/service-role/AmazonAPIGatewayPushToCloudWatchLogs"
}

resource "aws_api_gateway_account" "this" {
  count = length(aws_iam_role.account)

  cloudwatch_role_arn = aws_iam_role.account[0].arn
  depends_on          = [aws_iam_role_policy_attachment.account]
}

resource "aws_api_gateway_domain_name" "this" {
  count = var.domain == null ? 0 : 1

  domain_name              = var.domain.name
  regional_certificate_arn = var.domain.certificate_arn
  security_policy          = "TLS_1_2"

  endpoint_configuration {
    types = ["REGIONAL"]
  }
}

resource "aws_api_gateway_base_path_mapping" "this" {
  count = length(aws_api_gateway_domain_name.this)

  domain_name = aws_api_gateway_domain_name.this[0].domain_name
  api_id      = aws_api_gateway_rest_api.this.id
  stage_name  = aws_api_gateway_stage.this.stage_name
  base_path   = local.stage
}
