"""The demo's and the tests' own devices: they must do what they say, or nothing else is proved."""

import base64
import hmac
import http.client
import json
import socket
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import urllib3
from standardwebhooks.webhooks import Webhook

from scripts import devices as d
from scripts.devices import Device, Devices

SECRET = "whsec_" + "c2VjcmV0LXNlY3JldC1zZWNyZXQtc2VjcmV0LTEyMzQ="


class Desk(ThreadingHTTPServer):
    """Stands for the ACK endpoint: keeps what it is told, and answers with the statuses it is given."""

    daemon_threads = True

    def __init__(self) -> None:
        self.calls: list[tuple[str, bytes, str]] = []
        self.statuses: list[int] = []
        super().__init__(("127.0.0.1", 0), DeskHandler)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class DeskHandler(BaseHTTPRequestHandler):
    server: Desk

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length") or 0))
        self.server.calls.append((self.path, body, threading.current_thread().name))
        statuses = self.server.statuses
        self.send_response(statuses.pop(0) if statuses else 200)
        self.end_headers()
        self.wfile.write(b'{"status":"DELIVERED"}')

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def desk() -> Iterator[Desk]:
    with Desk() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def devices() -> Iterator[Devices]:
    with Devices() as running:
        yield running


def deliver(
    device: Device, desk: Desk | None = None, body: bytes = b"{}", attempt: int = 1, timeout: float = 5.0
) -> urllib3.BaseHTTPResponse:
    base = f"{desk.url}/messages/m/" if desk else "http://127.0.0.1:9/"
    headers = {
        "webhook-id": "m",
        "until-ack-attempt": str(attempt),
        "until-ack-url": f"{base}ack?cap=c",
        "until-ack-nack-url": f"{base}nack?cap=c",
    }
    return urllib3.request(
        "POST", device.url, body=body, headers=headers, retries=False, redirect=False, timeout=timeout
    )


def test_a_device_that_acks_does_so_in_a_request_of_its_own(devices: Devices, desk: Desk) -> None:
    lamp = devices.add("lamp", d.acks())

    response = deliver(lamp, desk, b"\x00\xffbytes", attempt=3)

    (answer,) = lamp.wait_for_answers(1)
    (receipt,) = lamp.receipts
    assert (response.status, "until-ack" in response.headers) == (200, False)
    assert [call[:2] for call in desk.calls] == [("/messages/m/ack?cap=c", b"")]
    assert (answer.kind, answer.attempt, answer.status, answer.body) == ("ack", 3, 200, b'{"status":"DELIVERED"}')
    assert (receipt.body, receipt.attempt, receipt.message_id) == (b"\x00\xffbytes", 3, "m")
    assert receipt.headers["until-ack-url"] == receipt.ack_url == f"{desk.url}/messages/m/ack?cap=c"
    assert abs(receipt.at - time.time()) < 5
    assert receipt.verified is None


def test_steps_follow_each_other_and_the_last_repeats(devices: Devices, desk: Desk) -> None:
    late = devices.add("late", d.drops(1) + d.drops(1, close=True) + d.acks())

    assert deliver(late, desk).status == 200
    with pytest.raises(urllib3.exceptions.ProtocolError):
        deliver(late, desk)
    assert desk.calls == []
    deliver(late, desk, attempt=3)
    late.wait_for_answers(1)
    deliver(late, desk, attempt=4)

    assert [a.attempt for a in late.wait_for_answers(2)] == [3, 4]
    assert len(late.receipts) == 4


def test_a_silent_device_takes_everything_and_answers_nothing(devices: Devices, desk: Desk) -> None:
    mute = devices.add("mute", d.silent())

    assert [deliver(mute, desk).status for _ in range(3)] == [200, 200, 200]
    assert len(mute.wait_for(3)) == 3
    assert (mute.answers, desk.calls) == ([], [])


@pytest.mark.parametrize(
    ("retry_after", "body"), [(None, {"reason": "no room"}), (30, {"reason": "no room", "retry_after": 30})]
)
def test_a_nack_says_why_and_when(
    devices: Devices, desk: Desk, retry_after: int | None, body: dict[str, object]
) -> None:
    full = devices.add("full", d.nacks("no room", retry_after))

    deliver(full, desk)

    assert full.wait_for_answers(1)[0].kind == "nack"
    (path, sent, _) = desk.calls[0]
    assert (path, json.loads(sent)) == ("/messages/m/nack?cap=c", body)


def test_answers_in_the_response(devices: Devices) -> None:
    broken = devices.add("broken", d.fails(503, 2, retry_after=7) + d.fails(500) + d.gone() + d.acks_in_the_answer(204))
    moved = devices.add("moved", d.redirects("http://127.0.0.1:9/elsewhere"))
    flood = devices.add("flood", d.floods(100_000))

    statuses = [deliver(broken) for _ in range(5)]

    assert [r.status for r in statuses] == [503, 503, 500, 410, 204]
    assert [r.headers.get("retry-after") for r in statuses] == ["7", "7", None, None, None]
    assert statuses[-1].headers["until-ack"] == "ack"
    assert deliver(moved).headers["location"] == "http://127.0.0.1:9/elsewhere"
    assert len(deliver(flood).data) == 100_000


def test_slow_hanging_and_trickling_devices_take_their_time(devices: Devices, desk: Desk) -> None:
    slow = devices.add("slow", d.slow(0.3, d.Reply()))
    hanging = devices.add("hanging", d.hangs())
    trickle = devices.add("trickle", d.trickles(4, 0.1))

    start = time.monotonic()
    assert deliver(slow, desk).status == 200
    assert 0.3 <= time.monotonic() - start < 3
    assert slow.wait_for_answers(1)[0].status == 200
    with pytest.raises(urllib3.exceptions.ReadTimeoutError):
        deliver(hanging, timeout=0.2)
    assert len(hanging.receipts) == 1
    start = time.monotonic()
    assert deliver(trickle).data == b"xxxx"
    assert time.monotonic() - start >= 0.3


def test_a_slow_device_acks_even_when_nobody_waits_for_its_answer(devices: Devices, desk: Desk) -> None:
    slow = devices.add("slow", d.slow(0.4, d.Reply()))

    with pytest.raises(urllib3.exceptions.ReadTimeoutError):
        deliver(slow, desk, timeout=0.1)

    assert slow.wait_for_answers(1)[0].status == 200


def test_an_ack_that_meets_a_server_error_is_repeated_and_a_refused_one_is_not(devices: Devices, desk: Desk) -> None:
    desk.statuses = [502, 200, 403]
    lamp = devices.add("lamp", d.acks())

    deliver(lamp, desk)
    assert [a.status for a in lamp.wait_for_answers(2)] == [502, 200]
    deliver(lamp, desk)

    assert [a.status for a in lamp.wait_for_answers(3)] == [502, 200, 403]
    assert len(desk.calls) == 3


def test_an_ack_to_nowhere_is_recorded_as_unanswered(devices: Devices) -> None:
    lamp = devices.add("lamp", d.acks())

    deliver(lamp)

    assert [a.status for a in lamp.wait_for_answers(d.ANSWER_TRIES)] == [0] * d.ANSWER_TRIES


@pytest.mark.parametrize("body", [b'{"a": 1}', b"not json", b"\xff\x00not text"])
def test_signatures_are_verified(devices: Devices, body: bytes) -> None:
    lamp = devices.add("lamp", d.acks(), secret=SECRET)
    now = datetime.now(UTC)
    good = signature(body, now)

    def send(sig: str, data: bytes = body) -> bool | None:
        headers = {"webhook-id": "m", "webhook-timestamp": str(int(now.timestamp())), "webhook-signature": sig}
        return lamp.receive("POST", "/devices/lamp", headers, data)[0].verified

    assert send(good) is True
    assert send(f"v1,AAAA {good}") is True
    assert send(good, body + b"!") is False
    assert send("v1," + "A" * 43 + "=") is False
    assert lamp.receive("POST", "/devices/lamp", {}, body)[0].verified is False


def signature(body: bytes, now: datetime) -> str:
    try:
        return Webhook(SECRET).sign("m", now, body.decode())
    except UnicodeDecodeError:
        # The library signs text only. A signature over bytes, by the standard's own words:
        key = base64.b64decode(SECRET.removeprefix("whsec_"))
        mac = hmac.digest(key, b"m." + str(int(now.timestamp())).encode() + b"." + body, "sha256")
        return "v1," + base64.b64encode(mac).decode()


def test_secrets_come_from_the_url(desk: Desk) -> None:
    with Devices(secret_for=lambda url: SECRET if url.endswith("/lamp") else None) as devices:
        assert devices.add("lamp", d.acks()).secret == SECRET
        assert devices.add("other", d.acks()).secret is None
        deliver(devices.add("third", d.acks(), secret=SECRET), desk)
        assert devices.find("/devices/third?x=1") is not None


def test_waiting_for_what_does_not_come_ends(devices: Devices) -> None:
    mute = devices.add("mute", d.silent())

    with pytest.raises(TimeoutError, match="mute: 0 of 1 deliveries"):
        mute.wait_for(1, within=0.05)
    with pytest.raises(TimeoutError, match="mute: 0 of 1 answers"):
        mute.wait_for_answers(1, within=0.05)


def test_a_device_can_change_its_ways(devices: Devices, desk: Desk) -> None:
    lamp = devices.add("lamp", d.silent())
    deliver(lamp, desk)

    lamp.behave(d.fails(500) + d.acks())

    assert [deliver(lamp, desk).status for _ in range(2)] == [500, 200]
    assert lamp.wait_for_answers(1)[0].status == 200


def test_names_are_unique_and_unknown_paths_are_404(devices: Devices) -> None:
    devices.add("lamp", d.acks())

    with pytest.raises(ValueError, match="lamp"):
        devices.add("lamp", d.acks())
    with pytest.raises(ValueError, match="empty"):
        devices.add("empty", ())
    assert urllib3.request("POST", f"{devices.url}/devices/nobody", retries=False).status == 404
    assert urllib3.request("POST", f"{devices.url}/lamp", retries=False).status == 404


def test_switching_off_frees_the_port_and_ends_every_hanging_request() -> None:
    before = threading.active_count()
    with Devices() as devices:
        hanging = devices.add("hanging", d.hangs())
        connection = http.client.HTTPConnection("127.0.0.1", int(devices.url.rpartition(":")[2]), timeout=10)
        connection.request("POST", "/devices/hanging", b"x")
        hanging.wait_for(1)
        port = int(devices.url.rpartition(":")[2])

    with pytest.raises((http.client.HTTPException, ConnectionError)):
        connection.getresponse()
    with pytest.raises(ConnectionError):
        socket.create_connection(("127.0.0.1", port), timeout=1)
    deadline = time.monotonic() + 5
    while threading.active_count() > before and time.monotonic() < deadline:
        threading.Event().wait(0.01)
    assert threading.active_count() <= before
