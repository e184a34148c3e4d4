output "template" {
  description = "The template's name."
  value       = aws_ses_template.message.name
}

output "arns" {
  description = "What a sender of these mails must be allowed to use: the identity and the template."
  value = concat(
    [for identity in local.identities[var.identity] : "${local.arn_base}:identity/${identity}"],
    ["${local.arn_base}:template/${var.template}"],
  )
}

output "dns_records" {
  description = "With the identity `domain`: the records by which the domain is verified and its mails are signed, name to value."
  value = var.identity != "domain" ? {} : merge(
    { "_amazonses.${local.domain} TXT" = aws_ses_domain_identity.this[0].verification_token },
    { for token in aws_ses_domain_dkim.this[0].dkim_tokens : "${token}._domainkey.${local.domain} CNAME" => "${token}.dkim.amazonses.com" },
  )
}
