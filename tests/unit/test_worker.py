"""The worker: what it hands over and how, what it reports, its heartbeats, and how it stops.

Step Functions and the API are fakes, which refuse what the real ones would; commands and devices are real. No test's
log may hold a secret: each that logs is checked for it at its end.
"""

import base64
import contextlib
import json
import os
import queue
import shlex
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from botocore.exceptions import ClientError, EndpointConnectionError, NoCredentialsError, ReadTimeoutError
from botocore.session import Session
from botocore.stub import Stubber
from urllib3.exceptions import ProtocolError

from handlers.delivery.channel import Kind, Outcome, Parcel
from handlers.delivery.errors import Invalid
from scripts import devices as d
from scripts import worker as command_line
from scripts.client import Answer
from scripts.devices import Behaviour, Devices
from scripts.terraform import ROOT
from scripts.worker_channels import STOPPED, Command, LocalUrl
from scripts.worker_heart import Heart
from scripts.worker_log import Backoff, Log
from scripts.worker_loop import Settings, Stoppable, Worker, stopped_by_signals
from scripts.worker_service import Fatal, Task, TaskOver, Tasks, Trouble

ACTIVITY = "arn:aws:states:eu-west-3:123456789012:activity:until-ack-delivery"
PAYLOAD = b"open sesame \xff"
TOKEN, CLAIM, CAPABILITY = "task-token-of-", "claim-of-it", "k1.capability.mac"
SECRETS = ("sesame", base64.b64encode(PAYLOAD).decode()[:12], TOKEN, CLAIM, CAPABILITY)
ACK_URL = f"https://api.example/v1/messages/m/ack?cap={CAPABILITY}"
NACK_URL = f"https://api.example/v1/messages/m/nack?cap={CAPABILITY}"
WITHIN = 10.0
SCHEMAS = ROOT / "definitions/schemas"
TAKEN, REPORTED = (json.loads((SCHEMAS / f"{name}.json").read_text()) for name in ("task", "outcome"))


def soon() -> Backoff:
    return Backoff(0.001, 0.01)


def until(condition: Callable[[], object], within: float = WITHIN) -> None:
    end = time.monotonic() + within
    while not condition():
        assert time.monotonic() < end, "it did not come about"
        _pause(0.002)


def stays(condition: Callable[[], object], during: float) -> None:
    end = time.monotonic() + during
    while time.monotonic() < end:
        assert condition(), "it did not stay so"
        _pause(0.002)


def _pause(seconds: float) -> None:
    threading.Event().wait(seconds)


def refusal(code: str) -> ClientError:
    return ClientError({"Error": {"Code": code, "Message": f"about {TOKEN}1"}}, "Any")


def job(n: int, wait: int = 60) -> dict[str, Any]:
    task = {"asked_at": "2026-01-01T00:00:00Z", "wait": wait, "index": 0}
    return {"v": 1, "id": f"message{n}", "attempt": n, "base": 0, "channel": "activity", "task": task}


def parcel(n: int = 1, **changes: Any) -> Parcel:
    given: dict[str, Any] = {
        "message_id": f"message{n}",
        "attempt": n,
        "target": "lamp",
        "payload": PAYLOAD,
        "content_type": "text/plain",
        "ack_url": ACK_URL,
        "nack_url": NACK_URL,
    }
    return Parcel(**{**given, **changes})


class Steps:
    """Step Functions: gives out what is put into it, and keeps the heartbeats."""

    def __init__(self) -> None:
        self.given: queue.Queue[Mapping[str, Any] | Exception] = queue.Queue()
        self.patience = 0.01
        self.open = self.polls = self.most_at_once = 0
        self.others: Callable[[], int] = lambda: 0
        self.names: set[str] = set()
        self.beats: list[str] = []
        self.beaten_by: set[str] = set()
        self.refuse: dict[str, list[Exception]] = {}
        self.lock = threading.Lock()

    def put(self, n: int, wait: int = 60) -> None:
        self.given.put({"taskToken": f"{TOKEN}{n}", "input": json.dumps(job(n, wait))})

    def get_activity_task(self, *, activityArn: str, workerName: str) -> Mapping[str, Any]:
        assert activityArn == ACTIVITY
        with self.lock:
            self.names.add(workerName)
            self.open, self.polls = self.open + 1, self.polls + 1
            self.most_at_once = max(self.most_at_once, self.open + self.others())
        try:
            given = self.given.get(timeout=self.patience)
        except queue.Empty:
            return {}
        finally:
            with self.lock:
                self.open -= 1
        if isinstance(given, Exception):
            raise given
        return given

    def send_task_heartbeat(self, *, taskToken: str) -> Mapping[str, Any]:
        with self.lock:
            self.beats.append(taskToken)
            self.beaten_by.add(threading.current_thread().name)
            refusals = self.refuse.get(taskToken, [])
            refused = refusals.pop(0) if refusals else None
        if refused:
            raise refused
        return {}


class FakeApi:
    """The API: gives a parcel for each task, and takes outcomes; first of all it answers as it has been told to."""

    def __init__(self) -> None:
        self.takes: list[Any] = []
        self.outcomes: list[tuple[str, Any]] = []
        self.take_first: list[Answer | Exception] = []
        self.report_first: list[Answer | Exception] = []
        self.lease = 300
        self.lock = threading.Lock()

    def signed(self, method: str, path: str, body: Any = None) -> Answer:
        assert method == "POST"
        with self.lock:
            if path == "/internal/tasks":
                jsonschema.validate(body, TAKEN)
                self.takes.append(body)
                first = self.take_first
            else:
                jsonschema.validate(body, REPORTED)
                self.outcomes.append((path, body))
                first = self.report_first
            answer = first.pop(0) if first else None
        if isinstance(answer, Exception):
            raise answer
        return answer or Answer(200, self.parcel(body["job"]) if path == "/internal/tasks" else {}, {})

    def parcel(self, job: Mapping[str, Any]) -> dict[str, Any]:
        return {
            "message_id": job["id"],
            "attempt": job["attempt"],
            "claim": CLAIM,
            "target": "lamp",
            "content_type": "text/plain",
            "payload": base64.b64encode(PAYLOAD).decode(),
            "ack_url": ACK_URL,
            "nack_url": NACK_URL,
            "lease_seconds": self.lease,
        }


class Hand:
    """A channel that waits for leave, if told to, and answers as told."""

    def __init__(self, outcome: Outcome | Exception | None = None, *, held: bool = False) -> None:
        self.outcome = outcome or Outcome(Kind.SENT, "exit_0", 7)
        self.leave = threading.Event()
        if not held:
            self.leave.set()
        self.sent: list[Parcel] = []
        self.seconds: list[float] = []
        self.inside = self.most_inside = 0
        self.stopped = False
        self.lock = threading.Lock()

    def send(self, parcel: Parcel, deadline_seconds: float) -> Outcome:
        with self.lock:
            self.sent.append(parcel)
            self.seconds.append(deadline_seconds)
            self.inside += 1
            self.most_inside = max(self.most_inside, self.inside)
        assert self.leave.wait(WITHIN)
        with self.lock:
            self.inside -= 1
        if isinstance(self.outcome, Exception):
            raise self.outcome
        return STOPPED if self.stopped else self.outcome

    def stop(self) -> None:
        self.stopped = True
        self.leave.set()


class Logged:
    """A log, read back."""

    def __init__(self) -> None:
        self.lines: list[dict[str, Any]] = []
        self.text = b""
        self.log = Log("test-1", self.write)

    def write(self, line: bytes) -> None:
        assert line.endswith(b"\n") and line.count(b"\n") == 1
        self.text += line
        self.lines.append(json.loads(line))

    def of(self, event: str) -> list[dict[str, Any]]:
        return [line for line in list(self.lines) if line["event"] == event]


@pytest.fixture
def steps() -> Steps:
    return Steps()


@pytest.fixture
def api() -> FakeApi:
    return FakeApi()


@pytest.fixture
def logged() -> Iterator[Logged]:
    logged = Logged()
    yield logged
    told = [secret for secret in SECRETS if secret.encode() in logged.text]
    assert not told, "the log holds secrets"


class Running:
    """A worker at work in a thread of its own."""

    def __init__(self, worker: Worker) -> None:
        self.worker = worker
        self.code: int | None = None
        self.thread = threading.Thread(target=self._run)
        self.thread.start()

    def _run(self) -> None:
        self.code = self.worker.run()

    def ended(self) -> int | None:
        self.thread.join(WITHIN)
        assert not self.thread.is_alive()
        return self.code

    def stop(self) -> int | None:
        self.worker.stop()
        return self.ended()


Start = Callable[..., Running]


@pytest.fixture
def start(steps: Steps, api: FakeApi, logged: Logged) -> Iterator[Start]:
    with contextlib.ExitStack() as stack:

        def begin(channel: Stoppable | None = None, **settings: Any) -> Running:
            running = Running(make(steps, api, logged, channel, **settings))
            stack.callback(running.stop)
            return running

        yield begin


def make(steps: Steps, api: FakeApi, logged: Logged, channel: Stoppable | None = None, **settings: Any) -> Worker:
    tasks = Tasks(steps, steps, ACTIVITY, "test-1")
    given = Settings(**{"drain": WITHIN, **settings})
    return Worker(tasks, api, channel or Hand(), given, logged.log, backoff=soon)


# ---- tasks, one by one


@pytest.mark.parametrize(
    ("outcome", "reported"),
    [
        (Outcome(Kind.SENT, "exit_0", 7), {"kind": "SENT", "reason": "exit_0", "latency_ms": 7}),
        (Outcome(Kind.ACKED, "exit_10"), {"kind": "ACKED", "reason": "exit_10", "latency_ms": 0}),
        (
            Outcome(Kind.FAILED, "http_503", 9, 503, 70),
            {"kind": "FAILED", "reason": "http_503", "latency_ms": 9, "http_status": 503, "retry_after": 70},
        ),
        (
            Outcome(Kind.GONE, "http_410", 9, 410),
            {"kind": "GONE", "reason": "http_410", "latency_ms": 9, "http_status": 410},
        ),
        # A status that no standard knows is not for the API.
        (Outcome(Kind.FAILED, "http_999", 9, 999), {"kind": "FAILED", "reason": "http_999", "latency_ms": 9}),
        (RuntimeError("sesame"), {"kind": "FAILED", "reason": "worker_fault", "latency_ms": 0}),
    ],
)
def test_a_task_is_taken_handed_over_and_reported(
    steps: Steps, api: FakeApi, start: Start, logged: Logged, outcome: Outcome | Exception, reported: Mapping[str, Any]
) -> None:
    hand = Hand(outcome)
    running = start(hand)
    steps.put(1)
    until(lambda: api.outcomes)

    assert running.stop() == 0
    assert api.takes == [{"job": job(1), "token": f"{TOKEN}1"}]
    assert hand.sent == [parcel()]
    assert api.outcomes == [("/internal/tasks/message1/outcome", {"attempt": 1, "claim": CLAIM, **reported})]
    (line,) = logged.of("handed over")
    assert (line["message_id"], line["attempt"], line["recorded"]) == ("message1", 1, True)
    (told,) = logged.of("stopped")
    assert (told["taken"], told[reported["kind"].lower()], told["unfinished"]) == (1, 1, 0)
    assert steps.names == {"test-1"}


@pytest.mark.parametrize("status", [409, 410, 400, 404, 302])
def test_what_is_not_to_be_made_is_left_alone(
    steps: Steps, api: FakeApi, start: Start, logged: Logged, status: int
) -> None:
    hand = Hand()
    api.take_first = [Answer(status, {"detail": f"{TOKEN}1"}, {})]
    running = start(hand, heartbeat=0.03)
    steps.put(1)
    steps.put(2)
    until(lambda: api.outcomes)
    until(lambda: len(steps.beats) > 3)

    assert running.stop() == 0
    assert [sent.message_id for sent in hand.sent] == ["message2"]
    assert {body["attempt"] for _, body in api.outcomes} == {2}
    # It may have beaten once before the answer came.
    assert steps.beats.count(f"{TOKEN}1") <= 1 < steps.beats.count(f"{TOKEN}2")
    assert logged.of("stopped")[0]["nothing_to_do"] == 1
    assert len(api.takes) == 2


@pytest.mark.parametrize(
    "answer",
    [
        Answer(200, "<html>a portal</html>", {}),
        Answer(200, {}, {}),
        Answer(200, None, {}),
        Answer(200, [], {}),
        Answer(200, {**FakeApi().parcel(job(1)), "payload": "no base64!"}, {}),
        Answer(200, {**FakeApi().parcel(job(1)), "target": 5}, {}),
        Answer(200, {**FakeApi().parcel(job(1)), "lease_seconds": None}, {}),
    ],
)
def test_an_answer_that_is_no_parcel_is_not_handed_over(
    steps: Steps, api: FakeApi, start: Start, logged: Logged, answer: Answer
) -> None:
    hand = Hand()
    api.take_first = [answer]
    running = start(hand)
    steps.put(1)
    until(lambda: logged.of("unreadable answer of the API"))

    assert running.stop() == 0
    assert hand.sent == [] and api.outcomes == []


@pytest.mark.parametrize("text", ["no json", "[]", '"x"', None])
def test_an_unreadable_task_is_refused_by_the_api_and_hurts_no_other(
    steps: Steps, api: FakeApi, start: Start, text: str | None
) -> None:
    api.take_first = [Answer(400, {}, {})]
    running = start()
    steps.given.put({"taskToken": f"{TOKEN}0", "input": text})
    steps.put(1)
    until(lambda: api.outcomes)

    assert running.stop() == 0
    assert api.takes[0] == {"job": {}, "token": f"{TOKEN}0"}


FAULTS: list[Answer | Exception] = [
    Answer(503, {}, {}),
    Answer(429, {}, {}),
    Answer(500, "sesame", {}),
    ProtocolError("reset"),
    json.JSONDecodeError("sesame", "sesame", 0),
    EndpointConnectionError(endpoint_url="https://api.example"),
]


def test_a_task_is_asked_for_until_the_api_answers(steps: Steps, api: FakeApi, start: Start) -> None:
    api.take_first = list(FAULTS)
    running = start()
    steps.put(1)
    until(lambda: api.outcomes)

    assert running.stop() == 0
    assert api.takes == [{"job": job(1), "token": f"{TOKEN}1"}] * (len(FAULTS) + 1)
    assert len(api.outcomes) == 1


def test_a_task_that_is_over_is_asked_for_no_longer(steps: Steps, api: FakeApi, start: Start) -> None:
    hand = Hand()
    api.take_first = [Answer(503, {}, {})] * 100_000
    steps.refuse[f"{TOKEN}1"] = [refusal("TaskTimedOut")]
    running = start(hand, heartbeat=0.03)
    steps.put(1)
    until(lambda: steps.beats)
    until(lambda: steps.open)

    seen = len(api.takes)
    assert running.stop() == 0
    assert seen >= 1 and len(api.takes) <= seen + 1
    assert hand.sent == []


def test_an_outcome_is_reported_until_it_is_recorded(steps: Steps, api: FakeApi, start: Start) -> None:
    hand = Hand()
    api.report_first = list(FAULTS)
    running = start(hand)
    steps.put(1)
    until(lambda: len(api.outcomes) == len(FAULTS) + 1)

    assert running.stop() == 0
    assert len(hand.sent) == 1
    assert all(outcome == api.outcomes[0] for outcome in api.outcomes)


@pytest.mark.parametrize("status", [409, 404, 400])
def test_an_outcome_that_is_refused_is_not_repeated(
    steps: Steps, api: FakeApi, start: Start, logged: Logged, status: int
) -> None:
    api.report_first = [Answer(status, {}, {})]
    running = start()
    steps.put(1)
    until(lambda: logged.of("handed over"))

    assert running.stop() == 0
    assert len(api.outcomes) == 1
    assert logged.of("stopped")[0]["unreported"] == 1
    assert logged.of("outcome not recorded")[0]["http_status"] == status


@pytest.mark.parametrize(("lease", "seconds"), [(300, 30.0), (20, 16.0), (100, 30.0), (34, 29.0)])
def test_handing_over_ends_within_the_lease(
    steps: Steps, api: FakeApi, start: Start, lease: int, seconds: float
) -> None:
    hand = Hand()
    api.lease = lease
    start(hand, timeout=30)
    steps.put(1)
    until(lambda: api.outcomes)

    assert seconds - 1 < hand.seconds[0] <= seconds


def test_a_lease_that_is_over_is_not_used(steps: Steps, api: FakeApi, start: Start) -> None:
    hand = Hand()
    api.lease = 0
    start(hand)
    steps.put(1)
    until(lambda: api.outcomes)

    assert api.outcomes[0][1]["reason"] == "no_time"
    assert hand.sent == []


# ---- heartbeats


@pytest.mark.parametrize("code", ["TaskTimedOut", "TaskDoesNotExist", "InvalidToken", "ValidationException"])
def test_a_task_is_kept_alive_until_the_service_says_that_it_is_over(
    steps: Steps, api: FakeApi, start: Start, logged: Logged, code: str
) -> None:
    running = start(heartbeat=0.03)
    steps.put(1)
    until(lambda: len(steps.beats) >= 3)
    assert len(api.outcomes) == 1  # it is the ACK that is waited for
    steps.refuse[f"{TOKEN}1"] = [refusal(code)]
    until(lambda: logged.of("task over"))

    seen = len(steps.beats)
    stays(lambda: len(steps.beats) == seen, during=0.06)
    assert logged.of("task over")[0]["code"] == code
    assert running.stop() == 0
    assert logged.of("stopped")[0]["awaiting_ack"] == 0


@pytest.mark.parametrize(("kind", "on"), [(Kind.ACKED, 0), (Kind.GONE, 0), (Kind.SENT, 1), (Kind.FAILED, 1)])
def test_only_what_is_still_waited_for_is_kept_alive(
    steps: Steps, start: Start, logged: Logged, kind: Kind, on: int
) -> None:
    running = start(Hand(Outcome(kind, "exit_1")))
    steps.put(1)
    until(lambda: logged.of("handed over"))

    assert running.stop() == 0
    assert logged.of("stopped")[0]["awaiting_ack"] == on


def test_a_slow_handing_over_is_kept_alive(steps: Steps, start: Start) -> None:
    hand = Hand(held=True)
    start(hand, heartbeat=0.03)
    steps.put(1)
    until(lambda: len(steps.beats) > 3)

    assert hand.inside == 1
    hand.leave.set()


def test_one_thread_beats_for_all(steps: Steps, api: FakeApi, start: Start) -> None:
    start(heartbeat=0.03)
    for n in range(1, 21):
        steps.put(n)
    until(lambda: len(set(steps.beats)) == 20)

    assert steps.beaten_by == {"heart"}
    until(lambda: len(api.takes) == 20)  # a task beats from its pulling, and may do so before it is taken


def test_heartbeats_outlive_the_services_faults(steps: Steps, start: Start, logged: Logged) -> None:
    steps.refuse[f"{TOKEN}1"] = [
        refusal("ThrottlingException"),
        ReadTimeoutError(endpoint_url="https://states.example"),
        refusal("InternalFailure"),
    ]
    running = start(heartbeat=0.06)
    steps.put(1)
    until(lambda: len(steps.beats) > 5)

    assert running.stop() == 0
    assert [line["code"] for line in logged.of("heartbeats fail")] == ["ThrottlingException"]
    assert len(logged.of("heartbeats go on")) == 1
    assert logged.of("stopped")[0]["awaiting_ack"] == 1


class Clock:
    def __init__(self) -> None:
        self.at = 1000.0

    def __call__(self) -> float:
        return self.at


def heart(steps: Steps, logged: Logged, clock: Clock, faults: list[Fatal] | None = None) -> Heart:
    tasks = Tasks(steps, steps, ACTIVITY, "test-1")
    on_fatal = (faults if faults is not None else []).append
    return Heart(tasks, 20.0, logged.log, on_fatal, clock=clock, backoff=soon())


def test_no_heartbeat_after_the_wait_is_over(steps: Steps, logged: Logged) -> None:
    clock = Clock()
    beating = heart(steps, logged, clock)
    beating.add(Task(f"{TOKEN}1", job(1, wait=50)))
    beating.add(Task(f"{TOKEN}2", {"id": "none"}))  # its input does not say how long
    thread = threading.Thread(target=beating.run)
    thread.start()
    try:
        for beats in (1, 2, 3):
            clock.at += 20
            beating.add(Task(f"{TOKEN}9", job(9)))  # wakes it up
            beating.drop(f"{TOKEN}9")
            until(lambda beats=beats: steps.beats.count(f"{TOKEN}2") == beats)  # type: ignore[misc]
    finally:
        beating.stop()
        thread.join(WITHIN)

    assert steps.beats.count(f"{TOKEN}1") == 2
    assert not beating.holds(f"{TOKEN}1") and beating.holds(f"{TOKEN}2")
    assert f"{TOKEN}9" not in steps.beats


@pytest.mark.parametrize(
    ("wait", "due"), [(900, 20.0), (61, 20.0), (31, 10.0), (15, 14 / 3), (4, 1.0), (2, 1 / 3), (1, 1 / 3)]
)
def test_a_short_task_gets_three_beats_within_its_heartbeat(
    steps: Steps, logged: Logged, wait: int, due: float
) -> None:
    clock = Clock()
    beating = heart(steps, logged, clock)
    beating.add(Task(f"{TOKEN}1", job(1, wait=wait)))
    thread = threading.Thread(target=beating.run)
    thread.start()
    try:
        for part, beats in ((0.99, 0), (1.01, 1), (1.99, 1), (2.02, 2)):
            clock.at = 1000 + due * part
            before = len(steps.beats)
            beating.add(Task(f"{TOKEN}9", job(9)))  # wakes it up
            beating.drop(f"{TOKEN}9")
            if beats > before:
                until(lambda beats=beats: len(steps.beats) == beats)  # type: ignore[misc]
            else:
                stays(lambda beats=beats: len(steps.beats) == beats, during=0.02)  # type: ignore[misc]
    finally:
        beating.stop()
        thread.join(WITHIN)
    assert set(steps.beats) == {f"{TOKEN}1"}


def test_too_many_open_tasks_are_told_once(steps: Steps, logged: Logged) -> None:
    clock = Clock()
    beating = heart(steps, logged, clock)
    for n in range(5):
        beating.add(Task(f"{TOKEN}{n}", job(n, wait=900)))
    clock.at += 45
    thread = threading.Thread(target=beating.run)
    thread.start()
    until(lambda: len(steps.beats) == 5)
    beating.stop()
    thread.join(WITHIN)

    assert len(logged.of("heartbeats are late: too many open tasks for one worker")) == 1


# ---- how much at once


def test_no_more_is_handed_over_at_once_than_told_and_no_more_polled_for_than_is_free(
    steps: Steps, api: FakeApi, start: Start
) -> None:
    hand = Hand(held=True)
    steps.others = lambda: hand.inside
    running = start(hand, concurrency=3, polls=3)
    until(lambda: steps.most_at_once == 3)
    for n in range(1, 9):
        steps.put(n)
    until(lambda: hand.inside == 3)
    seen = steps.polls
    stays(lambda: (steps.open, steps.polls, len(api.takes)) == (0, seen, 3), during=0.05)

    hand.leave.set()
    until(lambda: len(api.outcomes) == 8)
    assert (hand.most_inside, steps.most_at_once) == (3, 3)
    assert running.stop() == 0


def test_what_waits_for_its_ack_takes_no_room(steps: Steps, api: FakeApi, start: Start, logged: Logged) -> None:
    running = start(concurrency=1)
    for n in range(1, 6):
        steps.put(n)
    until(lambda: len(api.outcomes) == 5)

    assert running.stop() == 0
    assert logged.of("stopped")[0]["awaiting_ack"] == 5


# ---- faults of polling


def test_faults_that_pass_do_not_end_it(steps: Steps, api: FakeApi, start: Start, logged: Logged) -> None:
    faults = [
        refusal("ThrottlingException"),
        refusal("ActivityWorkerLimitExceeded"),
        refusal("ServiceUnavailable"),
        EndpointConnectionError(endpoint_url="https://states.example"),
        ReadTimeoutError(endpoint_url="https://states.example"),
    ]
    for fault in faults:
        steps.given.put(fault)
    steps.put(1)
    running = start()
    until(lambda: api.outcomes)

    assert running.stop() == 0
    codes = [line["code"] for line in logged.of("poll failed")]
    assert codes[:2] == ["ThrottlingException", "ActivityWorkerLimitExceeded"]
    assert codes[3:] == ["EndpointConnectionError", "ReadTimeoutError"]


def test_a_service_that_answers_nothing_at_once_is_not_hammered(steps: Steps, api: FakeApi, logged: Logged) -> None:
    steps.patience = 0.001
    worker = Worker(
        Tasks(steps, steps, ACTIVITY, "w"), api, Hand(), Settings(), logged.log, backoff=lambda: Backoff(30)
    )
    running = Running(worker)
    until(lambda: steps.polls)
    stays(lambda: steps.polls == 1, during=0.05)
    assert running.stop() == 0  # and at once, for all the 30 s


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        (refusal("ActivityDoesNotExist"), ACTIVITY),
        (refusal("InvalidArn"), ACTIVITY),
        (refusal("AccessDeniedException"), "worker_policy"),
        (refusal("UnrecognizedClientException"), "credentials"),
        (refusal("ExpiredTokenException"), "credentials"),
        (refusal("InvalidSignatureException"), "clock"),
        (NoCredentialsError(), "credentials"),
    ],
)
def test_what_does_not_pass_ends_it_with_a_reason(
    steps: Steps, start: Start, logged: Logged, fault: Exception, said: str
) -> None:
    steps.given.put(fault)

    assert start(polls=2).ended() == 2
    (line,) = logged.of("giving up")
    assert said in line["why"] and line["level"] == "error"


@pytest.mark.parametrize("route", ["take", "report"])
@pytest.mark.parametrize(
    "answer", [Answer(403, {"message": f"no {TOKEN}1"}, {}), Answer(401, "", {}), NoCredentialsError()]
)
def test_a_worker_that_the_api_forbids_ends_but_finishes_the_others(
    steps: Steps, api: FakeApi, start: Start, logged: Logged, route: str, answer: Answer | Exception
) -> None:
    hand = Hand(held=True)
    running = start(hand)
    steps.put(1)
    until(lambda: hand.inside == 1)
    if route == "take":
        api.take_first = [answer]
        steps.put(2)
        until(lambda: logged.of("giving up"))
        hand.leave.set()
    else:
        api.report_first = [answer]
        hand.leave.set()

    assert running.ended() == 2
    assert len(api.outcomes) == 1
    assert logged.of("stopped")[0]["sent"] == 1


def test_a_forbidden_heartbeat_ends_it(steps: Steps, start: Start, logged: Logged) -> None:
    steps.refuse[f"{TOKEN}1"] = [refusal("AccessDeniedException")]
    running = start(heartbeat=0.03)
    steps.put(1)

    assert running.ended() == 2
    assert "SendTaskHeartbeat" in logged.of("giving up")[0]["why"]


def test_a_fault_of_its_own_ends_it_rather_than_leaving_it_deaf(steps: Steps, start: Start, logged: Logged) -> None:
    steps.given.put(ZeroDivisionError("sesame"))

    assert start().ended() == 1
    assert logged.of("giving up")[0]["why"].startswith("ZeroDivisionError at test_worker.py:")


# ---- stopping


class LongPoll(Steps):
    """Polls that stay open until something comes."""

    def __init__(self) -> None:
        super().__init__()
        self.patience = WITHIN


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_lets_it_finish(api: FakeApi, logged: Logged, number: signal.Signals) -> None:
    steps, hand = Steps(), Hand(held=True)
    worker = make(steps, api, logged, hand)
    steps.put(1)

    def meanwhile() -> None:
        until(lambda: hand.inside == 1)
        os.kill(os.getpid(), number)
        until(lambda: logged.of("stopping"))
        until(lambda: steps.open == 0)
        steps.put(2)
        stays(lambda: hand.inside == 1, during=0.05)
        hand.leave.set()

    other = threading.Thread(target=meanwhile)
    before = signal.getsignal(number)
    with stopped_by_signals(worker):
        other.start()
        code = worker.run()
    other.join()

    assert code == 0
    assert [body["attempt"] for _, body in api.outcomes] == [1]
    assert (
        logged.of("stopped")[0] | {"sent": 1, "taken": 1, "unfinished": 0, "awaiting_ack": 1} == logged.of("stopped")[0]
    )
    assert signal.getsignal(number) is before


def test_a_task_that_comes_just_then_is_done(api: FakeApi, logged: Logged) -> None:
    steps, hand = LongPoll(), Hand()
    running = Running(make(steps, api, logged, hand))
    until(lambda: steps.open == 1)
    running.worker.stop()
    until(lambda: logged.of("stopping"))
    steps.put(1)

    assert running.ended() == 0
    assert [body["kind"] for _, body in api.outcomes] == ["SENT"]
    assert steps.polls == 1
    assert logged.of("stopped")[0]["polls_left"] == 0


def test_an_open_poll_is_waited_for_no_longer_than_told(api: FakeApi, logged: Logged) -> None:
    steps = LongPoll()
    running = Running(make(steps, api, logged, drain=0.05))
    until(lambda: steps.open == 1)
    began = time.monotonic()

    assert running.stop() == 0
    assert time.monotonic() - began < 3
    assert logged.of("stopped")[0]["polls_left"] == 1
    steps.given.put(refusal("ThrottlingException"))  # lets the thread end


def test_what_takes_too_long_is_given_up_and_reported(steps: Steps, api: FakeApi, start: Start, tmp_path: Path) -> None:
    running = start(Command(f"sh -c 'echo $$ > {tmp_path}/pid; exec sleep 60'"), drain=0.05)
    steps.put(1)
    pid = number_in(tmp_path / "pid")

    assert running.stop() == 0
    assert api.outcomes[0][1] | {"kind": "FAILED", "reason": "worker_stopped"} == api.outcomes[0][1]
    assert not alive(pid)


def test_reporting_ends_with_the_time_for_stopping(steps: Steps, api: FakeApi, start: Start, logged: Logged) -> None:
    api.report_first = [Answer(503, {}, {})] * 100_000
    running = start(drain=0.05)
    steps.put(1)
    until(lambda: api.outcomes)

    assert running.stop() == 0
    assert logged.of("stopped")[0]["unreported"] == 1


def test_a_second_signal_ends_it_at_once(steps: Steps, api: FakeApi, start: Start, tmp_path: Path) -> None:
    running = start(Command(f"sh -c 'echo $$ > {tmp_path}/pid; exec sleep 60'"))
    steps.put(1)
    pid = number_in(tmp_path / "pid")
    running.worker.stop()
    began = time.monotonic()
    running.worker.stop(signal.SIGINT)

    assert running.ended() == 128 + signal.SIGINT
    assert time.monotonic() - began < 3
    until(lambda: not alive(pid))


# ---- commands


def number_in(path: Path) -> int:
    until(lambda: path.exists() and path.read_text().strip())
    return int(path.read_text())


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    # A zombie is only a name; nobody but this process's parent may be there to bury it.
    stat = Path(f"/proc/{pid}/stat")
    return not (stat.exists() and stat.read_text().rpartition(")")[2].split()[0] == "Z")


def python(code: str) -> str:
    return shlex.join([sys.executable, "-c", code])


@pytest.mark.parametrize(
    ("script", "kind", "reason"),
    [
        ("exit 0", Kind.SENT, "exit_0"),
        ("exit 10", Kind.ACKED, "exit_10"),
        ("exit 20", Kind.GONE, "exit_20"),
        ("exit 1", Kind.FAILED, "exit_1"),
        ("exit 255", Kind.FAILED, "exit_255"),
        ("kill -TERM $$", Kind.FAILED, "signal_15"),
        ("kill -KILL $$", Kind.FAILED, "signal_9"),
    ],
)
def test_a_commands_exit_code_is_the_outcome(script: str, kind: Kind, reason: str) -> None:
    outcome = Command(f"sh -c '{script}'").send(parcel(), WITHIN)

    assert (outcome.kind, outcome.reason, outcome.http_status) == (kind, reason, None)
    assert 0 <= outcome.latency_ms < WITHIN * 1000


def test_a_command_gets_the_message(tmp_path: Path) -> None:
    code = (
        "import json, os, sys; told = {k: v for k, v in os.environ.items() if k.startswith('UNTIL_ACK_')};"
        "told['argv'] = sys.argv[1:]; told['payload'] = sys.stdin.buffer.read().hex();"
        "told['leads'] = os.getpgid(0) == os.getpid() == os.getsid(0);"
        f"open({str(tmp_path / 'told')!r}, 'w').write(json.dumps(told))"
    )
    given = parcel(3, payload=bytes(range(256)) * 1024, target="a b; rm -rf $HOME")

    assert Command(f"{python(code)} 'one two' $HOME").send(given, WITHIN).kind is Kind.SENT
    assert json.loads((tmp_path / "told").read_text()) == {
        "UNTIL_ACK_MESSAGE_ID": "message3",
        "UNTIL_ACK_ATTEMPT": "3",
        "UNTIL_ACK_TARGET": "a b; rm -rf $HOME",
        "UNTIL_ACK_CONTENT_TYPE": "text/plain",
        "UNTIL_ACK_ACK_URL": ACK_URL,
        "UNTIL_ACK_NACK_URL": NACK_URL,
        "argv": ["one two", "$HOME"],
        "payload": given.payload.hex(),
        "leads": True,
    }


def test_a_command_that_hangs_is_killed_with_all_that_it_started(tmp_path: Path) -> None:
    command = Command(f"sh -c 'sleep 60 & echo $! > {tmp_path}/child; echo $$ > {tmp_path}/pid; wait'")
    began = time.monotonic()
    outcome = command.send(parcel(), 0.5)

    assert (outcome.kind, outcome.reason) == (Kind.FAILED, "timeout")
    assert time.monotonic() - began < 5
    assert outcome.latency_ms >= 500
    for name in ("pid", "child"):
        until(lambda name=name: not alive(number_in(tmp_path / name)))  # type: ignore[misc]


def test_a_command_may_print_what_it_likes(capfd: pytest.CaptureFixture[str]) -> None:
    flood = "import sys; [s.write('sesame' * 1_000_000) for s in (sys.stdout, sys.stderr)]"

    assert Command(python(flood)).send(parcel(), WITHIN).kind is Kind.SENT
    assert capfd.readouterr() == ("", "")


def test_a_command_need_not_read_the_payload() -> None:
    assert Command("true").send(parcel(payload=b"x" * 5_000_000), WITHIN).kind is Kind.SENT


def test_what_a_command_leaves_running_does_not_hold_it_up(tmp_path: Path) -> None:
    # The child has the other end of standard input, unread, and more is to come than fits.
    command = Command(f"sh -c 'sleep 60 <&0 & echo $! > {tmp_path}/child; exit 10'")
    outcome = command.send(parcel(payload=b"x" * 1_000_000), 0.5)

    os.kill(number_in(tmp_path / "child"), signal.SIGKILL)
    assert outcome.kind is Kind.ACKED


@pytest.mark.parametrize("target", ["nul\0byte", "x" * 3_000_000])
def test_a_message_that_no_command_can_be_told_fails(target: str) -> None:
    outcome = Command("true").send(parcel(target=target), WITHIN)

    assert (outcome.kind, outcome.reason) == (Kind.FAILED, "not_started")


def test_a_command_that_is_gone_fails(tmp_path: Path) -> None:
    program = tmp_path / "deliver"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    command = Command(str(program))
    assert command.send(parcel(), WITHIN).kind is Kind.SENT
    program.unlink()

    assert command.send(parcel(), WITHIN).reason == "not_started"


@pytest.mark.parametrize("command", ["", "/no/such/program x", "'unclosed"])
def test_a_command_that_cannot_be_run_is_refused(command: str) -> None:
    with pytest.raises(ValueError, match=r"no such program|No closing quotation"):
        Command(command)


def test_nothing_is_started_once_stopped(tmp_path: Path) -> None:
    command = Command(f"touch {tmp_path}/started")
    command.stop()

    assert command.send(parcel(), WITHIN).reason == "worker_stopped"
    assert not (tmp_path / "started").exists()


# ---- URLs


@pytest.fixture
def devices() -> Iterator[Devices]:
    with Devices() as devices:
        yield devices


@pytest.mark.parametrize(
    ("behaviour", "kind", "reason", "retry_after"),
    [
        (d.silent(), Kind.SENT, "http_200", None),
        (d.acks_in_the_answer(), Kind.ACKED, "http_200", None),
        (d.gone(), Kind.GONE, "http_410", None),
        (d.fails(500, retry_after=7), Kind.FAILED, "http_500", None),
        (d.fails(503, retry_after=7), Kind.FAILED, "http_503", 7),
        (d.redirects("http://elsewhere.example/"), Kind.FAILED, "redirect", None),
        (d.drops(1, close=True), Kind.FAILED, "closed", None),
        (d.hangs(), Kind.FAILED, "read_timeout", None),
        (d.floods(10_000_000), Kind.SENT, "http_200", None),
        (d.trickles(1000, 0.01), Kind.SENT, "http_200", None),
    ],
)
def test_a_devices_answer_is_the_outcome(
    devices: Devices, behaviour: Behaviour, kind: Kind, reason: str, retry_after: int | None
) -> None:
    devices.add("lamp", behaviour)
    began = time.monotonic()
    outcome = LocalUrl(f"{devices.url}/devices/{{target}}").send(parcel(), 0.5)

    assert (outcome.kind, outcome.reason, outcome.retry_after) == (kind, reason, retry_after)
    assert time.monotonic() - began < 5


def test_a_device_gets_what_a_webhook_gets(devices: Devices, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    lamp = devices.add("lamp", d.silent())
    LocalUrl(f"{devices.url}/devices/{{target}}?to={{target}}").send(parcel(2), WITHIN)

    (receipt,) = lamp.receipts
    assert (receipt.method, receipt.path, receipt.body) == ("POST", "/devices/lamp?to=lamp", PAYLOAD)
    assert (receipt.message_id, receipt.attempt) == ("message2", 2)
    assert (receipt.ack_url, receipt.nack_url) == (ACK_URL, NACK_URL)
    assert receipt.headers["content-type"] == "text/plain"
    assert abs(int(receipt.headers["webhook-timestamp"]) - time.time()) < 60
    assert "webhook-signature" not in receipt.headers


@pytest.mark.parametrize(
    ("target", "path"),
    [
        ("lamp 7", "/d/lamp%207"),
        ("a/b?c#d", "/d/a%2Fb%3Fc%23d"),
        ("@evil.example", "/d/%40evil.example"),
        ("//evil.example/", "/d/%2F%2Fevil.example%2F"),
        ("a/../../b", "/d/a%2F..%2F..%2Fb"),
        ("x\r\nhost: evil.example", "/d/x%0D%0Ahost%3A%20evil.example"),
        ("%2e%2e", "/d/%252e%252e"),
        ("\\evil", "/d/%5Cevil"),
        ("lämp", "/d/l%C3%A4mp"),
        ("{target}", "/d/%7Btarget%7D"),
        ("...", "/d/..."),
    ],
)
def test_a_target_is_part_of_the_path_and_no_more(target: str, path: str) -> None:
    url = LocalUrl("http://127.0.0.1:9000/d/{target}").url_of(target)

    assert (url.scheme, url.host, url.port, url.path) == ("http", "127.0.0.1", 9000, path)


@pytest.mark.parametrize("target", ["", ".", "..", "x" * 3000])
def test_a_target_that_is_no_name_is_not_sent_to(target: str) -> None:
    local = LocalUrl("http://127.0.0.1:9000/d/{target}")
    with pytest.raises(Invalid):
        local.url_of(target)

    outcome = local.send(parcel(target=target), WITHIN)
    assert (outcome.kind, outcome.reason) == (Kind.FAILED, "bad_target")


@pytest.mark.parametrize(
    "template",
    [
        "http://{target}/",
        "http://127.0.0.1:{target}/",
        "http://127.0.0.1:9000{target}",
        "http://{target}@127.0.0.1/",
        "http://user:pass@127.0.0.1/{target}",
        "{target}",
        "{target}://127.0.0.1/",
        "ftp://127.0.0.1/{target}",
        "file:///etc/{target}",
        "127.0.0.1:9000/{target}",
        "http:///{target}",
        "http://127.0.0.1/#{target}",
        "",
    ],
)
def test_a_url_whose_host_is_not_the_operators_is_refused(template: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        LocalUrl(template)


@pytest.mark.parametrize("change", [{"content_type": "text/plain\r\nx: y"}, {"ack_url": "https://x/\n"}])
def test_a_header_that_cannot_be_sent_fails(devices: Devices, change: Mapping[str, Any]) -> None:
    lamp = devices.add("lamp", d.silent())
    outcome = LocalUrl(f"{devices.url}/devices/{{target}}").send(parcel(**change), WITHIN)

    assert (outcome.kind, outcome.reason) == (Kind.FAILED, "unsendable")
    assert lamp.receipts == []


def test_a_device_that_is_switched_off_fails() -> None:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))  # and does not listen
        outcome = LocalUrl(f"http://127.0.0.1:{bound.getsockname()[1]}/{{target}}").send(parcel(), WITHIN)

    assert (outcome.kind, outcome.reason) == (Kind.FAILED, "refused")


def test_nothing_is_sent_once_stopped(devices: Devices) -> None:
    lamp = devices.add("lamp", d.silent())
    local = LocalUrl(f"{devices.url}/devices/{{target}}")
    local.stop()

    assert local.send(parcel(), WITHIN).reason == "worker_stopped"
    assert lamp.receipts == []


def test_a_worker_delivers_to_a_device(steps: Steps, api: FakeApi, start: Start, devices: Devices) -> None:
    lamp = devices.add("lamp", d.drops(1, close=True) + d.acks_in_the_answer())
    running = start(LocalUrl(f"{devices.url}/devices/{{target}}"))
    steps.put(1)
    until(lambda: api.outcomes)
    steps.put(2)
    until(lambda: len(api.outcomes) == 2)

    assert running.stop() == 0
    assert [receipt.attempt for receipt in lamp.receipts] == [1, 2]
    assert [(body["kind"], body.get("http_status")) for _, body in api.outcomes] == [("FAILED", None), ("ACKED", 200)]


# ---- Step Functions' client, as it is


def real_client() -> Any:
    session = Session()
    session.set_credentials("AKIDEXAMPLE", "secret")
    return command_line.clients(session, "eu-west-3", "http://127.0.0.1:9")


def test_the_clients_wait_longer_than_a_poll_lasts_and_leave_tries_to_the_worker() -> None:
    polling, beating = real_client()

    assert polling.meta.config.read_timeout >= 65
    assert beating.meta.config.read_timeout <= 10
    assert all(client.meta.config.retries["total_max_attempts"] == 1 for client in (polling, beating))
    assert polling.meta.endpoint_url == "http://127.0.0.1:9"


def test_a_poll_and_a_heartbeat_as_the_service_takes_them() -> None:
    polling, beating = real_client()
    tasks = Tasks(polling, beating, ACTIVITY, command_line.worker_name())
    asked = {"activityArn": ACTIVITY, "workerName": command_line.worker_name()}
    with Stubber(polling) as polls, Stubber(beating) as beats:
        polls.add_response("get_activity_task", {"taskToken": "t", "input": json.dumps(job(4, 15))}, asked)
        polls.add_response("get_activity_task", {}, asked)
        polls.add_client_error("get_activity_task", "ThrottlingException", http_status_code=400)
        polls.add_client_error("get_activity_task", "ActivityDoesNotExist", http_status_code=400)
        beats.add_response("send_task_heartbeat", {}, {"taskToken": "t"})
        beats.add_client_error("send_task_heartbeat", "TaskTimedOut", http_status_code=400)

        task = tasks.pull()
        assert task is not None
        assert (task.token, task.message_id, task.attempt, task.wait) == ("t", "message4", 4, 15)
        assert tasks.pull() is None
        with pytest.raises(Trouble, match="ThrottlingException"):
            tasks.pull()
        with pytest.raises(Fatal, match="there is no activity"):
            tasks.pull()
        tasks.beat("t")
        with pytest.raises(TaskOver, match="TaskTimedOut"):
            tasks.beat("t")
        polls.assert_no_pending_responses()
        beats.assert_no_pending_responses()


def test_waits_grow_to_a_limit_and_begin_anew() -> None:
    backoff = Backoff(1, 5, chance=lambda low, high: high - low / 1000)
    waits = [round(backoff.next()) for _ in range(5)]
    backoff.reset()

    assert waits == [1, 2, 4, 5, 5]
    assert round(backoff.next()) == 1
    assert all(0.5 <= Backoff(1).next() <= 1 for _ in range(50))


# ---- the command line

GIVEN = ["--activity", ACTIVITY, "--api-url", "https://api.example/v1"]


def test_settings_come_from_options_then_the_stack_file_then_the_environment(tmp_path: Path) -> None:
    stack = tmp_path / "stack.json"
    local = ACTIVITY.replace("eu-west-3", "eu-west-1")
    stack.write_text(
        json.dumps(
            {
                "activities": {"delivery": local},
                "api_url": "http://127.0.0.1:4566/api",
                "region": "eu-west-1",
                "endpoint_url": "http://127.0.0.1:4566",
            }
        )
    )
    environ = {"UNTIL_ACK_ACTIVITY": ACTIVITY, "UNTIL_ACK_API_URL": "https://api.example/env"}
    read = command_line.read_options

    by_environ = read(["--command", "true"], environ)
    by_stack = read(["--command", "true", "--stack", str(stack)], environ)
    by_options = read(["--command", "true", "--stack", str(stack), *GIVEN], environ)

    assert by_environ[:4] == (ACTIVITY, "eu-west-3", "https://api.example/env", None)
    assert by_stack[:4] == (local, "eu-west-1", "http://127.0.0.1:4566/api", "http://127.0.0.1:4566")
    assert by_options[:3] == (ACTIVITY, "eu-west-3", "https://api.example/v1")
    assert by_environ.settings == Settings(concurrency=4, polls=1, timeout=30, heartbeat=60, drain=60)
    assert isinstance(by_environ.channel, Command)


def test_how_it_works_can_be_set() -> None:
    more = (
        "--url http://127.0.0.1:9000/{target} --concurrency 20 --polls 3 --timeout 9.5 --heartbeat 12 --drain-seconds 5"
    )
    options = command_line.read_options([*GIVEN, *more.split()], {})

    assert isinstance(options.channel, LocalUrl)
    assert options.settings == Settings(concurrency=20, polls=3, timeout=9.5, heartbeat=12, drain=5)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ("", "one of the arguments --command --url is required"),
        ("--command true --url http://127.0.0.1/", "not allowed with"),
        ("--command true", "--activity"),
        ("--command true --activity arn:aws:sqs:eu-west-3:123456789012:q", "an activity's ARN"),
        (f"--command true --activity {ACTIVITY}", "--api-url"),
        (f"--command true --activity {ACTIVITY} --api-url api.example", "http(s) URL"),
        (f"--command /no/such {shlex.join(GIVEN)}", "no such program: /no/such"),
        (f"--url http://{{target}}/ {shlex.join(GIVEN)}", "may not be in the host"),
        (f"--command true {shlex.join(GIVEN)} --concurrency 0", "from 1 to 1000"),
        (f"--command true {shlex.join(GIVEN)} --concurrency x", "from 1 to 1000"),
        (f"--command true {shlex.join(GIVEN)} --polls 5", "--polls may not be more"),
        (f"--command true {shlex.join(GIVEN)} --timeout 0", "seconds above 0"),
        (f"--command true {shlex.join(GIVEN)} --heartbeat nan", "seconds above 0"),
        (f"--command true {shlex.join(GIVEN)} --drain-seconds soon", "seconds above 0"),
        ("--command true --stack /no/such.json", "/no/such.json: No such file"),
        (f"--command true --stack {__file__}", "not JSON"),
    ],
)
def test_settings_that_cannot_be_are_named(capsys: pytest.CaptureFixture[str], arguments: str, said: str) -> None:
    with pytest.raises(SystemExit) as ended:
        command_line.read_options(shlex.split(arguments), {})

    assert ended.value.code == 2
    assert said in capsys.readouterr().err


@pytest.mark.parametrize("text", ["[]", "{}", '{"activities": {}, "api_url": "http://127.0.0.1/"}'])
def test_a_stack_without_workers_is_named(capsys: pytest.CaptureFixture[str], tmp_path: Path, text: str) -> None:
    stack = tmp_path / "stack.json"
    stack.write_text(text)
    with pytest.raises(SystemExit) as ended:
        command_line.read_options(["--command", "true", "--stack", str(stack)], {})

    assert ended.value.code == 2
    assert str(stack) in capsys.readouterr().err


def test_the_help_has_examples_and_the_exit_codes(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        command_line.main(["--help"])

    text = capsys.readouterr().out
    assert ended.value.code == 0
    assert "examples:" in text and "--url 'http://127.0.0.1:9000/devices/{target}'" in text
    assert "UNTIL_ACK_ACK_URL" in text and "20 (the target refuses for ever)" in text


def test_without_credentials_it_says_so(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        monkeypatch.setenv(name, os.devnull)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")

    assert command_line.main(["--command", "true", *GIVEN]) == 2
    assert "no AWS credentials" in json.loads(capfd.readouterr().err)["why"]

    monkeypatch.setenv("AWS_PROFILE", "nobody")
    assert command_line.main(["--command", "true", *GIVEN]) == 2
    assert "ProfileNotFound" in json.loads(capfd.readouterr().err)["why"]


def test_the_worker_is_named_after_its_host_and_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("socket.gethostname", lambda: "gate way/" + "x" * 100)
    name = command_line.worker_name()

    assert name.startswith("gate-way-xxx") and name.endswith(f"-{os.getpid()}")
    assert len(name) == 80
