"""Every mail that SES has accepted goes to the SMTP server, in the order in which it was accepted."""

from __future__ import annotations

import logging
import os
import queue
import smtplib
import threading
from collections.abc import Iterable
from types import SimpleNamespace
from typing import Any

from localstack.aws.api import RequestContext
from localstack.aws.chain import HandlerChain
from localstack.http import Response

from until_ack_localstack import settings
from until_ack_localstack.importing import when_imported
from until_ack_localstack.mail import compose
from until_ack_localstack.mail.template import RenderingError

LOG = logging.getLogger(__name__)

_TIMEOUT = 5.0
_mails: queue.SimpleQueue[compose.Mail] = queue.SimpleQueue()


def install() -> None:
    """Watch what SES accepts, and give SNS's mails their subject."""
    from localstack.aws import handlers

    handlers.modify_service_response.append("ses", accepted)
    when_imported("localstack.services.sns.publisher", _give_subject)
    if os.environ.get(settings.SMTP):
        threading.Thread(target=_deliver, name="smtp", daemon=True).start()


def _give_subject(module: Any) -> None:
    module.EmailJsonTopicPublisher._publish = _publish


def accepted(_: HandlerChain, context: RequestContext, __: Response) -> None:
    """Response handler: compose and queue the mails of a request that SES has accepted."""
    if context.operation is None or context.service_exception is not None or not os.environ.get(settings.SMTP):
        return
    try:
        for mail in _compose(context):
            _mails.put(mail)
    except RenderingError as failure:
        # As on SES: the request has succeeded, and there is no mail.
        LOG.warning("SES rendering failure: %s", failure)


def _compose(context: RequestContext) -> Iterable[compose.Mail]:
    request, response = context.service_request, context.service_response or {}
    match context.operation.name:
        case "SendEmail":
            return [compose.simple(request, response["MessageId"])]
        case "SendRawEmail":
            return [compose.raw(request, response["MessageId"])]
        case "SendTemplatedEmail":
            return [compose.templated(request, response["MessageId"], _template(context))]
        case "SendBulkTemplatedEmail":
            ids = [status["MessageId"] for status in response["Status"]]
            return list(compose.bulk(request, ids, _template(context)))
        case _:
            return []


def _template(context: RequestContext) -> compose.Template:
    from moto.ses.models import ses_backends

    stored = ses_backends[context.account_id][context.region].templates[context.service_request["Template"]]
    return SimpleNamespace(
        subject=_part(stored, "subject_part", "SubjectPart"),
        text=_part(stored, "text_part", "TextPart"),
        html=_part(stored, "html_part", "HtmlPart"),
    )


def _part(stored: Any, *names: str) -> str:
    for name in names:
        value = stored.get(name) if hasattr(stored, "get") else getattr(stored, name, None)
        if value:
            return str(value)
    return ""


def _deliver() -> None:
    while True:
        mail = _mails.get()
        host, _, port = os.environ[settings.SMTP].rpartition(":")
        try:
            with smtplib.SMTP(host, int(port), timeout=_TIMEOUT) as server:
                server.sendmail(mail.sender, list(mail.recipients), mail.content)
        except (OSError, smtplib.SMTPException) as error:
            LOG.warning("mail to %s was not delivered to %s:%s: %s", ", ".join(mail.recipients), host, port, error)


def _publish(self: Any, context: Any, subscriber: dict[str, Any]) -> None:
    """SNS's e-mail, with the subject of the publication, which LocalStack drops."""
    from localstack import config
    from localstack.aws.connect import connect_to

    _, _, _, region, account, _ = subscriber["TopicArn"].split(":", 5)
    client = connect_to(aws_access_key_id=account, region_name=region).ses.request_metadata(
        source_arn=subscriber["TopicArn"], service_principal="sns"
    )
    sender, address = config.SNS_SES_SENDER_ADDRESS or settings.SENDER, subscriber["Endpoint"]
    # SES takes mails from verified senders only; SNS is one on AWS.
    client.verify_email_address(EmailAddress=sender)
    body = self.prepare_message(context.message, subscriber, topic_attributes=context.topic_attributes)
    client.send_email(
        Source=sender,
        Destination={"ToAddresses": [address]},
        Message={
            "Subject": {"Data": context.message.subject or "AWS Notification Message"},
            "Body": {"Text": {"Data": body}},
        },
    )
