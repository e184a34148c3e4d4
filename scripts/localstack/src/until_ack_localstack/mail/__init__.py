"""SES: mails are rendered and handed to an SMTP server."""
