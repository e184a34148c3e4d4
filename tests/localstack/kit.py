"""What the tests on LocalStack work with: the stack, devices, mails, queues, and ways to wait for effects.

Everything here may be used by many tests at the same time: names are random, and nobody waits without a deadline.
"""

import itertools
import json
import os
import secrets
import subprocess
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlencode

import boto3
import urllib3
from botocore.config import Config

from handlers.aws.items import from_item
from handlers.delivery.message import Record, idempotent_id
from scripts.devices import Behaviour, Device, Devices, Receipt, silent
from scripts.executions import Executions
from scripts.mails import Mail, Mailbox
from scripts.stack import Stack
from scripts.terraform import BUILD, ROOT
from tests.localstack.contract import ContractApi

T = TypeVar("T")
POLL = 0.1
"""Seconds between two looks."""
BROKEN = {"code": "InternalError", "status": 500, "message": "not now"}
THROTTLED = {"code": "ThrottlingException", "status": 400, "message": "slow down"}
WITHIN = 30.0
"""Seconds that an effect may take which has no wait of its own."""
LATENESS = 4.0
"""Seconds by which an attempt may start after its delay on a quiet stack: one, and the queue's latency."""
CROWDED = 10.0
"""The same while many other tests run on the same machine."""


def eventually(probe: Callable[[], T], within: float = WITHIN, what: str = "it") -> T:
    """The probe's answer, once it is true. Fails after `within` seconds."""
    deadline = time.monotonic() + within
    while not (found := probe()):
        assert time.monotonic() < deadline, f"{what} has not come true in {within} s: {found!r}"
        _pause()
    return found


def always(probe: Callable[[], object], during: float, what: str = "it") -> None:
    """Fail unless the probe stays true for `during` seconds."""
    deadline = time.monotonic() + during
    while time.monotonic() < deadline:
        found = probe()
        assert found, f"{what} has not stayed true: {found!r}"
        _pause()


def _pause() -> None:
    threading.Event().wait(POLL)


@dataclass(frozen=True, slots=True)
class Letter:
    """A message in a queue, looked at without receiving it."""

    queue: str
    sqs_id: str
    body: str
    delayed: bool
    visible: bool
    attributes: Mapping[str, Any]

    @property
    def document(self) -> dict[str, Any]:
        """The body, or nothing when it is not a JSON object."""
        try:
            parsed = json.loads(self.body)
        except ValueError:
            return {}
        return parsed if isinstance(parsed, dict) else {}


class Queues:
    """Looks into queues through LocalStack's own endpoint: nothing is received, counted or hidden by it."""

    def __init__(self, stack: Stack) -> None:
        self._stack = stack
        self._http = urllib3.PoolManager(maxsize=4, retries=False, timeout=30)
        self._lock = threading.Lock()
        self._looked_at: dict[str, tuple[float, list[Letter]]] = {}

    def letters(self, noun: str) -> list[Letter]:
        """What is in a queue, delayed and in flight included. `<noun>-dlq` is its dead-letter queue."""
        url = self._stack.dlqs[noun[:-4]] if noun.endswith("-dlq") else self._stack.queues[noun]
        with self._lock:
            # Several tests look at the same time; one look in a quarter of a second serves them all.
            at, letters = self._looked_at.get(url, (0.0, []))
            if time.monotonic() - at > POLL * 2.5:
                letters = self._look(noun, url)
                self._looked_at[url] = (time.monotonic(), letters)
            return letters

    def of(self, message_id: str, *nouns: str) -> list[Letter]:
        """What is in these queues (default: all but the dead-letter queues) for one message."""
        found = itertools.chain.from_iterable(self.letters(noun) for noun in nouns or self._stack.queues)
        return [letter for letter in found if letter.document.get("id") == message_id]

    def timers(self, message_id: str) -> list[Letter]:
        """The timers of one message, live or stale."""
        return self.of(message_id, *(noun for noun in self._stack.queues if noun.startswith("timer-")))

    def _look(self, noun: str, url: str) -> list[Letter]:
        query = urlencode({"QueueUrl": url, "ShowInvisible": "true", "ShowDelayed": "true"})
        response = self._http.request(
            "GET", f"{self._stack.endpoint_url}/_aws/sqs/messages?{query}", headers={"accept": "application/json"}
        )
        assert response.status == 200, response.data
        result = response.json()["ReceiveMessageResponse"]["ReceiveMessageResult"] or {}
        messages = result.get("Message", [])
        return [_letter(noun, m) for m in (messages if isinstance(messages, list) else [messages])]


def _letter(noun: str, message: Mapping[str, Any]) -> Letter:
    attributes = {a["Name"]: a["Value"] for a in _list(message.get("Attribute"))}
    own = {a["Name"]: a["Value"].get("StringValue") for a in _list(message.get("MessageAttribute"))}
    return Letter(
        queue=noun,
        sqs_id=message["MessageId"],
        body=message["Body"],
        delayed=attributes.get("IsDelayed") == "true",
        visible=attributes.get("IsVisible") == "true",
        attributes=own,
    )


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [] if value is None else [value]


class Records:
    """Watches messages in the table: one batched read in a while serves every test that waits."""

    def __init__(self, dynamodb: Any, table: str) -> None:
        self._dynamodb = dynamodb
        self._table = table
        self._watched: dict[str, int] = defaultdict(int)
        self._seen: dict[str, Record] = {}
        self._changed = threading.Condition()
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="records", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop watching."""
        self._closed.set()
        with self._changed:
            self._changed.notify_all()
        self._thread.join()

    def item(self, message_id: str) -> dict[str, Any]:
        """The item as it is stored; empty when there is none."""
        key = {"id": {"S": message_id}}
        answer = self._dynamodb.get_item(TableName=self._table, Key=key, ConsistentRead=True)
        return dict(answer.get("Item", {}))

    def get(self, message_id: str) -> Record:
        """The record as it is now."""
        item = self.item(message_id)
        assert item, f"no record {message_id}"
        return from_item(item)

    def wait(self, message_id: str, wanted: Callable[[Record], bool], within: float = WITHIN) -> Record:
        """The record, once it is as wanted. Fails after `within` seconds."""
        return self.wait_all([message_id], wanted, within)[0]

    def wait_all(
        self, message_ids: Sequence[str], wanted: Callable[[Record], bool], within: float = WITHIN
    ) -> list[Record]:
        """The records, once all are as wanted. Fails after `within` seconds."""
        with self._changed:
            for message_id in message_ids:
                self._watched[message_id] += 1
                self._seen.pop(message_id, None)
            self._changed.notify_all()
            try:
                self._changed.wait_for(lambda: all(self._is(i, wanted) for i in message_ids), within)
                missing = [self._seen.get(i, i) for i in message_ids if not self._is(i, wanted)]
                assert not missing, f"not as wanted in {within} s: {missing}"
                return [self._seen[i] for i in message_ids]
            finally:
                for message_id in message_ids:
                    self._watched[message_id] -= 1
                    if not self._watched[message_id]:
                        del self._watched[message_id]

    def _is(self, message_id: str, wanted: Callable[[Record], bool]) -> bool:
        record = self._seen.get(message_id)
        return record is not None and wanted(record)

    def _watch(self) -> None:
        while not self._closed.is_set():
            with self._changed:
                self._changed.wait_for(lambda: self._watched or self._closed.is_set())
                ids = list(self._watched)
            for start in range(0, len(ids), 100):
                self._read(ids[start : start + 100])
            self._closed.wait(POLL * 2)

    def _read(self, ids: list[str]) -> None:
        keys = [{"id": {"S": message_id}} for message_id in ids]
        answer = self._dynamodb.batch_get_item(RequestItems={self._table: {"Keys": keys, "ConsistentRead": True}})
        with self._changed:
            for item in answer["Responses"].get(self._table, []):
                record = from_item(item)
                self._seen[record.id] = record
            self._changed.notify_all()


class Events:
    """What is published on the events topic, heard by a subscription of the tests' own."""

    def __init__(self, sqs: Any, sns: Any, topic: str) -> None:
        self._sqs, self._sns = sqs, sns
        self._url = sqs.create_queue(QueueName=f"tests-{secrets.token_hex(4)}")["QueueUrl"]
        arn = sqs.get_queue_attributes(QueueUrl=self._url, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
        subscribed = sns.subscribe(
            TopicArn=topic, Protocol="sqs", Endpoint=arn, Attributes={"RawMessageDelivery": "true"},
            ReturnSubscriptionArn=True,
        )  # fmt: skip
        self._subscription = subscribed["SubscriptionArn"]
        self._heard: dict[str, list[dict[str, Any]]] = defaultdict(list)
        self._lock = threading.Lock()
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._listen, name="events", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop listening, and leave no subscription behind."""
        self._closed.set()
        self._thread.join()
        self._sns.unsubscribe(SubscriptionArn=self._subscription)
        self._sqs.delete_queue(QueueUrl=self._url)

    def of(self, message_id: str) -> list[dict[str, Any]]:
        """The events of a message so far, as they came."""
        with self._lock:
            return list(self._heard[message_id])

    def wait(self, message_id: str, kind: str, within: float = WITHIN) -> dict[str, Any]:
        """The first event of this type for a message."""
        found = eventually(
            lambda: [e for e in self.of(message_id) if e["type"] == kind], within, f"event {kind} of {message_id}"
        )
        return found[0]

    def _listen(self) -> None:
        while not self._closed.is_set():
            answer = self._sqs.receive_message(QueueUrl=self._url, MaxNumberOfMessages=10, WaitTimeSeconds=1)
            for message in answer.get("Messages", []):
                event = json.loads(message["Body"])
                with self._lock:
                    self._heard[event["message_id"]].append(event)
                self._sqs.delete_message(QueueUrl=self._url, ReceiptHandle=message["ReceiptHandle"])


class Mails:
    """The mailbox; its files are parsed once, however many tests wait for theirs."""

    def __init__(self, folder: str) -> None:
        self._mailbox = Mailbox(Path(folder))
        self._lock = threading.Lock()
        self._count = -1
        self._mails: list[Mail] = []

    def all(self) -> list[Mail]:
        """All mails so far, oldest first."""
        with self._lock:
            count = sum(1 for _ in self._mailbox.folder.glob("*.eml"))
            if count != self._count:
                self._mails = self._mailbox.mails()
                self._count = count
            return list(self._mails)

    def saying(self, words: str) -> list[Mail]:
        """The mails in which these words stand."""
        return [mail for mail in self.all() if mail.says(words)]

    def to(self, address: str) -> list[Mail]:
        """The mails to an address."""
        return [mail for mail in self.all() if address in mail.to]

    def wait(self, words: str, within: float = WITHIN) -> Mail:
        """The first mail in which these words stand."""
        return eventually(lambda: self.saying(words), within, f"a mail that says {words!r}")[0]


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault that was asked for; `hits` says how often it has happened."""

    faults: "Faults"
    id: str

    @property
    def hits(self) -> int:
        """How often it has happened so far."""
        return next((fault["hits"] for fault in self.faults.all() if fault["id"] == self.id), 0)

    def happened(self, within: float = WITHIN) -> None:
        """Wait until it has happened once."""
        eventually(lambda: self.hits, within, f"fault {self.id}")


class Faults:
    """Lets requests of the functions go wrong, by the endpoint of the LocalStack package."""

    def __init__(self, stack: Stack) -> None:
        self._url = f"{stack.endpoint_url}/_until-ack/faults"
        self._http = urllib3.PoolManager(maxsize=4, retries=False, timeout=30)

    def all(self) -> list[dict[str, Any]]:
        """All faults that are asked for, with their hits."""
        return list(self._http.request("GET", self._url).json()["faults"])

    @contextmanager
    def __call__(self, **fault: Any) -> Iterator[Fault]:
        """A fault, until the block ends."""
        made = self._http.request("POST", self._url, json=fault)
        assert made.status in (200, 201), made.data
        number = str(made.json()["id"])
        try:
            yield Fault(self, number)
        finally:
            self._http.request("DELETE", f"{self._url}/{number}")


class Log:
    """The log of every request to LocalStack."""

    def __init__(self, file: str) -> None:
        self._file = Path(file)

    def mark(self) -> int:
        """Where the log ends now."""
        return self._file.stat().st_size

    def since(self, mark: int) -> list[dict[str, Any]]:
        """The requests since a mark."""
        with self._file.open("rb") as file:
            file.seek(mark)
            return [json.loads(line) for line in file.read().split(b"\n") if line.endswith(b"}")]


@dataclass
class Kit:
    """One stack, and everything to test it with."""

    stack: Stack
    devices: Devices
    api: ContractApi
    queues: Queues
    records: Records
    events: Events
    mails: Mails
    faults: Faults
    log: Log
    executions: Executions
    clients: Mapping[str, Any]
    settings: Mapping[str, Any]
    alone: threading.Lock = field(default_factory=threading.Lock)
    """Held by a test that kills a function while the message it is after is alone in its batch."""
    _caller: str = ""
    _caller_lock: threading.Lock = field(default_factory=threading.Lock)
    _workers: ExitStack | None = None
    _worker_lock: threading.Lock = field(default_factory=threading.Lock)

    def device(self, behaviour: Behaviour) -> Device:
        """A device of a random name."""
        return self.devices.add(secrets.token_hex(6), behaviour)

    def message(self, target: Device | str, /, **fields: Any) -> dict[str, Any]:
        """A message for a device (or an address), with these fields."""
        address = target if isinstance(target, str) else target.url
        return {"channel": "webhook", "target": address, "payload": "hello", **fields}

    def submit(self, target: Device | str, /, **fields: Any) -> str:
        """Submit a message, which must be accepted; returns its id."""
        answer = self.api.submit(self.message(target, **fields))
        assert answer.status == 202, answer
        return str(answer.body["id"])

    def get(self, message_id: str) -> dict[str, Any]:
        """The message as the API shows it."""
        answer = self.api.get(message_id)
        assert answer.status == 200, answer
        return dict(answer.body)

    def ends(self, message_id: str, status: str, within: float = WITHIN) -> dict[str, Any]:
        """The message as the API shows it, once it has ended; it must have ended so."""
        self.records.wait(message_id, lambda record: not record.open, within)
        message = self.get(message_id)
        assert message["status"] == status, message
        return message

    def attempted(self, message_id: str, attempt: int, within: float = WITHIN) -> Record:
        """The record, once this attempt has an outcome."""

        def made(record: Record) -> bool:
            return any(a.n == attempt and a.outcome is not None for a in record.attempts)

        return self.records.wait(message_id, made, within)

    def nothing_left(self, message_id: str, within: float = WITHIN) -> None:
        """Wait until no queue holds anything for the message: its attempts and timers have stopped."""
        eventually(lambda: not self.queues.of(message_id), within, f"nothing in the queues for {message_id}")

    @contextmanager
    def worker(self, *options: str) -> Iterator["subprocess.Popen[bytes]"]:
        """A worker of the activity, in a process group of its own, until the block ends."""
        env = {**os.environ, **self.stack.environment}
        where = ["--activity", self.stack.activities["delivery"], "--api-url", self.stack.api_url]
        beat = ["--heartbeat", str(self.settings["heartbeat"]), "--drain-seconds", "1"]
        command = [sys.executable, "-m", "scripts.worker", *where, *beat, *options]
        with (BUILD / "test" / "worker.log").open("ab") as log:
            process = subprocess.Popen(command, cwd=ROOT, env=env, stdout=log, stderr=log, start_new_session=True)
        try:
            yield process
        finally:
            process.terminate()
            process.wait(30)

    def delivering_worker(self) -> None:
        """See to it that a worker brings the activity's messages to the devices, until the tests have ended."""
        with self._worker_lock:
            if self._workers is None:
                self._workers = ExitStack()
                self._workers.enter_context(self.worker("--url", self.at_devices, "--concurrency", "8"))

    @property
    def at_devices(self) -> str:
        """Where workers find the devices."""
        return f"{self.devices.url}/devices/{{target}}"

    def foretell(self) -> tuple[str, str]:
        """An idempotency key, and the id of the message that will be submitted with it."""
        with self._caller_lock:
            if not self._caller:
                probe = self.submit(self.device(silent()))
                self._caller = self.records.get(probe).caller
                assert self.api.cancel(probe).status == 200
        key = secrets.token_hex(8)
        return key, idempotent_id(self._caller, key)

    def send(self, noun: str, *bodies: object, delay: int = 0) -> None:
        """Put bodies into a queue by hand: JSON for what is not a string already."""
        url = self.stack.dlqs[noun[:-4]] if noun.endswith("-dlq") else self.stack.queues[noun]
        for body in bodies:
            text = body if isinstance(body, str) else json.dumps(body)
            self.clients["sqs"].send_message(QueueUrl=url, MessageBody=text, DelaySeconds=delay)

    def invoke(self, noun: str, event: object = None) -> Any:
        """Run a function once; it must not fail."""
        answer = self.clients["lambda"].invoke(
            FunctionName=self.stack.functions[noun], Payload=json.dumps({} if event is None else event).encode()
        )
        document = json.loads(answer["Payload"].read() or b"null")
        assert "FunctionError" not in answer, document
        return document

    def alarmed(self, words: str) -> list[Mail]:
        """The mails that alarms have sent and in which these words stand."""
        return [mail for mail in self.mails.saying(words) if mail.subject.startswith("ALARM")]

    @contextmanager
    def unhindered(self) -> Iterator[None]:
        """Sweeps go on as if no queue were late, until the block ends."""
        blind = {"code": "InvalidParameterValue", "status": 400, "message": "the tests look away"}
        # One record in flight, which some test or other always has, would hold the takeovers of its channel.
        with self.faults(
            service="cloudwatch", operation="GetMetricData", function=self.functions["sweep"], times=None,
            action="error", error=blind,
        ):  # fmt: skip
            yield

    def sweep(self) -> dict[str, int]:
        """Run the sweep once, unhindered; returns what it did."""
        with self.unhindered():
            return dict(self.invoke("sweep"))

    def swept(self, probe: Callable[[], T], within: float = 60.0, what: str = "it") -> T:
        """The probe's answer, once it is true; the sweep runs again and again until then."""
        deadline = time.monotonic() + within
        while not (found := probe()):
            assert time.monotonic() < deadline, f"{what} has not come true in {within} s of sweeping"
            self.sweep()
            threading.Event().wait(1.0)
        return found

    def logged(self, noun: str, words: str) -> list[dict[str, Any]]:
        """The lines that a function has logged and in which these words stand."""
        pages = (
            self.clients["logs"]
            .get_paginator("filter_log_events")
            .paginate(logGroupName=f"/aws/lambda/{self.stack.functions[noun]}")
        )
        lines = (event["message"] for page in pages for event in page["events"])
        return [json.loads(line) for line in lines if words in line and line.startswith("{")]

    def live_timers(self, message_id: str) -> list[Letter]:
        """The timers of a message's present claim that wait for their time."""
        token = self.records.get(message_id).token
        return [t for t in self.queues.timers(message_id) if t.delayed and t.document["token"] == token]

    @property
    def functions(self) -> Mapping[str, str]:
        """The functions' names, by noun."""
        return self.stack.functions

    @property
    def returns(self) -> float:
        """Seconds within which a message comes again whose function died with it."""
        return float(self.settings["visibility"]) + WITHIN

    def _one_chain(self, message_id: str, least: int = 1) -> bool:
        live = len(self.live_timers(message_id))
        return least <= live and (live <= 1 or live <= 1 + self._struck(self.records.get(message_id).created_at))

    def _struck(self, since: int) -> int:
        """How many requests or invocations of check-ack have failed since then (milliseconds)."""
        name = self.functions["check-ack"]
        log = [r for r in self.log.since(0) if r["function"] == name and r["t"] * 1000 >= since]
        return sum(1 for r in log if r["error"] or r.get("faults"))

    def one_chain_and_an_ack(self, message_id: str, device: Device) -> None:
        """Fail unless one live timer is left, and an ACK ends everything.

        A batch of check-ack that another test has struck meanwhile may have doubled a hop of this message too.
        """
        hop = float(self.settings["timer_cap"])
        eventually(lambda: self._one_chain(message_id), self.returns, what="one live timer")
        always(lambda: self._one_chain(message_id, least=0), during=2 * hop, what="one live timer")
        attempt = self.records.get(message_id).attempt
        assert self.api.ack(device.receipts[-1].ack_url).status == 200
        self.ends(message_id, "DELIVERED")
        self.nothing_left(message_id, self.returns)
        assert self.records.get(message_id).attempt == attempt

    def told(self, message_id: str, status: str) -> None:
        """Fail unless the ending was told: as one event to who deduplicates, and by a mail."""
        record = self.records.wait(message_id, lambda record: record.untold is None)
        assert record.sweep_at is None
        assert f"ended {status}" in self.mails.wait(message_id).subject
        self.events.wait(message_id, "ended")
        events = [event for event in self.events.of(message_id) if event["type"] == "ended"]
        assert {(event["event_id"], event["status"]) for event in events} == {(f"{message_id}.1.{status}", status)}

    def close(self) -> None:
        """End what runs beside the tests."""
        if self._workers is not None:
            self._workers.close()
        self.events.close()
        self.records.close()


def starts(message: Mapping[str, Any]) -> list[float]:
    """When the attempts of a message were started, in seconds since the epoch."""
    from datetime import datetime

    return [datetime.fromisoformat(attempt["sent_at"]).timestamp() for attempt in message["attempts"]]


def on_time(message: Mapping[str, Any], *delays: float, lateness: float = CROWDED) -> None:
    """Fail unless each attempt started its delay after the one before, and not much later."""
    times = starts(message)
    gaps = [later - earlier for earlier, later in itertools.pairwise(times)]
    assert len(gaps) == len(delays), message["attempts"]
    late = [(gap, delay) for gap, delay in zip(gaps, delays, strict=True) if not delay <= gap <= delay + lateness]
    assert not late, f"attempts (seconds after the one before, delay) out of time: {late}"


def numbers(receipts: Iterable[Receipt]) -> list[int]:
    """The attempts that a device has seen."""
    return [receipt.attempt for receipt in receipts]


def job(message_id: str, attempt: int, base: int = 0) -> dict[str, Any]:
    """The body of an attempt's queue message."""
    return {"v": 1, "id": message_id, "attempt": attempt, "base": base}


def timer(message_id: str, attempt: int, token: str) -> dict[str, Any]:
    """The body of a timer."""
    return {"v": 1, "id": message_id, "attempt": attempt, "token": token}


def claim(message_id: str) -> dict[str, Any]:
    """For a fault: the write that claims an attempt."""
    where = {"Key": message_id, "UpdateExpression": "#due_at = "}
    return {"service": "dynamodb", "operation": "UpdateItem", "where": where}


def outcome(message_id: str) -> dict[str, Any]:
    """For a fault: the write that records an attempt's outcome."""
    where = {"Key": message_id, "ExpressionAttributeNames": "'o'"}
    return {"service": "dynamodb", "operation": "UpdateItem", "where": where}


def arming(message_id: str) -> dict[str, Any]:
    """For a fault: the request that arms a timer."""
    where = {"Entries": message_id, "QueueUrl": "-timer-"}
    return {"service": "sqs", "operation": "SendMessageBatch", "where": where}


def enqueueing(message_id: str) -> dict[str, Any]:
    """For a fault: the request that puts an attempt's job into its channel's queue."""
    where = {"Entries": message_id, "QueueUrl": "-(webhook|email)$"}
    return {"service": "sqs", "operation": "SendMessageBatch", "where": where}


def clients_of(stack: Stack) -> dict[str, Any]:
    """A client of every service that the tests use."""
    config = Config(retries={"total_max_attempts": 2}, max_pool_connections=32, read_timeout=90)
    names = ("sqs", "sns", "dynamodb", "lambda", "logs", "cloudwatch", "secretsmanager", "events", "stepfunctions")
    environment = stack.environment
    session: Any = boto3.Session(
        aws_access_key_id=environment["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=environment["AWS_SECRET_ACCESS_KEY"],
        region_name=stack.region,
    )
    return {name: session.client(name, endpoint_url=stack.endpoint_url, config=config) for name in names}
