"""The email channel: one mail from a template, with the link to the page that ACKs."""

import html
import json
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from handlers.channels.addresses import mail_address
from handlers.delivery.channel import Kind, Outcome, Parcel
from handlers.delivery.errors import Invalid, Refused, Throttled, Unavailable

DEFAULT_SUBJECT = "A message that asks for your confirmation"
MAX_SUBJECT = 200
# In bytes, as text and as HTML together: SES's limit for a template's data, less the other fields' part.
MAX_CONTENT = 262_144 - 4_096
# Line breaks above all (a subject with one could carry headers of its own), and half characters.
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")


class MailPort(Protocol):
    """Sends a mail from a template; raises Throttled, Refused or Unavailable."""

    def send_templated(self, sender: str, recipient: str, template: str, data: dict[str, str]) -> str:
        """Send it, and return the mail's id."""
        ...


@dataclass(frozen=True, slots=True)
class Content:
    """What a mail says."""

    subject: str
    text: str

    @property
    def html(self) -> str:
        """The text as HTML that means nothing but itself: SES escapes no value."""
        return "<br>\n".join(html.escape(line) for line in self.text.splitlines())


def parse_mail_payload(payload: bytes, content_type: str) -> Content:
    """A mail's content: text, or for JSON an object of text and, if it likes, subject; `Invalid` if neither."""
    try:
        text = payload.decode()
    except UnicodeDecodeError:
        raise Invalid("payload", "(binary)", "text in UTF-8") from None
    subject = DEFAULT_SUBJECT
    if content_type.partition(";")[0].strip().lower() == "application/json":
        subject, text = _from_json(text)
    if not text.strip():
        raise Invalid("payload", text[:100], "a mail's text, not empty")
    if not subject.strip() or len(subject) > MAX_SUBJECT or _CONTROL.search(subject):
        raise Invalid("payload.subject", subject[:100], f"1 to {MAX_SUBJECT} characters on one line")
    content = Content(subject, text)
    try:
        size = len(json.dumps({"text": text, "html": content.html}, ensure_ascii=False).encode())
    except UnicodeEncodeError:
        raise Invalid("payload", "(half a character)", "text in UTF-8") from None
    if size > MAX_CONTENT:
        raise Invalid("payload", f"{size} bytes as a mail", f"at most {MAX_CONTENT} bytes")
    return content


def check_mail_payload(payload: bytes, content_type: str) -> None:
    """Raise `Invalid` unless the payload can be sent as a mail."""
    parse_mail_payload(payload, content_type)


class Email:
    """Delivers by mail. Taken by the mail service means SENT: the ACK comes from the page behind the link."""

    def __init__(
        self,
        port: MailPort,
        sender: str,
        template: str,
        *,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._port = port
        self._sender = sender
        self._template = template
        self._monotonic = monotonic

    def send(self, parcel: Parcel, deadline_seconds: float) -> Outcome:
        """Send one mail. The port's own timeouts bound it; without time left nothing is sent."""
        if deadline_seconds <= 0:
            return Outcome(Kind.FAILED, "no_time")
        try:
            recipient = mail_address(parcel.target)
            content = parse_mail_payload(parcel.payload, parcel.content_type)
        except Invalid as error:
            return Outcome(Kind.FAILED, "bad_target" if error.field == "target" else "bad_payload")
        started = self._monotonic()
        kind, reason = Kind.SENT, "mail_accepted"
        try:
            self._port.send_templated(self._sender, recipient, self._template, _data(parcel, content))
        except Throttled:
            kind, reason = Kind.FAILED, "mail_throttled"
        except Unavailable:
            kind, reason = Kind.FAILED, "mail_unavailable"
        except Refused as refusal:
            kind, reason = Kind.FAILED, f"mail_{refusal.code}"
        return Outcome(kind, reason, round((self._monotonic() - started) * 1000))


def _data(parcel: Parcel, content: Content) -> dict[str, str]:
    # Every variable, always: SES reports a mail whose template it could not fill as sent.
    return {
        "subject": content.subject,
        "text": content.text,
        "html": content.html,
        "ack_url": parcel.ack_url,
        "message_id": parcel.message_id,
        "attempt": str(parcel.attempt),
    }


def _from_json(text: str) -> tuple[str, str]:
    try:
        content = json.loads(text)
    except (ValueError, RecursionError):
        raise Invalid("payload", text[:100], 'JSON as {"subject": …, "text": …}') from None
    if not isinstance(content, dict) or not {"text"} <= content.keys() <= {"text", "subject"}:
        raise Invalid("payload", text[:100], 'an object with "text" and at most "subject"')
    subject = content.get("subject", DEFAULT_SUBJECT)
    if not isinstance(subject, str) or not isinstance(content["text"], str):
        raise Invalid("payload", text[:100], 'an object whose "text" and "subject" are strings')
    return subject, content["text"]
