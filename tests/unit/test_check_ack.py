"""The timers' function: hop, next attempt, ending, or nothing; batches; poison."""

import json
from dataclasses import replace
from typing import Any

import pytest

from handlers import check_ack
from handlers.delivery.jobs import Timer
from handlers.delivery.message import Record, Scheduler, Status
from handlers.delivery.ports import Ending
from tests.fakes.events import Context, sqs_event
from tests.fakes.records import GRACE, a_record, answered, claimed, message_id
from tests.fakes.wire import Fault, Meanwhile
from tests.fakes.world import START, TIMERS, MemoryWorld


class Clockwork:
    """The timer queues and their function."""

    def __init__(self, world: MemoryWorld) -> None:
        self.world = world
        self.queue = world.timer_queues[15]
        self.attempts = world.channel_queues["webhook"]

    def waiting(self, number: int = 1, **fields: Any) -> Record:
        """A message whose first attempt was made, and whose timer is in its queue."""
        record = answered(claimed(a_record(number, **fields), token=f"token-{number}"))
        self.world.table.put(record)
        self.arm(record)
        return record

    def arm(self, record: Record, at: int = START, **fields: Any) -> None:
        timer = Timer(record.id, record.attempt, record.token)
        post = timer.post(record, at, self.world.now, TIMERS, 900)
        self.queue.send(json.dumps({**post.body, **fields}))

    def run(self) -> list[str]:
        batch = self.queue.receive()
        answer = check_ack.handler(sqs_event(self.queue, batch), Context())
        failed = [failure["itemIdentifier"] for failure in answer["batchItemFailures"]]
        for envelope in batch:
            if envelope.id not in failed:
                self.queue.delete(envelope.id)
        return failed

    def now(self, number: int = 1) -> Record:
        return self.world.table.rows[message_id(number)].record


@pytest.fixture
def clockwork(world: MemoryWorld) -> Clockwork:
    return Clockwork(world)


class TestTimer:
    def test_p3_when_due_asks_for_the_next_attempt(self, world: MemoryWorld, clockwork: Clockwork) -> None:
        record = clockwork.waiting()
        world.now = record.due_at
        assert clockwork.run() == []
        assert clockwork.attempts.bodies() == [{"v": 1, "id": record.id, "attempt": 2, "base": 0}]
        assert clockwork.now() == record, "the claim moves the record, not the timer"

    def test_p3_early_is_armed_again_with_the_rest(self, world: MemoryWorld, clockwork: Clockwork) -> None:
        record = clockwork.waiting()
        world.now = record.due_at - 3_200
        assert clockwork.run() == []
        assert clockwork.attempts.bodies() == []
        ((_, body, delay),) = clockwork.queue.sent
        assert (body["token"], delay) == (record.token, 4)

    def test_p3_far_ahead_hops_by_the_cap_in_its_own_queue(self, world: MemoryWorld, clockwork: Clockwork) -> None:
        clockwork.waiting(schedule=(14400,))
        clockwork.run()
        ((_, _, delay),) = world.timer_queues[14400].sent
        assert delay == 900

    @pytest.mark.parametrize("status", [Status.DELIVERED, Status.REJECTED, Status.CANCELLED])
    def test_p4_of_an_ended_message_stops(self, world: MemoryWorld, clockwork: Clockwork, status: Status) -> None:
        record = clockwork.waiting()
        world.table.end(record.id, Ending(status, START))
        world.now = record.due_at
        assert clockwork.run() == []
        assert (clockwork.attempts.bodies(), clockwork.queue.bodies()) == ([], [])

    def test_p5_twice_makes_one_attempt_in_the_end_and_asks_for_no_other(
        self, world: MemoryWorld, clockwork: Clockwork
    ) -> None:
        record = clockwork.waiting()
        clockwork.arm(record)
        world.now = record.due_at
        clockwork.run()
        jobs = clockwork.attempts.bodies()
        assert jobs == [jobs[0]] * 2

    @pytest.mark.parametrize("fields", [{"token": "of a claim that was taken over"}, {"attempt": 7}])
    def test_p5_of_another_claim_or_attempt_stops(
        self, world: MemoryWorld, clockwork: Clockwork, fields: dict[str, Any]
    ) -> None:
        record = clockwork.waiting()
        clockwork.queue.purge()
        clockwork.arm(record, **fields)
        world.now = record.due_at
        assert clockwork.run() == []
        assert (clockwork.attempts.bodies(), clockwork.queue.bodies()) == ([], [])

    def test_of_a_deleted_message_stops(self, world: MemoryWorld, clockwork: Clockwork) -> None:
        del world.table.rows[clockwork.waiting().id]
        assert clockwork.run() == []
        assert clockwork.queue.bodies() == []

    def test_p2_at_the_expiry_ends_it_and_tells(self, world: MemoryWorld, clockwork: Clockwork) -> None:
        record = clockwork.waiting(expires_at=START + 5_000)
        world.now = record.expires_at
        assert clockwork.run() == []
        assert (clockwork.now().status, clockwork.now().untold) == (Status.EXPIRED, None)
        assert [e["event_id"] for e in world.told.events] == [f"{record.id}.1.EXPIRED"]
        assert len(world.told.alerts) == 1

    def test_p2_after_the_last_attempt_ends_it_exhausted(self, world: MemoryWorld, clockwork: Clockwork) -> None:
        record = clockwork.waiting(max_attempts=1)
        world.now = record.due_at
        clockwork.run()
        assert clockwork.now().status is Status.EXHAUSTED
        assert clockwork.attempts.bodies() == []

    def test_p2_a_last_attempt_that_died_is_made_again(self, world: MemoryWorld, clockwork: Clockwork) -> None:
        record = claimed(a_record(max_attempts=1))
        world.table.put(record)
        clockwork.arm(record)
        world.now = record.lease_until or 0
        clockwork.run()
        assert clockwork.attempts.bodies() == [{"v": 1, "id": record.id, "attempt": 1, "base": 0}]

    def test_p4_an_ack_that_comes_first_wins_over_the_expiry(self, world: MemoryWorld, clockwork: Clockwork) -> None:
        record = clockwork.waiting(expires_at=START + 5_000)
        world.now = record.expires_at
        ack = Ending(Status.DELIVERED, world.now)
        world.wire.faults.append(Meanwhile("dynamodb.end", lambda: _end_quietly(world, record, ack)))
        assert clockwork.run() == []
        assert clockwork.now().status is Status.DELIVERED
        assert world.told.alerts == []

    def test_p7_meets_an_untold_ending_and_tells_it(self, world: MemoryWorld, clockwork: Clockwork) -> None:
        record = clockwork.waiting()
        world.table.end(record.id, Ending(Status.EXPIRED, START, "x", START + 30_000, START + GRACE, 1))
        world.now = START + 30_000
        assert clockwork.run() == []
        assert (len(world.told.alerts), clockwork.now().untold) == (1, None)

    def test_p7_leaves_an_ending_that_somebody_is_telling_alone(self, world: MemoryWorld, clockwork: Clockwork) -> None:
        record = clockwork.waiting()
        world.table.end(record.id, Ending(Status.EXPIRED, START, "x", START + 30_000, START + GRACE, 1))
        world.now = START + 29_999
        clockwork.run()
        assert world.told.alerts == []


def _end_quietly(world: MemoryWorld, record: Record, ending: Ending) -> None:
    row = world.table.rows[record.id]
    ended = replace(row.record, status=ending.status, ended_at=ending.at)
    world.table.rows[record.id] = replace(row, record=ended, overdue=False)


class TestBatch:
    def test_reads_once_and_sends_once(self, world: MemoryWorld, clockwork: Clockwork) -> None:
        for n in range(1, 11):
            clockwork.waiting(n)
        world.now += 15_000
        world.wire.calls.clear()
        assert clockwork.run() == []
        assert world.wire.calls == ["dynamodb.get_many", "sqs.send"]
        assert len(clockwork.attempts.bodies()) == 10

    def test_just_the_entries_that_failed_come_again(self, world: MemoryWorld, clockwork: Clockwork) -> None:
        ids = [clockwork.waiting(n).id for n in range(1, 5)]
        world.now += 15_000
        world.wire.faults.append(Fault("sqs.entry", "throttle", skip=2))
        assert clockwork.run() == ["timer-15-3"]
        assert [b["id"] for b in clockwork.attempts.bodies()] == [ids[0], ids[1], ids[3]]

    def test_of_two_queues_the_one_that_failed_comes_again(self, world: MemoryWorld, clockwork: Clockwork) -> None:
        clockwork.waiting(1)
        clockwork.waiting(2, schedule=(14400,))
        world.now += 15_000
        world.wire.faults.append(Fault("sqs.send", "timeout"))
        assert clockwork.run() == ["timer-15-1"]
        assert [b["id"] for b in world.timer_queues[14400].bodies()] == [message_id(2)]

    @pytest.mark.parametrize("what", ["throttle", "timeout"])
    def test_a_table_that_cannot_be_read_fails_all(self, world: MemoryWorld, clockwork: Clockwork, what: Any) -> None:
        for n in (1, 2, 3):
            clockwork.waiting(n)
        world.wire.faults.append(Fault("dynamodb.get_many", what))
        assert len(clockwork.run()) == 3
        world.now += clockwork.queue.visibility
        assert clockwork.run() == []
        assert len(clockwork.attempts.bodies()) == 3

    def test_an_ending_that_the_table_refused_fails_just_its_timer(
        self, world: MemoryWorld, clockwork: Clockwork
    ) -> None:
        clockwork.waiting(1, expires_at=START + 5_000)
        clockwork.waiting(2)
        world.now += 15_000
        world.wire.faults.append(Fault("dynamodb.end", "throttle"))
        assert clockwork.run() == ["timer-15-1"]
        assert [b["id"] for b in clockwork.attempts.bodies()] == [message_id(2)]

    def test_a_fault_in_one_record_is_no_others(self, world: MemoryWorld, clockwork: Clockwork) -> None:
        record = clockwork.waiting(1)
        clockwork.waiting(2)
        row = world.table.rows[record.id]
        world.table.rows[record.id] = replace(row, record=replace(record, schedule=()))
        assert clockwork.run() == ["timer-15-1"]
        assert len(clockwork.queue.sent) == 1

    def test_p7_an_ending_whose_publication_failed_is_told_when_the_timer_comes_again(
        self, world: MemoryWorld, clockwork: Clockwork
    ) -> None:
        record = clockwork.waiting(expires_at=START + 5_000)
        world.now = record.expires_at
        world.wire.faults.append(Fault("sns.publish", "throttle"))
        assert clockwork.run() == ["timer-15-1"]
        assert clockwork.now().status is Status.EXPIRED
        world.now += clockwork.queue.visibility
        assert clockwork.run() == []
        assert (len(world.told.events), len(world.told.alerts)) == (1, 1)
        assert clockwork.now().untold is None

    def test_poison_is_buried_with_its_reason_and_the_others_go(self, world: MemoryWorld, clockwork: Clockwork) -> None:
        record = clockwork.waiting()
        clockwork.queue.send("{}")
        clockwork.arm(record, token=5)
        world.now += 15_000
        assert clockwork.run() == []
        first, second = clockwork.queue.dead
        assert (first.body, first.reason) == ("{}", "version must be 1")
        assert "token" in (second.reason or "")
        assert len(clockwork.attempts.bodies()) == 1
        assert len(world.log.said("record buried")) == 2

    def test_poison_that_cannot_be_buried_stays(self, world: MemoryWorld, clockwork: Clockwork) -> None:
        clockwork.queue.send("{}")
        world.wire.faults.append(Fault("sqs.bury", "timeout"))
        assert clockwork.run() == ["timer-15-1"]
        assert len(clockwork.queue.bodies()) == 1
        assert clockwork.queue.dead == []


class TestWorkflow:
    """Of messages that the queues have taken over from an execution."""

    @pytest.mark.parametrize(
        ("workflow", "stopped", "answered_"),
        [
            ("delivery_stop_on_ack", 1, {}),
            ("delivery_callback", 0, {"AAAA": {"status": "EXPIRED"}}),
            ("delivery_poll", 0, {}),
        ],
    )
    def test_p2_an_ending_completes_what_may_still_wait(
        self, world: MemoryWorld, clockwork: Clockwork, workflow: str, stopped: int, answered_: dict[str, Any]
    ) -> None:
        record = clockwork.waiting(workflow=workflow, task="AAAA", expires_at=START + 5_000)
        world.now = record.expires_at
        assert clockwork.run() == []
        assert clockwork.now().status is Status.EXPIRED
        assert world.states.stopped == [f"{record.id}-1"] * stopped
        assert world.states.answers == answered_

    def test_p2_it_is_an_ending_though_step_functions_fails(self, world: MemoryWorld, clockwork: Clockwork) -> None:
        record = clockwork.waiting(workflow="delivery_callback", task="AAAA", expires_at=START + 5_000)
        world.now = record.expires_at
        world.wire.faults.append(Fault("states.answer", "timeout"))
        assert clockwork.run() == []
        assert (clockwork.now().status, clockwork.now().untold) == (Status.EXPIRED, None)
        assert len(world.told.alerts) == 1

    def test_a_timer_goes_on_asking_for_attempts_of_its_own(self, world: MemoryWorld, clockwork: Clockwork) -> None:
        record = clockwork.waiting(workflow="delivery_callback", task="AAAA")
        assert record.scheduler is Scheduler.QUEUES
        world.now = record.due_at
        assert clockwork.run() == []
        assert clockwork.attempts.bodies() == [{"v": 1, "id": record.id, "attempt": 2, "base": 0}]
