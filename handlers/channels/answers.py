"""What a target's HTTP answer, or the lack of one, means for the message."""

import re
import socket
import ssl
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http.client import HTTPException, RemoteDisconnected
from math import ceil

from handlers.channels.bounded import AnswerTooLarge
from handlers.channels.connection import Blocked, ConnectTimeout, DnsTimeout
from handlers.delivery.channel import Kind, Outcome

ACK_HEADER = "until-ack"
MAX_RETRY_AFTER = 31_536_000

_SECONDS = re.compile(r"[0-9]+")
_RETRY_LATER = frozenset((429, 503))
_GONE = 410

# From the particular to the general: the first that fits names the fault.
_FAULTS: tuple[tuple[type[Exception], str], ...] = (
    (Blocked, "private_address"),
    (DnsTimeout, "dns_timeout"),
    (ConnectTimeout, "connect_timeout"),
    (TimeoutError, "read_timeout"),
    (socket.gaierror, "dns"),
    (ssl.SSLCertVerificationError, "tls_certificate"),
    (ssl.SSLError, "tls"),
    (ConnectionRefusedError, "refused"),
    (RemoteDisconnected, "closed"),
    (ConnectionError, "reset"),
    (AnswerTooLarge, "answer_too_large"),
    (HTTPException, "bad_answer"),
    (OSError, "unreachable"),
)
FAULTS = tuple(fault for fault, _ in _FAULTS)


def answered(status: int, ack: str | None, retry_after: str | None, now: datetime) -> Outcome:
    """The outcome of an attempt that was answered: the status decides, the body says nothing."""
    reason = f"http_{status}"
    if 200 <= status < 300:
        acked = ack is not None and ack.strip().lower() == "ack"
        return Outcome(Kind.ACKED if acked else Kind.SENT, reason, http_status=status)
    if 300 <= status < 400:
        return Outcome(Kind.FAILED, "redirect", http_status=status)
    if status == _GONE:
        return Outcome(Kind.GONE, reason, http_status=status)
    wait = seconds_to_wait(retry_after, now) if status in _RETRY_LATER else None
    return Outcome(Kind.FAILED, reason, http_status=status, retry_after=wait)


def unanswered(error: Exception) -> Outcome:
    """The outcome of an attempt that one of `FAULTS` ended."""
    reason = next(reason for fault, reason in _FAULTS if isinstance(error, fault))
    return Outcome(Kind.BLOCKED if isinstance(error, Blocked) else Kind.FAILED, reason)


def seconds_to_wait(retry_after: str | None, now: datetime) -> int | None:
    """Retry-After, in seconds or as an HTTP date, as whole seconds from `now`; None when it asks nothing."""
    if retry_after is None:
        return None
    text = retry_after.strip()
    if _SECONDS.fullmatch(text):
        # No number of this many digits is below the cap, and int() refuses far longer ones.
        digits = text.lstrip("0")
        seconds = MAX_RETRY_AFTER if len(digits) > len(str(MAX_RETRY_AFTER)) else int(digits or 0)
    else:
        try:
            date = parsedate_to_datetime(text)
        except (ValueError, TypeError, IndexError, OverflowError):
            return None
        # An HTTP date is always GMT; the parser leaves "-0000" and a missing zone open.
        date = date if date.tzinfo else date.replace(tzinfo=UTC)
        seconds = ceil((date - now).total_seconds())
    return min(seconds, MAX_RETRY_AFTER) if seconds > 0 else None
