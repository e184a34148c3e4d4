"""Workflows when things go wrong: executions that die, functions that crash, answers that are lost, dead workers."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from handlers.delivery.channel import Kind
from handlers.delivery.lifecycle import MAX_SWEEPS
from handlers.delivery.message import Scheduler, Status
from handlers.delivery.sweeping import SWEPT as FROM_SWEEP
from handlers.runtime import bootstrap
from tests.fakes.examples import examples
from tests.fakes.wire import Fault, Meanwhile
from tests.fakes.world import START
from tests.simulation.conftest import Simulate
from tests.simulation.invariants import QUEUE_LATENCY, check_promise, executions_are_over
from tests.simulation.simulator import (
    CHANNEL_VISIBILITY,
    GONE,
    GRACE,
    HOUR,
    MINUTE,
    SECOND,
    SWEEP_PERIOD,
    SYNCHRONOUS,
    Crash,
    Reaction,
    Simulation,
    acks,
    hangs,
    install,
    nacks,
    refuses,
    silent,
)
from tests.simulation.states import PUSH_ACTIVITY, Waiting, fields_for
from tests.simulation.test_random_histories import TELLING, horizon
from tests.simulation.test_workflows import ALL, STANDARD, begin, finish
from tests.simulation.worker import Worker

When = Literal["before", "after"]
SUBJECT = "lost its execution"
SWEPT = GRACE + SWEEP_PERIOD + QUEUE_LATENCY
SWEPT_LAST = 2**MAX_SWEEPS * GRACE + MAX_SWEEPS * SWEEP_PERIOD
"""The sweep's last takeover before it gives up, each of which comes after twice the time."""


def alerts(simulation: Simulation) -> int:
    """How often a person was told that an execution was lost."""
    return sum(SUBJECT in subject for subject, _ in simulation.told.alerts)


@pytest.mark.parametrize("workflow", STANDARD)
class TestAnExecutionThatDies:
    @pytest.mark.parametrize("status", ["FAILED", "TIMED_OUT", "ABORTED"])
    def test_is_heard_of_once_and_the_message_goes_on_in_time(
        self, simulation: Simulation, workflow: str, status: str
    ) -> None:
        message = begin(simulation, workflow, silent(), silent(), silent(), acks(10), schedule=[20, 30])
        simulation.run(25 * SECOND)
        simulation.sfn.kill(simulation.sfn.of(message)[0], status)
        record = finish(simulation, message)
        assert (record.status, simulation.sendings(message)) == (Status.DELIVERED, [1, 2, 3, 4])
        assert (alerts(simulation), len(simulation.told.alerts)) == (1, 1)
        if workflow == "delivery_activity":
            assert len(simulation.sfn.of(message)) == 2
        else:
            assert record.scheduler is Scheduler.QUEUES
        check_promise(simulation, faults=0, told_once=True)

    @pytest.mark.parametrize("after", [0, 60, 130, 200])
    def test_before_or_at_its_first_attempt_too(self, simulation: Simulation, workflow: str, after: int) -> None:
        message = begin(simulation, workflow, silent(), acks(10), schedule=[20])
        simulation.run(after)
        simulation.sfn.kill(simulation.sfn.of(message)[0])
        record = finish(simulation, message)
        assert (record.status, simulation.sendings(message)) == (Status.DELIVERED, [1, 2])
        assert alerts(simulation) == 1
        check_promise(simulation, faults=0, told_once=True)

    def test_deleted_with_its_machine_the_sweep_goes_on(self, simulation: Simulation, workflow: str) -> None:
        message = begin(simulation, workflow, silent(), silent(), acks(10), schedule=[20, 30])
        simulation.run(5 * SECOND)
        simulation.sfn.delete(simulation.sfn.of(message)[0])
        record = finish(simulation, message)
        assert (record.status, simulation.sendings(message)) == (Status.DELIVERED, [1, 2, 3])
        first, second, _ = simulation.starts(message)
        assert second - first <= 20 * SECOND + SWEPT
        check_promise(simulation, faults=1, told_once=True)

    def test_told_of_once_more_later_it_is_alerted_once_and_one_execution_goes_on(
        self, simulate: Simulate, workflow: str
    ) -> None:
        simulation = simulate()
        message = begin(simulation, workflow, silent(), silent(), acks(10), schedule=[20, 30])
        simulation.run(5 * SECOND)
        (execution,) = simulation.sfn.of(message)
        simulation.sfn.kill(execution)
        simulation.at(simulation.now + 3 * SECOND, lambda: simulation.sfn.announce(execution))
        assert finish(simulation, message).status is Status.DELIVERED
        assert simulation.sendings(message) == [1, 2, 3]
        check_promise(simulation, faults=0, told_once=True)
        assert (alerts(simulation), len(simulation.sfn.of(message))) in ((1, 1), (1, 2))

    def test_told_of_twice_at_once_it_is_alerted_once(self, simulate: Simulate, workflow: str) -> None:
        for seed in range(8):
            simulation = simulate(seed=seed)
            message = begin(simulation, workflow, silent(), silent(), acks(10), schedule=[20, 30])
            simulation.run(5 * SECOND)
            (execution,) = simulation.sfn.of(message)
            simulation.sfn.kill(execution)
            simulation.sfn.announce(execution)
            assert finish(simulation, message).status is Status.DELIVERED
            assert simulation.sendings(message) == [1, 2, 3]
            assert alerts(simulation) == 1
            simulation.close()

    def test_our_own_stop_and_anybodys_stop_of_an_ended_message_are_silent(
        self, simulation: Simulation, workflow: str
    ) -> None:
        message = begin(simulation, workflow, acks(10), schedule=[600])
        simulation.run(100)
        (execution,) = simulation.sfn.of(message)
        while simulation.record(message).open:
            simulation.run(1)
        simulation.sfn.kill(execution, "ABORTED")
        simulation.run(MINUTE)
        assert execution.status != "RUNNING"
        assert simulation.told.alerts == []
        assert simulation.events_of(message) == ["DELIVERED"]
        check_promise(simulation, faults=0, told_once=True)


@pytest.mark.parametrize("workflow", STANDARD)
class TestAnExecutionThatDiesUnheard:
    def test_unheard_the_sweep_goes_on(self, simulation: Simulation, workflow: str) -> None:
        message = begin(simulation, workflow, silent(), silent(), acks(10), schedule=[20, 30])
        simulation.run(5 * SECOND)
        simulation.sfn.tell = False
        simulation.sfn.kill(simulation.sfn.of(message)[0])
        record = finish(simulation, message)
        assert (record.status, simulation.sendings(message)) == (Status.DELIVERED, [1, 2, 3])
        first, second, third = simulation.starts(message)
        # For workers that pull, another execution is started beside one that may live at the last takeover only.
        pulled = workflow == "delivery_activity"
        assert second - first <= 20 * SECOND + (SWEPT_LAST if pulled else SWEPT)
        assert third - second <= 31 * SECOND + QUEUE_LATENCY
        if pulled:
            assert [e.name for e in simulation.sfn.of(message)] == [f"{message}-1", f"{message}-1-{2 * FROM_SWEEP}"]
            assert not any("is stuck" in subject for subject, _ in simulation.told.alerts)
        check_promise(simulation, faults=1, told_once=True)

    def test_when_it_is_settled_again_and_again_in_vain_the_event_is_kept_and_the_sweep_goes_on(
        self, simulation: Simulation, workflow: str
    ) -> None:
        message = begin(simulation, workflow, silent(), silent(), acks(10), schedule=[20, 30])
        simulation.run(5 * SECOND)
        simulation.wire.crashes.append(Crash("dynamodb.get", "before", function="settle", times=3))
        simulation.sfn.kill(simulation.sfn.of(message)[0])
        simulation.run(5 * MINUTE)
        assert len(simulation.sfn.dead) == 1
        assert finish(simulation, message).status is Status.DELIVERED
        check_promise(simulation, faults=4, told_once=True)


class TestARestart:
    def test_goes_on_by_the_next_number(self, simulation: Simulation) -> None:
        message = begin(simulation, "delivery_activity", silent(), silent(), silent(), acks(10), schedule=[20])
        for generation in (1, 2):
            simulation.run(10 * SECOND)
            simulation.sfn.kill(simulation.sfn.of(message)[-1])
            simulation.run(SECOND)
            assert len(simulation.sfn.of(message)) == generation + 1
        record = finish(simulation, message)
        assert record.status is Status.DELIVERED
        assert [e.name for e in simulation.sfn.of(message)] == [f"{message}-1{end}" for end in ("", "-2", "-3")]
        # The event that tells subscribers has the same id: they drop the second.
        assert alerts(simulation) == 2
        check_promise(simulation, faults=2, told_once=False)

    @pytest.mark.parametrize("killed", [0, 1])
    def test_that_no_worker_has_pulled_ends_with_its_message(self, simulation: Simulation, killed: int) -> None:
        message = simulation.submit(silent(), **fields_for("delivery_activity"))
        for _ in range(killed):
            simulation.run(SECOND)
            simulation.sfn.kill(simulation.sfn.of(message)[-1])
        simulation.run(SECOND)
        assert len(simulation.sfn.of(message)) == 1 + killed
        simulation.cancel(message)
        simulation.run(MINUTE)
        assert simulation.record(message).status is Status.CANCELLED
        executions_are_over(simulation)


@pytest.mark.parametrize("fault", ["throttle", "timeout", "lose", "repeat"])
@pytest.mark.parametrize("operation", ["dynamodb.hand_over", "states.start", "sns.publish", "sns.alert", "sqs.send"])
@pytest.mark.parametrize("workflow", ["delivery_callback", "delivery_activity"])
def test_a_settling_that_fails_halfway_costs_at_most_a_round_of_the_sweep(
    simulation: Simulation, workflow: str, operation: str, fault: Any
) -> None:
    message = begin(simulation, workflow, silent(), silent(), acks(10), schedule=[20, 30])
    simulation.run(5 * SECOND)
    simulation.wire.faults.append(Fault(operation, fault))
    simulation.sfn.kill(simulation.sfn.of(message)[0])
    record = finish(simulation, message)
    assert (record.status, simulation.sendings(message)) == (Status.DELIVERED, [1, 2, 3])
    check_promise(simulation, faults=1, told_once=False)


@pytest.mark.parametrize("workflow", ALL)
class TestAStartThatIsLost:
    @pytest.mark.parametrize("fault", ["throttle", "timeout"])
    def test_the_sweep_takes_over(self, simulation: Simulation, workflow: str, fault: Any) -> None:
        simulation.wire.faults.append(Fault("states.start", fault))
        message = begin(simulation, workflow, silent(), acks(10), schedule=[20])
        record = finish(simulation, message)
        if workflow == "poll_express":
            assert record.status in (Status.DELIVERED, Status.EXPIRED)
        else:
            assert (record.status, simulation.sendings(message)) == (Status.DELIVERED, [1, 2])
            assert simulation.starts(message)[0] <= SWEPT
        check_promise(simulation, faults=1, told_once=True)

    def test_an_execution_that_runs_all_the_same_does_no_harm(self, simulation: Simulation, workflow: str) -> None:
        simulation.wire.faults.append(Fault("states.start", "lose"))
        message = begin(simulation, workflow, silent(), acks(10), schedule=[20])
        record = finish(simulation, message)
        assert (record.status, simulation.sendings(message)) == (Status.DELIVERED, [1, 2])
        check_promise(simulation, faults=0, told_once=True)


@pytest.mark.parametrize("workflow", [w for w in ALL if w != "delivery_activity"])
def test_a_sweep_that_takes_over_from_a_living_execution_makes_no_attempt_twice(
    simulation: Simulation, workflow: str
) -> None:
    message = begin(simulation, workflow, silent(), silent(), acks(10), schedule=[20], expires_in=270)
    queue = simulation.channel_queues["webhook"]
    simulation.held["webhook"] = START + 10 * SECOND
    simulation.run(9 * SECOND)
    (row,) = simulation.table.rows.values()
    simulation.table.postpone_sweep(row.record, START + GRACE, 1, Scheduler.QUEUES)
    job = {"v": 1, "id": message, "attempt": row.record.attempt + 1, "base": 0}
    queue.send(json.dumps(job))
    record = finish(simulation, message)
    assert (record.status, simulation.sendings(message)) == (Status.DELIVERED, [1, 2, 3])
    check_promise(simulation, faults=1, told_once=True)


STEPS = (
    ("submit", "dynamodb.put"),
    ("submit", "states.start"),
    ("attempts", "dynamodb.get"),
    ("attempts", "sqs.send"),
    ("push", "states.pull"),
    ("push", "sqs.send"),
    ("tasks", "dynamodb.claim"),
    ("tasks", "dynamodb.record"),
    ("deliver", "dynamodb.claim"),
    ("deliver", "channel.send"),
    ("deliver", "dynamodb.record"),
    ("job", "dynamodb.get"),
    ("job", "channel.ask"),
    ("ack", "dynamodb.end"),
    ("ack", "states.answer"),
    ("ack", "states.stop"),
    ("ack", "sns.publish"),
)
"""Every call of a workflow delivery, by function."""


@pytest.mark.parametrize("workflow", ALL)
class TestACrash:
    @pytest.mark.parametrize("when", ["before", "after"])
    def test_at_any_call_costs_time_and_no_message(self, simulate: Simulate, workflow: str, when: When) -> None:
        struck = set()
        for function, operation in STEPS:
            for skip in (0, 1):
                simulation = simulate(seed=skip)
                crash = Crash(operation, when, skip=skip, function=function)
                simulation.wire.crashes.append(crash)
                message = begin(simulation, workflow, silent(), silent(), acks(10), schedule=[20, 200], retries=3)
                record = finish(simulation, message)
                if crash.hits:
                    struck.add(function)
                expected = (Status.DELIVERED,) if workflow != "poll_express" else (Status.DELIVERED, Status.EXPIRED)
                assert record.status in expected, (function, operation, skip)
                check_promise(simulation, faults=crash.hits, told_once=operation not in TELLING)
                simulation.close()
        assert {"submit", "ack"} <= struck
        assert struck & {"deliver", "tasks"}

    @pytest.mark.parametrize("status", [Status.EXHAUSTED, Status.EXPIRED])
    def test_of_settle_is_tried_again(self, simulate: Simulate, workflow: str, status: Status) -> None:
        for operation in ("dynamodb.get", "dynamodb.end", "sns.publish", "dynamodb.told"):
            for when in ("before", "after"):
                simulation = simulate()
                crash = Crash(operation, "before" if when == "before" else "after", function="settle")
                simulation.wire.crashes.append(crash)
                limit = {"max_attempts": 2} if status is Status.EXHAUSTED else {"expires_in": 30}
                message = begin(simulation, workflow, silent(), schedule=[10], **limit)
                record = finish(simulation, message)
                assert record.status is status
                assert all(not e.running for e in simulation.sfn.of(message))
                check_promise(simulation, faults=crash.hits, told_once=not crash.hits)
                simulation.close()


CALLS = (
    "apigateway:invoke", "dynamodb:getItem", "lambda:invoke:settle", "lambda:invoke:push", "lambda:invoke:job",
    "sqs:sendMessage", "events:putEvents",
)  # fmt: skip


@pytest.mark.parametrize("workflow", ALL)
@pytest.mark.parametrize("what", ["throttle", "lose", "repeat"])
def test_a_call_of_the_machine_that_fails_is_tried_again(simulate: Simulate, workflow: str, what: Any) -> None:
    for call in CALLS:
        simulation = simulate()
        fault = Fault(call, what, skip=1, times=2)
        simulation.sfn.faults.append(fault)
        message = begin(simulation, workflow, silent(), silent(), acks(10), schedule=[20, 30])
        record = finish(simulation, message)
        assert record.status is Status.DELIVERED, call
        assert simulation.sendings(message) == [1, 2, 3], call
        check_promise(simulation, faults=fault.hits, told_once=True)
        simulation.close()


class TestWorkers:
    def test_one_that_dies_at_a_task_is_missed_and_another_makes_the_attempt_again(
        self, simulation: Simulation
    ) -> None:
        dying = Worker(simulation).start()
        fields = fields_for("delivery_activity", schedule=[600])
        message = simulation.submit(Reaction(latency=20 * SECOND), acks(10), **fields)
        simulation.run(5 * SECOND)
        assert simulation.sendings(message) == [1]
        dying.die()
        Worker(simulation).start()
        record = finish(simulation, message)
        assert (record.status, simulation.sendings(message)) == (Status.DELIVERED, [1, 1])
        assert record.ended_at is not None
        assert record.ended_at <= START + 63 * SECOND + QUEUE_LATENCY, "a heartbeat, and a second or so"
        assert simulation.sfn.of(message)[0].events["ActivityTimedOut"] == 1
        check_promise(simulation, faults=1, told_once=True)

    def test_one_that_dies_after_the_sending_was_recorded_disturbs_nothing(self, simulation: Simulation) -> None:
        dying = Worker(simulation).start()
        fields = fields_for("delivery_activity", schedule=[600])
        message = simulation.submit(silent(), acks(10), **fields)
        simulation.run(5 * SECOND)
        dying.die()
        Worker(simulation).start()
        record = finish(simulation, message)
        assert (record.status, simulation.sendings(message)) == (Status.DELIVERED, [1, 2])
        first, second = simulation.starts(message)
        assert 600 * SECOND <= second - first <= 601 * SECOND + QUEUE_LATENCY
        check_promise(simulation, faults=0, told_once=True)

    def test_one_that_dies_before_each_answer_loses_nothing(self, simulate: Simulate) -> None:
        for after in range(0, 400, 10):
            simulation = simulate(seed=after)
            worker = Worker(simulation).start()
            message = simulation.submit(silent(), acks(10), **fields_for("delivery_activity", schedule=[300]))
            simulation.run(after)
            worker.die()
            simulation.run(SECOND)
            worker.start()
            record = finish(simulation, message)
            assert record.status is Status.DELIVERED
            check_promise(simulation, faults=1, told_once=True)
            simulation.close()

    @pytest.mark.parametrize("counts_from_pull", [True, False])
    def test_after_an_hour_offline_it_makes_the_attempt_at_once(
        self, simulation: Simulation, counts_from_pull: bool
    ) -> None:
        simulation.sfn.counts_from_pull = counts_from_pull
        fields = fields_for("delivery_activity", schedule=[15, 30, 600])
        message = simulation.submit(silent(), acks(10), **fields)
        simulation.run(HOUR)
        assert simulation.sendings(message) == []
        Worker(simulation).start()
        record = finish(simulation, message)
        assert (record.status, simulation.sendings(message)) == (Status.DELIVERED, [1, 2])
        first, second = simulation.starts(message)
        assert first <= HOUR + 2 * SECOND
        assert 15 * SECOND <= second - first <= 16 * SECOND + QUEUE_LATENCY
        check_promise(simulation, faults=6, told_once=True)

    @pytest.mark.parametrize("counts_from_pull", [True, False])
    def test_with_none_the_message_expires_in_time(self, simulation: Simulation, counts_from_pull: bool) -> None:
        simulation.sfn.counts_from_pull = counts_from_pull
        message = simulation.submit(silent(), **fields_for("delivery_activity", expires_in=3600))
        record = finish(simulation, message)
        assert (record.status, simulation.sendings(message)) == (Status.EXPIRED, [])
        assert (record.ended_at or 0) <= record.expires_at + SWEPT
        check_promise(simulation, faults=6, told_once=True)

    def test_many_of_them_share_the_work_and_make_no_attempt_twice(self, simulation: Simulation) -> None:
        workers = [Worker(simulation).start() for _ in range(3)]
        for n in range(30):
            simulation.post(silent(), acks(n * 50), **fields_for("delivery_activity", schedule=[10]))
        simulation.run(2 * MINUTE)
        assert all(len(worker.taken) >= 5 for worker in workers)
        assert sum(len(worker.taken) for worker in workers) == 60
        assert {simulation.record(m).status for m in simulation.accepted} == {Status.DELIVERED}
        check_promise(simulation, faults=0, told_once=True)


@pytest.mark.parametrize("workflow", STANDARD)
def test_a_nack_that_is_quicker_than_the_settling_is_heeded(simulation: Simulation, workflow: str) -> None:
    message = begin(simulation, workflow, silent(), schedule=[10], max_attempts=2)
    simulation.run(15 * SECOND)

    def nack() -> None:
        row = simulation.table.rows[message]
        moved = replace(row.record, due_at=simulation.now + 30 * SECOND, token="moved")
        simulation.table.rows[message] = replace(row, record=moved)

    simulation.wire.faults.append(Meanwhile("dynamodb.end", nack))
    record = finish(simulation, message)
    assert (record.status, simulation.sendings(message)) == (Status.EXHAUSTED, [1, 2])
    assert (record.ended_at or 0) >= START + 50 * SECOND
    assert (record.ended_at or 0) <= START + 50 * SECOND + SWEPT
    check_promise(simulation, faults=1, told_once=True)


def test_a_stray_starter_holds_no_attempt_up(simulation: Simulation) -> None:
    simulation.sfn.poll(PUSH_ACTIVITY, partial(stray, simulation))
    message = begin(simulation, "delivery_push", nacks(500, 20), acks(10), schedule=[15])
    record = finish(simulation, message)
    assert (record.status, simulation.sendings(message)) == (Status.DELIVERED, [1, 2])
    first, second = simulation.starts(message)
    assert second - first <= 21 * SECOND + QUEUE_LATENCY


def stray(simulation: Simulation, task: Waiting) -> None:
    """What the starter of an execution does that has timed out meanwhile."""
    body = {name: value for name, value in task.call.arguments.items() if name != "channel"}
    body["task"] = {**body["task"], "token": task.token}
    simulation.channel_queues["webhook"].send(json.dumps(body))


@pytest.mark.parametrize("workflow", STANDARD)
def test_an_execution_that_asks_while_an_attempt_is_made_does_not_wait_for_its_lease(
    simulate: Simulate, workflow: str
) -> None:
    for seed in range(4):
        simulation = simulate(seed=seed, duplicates=1.0)
        message = begin(simulation, workflow, silent(), schedule=[1, 2, 9], expires_in=100)
        finish(simulation, message)
        check_promise(simulation, faults=0, told_once=True)
        simulation.close()


class TestSlowChannels:
    def test_a_batch_that_dies_is_asked_for_again_by_the_execution(self, simulation: Simulation) -> None:
        simulation.wire.crashes.append(Crash("channel.send", "after", function="deliver"))
        message = begin(simulation, "delivery_callback", silent(), acks(10), schedule=[600])
        record = finish(simulation, message)
        assert record.status is Status.DELIVERED
        assert simulation.sendings(message) == [1, 1]
        assert simulation.record(message).attempts[0].outcome is Kind.SENT
        assert simulation.starts(message)[1] <= CHANNEL_VISIBILITY + 2 * SECOND


# Random histories


@dataclass(frozen=True)
class Letter:
    """A message of the script; without a workflow the queues run it."""

    workflow: str | None
    schedule: tuple[int, ...]
    expires_in: int
    max_attempts: int | None
    reactions: tuple[Reaction, ...]


@dataclass(frozen=True)
class Event:
    """Something that an operator, or bad luck, does at a time."""

    at: int
    what: str
    which: int


OPERATIONS = (
    "dynamodb.put", "dynamodb.get", "dynamodb.claim", "dynamodb.reclaim", "dynamodb.record", "dynamodb.end",
    "dynamodb.move", "dynamodb.hand_over", "dynamodb.postpone_sweep", "dynamodb.claim_telling", "dynamodb.told",
    "dynamodb.late_ack", "dynamodb.reopen", "dynamodb.get_many", "sqs.send", "sqs.entry", "sns.publish", "sns.alert",
    "states.start", "states.answer", "states.stop", "states.pull", "channel.ask", "secretsmanager.get", "channel.send",
)  # fmt: skip
moments_ = st.sampled_from([0, 5, 40, 700, 3_000, 14_990, 15_010, 31_000, 70_000])
reactions = st.one_of(
    st.just(silent()),
    st.just(silent()),
    st.sampled_from([refuses(), hangs(), SYNCHRONOUS, GONE]),
    st.integers(1, 200).map(lambda s: refuses("http_503", 503, s)),
    st.lists(moments_, min_size=1, max_size=3).map(lambda times: acks(*times)),
    moments_.map(lambda at: acks(at, latency=9_000)),
    moments_.map(nacks),
    st.tuples(moments_, st.integers(1, 100)).map(lambda drawn: nacks(*drawn)),
)
letters = st.builds(
    Letter,
    st.sampled_from([None, *ALL]),
    st.sampled_from([(1,), (1, 2, 9), (15, 30), (3, 600)]),
    st.sampled_from([1, 10, 61, 280]),
    st.sampled_from([None, None, 1, 2, 5]),
    st.lists(reactions, min_size=1, max_size=4).map(tuple),
)
crashes = st.builds(Crash, st.sampled_from(OPERATIONS), st.sampled_from(["before", "after"]), st.integers(0, 6))
faults = st.builds(
    Fault,
    st.sampled_from([o for o in OPERATIONS if not o.startswith("channel")]),
    st.sampled_from(["throttle", "timeout", "lose", "repeat"]),
    st.integers(0, 6),
    st.integers(1, 3),
)
machine_faults = st.builds(
    Fault, st.sampled_from(CALLS), st.sampled_from(["throttle", "lose", "repeat"]), st.integers(0, 4), st.integers(1, 3)
)
events = st.builds(
    Event,
    st.integers(0, 200) | st.integers(0, 300_000),
    st.sampled_from(["purge channel", "cancel", "redeliver", "sweep", "kill", "delete", "worker dies"]),
    st.integers(0, 3),
)


def play(
    patch: pytest.MonkeyPatch,
    script: Sequence[Letter],
    *,
    seed: int,
    crashing: Sequence[Crash] = (),
    failing: Sequence[Fault] = (),
    machines: Sequence[Fault] = (),
    happening: Sequence[Event] = (),
    **settings: Any,
) -> Simulation:
    """Play a script to its end: until everything has expired and the sweep has seen to what is left."""
    simulation = Simulation(seed=seed, **settings)
    install(simulation, patch.setattr)
    simulation.wire.crashes += crashing
    simulation.wire.faults += failing
    simulation.sfn.faults += machines
    worker = Worker(simulation).start()
    for letter in script:
        fields: dict[str, Any] = {"schedule": list(letter.schedule), "expires_in": letter.expires_in}
        if letter.max_attempts is not None:
            fields["max_attempts"] = letter.max_attempts
        own = fields if letter.workflow is None else fields_for(letter.workflow, **fields)
        simulation.post(*letter.reactions, retries=3, **own)
    for event in happening:
        simulation.at(START + event.at, partial(happen, simulation, worker, event))
    try:
        troubles = len(crashing) + len(failing) + len(machines) + len(happening)
        simulation.run_until(horizon(simulation, troubles))
    finally:
        simulation.close()
        bootstrap.use(None)
    return simulation


def happen(simulation: Simulation, worker: Worker, event: Event) -> None:
    ids = list(simulation.table.rows)
    running = [e for e in simulation.sfn.executions if e.running]
    if event.what == "purge channel":
        simulation.channel_queues["webhook"].purge()
    elif event.what == "sweep":
        simulation.sweep()
    elif event.what == "worker dies":
        worker.die()
        worker.start()
    elif event.what == "kill" and running:
        simulation.sfn.kill(running[event.which % len(running)])
    elif event.what == "delete" and running:
        simulation.sfn.delete(running[event.which % len(running)])
    elif event.what == "cancel" and ids:
        simulation.cancel(ids[event.which % len(ids)])
    elif event.what == "redeliver" and ids:
        simulation.redeliver(ids[event.which % len(ids)], expires_in=120)


@examples(40)
@given(script=st.lists(letters, min_size=1, max_size=5), seed=st.integers(0, 2**32))
def test_when_nothing_goes_wrong_both_schedulers_are_on_time(script: list[Letter], seed: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        simulation = play(patch, script, seed=seed)
    assert len(simulation.accepted) == len(script)
    check_promise(simulation, faults=0, told_once=True)


@examples(40)
@given(script=st.lists(letters, min_size=1, max_size=4), seed=st.integers(0, 2**32), share=st.sampled_from([0.2, 1.0]))
def test_p5_whatever_comes_twice_has_the_effect_of_one(script: list[Letter], seed: int, share: float) -> None:
    with pytest.MonkeyPatch.context() as patch:
        simulation = play(patch, script, seed=seed, duplicates=share)
    check_promise(simulation, faults=0, told_once=True)


@examples(100)
@given(
    script=st.lists(letters, min_size=1, max_size=3),
    seed=st.integers(0, 2**32),
    crashing=st.lists(crashes, max_size=3),
    failing=st.lists(faults, max_size=3),
    machines=st.lists(machine_faults, max_size=2),
    happening=st.lists(events, max_size=3),
)
def test_whatever_goes_wrong_the_promise_holds(
    script: list[Letter],
    seed: int,
    crashing: list[Crash],
    failing: list[Fault],
    machines: list[Fault],
    happening: list[Event],
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        simulation = play(
            patch,
            script,
            seed=seed,
            crashing=crashing,
            failing=failing,
            machines=machines,
            happening=happening,
            duplicates=0.05,
        )
    troubles: list[Crash | Fault] = [*crashing, *failing, *machines]
    hits = sum(trouble.hits for trouble in troubles)
    struck = {trouble.operation for trouble in troubles if trouble.hits}
    check_promise(simulation, faults=hits + len(happening), told_once=not struck & TELLING)


def test_the_same_seed_makes_the_same_history() -> None:
    script = [Letter(workflow, (1, 2, 9), 250, None, (silent(), refuses(), acks(40, 700))) for workflow in ALL]
    histories: list[list[list[Any]]] = []
    for _ in range(2):
        with pytest.MonkeyPatch.context() as patch:
            simulation = play(patch, script, seed=7, crashing=[Crash("sqs.send", "after", 4)], duplicates=0.5)
        histories.append(
            [
                [(m.at, m.function, m.change) for m in simulation.moments],
                [execution.history for execution in simulation.sfn.executions],
            ]
        )
    assert histories[0] == histories[1]
    assert len(histories[0][0]) > 40
