"""Reads the mails that the local SMTP server keeps, one file each."""

import email
import email.policy
import html
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from email.message import EmailMessage
from functools import lru_cache
from pathlib import Path

POLL = 0.1
"""Seconds between two looks into the folder."""


@dataclass(frozen=True, slots=True)
class Mail:
    """A mail as it arrived. `html` is empty when it has no such part."""

    file: str
    sender: str
    to: str
    subject: str
    text: str
    html: str

    def says(self, words: str) -> bool:
        """Whether the words stand in its subject or in one of its parts."""
        return any(words in part for part in (self.subject, self.text, self.html))

    def links(self) -> list[str]:
        """The HTTP links in it, the HTML part's first."""
        found = [html.unescape(link) for link in re.findall(r'href="(https?://[^"]+)"', self.html)]
        found += re.findall(r"https?://[^\s<>\"]+", self.text)
        return list(dict.fromkeys(found))


@dataclass(frozen=True, slots=True)
class Mailbox:
    """A folder of `.eml` files."""

    folder: Path

    def mails(self) -> list[Mail]:
        """All mails so far, oldest first."""
        return [_read(file) for file in sorted(self.folder.glob("*.eml"))]

    def find(self, wanted: Callable[[Mail], bool]) -> Mail | None:
        """The oldest mail that is wanted."""
        return next((mail for mail in self.mails() if wanted(mail)), None)

    def wait_for(self, wanted: Callable[[Mail], bool], within: float = 10.0) -> Mail:
        """The oldest mail that is wanted. Raises `TimeoutError` after `within` seconds."""
        deadline = time.monotonic() + within
        while time.monotonic() < deadline:
            if mail := self.find(wanted):
                return mail
            time.sleep(POLL)
        subjects = [mail.subject for mail in self.mails()]
        raise TimeoutError(f"no such mail in {within} s; there are {subjects}")


@lru_cache(maxsize=4096)  # a kept mail never changes
def _read(file: Path) -> Mail:
    message = email.message_from_bytes(file.read_bytes(), policy=email.policy.default)
    return Mail(
        file=file.name,
        sender=str(message["from"] or ""),
        to=str(message["to"] or ""),
        subject=str(message["subject"] or ""),
        text=_part(message, "plain"),
        html=_part(message, "html"),
    )


def _part(message: EmailMessage, kind: str) -> str:
    part = message.get_body((kind,))
    return str(part.get_content()) if part else ""
