locals {
  domain   = split("@", var.sender)[1]
  arn_base = "arn:${var.account.partition}:ses:${var.account.region}:${var.account.id}"

  # An address that has been verified by itself counts before its domain.
  identities = {
    address  = [var.sender]
    domain   = [local.domain]
    existing = [var.sender, local.domain]
  }
}

# SES escapes no value: the channel gives `html` as HTML, and nothing else that a producer wrote is put there.
resource "aws_ses_template" "message" {
  name    = var.template
  subject = "{{subject}}"
  html    = file("${var.folder}/message.html")
  text    = file("${var.folder}/message.txt")
}

resource "aws_ses_email_identity" "this" {
  count = var.identity == "address" ? 1 : 0
  email = var.sender
}

resource "aws_ses_domain_identity" "this" {
  count  = var.identity == "domain" ? 1 : 0
  domain = local.domain
}

resource "aws_ses_domain_dkim" "this" {
  count  = var.identity == "domain" ? 1 : 0
  domain = aws_ses_domain_identity.this[0].domain
}
