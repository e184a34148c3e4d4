"""`handlers.runtime.bootstrap.World` in memory, for the real handlers to live in."""

import json
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from handlers.delivery.asking import Prober
from handlers.delivery.channel import Channel, Kind, Outcome, Parcel
from handlers.delivery.ports import Executions, Queues, Store, Topics
from handlers.delivery.workflows import CATALOGUE
from handlers.runtime.bootstrap import Graves, Tasks
from tests.fakes.executions import MemoryExecutions
from tests.fakes.queues import MemoryGraves, MemoryQueue, MemoryQueues
from tests.fakes.store import MemoryStore
from tests.fakes.wire import LimitBroken, Wire

START = 1_767_225_600_000
"""2026-01-01T00:00:00Z."""
TIMERS = (15, 30, 14400)
CHANNELS = ("webhook", "email")
SENT = Outcome(Kind.SENT, "http_200", 12, 200)
EVENTS, ALERTS = "arn:events", "arn:alerts"

ENVIRON: Mapping[str, str] = {
    "TABLE": "messages",
    "CHANNEL": "webhook",
    "CHANNEL_QUEUES": json.dumps({name: f"url:{name}" for name in CHANNELS}),
    "TIMER_QUEUES": json.dumps({str(delay): f"url:timer-{delay}" for delay in TIMERS}),
    "DLQS": json.dumps({"arn": "url:dlq"}),
    "TIMER_CAP": "900",
    "EVENTS_TOPIC": EVENTS,
    "ALERTS_TOPIC": ALERTS,
    "CAPABILITY_KEYS": json.dumps([{"id": "k1", "secret": "arn:k1"}]),
    "ACK_BASE_URL": "https://api.example/v1",
    "LEASE_SECONDS": "40",
    "SEND_SECONDS": "10",
    "SWEEP_GRACE": "180",
    "LATE_WINDOW": "1209600",
    "RETENTION": "2592000",
    "DEFAULT_EXPIRES_IN": "604800",
    "SCHEDULES": json.dumps({"default": list(TIMERS), "quick": [1, 2, 9]}),
    "MAX_PAYLOAD_BYTES": "1000",
    "MACHINES": json.dumps({name: f"arn:aws:states:eu-central-1:0:stateMachine:{name}" for name in CATALOGUE}),
    "PUSH_ACTIVITY": "arn:push",
}


@dataclass(slots=True)
class MemoryTopics:
    """`handlers.delivery.ports.Topics`: what subscribers and people were told."""

    wire: Wire = field(default_factory=Wire)
    events: list[Mapping[str, Any]] = field(default_factory=list)
    alerts: list[tuple[str, str]] = field(default_factory=list)

    def publish(self, event: Mapping[str, Any]) -> None:
        self.wire.call("sns.publish", lambda: self.events.append(event))

    def alert(self, subject: str, text: str) -> None:
        if not subject.isascii() or len(subject) > 100:
            raise LimitBroken(subject)
        self.wire.call("sns.alert", lambda: self.alerts.append((subject, text)))


@dataclass(slots=True)
class ScriptedChannel:
    """A channel whose targets answer as the test says; keeps what was sent to them."""

    wire: Wire = field(default_factory=Wire)
    answers: list[Outcome] = field(default_factory=list)
    """Taken one by one; then the target just takes what comes."""
    parcels: list[Parcel] = field(default_factory=list)
    states: list[Outcome] = field(default_factory=list)
    questions: list[Parcel] = field(default_factory=list)
    meanwhile: Callable[[Parcel], object] = lambda parcel: None
    """What happens while a sending is under way."""

    def send(self, parcel: Parcel, deadline_seconds: float) -> Outcome:
        def effect() -> Outcome:
            self.parcels.append(parcel)
            self.meanwhile(parcel)
            return self.answers.pop(0) if self.answers else SENT

        return self.wire.call("channel.send", effect)

    def ask(self, parcel: Parcel, deadline_seconds: float) -> Outcome:
        """How far the target's job is, as the test says; under way when it says nothing."""
        self.questions.append(parcel)
        return self.states.pop(0) if self.states else Outcome(Kind.SENT, "http_202", 5, 202)


@dataclass(slots=True)
class KeptLog:
    """`handlers.delivery.ports.Log`: what was said, for the tests to read."""

    lines: list[tuple[str, str, Mapping[str, Any]]] = field(default_factory=list)
    counts: list[tuple[str, Mapping[str, str]]] = field(default_factory=list)

    def info(self, msg: str, **fields: Any) -> None:
        self.lines.append(("info", msg, fields))

    def warning(self, msg: str, **fields: Any) -> None:
        self.lines.append(("warning", msg, fields))

    def error(self, msg: str, fault: Exception) -> None:
        self.lines.append(("error", msg, {"fault": fault}))

    def count(self, name: str, **dimensions: str) -> None:
        self.counts.append((name, dimensions))

    def said(self, msg: str) -> list[Mapping[str, Any]]:
        """The fields of every line with this message."""
        return [fields for _, said, fields in self.lines if said == msg]


class MemoryWorld:
    """Everything outside the functions, in memory, at a time that the test sets."""

    def __init__(self, environ: Mapping[str, str] | None = None, *, wire: Wire | None = None, seed: int = 0) -> None:
        self.environ = {**ENVIRON, **(environ or {})}
        self.now = START
        self.log = KeptLog()
        self.wire = wire or Wire()
        self.table = MemoryStore(self.wire)
        self.channel_queues = {name: MemoryQueue(name, lambda: self.now) for name in CHANNELS}
        self.timer_queues = {delay: MemoryQueue(f"timer-{delay}", lambda: self.now) for delay in TIMERS}
        self.told = MemoryTopics(self.wire)
        self.target = ScriptedChannel(self.wire)
        self.states = MemoryExecutions(list(json.loads(self.environ["MACHINES"])), wire=self.wire)
        self.keys = {"arn:k1": b"a key of k1", "arn:k2": b"a key of k2"}
        self._random = random.Random(seed)

    @property
    def all_queues(self) -> Sequence[MemoryQueue]:
        """The queues that have a function behind them."""
        return [*self.channel_queues.values(), *self.timer_queues.values()]

    def clock(self) -> int:
        return self.now

    def token(self) -> str:
        return f"t{self._random.getrandbits(60):015x}"

    def seed(self) -> bytes:
        return self._random.randbytes(16)

    def pause(self, seconds: float) -> None:
        self.now += round(seconds * 1000)

    def executions(self, machines: Mapping[str, str], channels: Mapping[str, str], heartbeat: int) -> Executions:
        assert set(machines) <= set(json.loads(self.environ["MACHINES"]))
        return self.states

    def tasks(self, activity: str) -> Tasks:
        assert activity == self.environ["PUSH_ACTIVITY"]
        return self.states

    def prober(self) -> Prober:
        return self.target

    def store(self, table: str) -> Store:
        assert table == self.environ["TABLE"]
        return self.table

    def queues(self, channels: Mapping[str, str], timers: Mapping[int, str]) -> Queues:
        return MemoryQueues(
            {name: self.channel_queues[name] for name in channels},
            {delay: self.timer_queues[delay] for delay in timers},
            self.wire,
        )

    def topics(self, events: str, alerts: str) -> Topics:
        assert (events, alerts) == (EVENTS, ALERTS)
        return self.told

    def graves(self, dlqs: Mapping[str, str]) -> Graves:
        return MemoryGraves({queue.arn: queue for queue in self.all_queues}, self.wire)

    def secrets(self, arns: Mapping[str, str]) -> Callable[[str], bytes]:
        return lambda name: self.wire.call("secretsmanager.get", lambda: self.keys[arns[name]])

    def channel(self, name: str) -> Channel:
        assert name == self.environ["CHANNEL"]
        return self.target
