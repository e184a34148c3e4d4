"""The mails that a request to SES asks for."""

from __future__ import annotations

import email
import email.policy
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from email.message import EmailMessage
from email.utils import formatdate, getaddresses, parseaddr
from typing import Any, Protocol

from until_ack_localstack.mail.template import RenderingError, render

_DOMAIN = "email.amazonses.com"
_KINDS = ("To", "Cc", "Bcc")
# As long as SMTP allows: a folded subject comes back with a space in front from many a parser.
_POLICY = email.policy.SMTP.clone(max_line_length=998)


@dataclass(frozen=True)
class Mail:
    """A mail as it goes to the SMTP server."""

    sender: str
    recipients: tuple[str, ...]
    content: bytes


class Template(Protocol):
    """A stored template."""

    subject: str
    text: str
    html: str


def simple(request: Mapping[str, Any], message_id: str) -> Mail:
    """Compose the mail of SendEmail."""
    parts, body = request["Message"], request["Message"].get("Body") or {}
    return _compose(
        request,
        request["Destination"],
        message_id,
        subject=(parts.get("Subject") or {}).get("Data") or "",
        text=(body.get("Text") or {}).get("Data"),
        html=(body.get("Html") or {}).get("Data"),
    )


def templated(request: Mapping[str, Any], message_id: str, template: Template) -> Mail:
    """Compose the mail of SendTemplatedEmail."""
    return _from_template(request, request["Destination"], message_id, template, _data(request.get("TemplateData")))


def bulk(request: Mapping[str, Any], message_ids: Sequence[str], template: Template) -> Iterator[Mail]:
    """Compose the mails of SendBulkTemplatedEmail."""
    default = _data(request.get("DefaultTemplateData"))
    for destination, message_id in zip(request["Destinations"], message_ids, strict=True):
        data = default | _data(destination.get("ReplacementTemplateData"))
        yield _from_template(request, destination["Destination"], message_id, template, data)


def raw(request: Mapping[str, Any], message_id: str) -> Mail:
    """Compose the mail of SendRawEmail: its own bytes, without the blind copies' header."""
    data = request["RawMessage"]["Data"]
    content = data if isinstance(data, bytes) else data.encode()
    message = email.message_from_bytes(content, policy=_POLICY)
    named = [str(value) for kind in _KINDS for value in message.get_all(kind, [])]
    recipients = request.get("Destinations") or [address for _, address in getaddresses(named) if address]
    sender = request.get("Source") or str(message.get("From", ""))
    del message["Bcc"]
    del message["Message-ID"]
    message["Message-ID"] = f"<{message_id}@{_DOMAIN}>"
    return Mail(parseaddr(sender)[1], tuple(parseaddr(recipient)[1] for recipient in recipients), message.as_bytes())


def _data(text: str | None) -> dict[str, Any]:
    try:
        data = json.loads(text or "{}")
    except ValueError as error:
        raise RenderingError(f"the template data is not JSON: {error}") from error
    if not isinstance(data, dict):
        raise RenderingError("the template data is not a JSON object")
    return data


def _from_template(
    request: Mapping[str, Any],
    destination: Mapping[str, Any],
    message_id: str,
    template: Template,
    data: Mapping[str, Any],
) -> Mail:
    return _compose(
        request,
        destination,
        message_id,
        subject=render(template.subject, data),
        text=render(template.text, data) if template.text else None,
        html=render(template.html, data) if template.html else None,
    )


def _compose(
    request: Mapping[str, Any],
    destination: Mapping[str, Any],
    message_id: str,
    *,
    subject: str,
    text: str | None,
    html: str | None,
) -> Mail:
    message = EmailMessage(policy=_POLICY)
    message["From"] = request["Source"]
    for kind in ("To", "Cc"):
        if destination.get(f"{kind}Addresses"):
            message[kind] = ", ".join(destination[f"{kind}Addresses"])
    if request.get("ReplyToAddresses"):
        message["Reply-To"] = ", ".join(request["ReplyToAddresses"])
    # A line break here would be a header of somebody's own; SES refuses it too.
    message["Subject"] = " ".join(subject.splitlines())
    message["Date"] = formatdate()
    message["Message-ID"] = f"<{message_id}@{_DOMAIN}>"
    if text is not None or html is None:
        message.set_content(text or "")
        if html is not None:
            message.add_alternative(html, subtype="html")
    else:
        message.set_content(html, subtype="html")
    recipients = [address for kind in _KINDS for address in destination.get(f"{kind}Addresses") or ()]
    return Mail(
        parseaddr(request.get("ReturnPath") or request["Source"])[1],
        tuple(parseaddr(recipient)[1] for recipient in recipients),
        message.as_bytes(),
    )
