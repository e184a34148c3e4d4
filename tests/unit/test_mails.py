"""Reading the mails that the local SMTP server keeps."""

from email.message import EmailMessage
from pathlib import Path

import pytest

from scripts.mails import Mailbox

LINK = "https://api.example/v1/messages/abc/ack?cap=k1.x.y&z=1"


def keep(folder: Path, name: str, subject: str, text: str, html: str = "", to: str = "ada@example.com") -> None:
    message = EmailMessage()
    message["From"], message["To"], message["Subject"] = "until-ack@example.com", to, subject
    message.set_content(text)
    if html:
        message.add_alternative(html, subtype="html")
    (folder / name).write_bytes(message.as_bytes())


def test_mails_are_read_in_the_order_they_came_with_both_parts(tmp_path: Path) -> None:
    keep(tmp_path, "1.eml", "Erste ✉", "Grüße " * 50 + LINK, f'<p>a</p><a href="{LINK.replace("&", "&amp;")}">x</a>')
    keep(tmp_path, "2.eml", "second", "plain only", to="bob@example.com")
    (tmp_path / ".3").write_bytes(b"not a mail yet")

    first, second = Mailbox(tmp_path).mails()

    assert (first.subject, first.sender, first.to) == ("Erste ✉", "until-ack@example.com", "ada@example.com")
    assert first.text.startswith("Grüße Grüße")
    assert first.links() == [LINK]
    assert (second.subject, second.text, second.html) == ("second", "plain only\n", "")
    assert first.says("<p>a</p>")
    assert not second.says("Grüße")


def test_a_mail_is_waited_for_and_its_absence_says_what_there_was(tmp_path: Path) -> None:
    box = Mailbox(tmp_path)
    keep(tmp_path, "a.eml", "hello", "x")

    assert box.wait_for(lambda mail: mail.says("hello"), within=1).file == "a.eml"
    assert box.find(lambda mail: mail.says("nothing")) is None
    with pytest.raises(TimeoutError, match="hello"):
        box.wait_for(lambda mail: mail.says("nothing"), within=0.05)


def test_an_empty_or_missing_folder_has_no_mail(tmp_path: Path) -> None:
    assert Mailbox(tmp_path / "none").mails() == []
