"""The email channel: the mail as a mail server gets it, and the page behind its link."""

import re
import secrets
from urllib.parse import urljoin

import pytest

from scripts.mails import Mail
from tests.localstack.kit import CROWDED, Kit, eventually, on_time

pytestmark = pytest.mark.together("calm")


def ack_link(mail: Mail) -> str:
    """The ACK link of a mail."""
    return next(link for link in mail.links() if "/ack?cap=" in link)


def address() -> str:
    return f"{secrets.token_hex(5)}@devices.example"


def test_the_mail_and_its_button(kit: Kit) -> None:
    to = address()
    payload = {"subject": "Valve 7 — please look", "text": "It is stuck at 40 %.\n<b>Now</b> & here: ☂"}
    message_id = kit.submit(to, channel="email", payload=payload)
    (mail,) = eventually(lambda: kit.mails.to(to), what="the mail")
    kit.attempted(message_id, 1)

    assert mail.subject == payload["subject"]
    assert "It is stuck at 40 %.\n<b>Now</b> & here: ☂" in mail.text.replace("\r\n", "\n")
    assert "&lt;b&gt;Now&lt;/b&gt; &amp; here: ☂" in mail.html
    link = ack_link(mail)
    assert link in mail.text
    assert message_id in link

    # Mail scanners follow links; that must not be an ACK.
    before = kit.records.item(message_id)
    page = kit.api.page(link)
    assert (page.status, page.headers["content-type"]) == (200, "text/html; charset=utf-8")
    assert page.headers["cache-control"] == "no-store"
    assert kit.records.item(message_id) == before

    form = re.search(r'<form method="post" action="([^"]+)">.*<button', page.body, re.DOTALL)
    assert form is not None
    pressed = kit.api.unsigned("POST", urljoin(link, form.group(1).replace("&amp;", "&")))
    assert pressed.status == 200
    message = kit.ends(message_id, "DELIVERED")
    assert [(a["n"], a["outcome"], a["reason"]) for a in message["attempts"]] == [(1, "SENT", "mail_accepted")]
    kit.nothing_left(message_id)
    assert len(kit.mails.to(to)) == 1


def test_a_mail_without_an_ack_comes_again(kit: Kit) -> None:
    to = address()
    message_id = kit.submit(to, channel="email", payload="Plain words.", schedule=[2, 600])
    eventually(lambda: len(kit.mails.to(to)) == 2, what="the second mail")
    kit.attempted(message_id, 2)
    on_time(kit.get(message_id), 2)

    first, second = kit.mails.to(to)
    assert "Plain words." in first.text and "Plain words." in second.text
    assert kit.api.unsigned("POST", ack_link(first)).status == 200
    kit.ends(message_id, "DELIVERED")
    kit.nothing_left(message_id, within=20 + CROWDED)
    assert len(kit.mails.to(to)) == 2


def test_the_page_of_a_bad_link_says_so_and_does_nothing(kit: Kit) -> None:
    to = address()
    message_id = kit.submit(to, channel="email", payload="Words.", schedule=[600])
    (mail,) = eventually(lambda: kit.mails.to(to), what="the mail")
    kit.attempted(message_id, 1)
    before = kit.records.item(message_id)

    page = kit.api.page(ack_link(mail)[:-3])
    assert (page.status, page.headers["content-type"]) == (403, "text/html; charset=utf-8")
    assert message_id not in page.body and "<form" not in page.body
    assert kit.records.item(message_id) == before
    assert kit.api.cancel(message_id).status == 200
