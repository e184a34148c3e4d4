from __future__ import annotations

import json
from email.message import EmailMessage
from typing import Any

import pytest

from support import Stack, eventually, unique

SENDER = "Until ACK <sender@until-ack.example>"


@pytest.fixture(scope="module")
def ses(stack: Stack) -> Any:
    client = stack.client("ses")
    client.verify_email_identity(EmailAddress="sender@until-ack.example")
    return client


def _address() -> str:
    return f"{unique('person')}@example.org"


def _received(stack: Stack, address: str, count: int = 1) -> list[EmailMessage]:
    def found() -> list[EmailMessage]:
        mails = [mail for recipients, mail in stack.mails if address in recipients]
        return mails if len(mails) >= count else []

    return eventually(found)


def _part(mail: EmailMessage, kind: str) -> str:
    body = mail.get_body((kind,))
    assert body is not None
    return str(body.get_content()).strip()


def test_a_templated_mail_arrives_rendered(stack: Stack, ses: Any) -> None:
    name, to, blind = unique("template"), _address(), _address()
    template = {
        "TemplateName": name,
        "SubjectPart": "For {{who}}",
        "TextPart": "{{who}}: {{n}}",
        "HtmlPart": "<p>{{html}}</p>",
    }
    ses.create_template(Template=template)
    data = {"who": "Bö & Co", "n": 3, "html": "<b>safe</b>"}
    destination = {"ToAddresses": [to], "BccAddresses": [blind]}
    sent = ses.send_templated_email(
        Source=SENDER, Destination=destination, Template=name, TemplateData=json.dumps(data)
    )
    (mail,) = _received(stack, to)
    assert mail["Subject"] == "For Bö & Co"
    assert mail["From"] == SENDER
    assert mail["Message-ID"] == f"<{sent['MessageId']}@email.amazonses.com>"
    assert _part(mail, "plain") == "Bö & Co: 3"
    assert _part(mail, "html") == "<p><b>safe</b></p>"
    (copy,) = _received(stack, blind)
    assert "Bcc" not in copy
    assert copy["To"] == to


def test_a_template_that_lacks_data_is_accepted_and_not_sent(stack: Stack, ses: Any) -> None:
    name, to = unique("template"), _address()
    ses.create_template(Template={"TemplateName": name, "SubjectPart": "{{a}}", "TextPart": "{{b}}"})
    arguments = {"Source": SENDER, "Destination": {"ToAddresses": [to]}, "Template": name}
    assert ses.send_templated_email(TemplateData='{"a": "first"}', **arguments)["MessageId"]
    assert ses.send_templated_email(TemplateData='{"a": "second", "b": "x"}', **arguments)["MessageId"]
    assert [mail["Subject"] for mail in _received(stack, to)] == ["second"]


def test_a_simple_mail_arrives(stack: Stack, ses: Any) -> None:
    to = _address()
    body = {"Text": {"Data": "text"}, "Html": {"Data": "<i>html</i>"}}
    ses.send_email(
        Source=SENDER,
        Destination={"ToAddresses": [to]},
        ReplyToAddresses=["answers@example.org"],
        Message={"Subject": {"Data": "Subject"}, "Body": body},
    )
    (mail,) = _received(stack, to)
    assert (mail["Subject"], mail["Reply-To"]) == ("Subject", "answers@example.org")
    assert (_part(mail, "plain"), _part(mail, "html")) == ("text", "<i>html</i>")


def test_a_raw_mail_arrives_without_its_blind_copies(stack: Stack, ses: Any) -> None:
    to, blind = _address(), _address()
    raw = f"From: {SENDER}\r\nTo: {to}\r\nBcc: {blind}\r\nSubject: raw\r\nX-Own: kept\r\n\r\nbody\r\n"
    ses.send_raw_email(Source=SENDER, RawMessage={"Data": raw.encode()})
    (mail,) = _received(stack, blind)
    assert (mail["X-Own"], mail["Bcc"]) == ("kept", None)
    assert _received(stack, to)


def test_mails_arrive_in_order(stack: Stack, ses: Any) -> None:
    to = _address()
    for number in range(10):
        message = {"Subject": {"Data": str(number)}, "Body": {"Text": {"Data": "x"}}}
        ses.send_email(Source=SENDER, Destination={"ToAddresses": [to]}, Message=message)
    assert [mail["Subject"] for mail in _received(stack, to, 10)] == [str(number) for number in range(10)]


def test_an_unverified_sender_is_refused_and_nothing_is_sent(stack: Stack, ses: Any) -> None:
    to, before = _address(), len(stack.mails)
    message = {"Subject": {"Data": "s"}, "Body": {"Text": {"Data": "x"}}}
    with pytest.raises(ses.exceptions.MessageRejected):
        ses.send_email(Source="nobody@example.org", Destination={"ToAddresses": [to]}, Message=message)
    assert len(stack.mails) == before


def test_a_subscribed_address_gets_the_publication_with_its_subject(stack: Stack) -> None:
    sns, to = stack.client("sns"), _address()
    topic = sns.create_topic(Name=unique("topic"))["TopicArn"]
    sns.subscribe(TopicArn=topic, Protocol="email", Endpoint=to)
    sns.publish(TopicArn=topic, Subject="Something is wrong", Message="very wrong")
    sns.publish(TopicArn=topic, Message="without a subject")
    mails = _received(stack, to, 2)
    assert {mail["Subject"] for mail in mails} == {"Something is wrong", "AWS Notification Message"}
    assert {_part(mail, "plain") for mail in mails} == {"very wrong", "without a subject"}
