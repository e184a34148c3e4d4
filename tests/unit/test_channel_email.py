"""The email channel over a mail port that is not real, and SES over moto and botocore's stubber."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

import boto3
import pytest
from botocore.exceptions import EndpointConnectionError
from botocore.stub import Stubber
from moto import mock_aws

from handlers.aws.mail import CONFIG, SesMail
from handlers.channels.email import (
    DEFAULT_SUBJECT,
    MAX_CONTENT,
    MAX_SUBJECT,
    Content,
    Email,
    check_mail_payload,
    parse_mail_payload,
)
from handlers.delivery.channel import Kind, Outcome, Parcel
from handlers.delivery.errors import Invalid, Refused, Throttled, Unavailable

if TYPE_CHECKING:
    from mypy_boto3_ses import SESClient

SENDER = "until-ack@example.com"
TEMPLATE = "until-ack-message"
REGION = "us-east-1"
ACK_URL = "https://api.example/v1/messages/a/ack?cap=c"


class Outbox:
    """A mail port that keeps what it is given, or fails as it is told."""

    def __init__(self, failure: Exception | None = None) -> None:
        self.failure = failure
        self.mails: list[tuple[str, str, str, dict[str, str]]] = []

    def send_templated(self, sender: str, recipient: str, template: str, data: dict[str, str]) -> str:
        if self.failure:
            raise self.failure
        self.mails.append((sender, recipient, template, data))
        return "mail-1"


class Clock:
    """A quarter of a second passes between any two looks at it."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        self.now += 0.25
        return self.now


def parcel(payload: bytes = b"Hello", kind: str = "text/plain", target: str = "ops@example.com") -> Parcel:
    return Parcel("a" * 26, 2, target, payload, kind, ACK_URL, "https://api.example/nack")


def email(outbox: Outbox) -> Email:
    return Email(outbox, SENDER, TEMPLATE, monotonic=Clock())


def test_a_mail_carries_the_text_the_link_and_every_variable() -> None:
    outbox = Outbox()
    sent = email(outbox).send(parcel(b'Hi <b>\r\nthere & "you"\n\nbye'), 30)
    assert sent == Outcome(Kind.SENT, "mail_accepted", 250)
    assert outbox.mails == [
        (
            SENDER,
            "ops@example.com",
            TEMPLATE,
            {
                "subject": DEFAULT_SUBJECT,
                "text": 'Hi <b>\r\nthere & "you"\n\nbye',
                "html": "Hi &lt;b&gt;<br>\nthere &amp; &quot;you&quot;<br>\n<br>\nbye",
                "ack_url": ACK_URL,
                "message_id": "a" * 26,
                "attempt": "2",
            },
        )
    ]


def test_the_domain_is_sent_in_ascii() -> None:
    outbox = Outbox()
    email(outbox).send(parcel(target="a@BÜCHER.example"), 30)
    assert outbox.mails[0][1] == "a@xn--bcher-kva.example"


@pytest.mark.parametrize(
    ("payload", "kind", "content"),
    [
        (b"grus\xc3\xa9", "text/plain", Content(DEFAULT_SUBJECT, "grusé")),
        (b'{"text": "x"}', "text/plain", Content(DEFAULT_SUBJECT, '{"text": "x"}')),
        (b'{"text": "x"}', "application/json", Content(DEFAULT_SUBJECT, "x")),
        (
            b'{"text":"x","subject":"S\xc2\xa0\xe2\x98\x83"}',
            "Application/JSON; charset=utf-8",
            Content("S\u00a0☃", "x"),
        ),
    ],
)
def test_a_payload_is_text_or_an_object(payload: bytes, kind: str, content: Content) -> None:
    assert parse_mail_payload(payload, kind) == content


@pytest.mark.parametrize(
    ("payload", "kind", "field"),
    [
        (b"", "text/plain", "payload"),
        (b" \n ", "text/plain", "payload"),
        (b"\xff", "text/plain", "payload"),
        (b"{", "application/json", "payload"),
        (b"[" * 100_000, "application/json", "payload"),
        (b'"text"', "application/json", "payload"),
        (b"[]", "application/json", "payload"),
        (b"{}", "application/json", "payload"),
        (b'{"subject":"s"}', "application/json", "payload"),
        (b'{"text":1}', "application/json", "payload"),
        (b'{"text":"x","subject":null}', "application/json", "payload"),
        (b'{"text":"x","html":"<b>"}', "application/json", "payload"),
        (b'{"text":"\\ud800"}', "application/json", "payload"),
        (b'{"text":"x","subject":"\\ud800"}', "application/json", "payload.subject"),
        (b'{"text":"x","subject":" "}', "application/json", "payload.subject"),
        (b'{"text":"x","subject":"a\\nbcc: b"}', "application/json", "payload.subject"),
        (b'{"text":"x","subject":"a\\u2028b"}', "application/json", "payload.subject"),
        (b'{"text":"x","subject":"%b"}' % (b"s" * (MAX_SUBJECT + 1)), "application/json", "payload.subject"),
        (b"x" * (MAX_CONTENT // 2), "text/plain", "payload"),
        (b"<" * (MAX_CONTENT // 4), "text/plain", "payload"),
    ],
)
def test_what_cannot_be_a_mail_is_refused_and_never_sent(payload: bytes, kind: str, field: str) -> None:
    with pytest.raises(Invalid) as refusal:
        check_mail_payload(payload, kind)
    assert refusal.value.field == field
    outbox = Outbox()
    assert email(outbox).send(parcel(payload, kind), 30) == Outcome(Kind.FAILED, "bad_payload")
    assert outbox.mails == []


@pytest.mark.parametrize("target", ["", "ops", "a@b.example\r\nbcc: c@d.example", "a@b.example,c@d.example"])
def test_a_target_that_is_no_address_gets_no_mail(target: str) -> None:
    outbox = Outbox()
    assert email(outbox).send(parcel(target=target), 30) == Outcome(Kind.FAILED, "bad_target")
    assert outbox.mails == []


def test_without_time_left_no_mail_is_sent() -> None:
    outbox = Outbox()
    assert email(outbox).send(parcel(), 0) == Outcome(Kind.FAILED, "no_time")
    assert outbox.mails == []


@pytest.mark.parametrize(
    ("failure", "reason"),
    [
        (Throttled("ses", "Throttling"), "mail_throttled"),
        (Unavailable("ses", "InternalFailure"), "mail_unavailable"),
        (Refused("ses", "rejected"), "mail_rejected"),
    ],
)
def test_the_mail_services_failures_are_outcomes(failure: Exception, reason: str) -> None:
    assert email(Outbox(failure)).send(parcel(), 30) == Outcome(Kind.FAILED, reason, 250)


@pytest.fixture
def ses(monkeypatch: pytest.MonkeyPatch) -> Iterator["SESClient"]:
    monkeypatch.delenv("AWS_ENDPOINT_URL", raising=False)
    with mock_aws():
        client = boto3.client("ses", region_name=REGION, config=CONFIG)
        client.verify_email_identity(EmailAddress=SENDER)
        client.create_template(
            Template={"TemplateName": TEMPLATE, "SubjectPart": "{{subject}}", "TextPart": "{{text}}"}
        )
        yield client


def test_ses_takes_the_mail(ses: "SESClient") -> None:
    before = ses.get_send_quota()["SentLast24Hours"]
    outcome = Email(SesMail(ses), SENDER, TEMPLATE).send(parcel(), 30)
    assert outcome.kind is Kind.SENT
    assert ses.get_send_quota()["SentLast24Hours"] == before + 1


def test_ses_is_given_the_mail_whole(ses: "SESClient") -> None:
    with Stubber(ses) as stub:
        stub.add_response(
            "send_templated_email",
            {"MessageId": "mail-1"},
            {
                "Source": SENDER,
                "Destination": {"ToAddresses": ["ops@example.com"]},
                "Template": TEMPLATE,
                "TemplateData": '{"text": "Gruß ☃"}',
            },
        )
        sent = SesMail(ses).send_templated(SENDER, "ops@example.com", TEMPLATE, {"text": "Gruß ☃"})
    assert sent == "mail-1"


def test_ses_refuses_a_sender_that_is_not_verified(ses: "SESClient") -> None:
    with pytest.raises(Refused) as refusal:
        SesMail(ses).send_templated("eve@example.com", "ops@example.com", TEMPLATE, {})
    assert refusal.value.code == "rejected"


def test_ses_refuses_a_template_that_is_missing(ses: "SESClient") -> None:
    outcome = Email(SesMail(ses), SENDER, "other").send(parcel(), 30)
    assert (outcome.kind, outcome.reason) == (Kind.FAILED, "mail_template_missing")


@pytest.mark.parametrize(
    ("code", "failure"),
    [
        ("Throttling", Throttled),
        ("ThrottlingException", Throttled),
        ("MessageRejected", Refused),
        ("MailFromDomainNotVerifiedException", Refused),
        ("ConfigurationSetDoesNotExist", Refused),
        ("AccountSendingPausedException", Refused),
        ("InvalidParameterValue", Refused),
        ("InternalFailure", Unavailable),
        ("AccessDenied", Unavailable),
    ],
)
def test_ses_codes_are_mapped_once(ses: "SESClient", code: str, failure: type[Exception]) -> None:
    with Stubber(ses) as stub:
        stub.add_client_error("send_templated_email", code, http_status_code=400)
        with pytest.raises(failure) as raised:
            SesMail(ses).send_templated(SENDER, "ops@example.com", TEMPLATE, {})
        stub.assert_no_pending_responses()
    assert type(raised.value) is failure


def test_ses_out_of_reach_is_unavailable() -> None:
    class Unreachable:
        def send_templated_email(self, **_: object) -> None:
            raise EndpointConnectionError(endpoint_url="https://email.example")

    with pytest.raises(Unavailable) as raised:
        SesMail(Unreachable()).send_templated(SENDER, "ops@example.com", TEMPLATE, {})  # type: ignore[arg-type]
    assert raised.value.code == "EndpointConnectionError"
