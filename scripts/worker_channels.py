"""The two ways in which a worker hands a message over: to a command, or to a URL close by."""

import os
import shlex
import shutil
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import UTC, datetime
from http.client import HTTPConnection, HTTPException, HTTPResponse
from typing import Any
from urllib.parse import quote, urlsplit

from handlers.channels.addresses import Url, parse_webhook_url
from handlers.channels.answers import ACK_HEADER, FAULTS, answered, unanswered
from handlers.channels.bounded import AnswerTooLarge, BoundedSocket, Deadline
from handlers.channels.connection import connect, dial, resolve, secure, tls_context, vetted
from handlers.channels.networks import networks
from handlers.delivery.channel import Kind, Outcome, Parcel
from handlers.delivery.errors import Invalid

EXITS = {0: Kind.SENT, 10: Kind.ACKED, 20: Kind.GONE}
"""What a command says by its exit code; any other is FAILED."""
PLACE = "{target}"
CONNECT_SECONDS = 5.0
MAX_BODY = 16 * 1024
MAX_HEAD = 32 * 1024
STOPPED = Outcome(Kind.FAILED, "worker_stopped")
_ANYWHERE = networks(("0.0.0.0/0", "::/0"))
_DOTS = ("", ".", "..")


class Command:
    """Runs a program for each message: the payload on its standard input, the rest in its environment.

    What it prints is thrown away: it may well be the payload, and there may be any amount of it.
    """

    def __init__(self, command: str) -> None:
        """`command` is split as a shell would, but run without one. Raises `ValueError`."""
        argv = shlex.split(command)
        program = shutil.which(argv[0]) if argv else None
        if program is None:
            raise ValueError(f"no such program: {argv[0] if argv else '(empty)'}")
        self._argv: Sequence[str] = [program, *argv[1:]]
        self._lock = threading.Lock()
        self._running: set[subprocess.Popen[bytes]] = set()
        self._stopped = False

    def send(self, parcel: Parcel, deadline_seconds: float) -> Outcome:
        """Run it once, for at most `deadline_seconds`; then it is killed, with all that it has started."""
        started = time.monotonic()
        try:
            process = self._start(parcel)
        except (OSError, ValueError):
            # Not to be started, or not with such variables: too long, or with a NUL in them.
            outcome = Outcome(Kind.FAILED, "not_started")
        else:
            outcome = STOPPED if process is None else self._await(process, parcel.payload, deadline_seconds)
        return replace(outcome, latency_ms=round((time.monotonic() - started) * 1000))

    def stop(self) -> None:
        """Kill what runs, and start nothing more."""
        with self._lock:
            self._stopped = True
            for process in self._running:
                _kill(process)

    def _start(self, parcel: Parcel) -> subprocess.Popen[bytes] | None:
        told = {
            "UNTIL_ACK_MESSAGE_ID": parcel.message_id,
            "UNTIL_ACK_ATTEMPT": str(parcel.attempt),
            "UNTIL_ACK_TARGET": parcel.target,
            "UNTIL_ACK_CONTENT_TYPE": parcel.content_type,
            "UNTIL_ACK_ACK_URL": parcel.ack_url,
            "UNTIL_ACK_NACK_URL": parcel.nack_url,
        }
        with self._lock:
            if self._stopped:
                return None
            process = subprocess.Popen(
                self._argv,
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                env={**os.environ, **told},
                start_new_session=True,
            )
            self._running.add(process)
            return process

    def _await(self, process: subprocess.Popen[bytes], payload: bytes, seconds: float) -> Outcome:
        try:
            with process:
                try:
                    # It need not read its input: `communicate` takes no offence.
                    process.communicate(payload, timeout=seconds)
                except subprocess.TimeoutExpired:
                    # It may have ended, and something that it left behind holds its input.
                    if process.poll() is None:
                        _kill(process)
                        return Outcome(Kind.FAILED, "timeout")
        finally:
            with self._lock:
                self._running.discard(process)
        if self._stopped and process.returncode == -signal.SIGKILL:
            return STOPPED
        return exited(process.returncode)


def exited(code: int) -> Outcome:
    """The outcome of a command with this exit code; a negative one is a signal's."""
    return Outcome(EXITS.get(code, Kind.FAILED), f"exit_{code}" if code >= 0 else f"signal_{-code}")


def _kill(process: subprocess.Popen[bytes]) -> None:
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)


class LocalUrl:
    """POSTs to a URL that the operator has given, with a webhook's headers; no redirects, no proxies, no signature."""

    def __init__(self, template: str) -> None:
        """`{target}` in its path or query stands for the target, percent-encoded. Raises `ValueError`."""
        if PLACE in urlsplit(template).netloc or PLACE in urlsplit(template).scheme:
            raise ValueError(f"{PLACE} may not be in the host")
        try:
            self._base = parse_webhook_url(template.replace(PLACE, "target"))
        except Invalid as error:
            raise ValueError(str(error)) from None
        self._template = template
        self._context = tls_context() if self._base.scheme == "https" else None
        self._stopped = False

    def stop(self) -> None:
        """Send nothing more."""
        self._stopped = True

    def send(self, parcel: Parcel, deadline_seconds: float) -> Outcome:
        """POST the payload once, in at most `deadline_seconds`."""
        if self._stopped:
            return STOPPED
        deadline = Deadline(deadline_seconds, time.monotonic)
        started = time.monotonic()
        try:
            outcome = self._attempt(self.url_of(parcel.target), parcel, deadline)
        except Invalid:
            outcome = Outcome(Kind.FAILED, "bad_target")
        except FAULTS as error:
            outcome = unanswered(error)
        except ValueError:
            # http.client refuses a header with a line break in it.
            outcome = Outcome(Kind.FAILED, "unsendable")
        return replace(outcome, latency_ms=round((time.monotonic() - started) * 1000))

    def url_of(self, target: str) -> Url:
        """Where a target is: always at the host that the operator has given. Raises `Invalid`."""
        if target in _DOTS:
            # As a part of a path these are not names but ways to another one, percent-encoded too.
            raise Invalid("target", target, "a name")
        url = parse_webhook_url(self._template.replace(PLACE, quote(target, safe="")))
        if (url.scheme, url.host, url.port) != (self._base.scheme, self._base.host, self._base.port):
            raise Invalid("target", target, "at the worker's host")
        return url

    def _attempt(self, url: Url, parcel: Parcel, deadline: Deadline) -> Outcome:
        with self._connection(url, deadline) as sock:
            exchange = _Exchange(url, BoundedSocket(sock, deadline, MAX_HEAD + MAX_BODY))
            # Some answer before they have read it all, and hang up: the answer counts.
            with suppress(BrokenPipeError, ConnectionResetError):
                exchange.request("POST", url.path, parcel.payload, _headers(parcel))
            response = exchange.getresponse()
            ack, retry_after = response.getheader(ACK_HEADER), response.getheader("retry-after")
            outcome = answered(response.status, ack, retry_after, datetime.now(UTC))
            _drain(response)
            return outcome

    @contextmanager
    def _connection(self, url: Url, deadline: Deadline) -> Iterator[socket.socket]:
        connecting = deadline.sooner(CONNECT_SECONDS)
        addresses = vetted(url.host, url.port, _ANYWHERE, resolve, connecting)
        sock = connect(addresses, url.port, _ANYWHERE, dial, connecting)
        try:
            if self._context:
                sock = secure(sock, self._context, url.host, connecting)
            yield sock
        finally:
            sock.close()


class _Exchange(HTTPConnection):
    """HTTP over a connection that is already made."""

    def __init__(self, url: Url, sock: BoundedSocket) -> None:
        super().__init__(url.host, url.port)
        self.default_port = 443 if url.scheme == "https" else 80
        self.sock: Any = sock

    def connect(self) -> None:
        """Never again: the deadline is that of the first."""
        raise ConnectionResetError


def _headers(parcel: Parcel) -> dict[str, str]:
    return {
        "content-type": parcel.content_type,
        "user-agent": "until-ack-worker",
        "webhook-id": parcel.message_id,
        "webhook-timestamp": str(int(time.time())),
        "until-ack-attempt": str(parcel.attempt),
        "until-ack-url": parcel.ack_url,
        "until-ack-nack-url": parcel.nack_url,
        "connection": "close",
    }


def _drain(response: HTTPResponse) -> None:
    # Reading what is left lets a well-behaved target finish. How that goes changes nothing: it has answered.
    with suppress(OSError, HTTPException, AnswerTooLarge, ValueError):
        response.read(MAX_BODY)
    response.close()
