"""The real handlers on a virtual clock: SQS, crashes, lost answers, devices; deterministic for a seed.

Every invocation runs in a thread of its own, but only one of them at a time: each call over the wire is a point
where the scheduler may let another one go first, let time pass, or let the process die. So two functions
interleave at any two calls, as they do on AWS, and the same seed interleaves them the same way again.
"""

import heapq
import json
import random
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import count
from typing import Any, Literal, TypeVar

from handlers import ack, check_ack, deliver, query, redeliver, submit, sweep
from handlers.aws.workflows import Activity
from handlers.delivery import starting, submitting
from handlers.delivery.asking import Prober
from handlers.delivery.channel import Channel, Kind, Outcome, Parcel
from handlers.delivery.errors import Unavailable
from handlers.delivery.message import Record
from handlers.delivery.ports import Executions
from handlers.runtime import batch, bootstrap
from handlers.runtime.bootstrap import Tasks
from tests.fakes.events import Context, Reply, answer_event, api_event, reply_of, sqs_event
from tests.fakes.queues import Envelope, MemoryQueue
from tests.fakes.store import Change
from tests.fakes.wire import LimitBroken, Wire
from tests.fakes.world import CHANNELS, START, MemoryWorld
from tests.simulation.states import PUSH_ACTIVITY, QUEUE_URL, StateMachines, Workflows

T = TypeVar("T")
SECOND, MINUTE, HOUR = 1000, 60_000, 3_600_000
SWEEP_PERIOD = MINUTE
GRACE = 180 * SECOND
TIMEOUT = 20 * SECOND
CHANNEL_VISIBILITY, TIMER_VISIBILITY = 120 * SECOND, 60 * SECOND


class Killed(BaseException):
    """The process has died. Nothing in it can do anything about that."""


@dataclass(slots=True)
class Crash:
    """The death of a process at a call: before the call takes effect, or after, with its answer lost."""

    operation: str
    when: Literal["before", "after"]
    skip: int = 0
    function: str | None = None
    times: int = 1
    hits: int = 0

    def strikes(self, function: str, operation: str, when: str) -> bool:
        """Whether the process dies here."""
        fits = when == self.when and operation == self.operation and self.function in (None, function)
        if not fits or self.times == 0:
            return False
        if self.skip > 0:
            self.skip -= 1
            return False
        self.times -= 1
        self.hits += 1
        return True


@dataclass(frozen=True, slots=True)
class Reaction:
    """What a device does with one sending: its outcome for the sender, and its answers over the other channel."""

    outcome: Outcome = Outcome(Kind.SENT, "http_200", 20, 200)
    latency: int = 20
    acks: tuple[int, ...] = ()
    """Milliseconds after the arrival; before `latency` is over it races the sending's own outcome."""
    nacks: tuple[tuple[int, int | None], ...] = ()
    """The same, each with its retry_after in seconds."""


def silent() -> Reaction:
    """Takes it, and never answers."""
    return Reaction()


def acks(*after: int, latency: int = 20) -> Reaction:
    """Takes it, and ACKs over the other channel so many milliseconds later, as often as times are given."""
    return Reaction(acks=after, latency=latency)


def refuses(reason: str = "http_500", status: int | None = 500, retry_after: int | None = None) -> Reaction:
    """Does not take it."""
    return Reaction(Outcome(Kind.FAILED, reason, 20, status, retry_after))


def hangs() -> Reaction:
    """Does not answer in time."""
    return Reaction(Outcome(Kind.FAILED, "read_timeout", 10_000), latency=10_000)


def nacks(after: int, retry_after: int | None = None) -> Reaction:
    """Takes it, and NACKs later."""
    return Reaction(nacks=((after, retry_after),))


UNDER_WAY = Outcome(Kind.SENT, "http_202", 20, 202)
JOB_DONE = Outcome(Kind.ACKED, "http_200", 20, 200)
NO_JOB = Outcome(Kind.FAILED, "http_404", 20, 404)
"""What targets answer that are asked for the state of their job."""

SYNCHRONOUS = Reaction(Outcome(Kind.ACKED, "http_200", 20, 200))
GONE = Reaction(Outcome(Kind.GONE, "http_410", 20, 410))


@dataclass(slots=True)
class Device:
    """A target: one reaction for each sending that reaches it, the last one for all that follow."""

    reactions: Sequence[Reaction]
    got: list[tuple[int, Parcel]] = field(default_factory=list)
    states: list[Outcome] = field(default_factory=list)
    """Its answers when it is asked for its job's state, taken one by one; then it knows of no job."""
    asked: list[int] = field(default_factory=list)

    def react(self) -> Reaction:
        """What it does with the sending that has just arrived."""
        return self.reactions[min(len(self.got), len(self.reactions)) - 1]


@dataclass(eq=False, slots=True)
class Invocation:
    """One run of a function, in a process that may die."""

    function: str
    deadline: int
    dead: bool = False


def _closed() -> threading.Lock:
    """A gate that the next release opens, for one: quicker than a semaphore."""
    gate = threading.Lock()
    gate.acquire()
    return gate


class Task:
    """A thread of an invocation. It runs only while the scheduler waits for it."""

    def __init__(self, simulation: "Simulation", invocation: Invocation, work: Callable[[], object]) -> None:
        self.invocation = invocation
        self.result: object = None
        self.error: BaseException | None = None
        self.finished = False
        self.on_finish: Callable[[Task], None] = lambda task: None
        self.go = _closed()
        self._simulation = simulation
        self._work = work
        threading.Thread(target=self._run, daemon=True).start()

    def _run(self) -> None:
        self.go.acquire()
        try:
            if self.invocation.dead:
                raise Killed
            self.result = self._work()
        except BaseException as error:
            self.error = error
        self.finished = True
        self._simulation.baton.release()


class SlowWire(Wire):
    """A wire on which every call takes time, and beside which processes die."""

    simulation: "Simulation"
    crashes: list[Crash]

    def call(self, operation: str, effect: Callable[[], T]) -> T:
        """Send the request, carry it out, bring the answer back."""
        simulation = self.simulation
        simulation.spend(simulation.latency())
        self._crash(operation, "before")
        self.calls.append(operation)
        try:
            return self.with_fault(operation, effect)
        finally:
            self._crash(operation, "after")
            simulation.spend(simulation.latency())

    def _crash(self, operation: str, when: str) -> None:
        task = self.simulation.current
        if task is not None and any(c.strikes(task.invocation.function, operation, when) for c in self.crashes):
            task.invocation.dead = True
            raise Killed


@dataclass(frozen=True, slots=True)
class Moment:
    """A change of the table, and when and by whom it was made."""

    at: int
    function: str
    change: Change


class Simulation(MemoryWorld):
    """The whole pipeline. What it is told to do happens when time is run on."""

    def __init__(
        self,
        *,
        seed: int = 0,
        latency: int = 30,
        duplicates: float = 0.0,
        timer_cap: int = 900,
        sweeps: int = 1,
        batch_size: int = 10,
    ) -> None:
        """`latency` in ms, at most, of each call; `duplicates`: the share of SQS messages that come twice."""
        self.wire: SlowWire = SlowWire()
        urls = json.dumps({channel: f"{QUEUE_URL}{channel}" for channel in CHANNELS})
        environ = {"TIMER_CAP": str(timer_cap), "PUSH_ACTIVITY": PUSH_ACTIVITY, "CHANNEL_QUEUES": urls}
        super().__init__(environ, wire=self.wire, seed=seed)
        self.wire.simulation, self.wire.crashes = self, []
        self.baton = _closed()
        self.current: Task | None = None
        self.devices: dict[str, Device] = {}
        self.moments: list[Moment] = []
        self.accepted: list[str] = []
        self.skew: dict[str, int] = {}
        """How many milliseconds the clock of a function's machine is ahead."""
        self.replies: list[tuple[int, str, Reply | None]] = []
        self.unforeseen: list[BaseException] = []
        self.held: dict[str, int] = {}
        """Until when the function of a queue takes nothing from it, by the queue's name."""
        self._rng = random.Random(seed)
        self._latency, self._duplicates, self._batch_size = latency, duplicates, batch_size
        self._events: list[tuple[int, int, Callable[[], None]]] = []
        self._sequence = count()
        self._horizon = START
        self._tasks: set[Task] = set()
        self.sfn = StateMachines(self, duplicates)
        self.table.on_change = self._changed
        for queue in self.channel_queues.values():
            self._attach(queue, CHANNEL_VISIBILITY)
        for queue in self.timer_queues.values():
            self._attach(queue, TIMER_VISIBILITY)
        for _ in range(sweeps):
            self.at(START + SWEEP_PERIOD, self.sweep)

    # Time

    def clock(self) -> int:
        """See `World.clock`: the time, as the machine of the running function has it."""
        function = self.current.invocation.function if self.current else ""
        return self.now + self.skew.get(function, 0)

    def at(self, time: int, event: Callable[[], None]) -> None:
        """Let something happen at a time."""
        heapq.heappush(self._events, (max(time, self.now), next(self._sequence), event))

    def run_until(self, time: int) -> None:
        """Let time pass."""
        while self._events and self._events[0][0] <= time:
            self._step(time)
        self.now = max(self.now, time)

    def _step(self, horizon: int) -> None:
        """Let the next thing happen; a task that then runs alone may let time pass up to the horizon."""
        self._horizon = horizon
        self.now, _, event = heapq.heappop(self._events)
        event()

    def run(self, duration: int) -> None:
        """Let so many milliseconds pass."""
        self.run_until(self.now + duration)

    def run_until_ended(self, message_id: str, within: int = 10 * HOUR) -> Record:
        """Let time pass until the message has ended and everybody has been told."""
        last = self.now + within
        while (record := self.record(message_id)).open or record.untold is not None:
            assert self._events[0][0] <= last, f"not ended by then: {record}"
            self._step(last)
        return record

    def latency(self) -> int:
        """How long a call, or a delivery, takes this time."""
        return self._rng.randint(0, self._latency)

    def spend(self, duration: int) -> None:
        """Let time pass for the task that is running. Its process may die meanwhile."""
        task = self.current
        if task is None:
            return
        end = self.now + duration
        if end <= self._horizon and (not self._events or self._events[0][0] > end):
            # Nothing happens meanwhile: no need to change threads for it.
            self.now = end
            return
        self.at(end, lambda: self._resume(task))
        self._let_go(task)

    def pause(self, seconds: float) -> None:
        """See `World.pause`."""
        self.spend(round(seconds * SECOND))

    def wait(self, until: int, woken: Callable[[Callable[[], None]], None]) -> None:
        """Let the running task sleep until it is woken by what `woken` gets, but not longer than `until`."""
        task, asleep = self.current, [True]
        assert task is not None

        def wake() -> None:
            if asleep.pop() if asleep else False:
                self._resume(task)

        self.at(until, wake)
        woken(lambda: self.at(self.now, wake))
        self._let_go(task)

    def _let_go(self, task: Task) -> None:
        self.baton.release()
        task.go.acquire()
        if task.invocation.dead:
            raise Killed

    def _resume(self, task: Task) -> None:
        self.current = task
        task.go.release()
        self.baton.acquire()
        self.current = None
        if task.finished:
            self._tasks.discard(task)
            if isinstance(task.error, LimitBroken):
                raise task.error
            task.on_finish(task)

    def _start(self, invocation: Invocation, work: Callable[[], object]) -> Task:
        task = Task(self, invocation, work)
        self._tasks.add(task)
        self.at(self.now, lambda: self._resume(task))
        return task

    def close(self) -> None:
        """End what still runs."""
        for task in list(self._tasks):
            task.invocation.dead = True
            while not task.finished:
                self._resume(task)

    def pool(self, max_workers: int | None = None) -> "SideBySide":
        """In place of ThreadPoolExecutor: threads of the invocation that is running."""
        assert max_workers is None or max_workers > 0
        return SideBySide(self)

    # Functions

    def invoke(
        self,
        function: str,
        work: Callable[[Context], object],
        then: Callable[[object], None] = lambda result: None,
        *,
        timeout: int = TIMEOUT,
        failed: Callable[[BaseException], None] = lambda error: None,
    ) -> None:
        """Start a function; `then` gets its result, or None when it died or failed. `failed` gets the error before."""
        invocation = Invocation(function, self.now + timeout)
        context = Context(lambda: invocation.deadline - self.now)
        task = self._start(invocation, lambda: work(context))

        def finished(task: Task) -> None:
            if task.error is not None and not isinstance(task.error, Killed | Unavailable):
                self.unforeseen.append(task.error)
            if task.error is not None:
                failed(task.error)
            then(task.result)

        def time_out() -> None:
            if not task.finished:
                invocation.dead = True

        task.on_finish = finished
        self.at(invocation.deadline, time_out)

    def call_api(
        self,
        function: str,
        work: Callable[[], Mapping[str, Any]],
        *,
        retries: int = 0,
        then: Callable[[Reply], None] = lambda reply: None,
    ) -> None:
        """Call the API as somebody who tries again, a second later, when the answer is none or a 5xx."""

        def answered(result: object) -> None:
            reply = reply_of(result) if isinstance(result, Mapping) else None
            self.replies.append((self.now, function, reply))
            if reply is not None and reply.status < 500:
                then(reply)
            elif retries:
                self.at(self.now + SECOND, lambda: self.call_api(function, work, retries=retries - 1, then=then))

        self.invoke(function, lambda context: work(), answered)

    def sweep(self) -> None:
        """Run the sweep, now and from now on."""
        self.invoke("sweep", lambda context: sweep.handler({}, context))
        self.at(self.now + SWEEP_PERIOD, self.sweep)

    def _attach(self, queue: MemoryQueue, visibility: int) -> None:
        """The event source of a queue: its messages come to its function, in batches, now and then twice."""
        queue.visibility = visibility
        queue.on_send = lambda queue, envelope: self._announce(queue, envelope.visible_at)

    def _announce(self, queue: MemoryQueue, visible_at: int) -> None:
        self.at(visible_at + self.latency(), lambda: self.poll(queue))

    def poll(self, queue: MemoryQueue) -> None:
        """Let a queue's function have what is visible."""
        if self.now < self.held.get(queue.name, 0):
            self._announce(queue, self.held[queue.name])
            return
        received = queue.receive(self._batch_size)
        self._rng.shuffle(received)
        if not received:
            return
        self._announce(queue, received[0].visible_at)
        self._consume(queue, received)
        again = [e for e in received if self._rng.random() < self._duplicates]
        if again:
            self.at(self.now + self._rng.randint(0, 5 * SECOND), lambda: self._consume(queue, again))

    def _consume(self, queue: MemoryQueue, envelopes: Sequence[Envelope]) -> None:
        timers = queue in self.timer_queues.values()
        handler = check_ack.handler if timers else deliver.handler
        event = sqs_event(queue, envelopes)

        def finished(result: object) -> None:
            if isinstance(result, Mapping):
                failed = {failure["itemIdentifier"] for failure in result["batchItemFailures"]}
                for envelope in envelopes:
                    if envelope.id not in failed:
                        queue.delete(envelope.id)

        self.invoke("check_ack" if timers else "deliver", lambda context: handler(event, context), finished)

    # Producers and targets

    def submit(self, *reactions: Reaction, retries: int = 0, **fields: Any) -> str:
        """Submit a message for a device of its own, and let time pass until it is answered. Returns the id."""
        accepted: list[str] = []
        target = self.post(*reactions, retries=retries, then=accepted.append, **fields)
        for _ in range(100_000):
            if accepted:
                return accepted[0]
            self.run_until(self._events[0][0])
        raise AssertionError(f"the message for {target} was not accepted")

    def post(
        self,
        *reactions: Reaction,
        retries: int = 0,
        then: Callable[[str], None] = lambda message_id: None,
        **fields: Any,
    ) -> str:
        """Submit a message, and do not wait for the answer. Returns the target."""
        target = f"https://device-{len(self.devices)}.example/inbox"
        self.devices[target] = Device(reactions or (silent(),))
        body = {"target": target, "channel": "webhook", "payload": "open the door", **fields}
        if retries:
            body.setdefault("idempotency_key", target)
        event = api_event("POST", "/messages", body)

        def accept(reply: Reply) -> None:
            assert reply.status in (200, 202), reply.text
            self.accepted.append(reply.json["id"])
            then(reply.json["id"])

        self.call_api("submit", lambda: submit.handler(event, None), retries=retries, then=accept)
        return target

    def cancel(self, message_id: str) -> None:
        """A producer cancels a message."""
        event = api_event("DELETE", "/messages/{id}", path={"id": message_id})
        self.call_api("query", lambda: query.handler(event, None))

    def redeliver(self, message_id: str, **body: Any) -> None:
        """An operator redelivers a message."""
        event = api_event("POST", "/messages/{id}/redeliver", body or None, path={"id": message_id})
        self.call_api("redeliver", lambda: redeliver.handler(event, None))

    def answer(self, url: str, body: object = None, retries: int = 30) -> None:
        """A target answers."""
        event = answer_event(url, body)
        self.call_api("ack", lambda: ack.handler(event, None), retries=retries)

    def channel(self, name: str) -> Channel:
        """See `World.channel`: the devices."""
        assert name == "webhook"
        return DeviceChannel(self)

    def prober(self) -> Prober:
        """See `World.prober`: the devices."""
        return DeviceChannel(self)

    def executions(self, machines: Mapping[str, str], channels: Mapping[str, str], heartbeat: int) -> Executions:
        """See `World.executions`: the real ones, on state machines that are played here."""
        return Workflows(lambda: self.sfn.client, machines, channels, heartbeat, self.log, self.sfn)

    def tasks(self, activity: str) -> Tasks:
        """See `World.tasks`: likewise."""
        return Activity(self.sfn.client, activity)

    def arrive(self, parcel: Parcel) -> Reaction:
        """A sending reaches its device; what it answers over the other channel is under way from now on."""
        device = self.devices[parcel.target]
        device.got.append((self.now, parcel))
        reaction = device.react()
        for after in reaction.acks:
            self.at(self.now + after, lambda: self.answer(parcel.ack_url))
        for after, retry_after in reaction.nacks:
            body = {"reason": "no"} if retry_after is None else {"reason": "no", "retry_after": retry_after}
            self.at(self.now + after, partial(self.answer, parcel.nack_url, body))
        return reaction

    # What has happened

    def record(self, message_id: str) -> Record:
        """A message as the table has it."""
        return self.table.rows[message_id].record

    def device(self, message_id: str) -> Device:
        """The device that a message is for."""
        return self.devices[self.record(message_id).target]

    def sendings(self, message_id: str) -> list[int]:
        """The numbers of the attempts that reached the device."""
        return [parcel.attempt for _, parcel in self.device(message_id).got]

    def starts(self, message_id: str) -> list[int]:
        """When each attempt started, in ms after the start of the simulation."""
        return [
            m.change.after.attempts[-1].sent_at - START
            for m in self.moments
            if m.change.after.id == message_id and m.change.operation in ("claim", "reclaim")
        ]

    def timers(self, message_id: str) -> int:
        """How many timers of the message are in the queues."""
        return len(self._tokens(message_id))

    def live_timers(self, message_id: str) -> int:
        """How many of them would do something for it."""
        return self._tokens(message_id).count(self.record(message_id).token)

    def _tokens(self, message_id: str) -> list[str]:
        bodies = [json.loads(e.body) for q in self.timer_queues.values() for e in q.envelopes.values()]
        return [body["token"] for body in bodies if body["id"] == message_id]

    def events_of(self, message_id: str) -> list[str]:
        """The statuses that were published of a message, in order."""
        return [e["status"] for e in self.told.events if e["message_id"] == message_id]

    def alerts_of(self, message_id: str) -> int:
        """How often a person was told of a message."""
        return sum(message_id in subject for subject, _ in self.told.alerts)

    def _changed(self, change: Change) -> None:
        function = self.current.invocation.function if self.current else "test"
        self.moments.append(Moment(self.now, function, change))


@dataclass(slots=True)
class DeviceChannel:
    """The channel to the simulation's devices."""

    simulation: Simulation

    def send(self, parcel: Parcel, deadline_seconds: float) -> Outcome:
        """Send, let the device react, and bring the outcome back."""
        simulation = self.simulation
        assert deadline_seconds > 0

        def effect() -> Outcome:
            reaction = simulation.arrive(parcel)
            simulation.spend(reaction.latency)
            return reaction.outcome

        return simulation.wire.call("channel.send", effect)

    def ask(self, parcel: Parcel, deadline_seconds: float) -> Outcome:
        """Ask the device for the state of the job that the message has started."""
        simulation = self.simulation
        device = simulation.devices[parcel.target]

        def effect() -> Outcome:
            device.asked.append(simulation.now)
            return device.states.pop(0) if device.states else NO_JOB

        return simulation.wire.call("channel.ask", effect)


class SideBySide:
    """Threads of one invocation, under the simulation's scheduler."""

    def __init__(self, simulation: Simulation) -> None:
        self._simulation = simulation

    def __enter__(self) -> "SideBySide":
        return self

    def __exit__(self, *error: object) -> None:
        return None

    def map(self, work: Callable[[Any], T], items: Iterable[Any]) -> Iterator[T]:
        """Do all at the same time; the death of one is the death of all."""
        simulation = self._simulation
        parent = simulation.current
        assert parent is not None
        children = [simulation._start(parent.invocation, partial(work, item)) for item in items]
        running = set(children)

        def finished(child: Task) -> None:
            running.discard(child)
            if not running:
                simulation.at(simulation.now, lambda: simulation._resume(parent))

        for child in children:
            child.on_finish = finished
        if children:
            simulation._let_go(parent)
        return self._results(children)

    @staticmethod
    def _results(children: Sequence[Task]) -> Iterator[Any]:
        for child in children:
            if child.error is not None:
                raise child.error
            yield child.result


def install(simulation: Simulation, patch: Callable[[object, str, object], None]) -> None:
    """Let the handlers live in a simulation, with its threads in place of real ones."""
    patch(batch, "ThreadPoolExecutor", simulation.pool)
    patch(submitting, "ThreadPoolExecutor", simulation.pool)
    patch(starting, "ThreadPoolExecutor", simulation.pool)
    bootstrap.use(simulation)
