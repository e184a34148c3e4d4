locals {
  # The definition is a template: a variable that nobody gives is an error of the plan.
  definition = templatefile(var.definition, var.substitutions)

  # A role's name has at most 64 characters, a machine's 80.
  role = length(var.name) <= 64 ? var.name : "${substr(var.name, 0, 55)}-${substr(sha256(var.name), 0, 8)}"

  statements = merge(
    var.log_level == "OFF" ? {} : {
      Logs = {
        actions = [
          "logs:CreateLogDelivery", "logs:DeleteLogDelivery", "logs:DescribeLogGroups", "logs:DescribeResourcePolicies",
          "logs:GetLogDelivery", "logs:ListLogDeliveries", "logs:PutResourcePolicy", "logs:UpdateLogDelivery",
        ]
        # Log deliveries are no resources in IAM; AWS asks for "*". The log itself is written by AWS's delivery service.
        resources  = ["*"]
        conditions = {}
      }
    },
    {
      Traces = {
        actions = ["xray:GetSamplingRules", "xray:GetSamplingTargets", "xray:PutTelemetryRecords", "xray:PutTraceSegments"]
        # X-Ray knows no resources for these.
        resources  = ["*"]
        conditions = {}
      }
    },
    var.statements,
  )
}

resource "aws_cloudwatch_log_group" "this" {
  # Under this prefix CloudWatch needs no growing resource policy, whose size is limited.
  name              = "/aws/vendedlogs/states/${var.name}"
  retention_in_days = var.log_retention_days
}

resource "aws_iam_role" "this" {
  name        = local.role
  description = "What the workflow ${var.name} may do."

  assume_role_policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Effect    = "Allow"
      Principal = { Service = "states.amazonaws.com" }
      Action    = "sts:AssumeRole"
      # Not for a state machine of another account's. The form is the one that AWS documents.
      Condition = {
        ArnLike      = { "aws:SourceArn" = "arn:${var.account.partition}:states:${var.account.region}:${var.account.id}:stateMachine:*" }
        StringEquals = { "aws:SourceAccount" = var.account.id }
      }
    }]
  })
}

resource "aws_iam_role_policy" "this" {
  name = local.role
  role = aws_iam_role.this.id

  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [for sid, statement in local.statements : merge(
      {
        Sid      = sid
        Effect   = "Allow"
        Action   = statement.actions
        Resource = statement.resources
      },
      length(statement.conditions) == 0 ? {} : { Condition = statement.conditions },
    )]
  })
}

resource "aws_sfn_state_machine" "this" {
  name       = var.name
  type       = var.type
  role_arn   = aws_iam_role.this.arn
  definition = local.definition

  logging_configuration {
    level                  = var.log_level
    include_execution_data = var.include_execution_data
    log_destination        = "arn:${var.account.partition}:logs:${var.account.region}:${var.account.id}:log-group:${aws_cloudwatch_log_group.this.name}:*"
  }

  tracing_configuration {
    enabled = true
  }

  # Step Functions checks at once that the role may log.
  depends_on = [aws_iam_role_policy.this]

  lifecycle {
    precondition {
      condition     = length(var.name) <= 80
      error_message = "The name ${var.name} is over Step Functions' limit of 80 characters."
    }

    precondition {
      condition     = can(jsondecode(local.definition).States)
      error_message = "The definition of ${var.name} is not a state machine in JSON."
    }
  }
}
