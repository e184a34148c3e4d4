"""P8 for webhooks: no target makes a function speak to what is not the target's to name.

A listener on this machine stands for what must not be reached. It counts connections: none may come.
"""

import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from ipaddress import ip_address

import pytest

from handlers.channels.addresses import check_webhook_url
from handlers.channels.connection import dial, resolve
from handlers.channels.networks import Address, networks
from handlers.channels.webhook import Settings, Webhook
from handlers.delivery.channel import Kind, Outcome, Parcel
from handlers.delivery.errors import Invalid

PUBLIC = "93.184.216.34"


class Inside:
    """Something on a private address that counts who comes."""

    def __init__(self) -> None:
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self.listener.getsockname()[1]
        self.visits = 0
        self.thread = threading.Thread(target=self._count, daemon=True)
        self.thread.start()

    def _count(self) -> None:
        with suppress(OSError):
            while True:
                sock, _ = self.listener.accept()
                self.visits += 1
                sock.close()

    def close(self) -> None:
        """A last visit of its own ends the count, so that every earlier one is in it."""
        before = self.visits
        socket.create_connection(("127.0.0.1", self.port), timeout=5).close()
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        self.thread.join()
        self.visits = max(before, self.visits - 1)


@pytest.fixture
def inside() -> Iterator[Inside]:
    listener = Inside()
    yield listener
    listener.close()
    assert listener.visits == 0


def send(
    target: str,
    resolver: Callable[[str, int], Sequence[str]] = resolve,
    dialer: Callable[[Address, int, float], socket.socket] = dial,
    allowed: Sequence[str] = (),
) -> Outcome:
    settings = Settings(allow_http=True, allowed_networks=networks(allowed), connect_timeout=1.0)
    webhook = Webhook(lambda _: "whsec_" + "A" * 44, settings, resolver=resolver, dialer=dialer)
    parcel = Parcel("a" * 26, 1, target, b"x", "text/plain", "https://a.example", "https://a.example")
    return webhook.send(parcel, 5)


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1",
        "127.0.0.1.",
        "127.1",
        "0",
        "0.0.0.0",
        "2130706433",
        "0x7f000001",
        "0x7f.1",
        "0177.0.0.1",
        "\uff11\uff12\uff17.0.0.1",
        "127\u30020\u30020\u30021",
        "localhost",
        "localhost.",
        "[::1]",
        "[::]",
        "[::ffff:127.0.0.1]",
        "[::ffff:7f00:1]",
        "[::127.0.0.1]",
        "[64:ff9b::127.0.0.1]",
        "[2002:7f00:1::]",
        "user@127.0.0.1",
        "device.example@127.0.0.1",
        "127.0.0.1\\@device.example",
        "127.0.0.1#@device.example",
        "[::1]device.example",
    ],
)
def test_this_machine_is_not_reached_by_any_spelling(inside: Inside, host: str) -> None:
    """The system's own resolver and sockets: submission refuses it, and so does an attempt."""
    target = f"http://{host}:{inside.port}/"
    with pytest.raises(Invalid):
        check_webhook_url(target, allow_http=True, allowed_networks=())
    outcome = send(target)
    assert (outcome.kind, outcome.reason) in {(Kind.BLOCKED, "private_address"), (Kind.FAILED, "bad_target")}


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1",
        "0.0.0.0",
        "::1",
        "::",
        "::ffff:127.0.0.1",
        "64:ff9b::7f00:1",
        "169.254.169.254",
        "fd00:ec2::254",
    ],
)
def test_a_name_of_a_private_address_is_not_reached(inside: Inside, address: str) -> None:
    outcome = send(f"http://device.example:{inside.port}/", lambda host, port: [address])
    assert outcome == Outcome(Kind.BLOCKED, "private_address", outcome.latency_ms)


def test_a_name_that_is_rebound_between_two_look_ups_is_not_reached(inside: Inside) -> None:
    """The first look-up is vetted; there is no second one for the connection to go by."""
    asked: list[str] = []
    dialed: list[Address] = []

    def resolver(host: str, port: int) -> list[str]:
        asked.append(host)
        return [PUBLIC] if len(asked) == 1 else ["127.0.0.1"]

    def dialer(address: Address, port: int, seconds: float) -> socket.socket:
        dialed.append(address)
        raise ConnectionRefusedError

    outcome = send(f"http://device.example:{inside.port}/", resolver, dialer)
    assert outcome.reason == "refused"
    assert asked == ["device.example"]
    assert dialed == [ip_address(PUBLIC)]


def test_only_what_the_setting_names_is_reached(inside: Inside) -> None:
    outcome = send(f"http://127.0.0.1:{inside.port}/", allowed=["127.0.0.2/32", "10.0.0.0/8"])
    assert (outcome.kind, outcome.reason) == (Kind.BLOCKED, "private_address")


def test_a_connection_that_ends_up_inside_is_closed_before_a_byte_is_sent() -> None:
    """Whatever lies between, the address that was really connected to is looked at again."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(5)
        port = listener.getsockname()[1]
        outcome = send(
            f"http://device.example:{port}/",
            lambda host, port: [PUBLIC],
            lambda address, port, seconds: socket.create_connection(("127.0.0.1", port), seconds),
        )
        sock, _ = listener.accept()
        with sock:
            sock.settimeout(5)
            received = sock.recv(1)
    assert (outcome.kind, outcome.reason) == (Kind.BLOCKED, "private_address")
    assert received == b""


def test_a_redirect_does_not_lead_inside(inside: Inside) -> None:
    inside_url = f"http://127.0.0.1:{inside.port}/"
    with socket.create_server(("127.0.0.2", 0)) as listener:

        def redirect() -> None:
            sock, _ = listener.accept()
            with sock:
                sock.recv(65_536)
                sock.sendall(f"HTTP/1.1 302 Found\r\nlocation: {inside_url}\r\n\r\n".encode())

        thread = threading.Thread(target=redirect, daemon=True)
        thread.start()
        outcome = send(f"http://127.0.0.2:{listener.getsockname()[1]}/", allowed=["127.0.0.2/32"])
        thread.join()
    assert (outcome.kind, outcome.reason) == (Kind.FAILED, "redirect")
