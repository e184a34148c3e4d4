"""The mailbox over real SMTP: what is sent is what is found in the folder."""

import smtplib
import sys
import threading
import time
from collections.abc import Iterator
from email.message import EmailMessage
from pathlib import Path

import pytest

from scripts.lifeline import Process
from scripts.mails import Mailbox
from scripts.stack import _await


@pytest.fixture
def address(tmp_path: Path) -> Iterator[tuple[str, int]]:
    ready = tmp_path / "ready"
    command = [sys.executable, "-m", "scripts.mailbox", "--dir", tmp_path / "mails", "--ready-file", ready]
    process = Process([str(part) for part in command], tmp_path / "log")
    try:
        host, port = _await(process, ready, "the mailbox")["address"].split(":")
        yield host, int(port)
    finally:
        process.stop()


def send(address: tuple[str, int], subject: str, text: str = "Guten Tag, schöne Welt.") -> None:
    message = EmailMessage()
    message["from"], message["to"], message["subject"] = "a@sender.example", "b@target.example", subject
    message.set_content(text)
    with smtplib.SMTP(*address) as smtp:
        smtp.send_message(message)


def test_a_mail_is_kept_as_it_was_sent(address: tuple[str, int], tmp_path: Path) -> None:
    send(address, "first")

    (mail,) = Mailbox(tmp_path / "mails").mails()
    assert (mail.sender, mail.to, mail.subject) == ("a@sender.example", "b@target.example", "first")
    assert mail.text.strip() == "Guten Tag, schöne Welt."


def test_many_at_once_are_all_kept_and_never_seen_half_written(address: tuple[str, int], tmp_path: Path) -> None:
    text = "x" * 60 + "\n"
    threads = [threading.Thread(target=send, args=(address, f"mail {n}", text * 2000)) for n in range(10)]
    for thread in threads:
        thread.start()
    mailbox, deadline = Mailbox(tmp_path / "mails"), time.monotonic() + 20
    while len(mails := mailbox.mails()) < 10 and time.monotonic() < deadline:
        assert {mail.text.count("x" * 60) for mail in mails} <= {2000}
    for thread in threads:
        thread.join()

    assert {mail.subject for mail in mailbox.mails()} == {f"mail {n}" for n in range(10)}
