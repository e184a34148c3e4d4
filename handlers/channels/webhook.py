"""The webhook channel: one signed POST to the target's URL, and what its answer means."""

import socket
import ssl
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import cached_property
from http.client import HTTPConnection, HTTPException, HTTPResponse
from typing import Any

from handlers.channels.addresses import Url, parse_webhook_url
from handlers.channels.answers import ACK_HEADER, FAULTS, answered, unanswered
from handlers.channels.bounded import AnswerTooLarge, BoundedSocket, Clock, Deadline
from handlers.channels.connection import Dialer, Resolver, connect, dial, resolve, secure, tls_context, vetted
from handlers.channels.networks import Networks
from handlers.channels.signature import sign
from handlers.delivery.channel import Kind, Outcome, Parcel
from handlers.delivery.errors import Invalid

MAX_BODY = 16 * 1024
MAX_HEAD = 32 * 1024


@dataclass(frozen=True, slots=True)
class Settings:
    """What a deployment decides about webhooks. Times are in seconds."""

    allow_http: bool = False
    allowed_networks: Networks = ()
    connect_timeout: float = 3.0
    read_timeout: float = 10.0
    user_agent: str = "until-ack"


class Webhook:
    """Delivers over HTTP(S): no redirects, no proxies, no private addresses, one deadline for it all."""

    def __init__(
        self,
        secret_of: Callable[[str], str],
        settings: Settings,
        *,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        monotonic: Clock = time.monotonic,
        resolver: Resolver = resolve,
        dialer: Dialer = dial,
        make_context: Callable[[], ssl.SSLContext] = tls_context,
    ) -> None:
        """`secret_of` gives a target's signing secret; what it raises is let through: no target's fault."""
        self._secret_of = secret_of
        self._settings = settings
        self._now = now
        self._monotonic = monotonic
        self._resolver = resolver
        self._dialer = dialer
        self._make_context = make_context

    def send(self, parcel: Parcel, deadline_seconds: float) -> Outcome:
        """POST the payload once, in at most `deadline_seconds`."""
        return self._exchange("POST", parcel, deadline_seconds)

    def ask(self, parcel: Parcel, deadline_seconds: float) -> Outcome:
        """GET the state of a message's job: 202 under way, `until-ack: ack` done, 410 given up."""
        return self._exchange("GET", parcel, deadline_seconds)

    def _exchange(self, method: str, parcel: Parcel, deadline_seconds: float) -> Outcome:
        if deadline_seconds <= 0:
            return Outcome(Kind.FAILED, "no_time")
        deadline = Deadline(deadline_seconds, self._monotonic)
        try:
            url = parse_webhook_url(parcel.target)
        except Invalid:
            return Outcome(Kind.FAILED, "bad_target")
        if url.scheme == "http" and not self._settings.allow_http:
            return Outcome(Kind.BLOCKED, "insecure")
        headers = self._headers(parcel)
        started = self._monotonic()
        try:
            outcome = self._attempt(method, url, parcel.payload, headers, deadline)
        except FAULTS as error:
            outcome = unanswered(error)
        except ValueError:
            # http.client refuses a header with a line break in it, and a URL it could not send.
            outcome = Outcome(Kind.FAILED, "unsendable")
        return replace(outcome, latency_ms=round((self._monotonic() - started) * 1000))

    def _attempt(self, method: str, url: Url, payload: bytes, headers: dict[str, str], deadline: Deadline) -> Outcome:
        with self._connection(url, deadline) as sock:
            reading = deadline.sooner(self._settings.read_timeout)
            exchange = _Exchange(url, BoundedSocket(sock, reading, MAX_HEAD + MAX_BODY))
            # Some answer before they have read it all, and hang up: the answer counts.
            with suppress(BrokenPipeError, ConnectionResetError):
                exchange.request(method, url.path, payload or None, headers)
            response = exchange.getresponse()
            outcome = answered(
                response.status,
                response.getheader(ACK_HEADER),
                response.getheader("retry-after"),
                self._now(),
            )
            _drain(response)
            return outcome

    @contextmanager
    def _connection(self, url: Url, deadline: Deadline) -> Iterator[socket.socket]:
        connecting = deadline.sooner(self._settings.connect_timeout)
        allowed = self._settings.allowed_networks
        addresses = vetted(url.host, url.port, allowed, self._resolver, connecting)
        sock = connect(addresses, url.port, allowed, self._dialer, connecting)
        try:
            if url.scheme == "https":
                sock = secure(sock, self._context, url.host, connecting)
            yield sock
        finally:
            sock.close()

    @cached_property
    def _context(self) -> ssl.SSLContext:
        return self._make_context()

    def _headers(self, parcel: Parcel) -> dict[str, str]:
        now = self._now()
        return {
            "content-type": parcel.content_type,
            "user-agent": self._settings.user_agent,
            "webhook-id": parcel.message_id,
            "webhook-timestamp": str(int(now.timestamp())),
            "webhook-signature": sign(self._secret_of(parcel.target), parcel.message_id, now, parcel.payload),
            "until-ack-attempt": str(parcel.attempt),
            "connection": "close",
            **({"until-ack-url": parcel.ack_url, "until-ack-nack-url": parcel.nack_url} if parcel.ack_url else {}),
        }


class _Exchange(HTTPConnection):
    """HTTP over a connection that is already made."""

    def __init__(self, url: Url, sock: BoundedSocket) -> None:
        super().__init__(url.host, url.port)
        self.default_port = 443 if url.scheme == "https" else 80
        self.sock: Any = sock

    def connect(self) -> None:
        """Never again: another connection would not be to a vetted address."""
        raise ConnectionResetError


def _drain(response: HTTPResponse) -> None:
    # Reading what is left lets a well-behaved target finish. How that goes changes nothing: it has answered.
    try:
        response.read(MAX_BODY)
    except (OSError, HTTPException, AnswerTooLarge, ValueError):
        return
    finally:
        response.close()
