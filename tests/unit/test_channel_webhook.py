"""The webhook channel over sockets and resolvers that are not real."""

import socket
import ssl
import threading
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from typing import Any, cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from standardwebhooks import Webhook as Verifier

from handlers.channels.answers import MAX_RETRY_AFTER, seconds_to_wait
from handlers.channels.networks import Address, networks
from handlers.channels.webhook import MAX_BODY, MAX_HEAD, Settings, Webhook
from handlers.delivery.channel import Kind, Outcome, Parcel
from handlers.delivery.signing import webhook_secret

TARGET = "http://device.example:8080/hook?x=1"
PUBLIC = "93.184.216.34"
NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
OK = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"
PARCEL = Parcel(
    message_id="a" * 26,
    attempt=3,
    target=TARGET,
    payload=b'{"on": true}',
    content_type="application/json",
    ack_url="https://api.example/v1/messages/a/ack?cap=c",
    nack_url="https://api.example/v1/messages/a/nack?cap=c",
)


class Clock:
    """Time that passes when something takes time."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Peer:
    """A socket whose other end says what a test wrote down."""

    def __init__(self, answer: bytes | Exception = OK, address: str = PUBLIC) -> None:
        self.answer = answer
        self.address = address
        self.sent = b""
        self.piece = 4096
        self.clock = Clock()
        self.seconds_a_piece = 0.0
        self.send_fails: OSError | None = None
        self.timeout: float | None = None
        self.closed = False

    def getpeername(self) -> tuple[str, int]:
        return (self.address, 8080)

    def settimeout(self, value: float | None) -> None:
        self.timeout = value

    def send(self, data: memoryview) -> int:
        if self.send_fails:
            raise self.send_fails
        self.sent += bytes(data[:1000])
        return min(len(data), 1000)

    def recv_into(self, buffer: memoryview) -> int:
        if isinstance(self.answer, Exception):
            raise self.answer
        assert self.timeout is not None
        if self.seconds_a_piece > self.timeout:
            self.clock.now += self.timeout
            raise TimeoutError
        self.clock.now += self.seconds_a_piece
        piece = self.answer[: min(self.piece, len(buffer))]
        self.answer = self.answer[len(piece) :]
        buffer[: len(piece)] = piece
        return len(piece)

    def close(self) -> None:
        self.closed = True


def channel(
    peer: Peer,
    resolver: Callable[[str, int], Sequence[str]] = lambda host, port: [PUBLIC],
    settings: Settings | None = None,
    dialed: list[Address] | None = None,
) -> Webhook:
    def dial(address: Address, port: int, seconds: float) -> socket.socket:
        if dialed is not None:
            dialed.append(address)
        return cast(socket.socket, peer)

    return Webhook(
        lambda target: webhook_secret("m" * 64, target),
        settings or Settings(allow_http=True, user_agent="until-ack/1.2.3"),
        now=lambda: NOW,
        monotonic=peer.clock,
        resolver=resolver,
        dialer=dial,
    )


def send(answer: bytes, deadline: float = 30) -> Outcome:
    return channel(Peer(answer)).send(PARCEL, deadline)


def answer(status: str, *headers: str, body: bytes = b"") -> bytes:
    lines = [f"HTTP/1.1 {status}", f"content-length: {len(body)}", *headers]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def test_the_request_is_the_payload_byte_for_byte_with_its_headers() -> None:
    peer = Peer()
    payload = bytes(range(256)) * 40
    binary = Parcel("a" * 26, 3, TARGET, payload, "application/octet-stream", PARCEL.ack_url, PARCEL.nack_url)
    assert channel(peer).send(binary, 30) == Outcome(Kind.SENT, "http_200", 0, 200)
    head, _, body = peer.sent.partition(b"\r\n\r\n")
    request, *lines = head.decode().split("\r\n")
    headers = dict(line.split(": ", 1) for line in lines)
    signature = headers.pop("webhook-signature")
    assert request == "POST /hook?x=1 HTTP/1.1"
    assert body == payload
    assert signature.startswith("v1,")
    assert headers == {
        "Host": "device.example:8080",
        "Accept-Encoding": "identity",
        "Content-Length": str(len(payload)),
        "content-type": "application/octet-stream",
        "user-agent": "until-ack/1.2.3",
        "webhook-id": "a" * 26,
        "webhook-timestamp": str(int(NOW.timestamp())),
        "until-ack-attempt": "3",
        "until-ack-url": PARCEL.ack_url,
        "until-ack-nack-url": PARCEL.nack_url,
        "connection": "close",
    }
    assert peer.closed


def test_the_signature_is_one_that_the_target_verifies() -> None:
    peer = Peer()
    channel(peer).send(PARCEL, 30)
    head, _, body = peer.sent.partition(b"\r\n\r\n")
    headers = dict(line.split(": ", 1) for line in head.decode().split("\r\n")[1:])
    secret = webhook_secret("m" * 64, TARGET)
    assert Verifier(secret).sign("a" * 26, NOW, body.decode()) == headers["webhook-signature"]


@pytest.mark.parametrize(
    ("answered", "outcome"),
    [
        (answer("200 OK"), Outcome(Kind.SENT, "http_200", 0, 200)),
        (answer("202 Accepted", body=b"thanks"), Outcome(Kind.SENT, "http_202", 0, 202)),
        (b"HTTP/1.1 204 No Content\r\n\r\n", Outcome(Kind.SENT, "http_204", 0, 204)),
        (answer("200 OK", "Until-Ack: ack"), Outcome(Kind.ACKED, "http_200", 0, 200)),
        (answer("200 OK", "until-ack:  ACK "), Outcome(Kind.ACKED, "http_200", 0, 200)),
        (answer("200 OK", "until-ack: nack"), Outcome(Kind.SENT, "http_200", 0, 200)),
        (answer("500 Oops", "until-ack: ack"), Outcome(Kind.FAILED, "http_500", 0, 500)),
        (answer("302 Found", "location: http://127.0.0.1/"), Outcome(Kind.FAILED, "redirect", 0, 302)),
        (answer("307 Again", "location: /x", "until-ack: ack"), Outcome(Kind.FAILED, "redirect", 0, 307)),
        (answer("404 No"), Outcome(Kind.FAILED, "http_404", 0, 404)),
        (answer("410 Gone"), Outcome(Kind.GONE, "http_410", 0, 410)),
        (answer("503 Busy"), Outcome(Kind.FAILED, "http_503", 0, 503)),
        (answer("503 Busy", "retry-after: 7"), Outcome(Kind.FAILED, "http_503", 0, 503, 7)),
        (answer("429 Slow", "Retry-After: 7"), Outcome(Kind.FAILED, "http_429", 0, 429, 7)),
        (answer("500 Oops", "retry-after: 7"), Outcome(Kind.FAILED, "http_500", 0, 500)),
        (answer("101 Switch"), Outcome(Kind.FAILED, "http_101", 0, 101)),
        (b"HTTP/1.1 100 Continue\r\n\r\n" + OK, Outcome(Kind.SENT, "http_200", 0, 200)),
        (b"HTTP/1.0 200 OK\r\n\r\nuntil the end", Outcome(Kind.SENT, "http_200", 0, 200)),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 99\r\n\r\ncut sh", Outcome(Kind.SENT, "http_200", 0, 200)),
        (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz", Outcome(Kind.SENT, "http_200", 0, 200)),
        (b"", Outcome(Kind.FAILED, "closed")),
        (b"SSH-2.0-OpenSSH_9.9\r\n", Outcome(Kind.FAILED, "bad_answer")),
        (b"HTTP/1.1 abc OK\r\n\r\n", Outcome(Kind.FAILED, "bad_answer")),
        (b"HTTP/1.1 " + b"9" * 5000 + b"\r\n\r\n", Outcome(Kind.FAILED, "bad_answer")),
        (b"HTTP/1.1 200 OK\r\n" + b"a: b\r\n" * 200 + b"\r\n", Outcome(Kind.FAILED, "bad_answer")),
        (b"HTTP/1.1 200 OK\r\na: " + b"b" * 100_000, Outcome(Kind.FAILED, "answer_too_large")),
        (b"HTTP/1.1 100 Continue\r\n\r\n" * 10_000, Outcome(Kind.FAILED, "answer_too_large")),
    ],
)
def test_what_an_answer_means(answered: bytes, outcome: Outcome) -> None:
    assert send(answered) == outcome


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        (TimeoutError(), "read_timeout"),
        (ConnectionResetError(), "reset"),
        (ssl.SSLError("bad record"), "tls"),
        (OSError(5, "input/output error"), "unreachable"),
    ],
)
def test_faults_while_reading_are_told_apart_by_type(fault: Exception, reason: str) -> None:
    peer = Peer(fault)
    assert channel(peer).send(PARCEL, 30) == Outcome(Kind.FAILED, reason)
    assert peer.closed


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        (TimeoutError(), "connect_timeout"),
        (ConnectionRefusedError(), "refused"),
        (OSError(101, "network is unreachable"), "unreachable"),
    ],
)
def test_faults_while_connecting_are_told_apart_by_type(fault: Exception, reason: str) -> None:
    def dial(address: Address, port: int, seconds: float) -> socket.socket:
        raise fault

    webhook = Webhook(
        lambda target: "whsec_" + "A" * 44,
        Settings(allow_http=True),
        monotonic=Clock(),
        resolver=lambda host, port: [PUBLIC],
        dialer=dial,
    )
    assert webhook.send(PARCEL, 30) == Outcome(Kind.FAILED, reason)


def test_an_answer_counts_though_the_target_hung_up_before_it_read_the_payload() -> None:
    peer = Peer(answer("413 Too Large"))
    peer.send_fails = BrokenPipeError()
    assert channel(peer).send(PARCEL, 30) == Outcome(Kind.FAILED, "http_413", 0, 413)


def test_a_target_that_hangs_up_and_says_nothing_is_a_reset() -> None:
    peer = Peer(ConnectionResetError())
    peer.send_fails = ConnectionResetError()
    assert channel(peer).send(PARCEL, 30) == Outcome(Kind.FAILED, "reset")


def test_no_more_of_an_answer_is_read_than_the_cap() -> None:
    endless = b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * 10_000_000
    peer = Peer(endless)
    assert channel(peer).send(PARCEL, 30).kind is Kind.SENT
    assert isinstance(peer.answer, bytes)
    assert len(endless) - len(peer.answer) <= MAX_HEAD + MAX_BODY


@pytest.mark.parametrize("deadline", [0.5, 4.0, 60.0])
def test_an_answer_that_drips_is_cut_off_at_the_deadline(deadline: float) -> None:
    peer = Peer(OK)
    peer.piece, peer.seconds_a_piece = 1, 0.3
    started = peer.clock.now
    settings = Settings(allow_http=True, read_timeout=10.0)
    outcome = channel(peer, settings=settings).send(PARCEL, deadline)
    assert (outcome.kind, outcome.reason) == (Kind.FAILED, "read_timeout")
    assert peer.clock.now - started == pytest.approx(min(deadline, 10.0), abs=0.001)
    assert outcome.latency_ms == pytest.approx(min(deadline, 10.0) * 1000, abs=1)


def test_a_body_that_drips_costs_time_but_not_the_answer() -> None:
    peer = Peer(answer("200 OK", "until-ack: ack", body=b"x" * 100))
    peer.piece, peer.seconds_a_piece = 60, 1.0
    outcome = channel(peer).send(PARCEL, 2.5)
    assert (outcome.kind, outcome.latency_ms) == (Kind.ACKED, 2500)


def test_without_time_left_nothing_is_sent() -> None:
    dialed: list[Address] = []
    assert channel(Peer(), dialed=dialed).send(PARCEL, 0) == Outcome(Kind.FAILED, "no_time")
    assert dialed == []


@pytest.mark.parametrize(
    "found",
    [
        ["127.0.0.1"],
        ["10.0.0.1", "192.168.1.1"],
        ["169.254.169.254"],
        ["::1"],
        ["::ffff:10.0.0.1"],
        ["64:ff9b::a9fe:a9fe"],
        ["fe80::1%eth0"],
        [],
    ],
)
def test_a_name_with_private_addresses_is_blocked_before_it_is_connected_to(found: list[str]) -> None:
    dialed: list[Address] = []
    outcome = channel(Peer(), lambda host, port: found, dialed=dialed).send(PARCEL, 30)
    assert outcome == Outcome(Kind.BLOCKED, "private_address")
    assert dialed == []


def test_of_a_mixed_answer_only_the_public_address_is_connected_to() -> None:
    dialed: list[Address] = []
    outcome = channel(Peer(), lambda host, port: ["10.0.0.1", PUBLIC, "::1"], dialed=dialed).send(PARCEL, 30)
    assert outcome.kind is Kind.SENT
    assert dialed == [ip_address(PUBLIC)]


@pytest.mark.parametrize("elsewhere", ["169.254.169.254", "93.184.216.35"])
def test_a_connection_that_is_not_to_the_vetted_address_is_blocked(elsewhere: str) -> None:
    peer = Peer(address=elsewhere)
    assert channel(peer).send(PARCEL, 30) == Outcome(Kind.BLOCKED, "private_address")
    assert peer.closed
    assert peer.sent == b""


def test_a_name_is_resolved_once_so_it_cannot_be_rebound() -> None:
    answers: Iterator[list[str]] = iter([[PUBLIC], ["127.0.0.1"]])
    dialed: list[Address] = []
    webhook = channel(Peer(), lambda host, port: next(answers), dialed=dialed)
    assert webhook.send(PARCEL, 30).kind is Kind.SENT
    assert webhook.send(PARCEL, 30).kind is Kind.BLOCKED
    assert dialed == [ip_address(PUBLIC)]


def test_an_allowed_network_is_reached() -> None:
    settings = Settings(allow_http=True, allowed_networks=networks(["10.0.0.0/8"]))
    peer = Peer(address="10.0.0.1")
    outcome = channel(peer, lambda host, port: ["10.0.0.1"], settings).send(PARCEL, 30)
    assert outcome.kind is Kind.SENT


def test_the_next_address_is_tried_when_one_does_not_answer() -> None:
    budgets: list[float] = []
    clock = Clock()

    def dial(address: Address, port: int, seconds: float) -> socket.socket:
        budgets.append(seconds)
        if len(budgets) == 1:
            clock.now += seconds
            raise TimeoutError
        return cast(socket.socket, Peer(address=str(address)))

    webhook = Webhook(
        lambda target: webhook_secret("m" * 64, target),
        Settings(allow_http=True, connect_timeout=3.0),
        monotonic=clock,
        resolver=lambda host, port: [PUBLIC, "93.184.216.35"],
        dialer=dial,
    )
    assert webhook.send(PARCEL, 30).kind is Kind.SENT
    assert budgets == [pytest.approx(1.5), pytest.approx(1.5)]


def test_a_name_that_does_not_resolve_is_a_dns_failure() -> None:
    def resolver(host: str, port: int) -> list[str]:
        raise socket.gaierror(socket.EAI_NONAME, "no such name")

    assert channel(Peer(), resolver).send(PARCEL, 30) == Outcome(Kind.FAILED, "dns")


def test_a_resolver_that_hangs_is_not_waited_for() -> None:
    release = threading.Event()

    def resolver(host: str, port: int) -> list[str]:
        release.wait(10)
        return [PUBLIC]

    settings = Settings(allow_http=True, connect_timeout=0.05)
    outcome = channel(Peer(), resolver, settings).send(PARCEL, 30)
    release.set()
    assert outcome == Outcome(Kind.FAILED, "dns_timeout")


def test_a_setting_that_changed_since_submission_blocks_plain_http() -> None:
    dialed: list[Address] = []
    outcome = channel(Peer(), settings=Settings(), dialed=dialed).send(PARCEL, 30)
    assert outcome == Outcome(Kind.BLOCKED, "insecure")
    assert dialed == []


@pytest.mark.parametrize("target", ["", "https://user@device.example/", "http://2130706433/", "gopher://x/"])
def test_a_target_that_is_no_url_fails(target: str) -> None:
    parcel = Parcel("a" * 26, 1, target, b"", "text/plain", "https://a.example", "https://a.example")
    assert channel(Peer()).send(parcel, 30) == Outcome(Kind.FAILED, "bad_target")


def test_a_header_cannot_be_smuggled_in() -> None:
    peer = Peer()
    parcel = Parcel("a" * 26, 1, TARGET, b"", "text/plain\r\nx: y", "https://a.example", "https://a.example")
    assert channel(peer).send(parcel, 30) == Outcome(Kind.FAILED, "unsendable")
    assert peer.sent == b""


def test_a_secret_that_cannot_be_read_is_not_the_targets_failure() -> None:
    def secret_of(target: str) -> str:
        raise LookupError("secret")

    webhook = Webhook(secret_of, Settings(allow_http=True), resolver=lambda host, port: [PUBLIC])
    with pytest.raises(LookupError):
        webhook.send(PARCEL, 30)


@settings(deadline=None)
@given(st.binary(max_size=300), st.sampled_from([b"", b"HTTP/1.1 ", b"HTTP/1.1 200 OK\r\n"]))
def test_no_answer_makes_it_raise(garbage: bytes, start: bytes) -> None:
    outcome: Any = send(start + garbage)
    assert outcome.kind in Kind


@pytest.mark.parametrize(
    ("asked", "seconds"),
    [
        (None, None),
        ("", None),
        ("0", None),
        ("000", None),
        ("-5", None),
        ("1.5", None),
        ("soon", None),
        ("٣", None),
        ("1", 1),
        (" 120 ", 120),
        ("0000000000000000120", 120),
        ("31536000", MAX_RETRY_AFTER),
        ("31536001", MAX_RETRY_AFTER),
        ("9" * 9000, MAX_RETRY_AFTER),
        ("7, 8", None),
        ("Fri, 02 Jan 2026 03:04:35 GMT", 30),
        ("Fri, 02 Jan 2026 03:04:35 -0000", 30),
        ("Friday, 02-Jan-26 03:04:35 GMT", 30),
        ("Fri Jan  2 03:04:35 2026", 30),
        ("Fri, 02 Jan 2026 03:04:05 GMT", None),
        ("Thu, 01 Jan 1970 00:00:00 GMT", None),
        ("Fri, 31 Dec 9999 23:59:59 GMT", MAX_RETRY_AFTER),
        ("Fri, 99 Jan 2026 03:04:35 GMT", None),
    ],
)
def test_retry_after_is_understood(asked: str | None, seconds: int | None) -> None:
    assert seconds_to_wait(asked, NOW) == seconds


def test_retry_after_is_rounded_up() -> None:
    assert seconds_to_wait("Fri, 02 Jan 2026 03:04:35 GMT", NOW + timedelta(milliseconds=1)) == 30


@settings(deadline=None)
@given(st.text())
def test_no_retry_after_makes_it_raise(asked: str) -> None:
    seconds = seconds_to_wait(asked, NOW)
    assert seconds is None or 1 <= seconds <= MAX_RETRY_AFTER


QUESTION = Parcel("a" * 26, 3, TARGET, b"", "application/json", ack_url="", nack_url="")


class TestAsk:
    def test_it_is_a_get_without_a_body_signed_and_without_a_capability(self) -> None:
        peer = Peer(answer("202 Accepted"))
        assert channel(peer).ask(QUESTION, 30) == Outcome(Kind.SENT, "http_202", 0, 202)
        head, _, body = peer.sent.partition(b"\r\n\r\n")
        request, *lines = head.decode().split("\r\n")
        headers = dict(line.split(": ", 1) for line in lines)
        assert (request, body) == ("GET /hook?x=1 HTTP/1.1", b"")
        signature = headers.pop("webhook-signature")
        assert Verifier(webhook_secret("m" * 64, TARGET)).sign("a" * 26, NOW, "") == signature
        assert headers == {
            "Host": "device.example:8080",
            "Accept-Encoding": "identity",
            "content-type": "application/json",
            "user-agent": "until-ack/1.2.3",
            "webhook-id": "a" * 26,
            "webhook-timestamp": str(int(NOW.timestamp())),
            "until-ack-attempt": "3",
            "connection": "close",
        }
        assert peer.closed

    @pytest.mark.parametrize(
        ("answered", "outcome"),
        [
            (answer("202 Accepted"), Outcome(Kind.SENT, "http_202", 0, 202)),
            (answer("200 OK"), Outcome(Kind.SENT, "http_200", 0, 200)),
            (answer("200 OK", "until-ack: ack"), Outcome(Kind.ACKED, "http_200", 0, 200)),
            (answer("202 Accepted", "until-ack: ack"), Outcome(Kind.ACKED, "http_202", 0, 202)),
            (answer("410 Gone"), Outcome(Kind.GONE, "http_410", 0, 410)),
            (answer("404 No"), Outcome(Kind.FAILED, "http_404", 0, 404)),
            (answer("500 Oops", "until-ack: ack"), Outcome(Kind.FAILED, "http_500", 0, 500)),
            (answer("302 Found", "location: http://127.0.0.1/"), Outcome(Kind.FAILED, "redirect", 0, 302)),
            (b"", Outcome(Kind.FAILED, "closed")),
        ],
    )
    def test_what_an_answer_means(self, answered: bytes, outcome: Outcome) -> None:
        assert channel(Peer(answered)).ask(QUESTION, 30) == outcome

    def test_p8_a_private_address_is_not_asked_either(self) -> None:
        peer, dialed = Peer(), list[Address]()
        outcome = channel(peer, lambda host, port: ["10.0.0.1"], dialed=dialed).ask(QUESTION, 30)
        assert (outcome.kind, dialed, peer.sent) == (Kind.BLOCKED, [], b"")

    def test_without_time_nothing_is_asked(self) -> None:
        peer = Peer()
        assert channel(peer).ask(QUESTION, 0) == Outcome(Kind.FAILED, "no_time")
        assert peer.sent == b""
