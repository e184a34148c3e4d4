"""Little HTTP devices to deliver to: one server on loopback, many devices by path.

Each device behaves as it is told, step by step: `drops(2) + acks()` loses two deliveries and ACKs
the third. What it received is recorded, its signature verified, and its ACK goes over the other
channel: an HTTP request of its own to the ACK URL, not the answer to the delivery.

    with Devices() as devices:
        lamp = devices.add("lamp", drops(2) + acks())
        ...  # submit a message for lamp.url
        first, second, third = lamp.wait_for(3, within=60)
"""

import base64
import contextlib
import hashlib
import hmac
import json
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Self

import urllib3
from standardwebhooks.webhooks import Webhook, WebhookVerificationError

ANSWER_TRIES = 3
"""How often a device repeats an ACK or NACK that got no answer or a 5xx."""
ANSWER_PAUSE = 0.5
"""Seconds between those tries."""
IDLE_SECONDS = 60.0
"""How long a device keeps a connection on which nothing comes."""


@dataclass(frozen=True, slots=True)
class Reply:
    """What a device says over the other channel: an ACK, or a NACK with its reason."""

    kind: str = "ack"
    reason: str = ""
    retry_after: int | None = None


@dataclass(frozen=True, slots=True)
class Step:
    """What a device does with one delivery. `hold` and `reply_after` are in seconds."""

    status: int | None = 200
    """None closes the connection without an answer."""
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    hold: float = 0.0
    """Waits so long before it answers; infinity never answers."""
    trickle: float = 0.0
    """Waits so long between the single bytes of the body."""
    reply: Reply | None = None
    reply_after: float = 0.0


Behaviour = tuple[Step, ...]
"""One step for each delivery; the last one repeats. Behaviours are joined with `+`."""


def acks(after: float = 0.0, times: int = 1) -> Behaviour:
    """Takes the delivery and ACKs it over the other channel."""
    return (Step(reply=Reply(), reply_after=after),) * times


def drops(times: int, *, close: bool = False) -> Behaviour:
    """Loses deliveries: takes them and never ACKs, or (`close`) closes the connection unanswered."""
    return (Step(status=None if close else 200),) * times


def silent() -> Behaviour:
    """Takes every delivery, and never ACKs."""
    return (Step(),)


def nacks(reason: str, retry_after: int | None = None) -> Behaviour:
    """Takes the delivery and NACKs it; with `retry_after` (seconds) it asks for a later attempt."""
    return (Step(reply=Reply("nack", reason, retry_after)),)


def fails(status: int, times: int = 1, *, retry_after: int | str | None = None) -> Behaviour:
    """Answers with an error status; with `retry_after`, says when to come again."""
    headers = {} if retry_after is None else {"retry-after": str(retry_after)}
    return (Step(status=status, headers=headers),) * times


def gone() -> Behaviour:
    """Answers 410: it will never take the message."""
    return (Step(status=410),)


def acks_in_the_answer(status: int = 200) -> Behaviour:
    """ACKs synchronously, by the header `until-ack: ack` of its answer."""
    return (Step(status=status, headers={"until-ack": "ack"}),)


def slow(seconds: float, reply: Reply | None = None) -> Behaviour:
    """Answers only after so many seconds."""
    return (Step(hold=seconds, reply=reply),)


def hangs() -> Behaviour:
    """Takes the request and never answers; the connection stays open."""
    return (Step(hold=float("inf")),)


def redirects(location: str, status: int = 307) -> Behaviour:
    """Answers that the device is elsewhere."""
    return (Step(status=status, headers={"location": location}),)


def floods(size: int) -> Behaviour:
    """Answers with a body of so many bytes."""
    return (Step(body=b"x" * size),)


def trickles(size: int, seconds: float) -> Behaviour:
    """Answers with a body that comes byte by byte, so many seconds apart."""
    return (Step(body=b"x" * size, trickle=seconds),)


NO_JOB: Behaviour = (Step(status=404),)
"""Knows of no job: it is to be sent the message again."""


def works(asks: int) -> Behaviour:
    """Says to so many questions that its job is under way, then that it is done."""
    return (Step(status=202),) * asks + acks_in_the_answer()


@dataclass(frozen=True, slots=True)
class Receipt:
    """One delivery as the device got it. `at` is in seconds since the epoch; header names are lower-case."""

    at: float
    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes
    verified: bool | None
    """Whether its signature is right; None when the device knows no secret."""

    @property
    def attempt(self) -> int:
        """The attempt's number that the delivery names, or 0."""
        text = self.headers.get("until-ack-attempt", "")
        return int(text) if text.isascii() and text.isdigit() else 0

    @property
    def message_id(self) -> str:
        """The id of the message."""
        return self.headers.get("webhook-id", "")

    @property
    def ack_url(self) -> str:
        """Where the device ACKs it."""
        return self.headers.get("until-ack-url", "")

    @property
    def nack_url(self) -> str:
        """Where the device NACKs it."""
        return self.headers.get("until-ack-nack-url", "")


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back for a device's ACK or NACK; status 0 when nothing came back."""

    at: float
    kind: str
    attempt: int
    status: int
    body: bytes


class Device:
    """One device: its behaviour, what it received, and what its ACKs were answered."""

    def __init__(self, name: str, url: str, behaviour: Behaviour, secret: str | None) -> None:
        """Made by `Devices.add`."""
        self.name = name
        self.url = url
        self.secret = secret
        self._behaviour = behaviour
        self._receipts: list[Receipt] = []
        self._job = NO_JOB
        self._questions: list[Receipt] = []
        self._answers: list[Answer] = []
        self._changed = threading.Condition()

    @property
    def receipts(self) -> list[Receipt]:
        """The deliveries so far, oldest first."""
        with self._changed:
            return list(self._receipts)

    @property
    def answers(self) -> list[Answer]:
        """The answers to its ACKs and NACKs so far, oldest first."""
        with self._changed:
            return list(self._answers)

    @property
    def questions(self) -> list[Receipt]:
        """The questions after its jobs so far, oldest first."""
        with self._changed:
            return list(self._questions)

    def take_job(self, job: Behaviour) -> None:
        """Answer so to questions after its job (GET), one step for each; the last repeats."""
        with self._changed:
            self._job, self._questions = job, []

    def behave(self, behaviour: Behaviour) -> None:
        """Behave so from the next delivery on."""
        with self._changed:
            # The deliveries so far count as the steps already taken.
            self._behaviour = (Step(),) * len(self._receipts) + behaviour

    def wait_for(self, count: int, within: float = 10.0) -> list[Receipt]:
        """The deliveries, once there are `count`. Raises `TimeoutError` after `within` seconds."""
        with self._changed:
            if not self._changed.wait_for(lambda: len(self._receipts) >= count, within):
                raise TimeoutError(f"{self.name}: {len(self._receipts)} of {count} deliveries in {within} s")
            return list(self._receipts)

    def wait_for_answers(self, count: int, within: float = 10.0) -> list[Answer]:
        """The answers to its ACKs and NACKs, once there are `count`. Raises `TimeoutError`."""
        with self._changed:
            if not self._changed.wait_for(lambda: len(self._answers) >= count, within):
                raise TimeoutError(f"{self.name}: {len(self._answers)} of {count} answers in {within} s")
            return list(self._answers)

    def receive(self, method: str, path: str, headers: Mapping[str, str], body: bytes) -> tuple[Receipt, Step]:
        """Record a delivery; returns what the device does with it."""
        verified = None if self.secret is None else verifies(self.secret, headers, body)
        receipt = Receipt(time.time(), method, path, headers, body, verified)
        with self._changed:
            behaviour, seen = (self._behaviour, self._receipts)
            if method == "GET" and "webhook-id" in headers:
                behaviour, seen = self._job, self._questions
            step = behaviour[min(len(seen), len(behaviour) - 1)]
            seen.append(receipt)
            self._changed.notify_all()
        return receipt, step

    def note(self, answer: Answer) -> None:
        """Record what an ACK or NACK was answered."""
        with self._changed:
            self._answers.append(answer)
            self._changed.notify_all()


class Devices:
    """The server on which the devices live, for as long as the `with` block lasts."""

    def __init__(self, secret_for: Callable[[str], str | None] | None = None) -> None:
        """`secret_for` gives a device's URL its signing secret ("whsec_…"); without it nothing is verified."""
        self._secret_for = secret_for
        self._devices: dict[str, Device] = {}
        self._closing = threading.Event()
        self._workers = ThreadPoolExecutor(max_workers=16, thread_name_prefix="device")
        self._http = urllib3.PoolManager(maxsize=16, retries=False, timeout=urllib3.Timeout(total=30))
        self._server = _Server(self)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), name="devices", daemon=True)

    @property
    def url(self) -> str:
        """The server's address; a device lives at `<url>/devices/<name>`."""
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._closing.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
        self._workers.shutdown(cancel_futures=True)
        self._http.clear()

    def add(self, name: str, behaviour: Behaviour, secret: str | None = None) -> Device:
        """A new device of this name, which must be one path segment."""
        if name in self._devices or not behaviour:
            raise ValueError(f"{name!r} exists already, or its behaviour has no step")
        url = f"{self.url}/devices/{name}"
        if secret is None and self._secret_for is not None:
            secret = self._secret_for(url)
        device = Device(name, url, behaviour, secret)
        self._devices[name] = device
        return device

    def find(self, path: str) -> Device | None:
        """The device that lives at a request's path."""
        prefix, _, name = path.partition("?")[0].rpartition("/")
        return self._devices.get(name) if prefix == "/devices" else None

    def pause(self, seconds: float) -> bool:
        """Wait; true when the devices are being switched off."""
        return self._closing.wait(None if seconds == float("inf") else seconds)

    def reply(self, device: Device, receipt: Receipt, step: Step) -> None:
        """Send a step's ACK or NACK, from a worker, over the other channel."""
        if step.reply is not None and not self._closing.is_set():
            self._workers.submit(self._reply, device, receipt, step.reply, step.reply_after)

    def _reply(self, device: Device, receipt: Receipt, reply: Reply, after: float) -> None:
        if after and self.pause(after):
            return
        for left in reversed(range(ANSWER_TRIES)):
            answer = self._post(receipt, reply)
            device.note(answer)
            if 0 < answer.status < 500 or not left or self.pause(ANSWER_PAUSE):
                return

    def _post(self, receipt: Receipt, reply: Reply) -> Answer:
        url, body, headers = receipt.ack_url, b"", {}
        if reply.kind == "nack":
            fields = {"reason": reply.reason, "retry_after": reply.retry_after}
            url = receipt.nack_url
            body = json.dumps({name: value for name, value in fields.items() if value is not None}).encode()
            headers = {"content-type": "application/json"}
        try:
            response = self._http.request("POST", url, body=body, headers=headers)
        except urllib3.exceptions.HTTPError as error:
            return Answer(time.time(), reply.kind, receipt.attempt, 0, str(error).encode())
        return Answer(time.time(), reply.kind, receipt.attempt, response.status, response.data)


def verifies(secret: str, headers: Mapping[str, str], body: bytes) -> bool:
    """Whether a delivery's Standard Webhooks signature is right for this secret."""
    try:
        body.decode()
    except UnicodeDecodeError:
        return _verifies_bytes(secret, headers, body)
    try:
        Webhook(secret).verify(body, dict(headers), json_parse=False)
    except WebhookVerificationError:
        return False
    return True


def _verifies_bytes(secret: str, headers: Mapping[str, str], body: bytes) -> bool:
    """The same for a body that is not text, which the library cannot take."""
    key = base64.b64decode(secret.removeprefix("whsec_"))
    signed = f"{headers.get('webhook-id', '')}.{headers.get('webhook-timestamp', '')}.".encode() + body
    expected = "v1," + base64.b64encode(hmac.digest(key, signed, hashlib.sha256)).decode()
    return any(hmac.compare_digest(expected, given) for given in headers.get("webhook-signature", "").split())


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 128

    def __init__(self, devices: Devices) -> None:
        self.devices = devices
        super().__init__(("127.0.0.1", 0), _Handler)

    def handle_error(self, request: object, client_address: object) -> None:
        """A caller that hung up is no news."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = IDLE_SECONDS
    server: _Server

    def do_POST(self) -> None:
        length = int(self.headers.get("content-length") or 0)
        body = self.rfile.read(length)
        # One request a connection, so that no idle connection outlives its device.
        self.close_connection = True
        devices = self.server.devices
        device = devices.find(self.path)
        if device is None:
            self._answer(404, Step())
            return
        headers = {name.lower(): value for name, value in self.headers.items()}
        receipt, step = device.receive(self.command, self.path, headers, body)
        if step.hold and devices.pause(step.hold):
            return
        if step.status is not None:
            # A device that took a delivery ACKs it even when the caller no longer waits.
            with contextlib.suppress(OSError):
                self._answer(step.status, step)
        devices.reply(device, receipt, step)

    do_GET = do_PUT = do_POST  # so that a followed redirect shows as a receipt

    def _answer(self, status: int, step: Step) -> None:
        self.send_response(status)
        for name, value in step.headers.items():
            self.send_header(name, value)
        self.send_header("content-length", str(len(step.body)))
        self.send_header("connection", "close")
        self.end_headers()
        if not step.trickle:
            self.wfile.write(step.body)
            return
        for byte in step.body:
            self.wfile.write(bytes([byte]))
            if self.server.devices.pause(step.trickle):
                return

    def log_message(self, format: str, *args: object) -> None:
        """Receipts are the record."""
