"""The webhook channel over real sockets, against devices that behave in every way devices do."""

import datetime as dt
import ipaddress
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from socket import SHUT_RDWR, create_server, socket

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from standardwebhooks import Webhook as Verifier

from handlers.channels.connection import tls_context
from handlers.channels.networks import networks
from handlers.channels.webhook import Settings, Webhook
from handlers.delivery.channel import Kind, Outcome, Parcel
from handlers.delivery.signing import webhook_secret

LOOPBACK = networks(["127.0.0.0/8"])
MASTER = "m" * 64


@dataclass
class Device:
    """An HTTP server that answers as it is told and keeps what it got."""

    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    url: str = ""
    requests: list[tuple[str, dict[str, str], bytes]] = field(default_factory=list)


@contextmanager
def serving(device: Device, context: ssl.SSLContext | None = None) -> Iterator[Device]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            headers = {name.lower(): value for name, value in self.headers.items()}
            device.requests.append((self.path, headers, body))
            self.send_response(device.status)
            for name, value in {"content-length": str(len(device.body)), **device.headers}.items():
                self.send_header(name, value)
            self.end_headers()
            with suppress(OSError):
                self.wfile.write(device.body)

        def log_message(self, format: str, *args: object) -> None:
            """Say nothing: the test reads `device.requests`."""

    class Server(ThreadingHTTPServer):
        def handle_error(self, request: object, client_address: object) -> None:
            """A client that hangs up is what some tests are about."""

    server = Server(("127.0.0.1", 0), Handler)
    if context:
        server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    device.url = f"http{'s' if context else ''}://127.0.0.1:{server.server_port}/hook"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield device
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@contextmanager
def answering(first: bytes, then: bytes = b"", every: float = 0.05) -> Iterator[str]:
    """A raw server: says `first`, then repeats `then`, whatever it is asked."""
    listener = create_server(("127.0.0.1", 0))
    done = threading.Event()
    open_sockets: list[socket] = [listener]

    def serve() -> None:
        with suppress(OSError):
            sock, _ = listener.accept()
            open_sockets.append(sock)
            sock.recv(65_536)
            sock.sendall(first)
            while then and not done.wait(every):
                sock.sendall(then)
            if then:
                return
            sock.shutdown(SHUT_RDWR)

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/"
    finally:
        done.set()
        for sock in open_sockets:
            with suppress(OSError):
                sock.shutdown(SHUT_RDWR)
            sock.close()
        thread.join()


def webhook(context: ssl.SSLContext | None = None, connect_timeout: float = 3.0, read_timeout: float = 10.0) -> Webhook:
    return Webhook(
        lambda target: webhook_secret(MASTER, target),
        Settings(True, LOOPBACK, connect_timeout, read_timeout),
        resolver=lambda host, port: ["127.0.0.1"],
        make_context=lambda: context or tls_context(),
    )


def parcel(target: str, payload: bytes = b'{"on": true}') -> Parcel:
    return Parcel("a" * 26, 1, target, payload, "application/json", "https://a.example/ack", "https://a.example/nack")


def essence(outcome: Outcome) -> tuple[Kind, str, int | None]:
    return outcome.kind, outcome.reason, outcome.http_status


def test_a_device_gets_the_payload_and_can_verify_it() -> None:
    with serving(Device()) as device:
        outcome = webhook().send(parcel(device.url), 10)
    ((path, headers, body),) = device.requests
    assert essence(outcome) == (Kind.SENT, "http_200", 200)
    assert (path, body) == ("/hook", b'{"on": true}')
    assert Verifier(webhook_secret(MASTER, device.url)).verify(body, headers) == {"on": True}


def test_a_payload_of_the_largest_size_arrives_byte_for_byte() -> None:
    payload = bytes(range(256)) * 1024
    with serving(Device()) as device:
        outcome = webhook().send(parcel(device.url, payload), 10)
    assert essence(outcome) == (Kind.SENT, "http_200", 200)
    assert device.requests[0][2] == payload


def test_a_device_acknowledges_in_its_answer() -> None:
    with serving(Device(headers={"until-ack": "ack"})) as device:
        assert essence(webhook().send(parcel(device.url), 10)) == (Kind.ACKED, "http_200", 200)


def test_a_device_that_is_busy_says_when() -> None:
    with serving(Device(503, {"retry-after": "7"})) as device:
        assert webhook().send(parcel(device.url), 10).retry_after == 7


def test_a_redirect_is_not_followed() -> None:
    with serving(Device()) as elsewhere, serving(Device(307, {"location": elsewhere.url})) as device:
        assert essence(webhook().send(parcel(device.url), 10)) == (Kind.FAILED, "redirect", 307)
    assert len(device.requests) == 1
    assert elsewhere.requests == []


def test_a_proxy_in_the_environment_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    with serving(Device()) as proxy, serving(Device()) as device:
        for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "https_proxy"):
            monkeypatch.setenv(name, proxy.url)
        assert webhook().send(parcel(device.url), 10).kind is Kind.SENT
    assert proxy.requests == []
    assert len(device.requests) == 1


def test_a_huge_answer_is_not_read_to_its_end() -> None:
    with serving(Device(body=b"x" * 50_000_000)) as device:
        started = time.monotonic()
        outcome = webhook().send(parcel(device.url), 10)
    assert essence(outcome) == (Kind.SENT, "http_200", 200)
    assert time.monotonic() - started < 5


@pytest.mark.parametrize(
    ("first", "then", "kind", "reason"),
    [
        (b"HTTP/1.1 200 OK\r\n", b"x: y\r\n", Kind.FAILED, "read_timeout"),
        (b"H", b"", Kind.FAILED, "bad_answer"),
        (b"", b"HTTP/1.1 100 Continue\r\n\r\n", Kind.FAILED, "read_timeout"),
        (b"HTTP/1.1 200 OK\r\n\r\n", b"x", Kind.SENT, "http_200"),
        (b"HTTP/1.1 200 OK\r\nx: " + b"y" * 200_000, b"y", Kind.FAILED, "answer_too_large"),
        (b"\x15\x03\x01\x00\x02\x02\x16", b"", Kind.FAILED, "bad_answer"),
        (b"", b"", Kind.FAILED, "closed"),
    ],
)
def test_no_answer_holds_it_past_its_deadline(first: bytes, then: bytes, kind: Kind, reason: str) -> None:
    started = time.monotonic()
    with answering(first, then) as url:
        outcome = webhook().send(parcel(url), 0.6)
    assert (outcome.kind, outcome.reason) == (kind, reason)
    assert time.monotonic() - started < 4
    assert outcome.latency_ms < 3000


def test_the_read_timeout_bounds_a_silent_device() -> None:
    with answering(b"", b"\r\n", every=30) as url:
        outcome = webhook(read_timeout=0.3).send(parcel(url), 20)
    assert essence(outcome) == (Kind.FAILED, "read_timeout", None)
    assert 300 <= outcome.latency_ms < 4000


def test_a_device_that_does_not_read_is_not_waited_for() -> None:
    with create_server(("127.0.0.1", 0), backlog=1) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/"
        outcome = webhook().send(parcel(url, b"x" * 30_000_000), 0.5)
    assert essence(outcome) == (Kind.FAILED, "read_timeout", None)
    assert outcome.latency_ms < 4000


def test_a_device_that_is_off_refuses() -> None:
    with create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    outcome = webhook().send(parcel(f"http://127.0.0.1:{port}/"), 10)
    assert essence(outcome) == (Kind.FAILED, "refused", None)


def certificate(folder: Path, name: str, days: int = 1) -> tuple[Path, Path]:
    """A self-signed certificate and its key; `name` is a host name or an address."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    now = dt.datetime.now(dt.UTC)
    try:
        alternative: x509.GeneralName = x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        alternative = x509.DNSName(name)
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(days=3))
        .not_valid_after(now + dt.timedelta(days=days))
        .add_extension(x509.SubjectAlternativeName([alternative]), critical=False)
        .sign(key, hashes.SHA256())
    )
    cert_file, key_file = folder / "cert.pem", folder / "key.pem"
    cert_file.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    key_file.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return cert_file, key_file


@contextmanager
def tls_device(folder: Path, name: str, days: int = 1) -> Iterator[tuple[Device, ssl.SSLContext]]:
    """A device with its certificate, and a context that trusts it."""
    cert_file, key_file = certificate(folder, name, days)
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(cert_file, key_file)
    trusting = tls_context()
    trusting.load_verify_locations(cert_file)
    # The default from Python 3.13 on; the older ones are to see the same.
    trusting.verify_flags |= ssl.VERIFY_X509_STRICT
    with serving(Device(), server) as device:
        yield device, trusting


@pytest.mark.parametrize("name", ["device.example", "127.0.0.1"])
def test_tls_is_verified_against_the_host_and_not_the_address(tmp_path: Path, name: str) -> None:
    with tls_device(tmp_path, name) as (device, trusting):
        device.url = device.url.replace("127.0.0.1", name)
        outcome = webhook(trusting).send(parcel(device.url), 10)
    assert essence(outcome) == (Kind.SENT, "http_200", 200)
    assert device.requests[0][1]["host"] == device.url.removeprefix("https://").removesuffix("/hook")


@pytest.mark.parametrize(
    ("name", "days", "trusted"),
    [("other.example", 1, True), ("device.example", -1, True), ("device.example", 1, False)],
)
def test_a_certificate_that_does_not_hold_is_refused(tmp_path: Path, name: str, days: int, trusted: bool) -> None:
    with tls_device(tmp_path, name, days) as (device, trusting):
        url = device.url.replace("127.0.0.1", "device.example")
        outcome = webhook(trusting if trusted else None).send(parcel(url), 10)
    assert essence(outcome) == (Kind.FAILED, "tls_certificate", None)
    assert device.requests == []


def test_a_device_that_does_not_speak_tls_fails() -> None:
    with answering(b"HTTP/1.1 400 Bad Request\r\n\r\n") as url:
        outcome = webhook().send(parcel(url.replace("http://", "https://")), 10)
    assert essence(outcome) == (Kind.FAILED, "tls", None)


def test_a_tls_handshake_that_hangs_is_not_waited_for() -> None:
    with answering(b"", b"\x00", every=30) as url:
        outcome = webhook(connect_timeout=0.3).send(parcel(url.replace("http://", "https://")), 10)
    assert essence(outcome) == (Kind.FAILED, "connect_timeout", None)
    assert outcome.latency_ms < 4000


def test_old_tls_is_not_spoken() -> None:
    context = tls_context()
    assert context.minimum_version is ssl.TLSVersion.TLSv1_2
    assert context.check_hostname
    assert context.verify_mode is ssl.CERT_REQUIRED
