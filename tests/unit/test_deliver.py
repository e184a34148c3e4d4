"""The channel's function: claim, timer, send, record, and what each hint finds."""

import json
import threading
from dataclasses import replace
from typing import Any

import pytest

from handlers import deliver
from handlers.delivery.channel import Kind, Outcome, Parcel
from handlers.delivery.jobs import attempt_job, parse_timer
from handlers.delivery.message import Record, Scheduler, Status
from handlers.delivery.ports import Ending, Move
from handlers.delivery.telling import iso
from tests.fakes.events import Context, sqs_event
from tests.fakes.records import LEASE, a_record, claim_of, message_id
from tests.fakes.wire import Fault, Meanwhile
from tests.fakes.world import SENT, START, MemoryWorld


class Line:
    """The webhook queue and its function, a batch at a time."""

    def __init__(self, world: MemoryWorld) -> None:
        self.world = world
        self.queue = world.channel_queues["webhook"]

    def put(self, number: int = 1, **fields: Any) -> Record:
        record = a_record(number, **fields)
        self.world.table.put(record)
        return record

    def post(self, record: Record, attempt: int | None = None, **fields: Any) -> None:
        job = attempt_job(record, record.attempt + 1 if attempt is None else attempt)
        self.queue.send(json.dumps({**job.post("webhook").body, **fields}))

    def run(self, remaining: int = 60_000) -> list[str]:
        """One batch; what failed stays in the queue and is returned."""
        batch = self.queue.receive()
        answer = deliver.handler(sqs_event(self.queue, batch), Context(lambda: remaining))
        failed = [failure["itemIdentifier"] for failure in answer["batchItemFailures"]]
        for envelope in batch:
            if envelope.id not in failed:
                self.queue.delete(envelope.id)
        return failed

    def now(self, number: int = 1) -> Record:
        return self.world.table.rows[message_id(number)].record

    def timers(self) -> list[tuple[str, int]]:
        """The timers that were ever armed: token and delay."""
        return [
            (parse_timer(json.dumps(body)).token, delay)
            for queue in self.world.timer_queues.values()
            for _, body, delay in queue.sent
        ]


@pytest.fixture
def line(world: MemoryWorld) -> Line:
    return Line(world)


class TestAttempt:
    def test_p2_claims_arms_the_timer_sends_and_records_in_this_order(self, world: MemoryWorld, line: Line) -> None:
        line.post(line.put())
        world.wire.calls.clear()
        assert line.run() == []
        calls = [c for c in world.wire.calls if not c.startswith("secretsmanager")]
        assert calls == ["dynamodb.claim", "sqs.send", "channel.send", "dynamodb.record"]
        record = line.now()
        assert (record.status, record.attempt, record.lease_until) == (Status.AWAITING_ACK, 1, None)
        assert record.attempts[0].outcome is Kind.SENT
        assert line.timers() == [(record.token, 15)]
        assert line.queue.bodies() == []

    def test_the_parcel_carries_payload_attempt_and_both_urls(self, world: MemoryWorld, line: Line) -> None:
        record = line.put(payload=b"\x00\xff", content_type="application/octet-stream")
        line.post(record)
        line.run()
        (parcel,) = world.target.parcels
        assert (parcel.message_id, parcel.attempt, parcel.target) == (record.id, 1, record.target)
        assert (parcel.payload, parcel.content_type) == (b"\x00\xff", "application/octet-stream")
        base = f"https://api.example/v1/messages/{record.id}"
        assert parcel.ack_url.startswith(f"{base}/ack?cap=k1.")
        assert parcel.nack_url.startswith(f"{base}/nack?cap=k1.")

    def test_p3_near_the_expiry_the_timer_is_for_the_expiry(self, line: Line) -> None:
        line.post(line.put(expires_at=START + 4_500, schedule=(15, 3600), attempt=1))
        line.run()
        assert line.timers() == [(line.now().token, 5)]
        assert line.now().sweep_at == START + 4_500 + 180_000

    @pytest.mark.parametrize(
        ("kind", "reason"), [(Kind.FAILED, "http_500"), (Kind.FAILED, "read_timeout"), (Kind.BLOCKED, "private")]
    )
    def test_a_targets_failure_is_an_outcome_and_no_fault(
        self, world: MemoryWorld, line: Line, kind: Kind, reason: str
    ) -> None:
        world.target.answers.append(Outcome(kind, reason, 30))
        line.post(line.put())
        assert line.run() == []
        record = line.now()
        assert (record.attempts[0].outcome, record.attempts[0].reason) == (kind, reason)
        assert (record.open, record.due_at) == (True, START + 15_000)

    def test_p4_a_synchronous_ack_ends_it_delivered(self, world: MemoryWorld, line: Line) -> None:
        world.target.answers.append(replace(SENT, kind=Kind.ACKED))
        line.post(line.put())
        assert line.run() == []
        record = line.now()
        assert (record.status, record.reason) == (Status.DELIVERED, "acknowledged in the answer")
        assert record.attempts[0].outcome is Kind.ACKED
        assert [e["status"] for e in world.told.events] == ["DELIVERED"]

    def test_p7_a_target_that_is_gone_ends_it_rejected_and_alerts(self, world: MemoryWorld, line: Line) -> None:
        world.target.answers.append(Outcome(Kind.GONE, "http_410", 5, 410))
        line.post(line.put())
        assert line.run() == []
        record = line.now()
        assert (record.status, record.untold) == (Status.REJECTED, None)
        assert "http_410" in (record.reason or "")
        assert len(world.told.alerts) == 1

    def test_p3_retry_after_moves_the_next_attempt_out_with_a_new_timer(self, world: MemoryWorld, line: Line) -> None:
        world.target.answers.append(Outcome(Kind.FAILED, "http_503", 5, 503, retry_after=100))
        line.post(line.put())
        assert line.run() == []
        record = line.now()
        assert (record.due_at, record.attempts[0].http_status) == (START + 100_000, 503)
        (first, _), (second, delay) = line.timers()
        assert (second, delay) == (record.token, 100)
        assert first != second

    def test_p3_a_retry_after_sooner_than_the_schedule_changes_nothing(self, world: MemoryWorld, line: Line) -> None:
        world.target.answers.append(Outcome(Kind.FAILED, "http_429", 5, 429, retry_after=3))
        line.post(line.put())
        line.run()
        assert (line.now().due_at, len(line.timers())) == (START + 15_000, 1)

    def test_a_nack_during_the_sending_wins_over_a_retry_after(self, world: MemoryWorld, line: Line) -> None:
        world.target.answers.append(Outcome(Kind.FAILED, "http_503", 5, 503, retry_after=100))
        line.post(line.put(max_attempts=1))

        def nack(parcel: Parcel) -> None:
            world.table.move(line.now(), Move(START + 500_000, "of the NACK"), "asleep")

        world.target.meanwhile = nack
        assert line.run() == []
        record = line.now()
        assert (record.due_at, record.token) == (START + 500_000, "of the NACK")
        assert record.attempts[0].outcome is Kind.FAILED
        world.now = START + 600_000
        line.post(record, 1)
        assert line.run() == []
        assert len(world.target.parcels) == 1

    def test_after_a_stuck_spell_the_sweep_looks_again_soon(self, line: Line) -> None:
        record = line.put()
        line.world.table.postpone_sweep(record, record.expires_at + 180_000, 6)
        line.post(record)
        line.run()
        assert line.now().sweep_at == START + 15_000 + 180_000


class TestRefused:
    def test_p5_the_same_job_twice_is_one_attempt(self, world: MemoryWorld, line: Line) -> None:
        record = line.put()
        for _ in range(3):
            line.post(record)
            assert line.run() == []
        assert len(world.target.parcels) == len(line.timers()) == 1

    def test_p5_the_same_job_twice_in_a_batch_is_one_attempt(self, world: MemoryWorld, line: Line) -> None:
        record = line.put()
        line.post(record)
        line.post(record)
        line.run()
        world.now += line.queue.visibility
        line.run()
        assert len(world.target.parcels) == 1
        assert line.queue.bodies() == []

    def test_p4_of_an_acked_message_is_dropped(self, world: MemoryWorld, line: Line) -> None:
        record = line.put()
        world.table.end(record.id, Ending(Status.DELIVERED, START))
        line.post(record)
        assert line.run() == []
        assert (world.target.parcels, line.queue.bodies(), line.timers()) == ([], [], [])

    def test_of_a_message_that_does_not_exist_is_dropped(self, line: Line) -> None:
        line.post(a_record(404))
        assert line.run() == []
        assert line.queue.bodies() == []

    @pytest.mark.parametrize("attempt", [1, 3, 9])
    def test_p5_of_an_older_or_a_later_attempt_is_dropped(self, world: MemoryWorld, line: Line, attempt: int) -> None:
        record = line.put()
        taken = world.table.record(world.table.claim(claim_of(record, START, "t1")), SENT)
        world.now = taken.due_at
        line.post(taken, attempt)
        assert line.run() == []
        assert (world.target.parcels, line.queue.bodies()) == ([], [])

    def test_p6_of_an_earlier_life_is_dropped(self, world: MemoryWorld, line: Line) -> None:
        record = line.put(attempt=3, base=3, life=2)
        line.post(record, 4, base=0)
        assert line.run() == []
        assert (world.target.parcels, line.queue.bodies()) == ([], [])

    def test_p3_too_early_goes_back_with_the_remainder(self, world: MemoryWorld, line: Line) -> None:
        record = line.put(due_at=START + 7_400)
        line.post(record)
        assert line.run() == []
        ((at, body, delay),) = line.queue.sent[-1:]
        assert (at, body["attempt"], delay) == (START, 1, 8)
        assert world.target.parcels == []

    def test_p3_much_too_early_hops(self, line: Line) -> None:
        line.post(line.put(due_at=START + 7_200_000))
        line.run()
        assert line.queue.sent[-1][2] == 900

    def test_too_early_and_the_queue_fails_it_stays(self, world: MemoryWorld, line: Line) -> None:
        line.post(line.put(due_at=START + 7_000))
        world.wire.faults.append(Fault("sqs.send", "throttle"))
        assert len(line.run()) == 1

    def test_p2_from_the_expiry_on_it_ends_expired_and_is_told(self, world: MemoryWorld, line: Line) -> None:
        line.post(line.put(expires_at=START))
        assert line.run() == []
        assert (line.now().status, line.now().untold) == (Status.EXPIRED, None)
        assert (world.target.parcels, len(world.told.alerts)) == ([], 1)

    def test_while_another_holds_it_it_stays_in_the_queue(self, world: MemoryWorld, line: Line) -> None:
        record = line.put()
        taken = world.table.claim(claim_of(record, START, "another's"))
        line.post(record)
        assert len(line.run()) == 1
        assert (world.target.parcels, line.now()) == ([], taken)

    def test_p2_after_the_lease_of_one_that_died_it_is_made_again(self, world: MemoryWorld, line: Line) -> None:
        record = line.put()
        world.table.claim(claim_of(record, START, "of the dead"))
        line.post(record)
        world.now += LEASE
        assert line.run() == []
        taken = line.now()
        assert (taken.attempt, taken.claims, taken.attempts[0].outcome) == (1, 2, Kind.SENT)
        assert line.timers() == [(taken.token, 15)]

    def test_p5_of_two_that_take_over_one_wins(self, world: MemoryWorld, line: Line) -> None:
        record = line.put()
        seen = world.table.claim(claim_of(record, START, "of the dead"))
        world.now += LEASE
        other = claim_of(seen, world.now, "quicker", 1)
        world.wire.faults.append(Meanwhile("dynamodb.reclaim", lambda: world.table.reclaim(other, seen)))
        line.post(record)
        assert len(line.run()) == 1
        assert (world.target.parcels, line.now().token) == ([], "quicker")

    def test_p7_an_ending_that_nobody_was_told_of_is_told(self, world: MemoryWorld, line: Line) -> None:
        record = line.put()
        world.table.end(record.id, Ending(Status.EXPIRED, START, "x", START + 30_000, START, 1))
        line.post(record)
        line.run()
        assert world.told.alerts == []
        world.now += 30_000
        line.post(record)
        line.run()
        assert (len(world.told.alerts), line.now().untold) == (1, None)


class TestFaults:
    @pytest.mark.parametrize("what", ["throttle", "timeout"])
    @pytest.mark.parametrize("operation", ["dynamodb.claim", "sqs.send", "sqs.entry", "secretsmanager.get"])
    def test_before_the_sending_leaves_the_job_and_sends_nothing(
        self, world: MemoryWorld, line: Line, operation: str, what: Any
    ) -> None:
        world.wire.faults.append(Fault(operation, what))
        line.post(line.put())
        assert len(line.run()) == 1
        assert world.target.parcels == []
        world.now += line.queue.visibility
        assert line.run() == []
        assert len(world.target.parcels) == 1
        assert line.now().attempts[-1].outcome is Kind.SENT

    def test_at_the_record_means_that_it_is_sent_once_more(self, world: MemoryWorld, line: Line) -> None:
        world.wire.faults.append(Fault("dynamodb.record", "throttle"))
        line.post(line.put())
        assert len(line.run()) == 1
        world.now += line.queue.visibility
        assert line.run() == []
        assert [p.attempt for p in world.target.parcels] == [1, 1]
        assert line.now().attempts[0].outcome is Kind.SENT

    def test_a_claims_answer_that_was_lost_and_asked_for_again_goes_on_with_the_attempt(
        self, world: MemoryWorld, line: Line
    ) -> None:
        world.wire.faults.append(Fault("dynamodb.claim", "repeat"))
        line.post(line.put())
        assert line.run() == []
        record = line.now()
        assert (record.claims, record.attempts[0].outcome) == (1, Kind.SENT)
        assert (len(world.target.parcels), line.timers()) == (1, [(record.token, 15)])

    def test_it_goes_on_even_when_a_nack_moved_the_record_in_between(self, world: MemoryWorld, line: Line) -> None:
        world.wire.faults.append(Fault("dynamodb.claim", "repeat"))

        def nack(change: Any) -> None:
            if change.operation == "claim":
                world.table.move(change.after, Move(START + 99_000, "of the NACK"), "asleep")

        world.table.on_change = nack
        line.post(line.put())
        assert line.run() == []
        assert line.now().attempts[0].outcome is Kind.SENT
        assert line.timers() == [("of the NACK", 99)]

    def test_a_reclaims_answer_that_was_lost_goes_on_too(self, world: MemoryWorld, line: Line) -> None:
        record = line.put()
        world.table.claim(claim_of(record, START, "of the dead"))
        world.now += LEASE
        world.wire.faults.append(Fault("dynamodb.reclaim", "repeat"))
        line.post(record)
        assert line.run() == []
        assert (line.now().claims, len(world.target.parcels)) == (2, 1)

    def test_a_records_answer_that_was_lost_changes_nothing(self, world: MemoryWorld, line: Line) -> None:
        world.wire.faults.append(Fault("dynamodb.record", "lose"))
        line.post(line.put())
        assert len(line.run()) == 1
        world.now += line.queue.visibility
        assert line.run() == []
        assert len(world.target.parcels) == 1

    @pytest.mark.parametrize("what", ["lose", "repeat"])
    def test_a_synchronous_ack_whose_records_answer_was_lost_is_recorded_and_told_once(
        self, world: MemoryWorld, line: Line, what: Any
    ) -> None:
        world.target.answers.append(replace(SENT, kind=Kind.ACKED))
        world.wire.faults.append(Fault("dynamodb.record", what))
        line.post(line.put())
        line.run()
        assert (line.now().status, line.now().late_ack_at) == (Status.DELIVERED, None)
        world.now += line.queue.visibility
        line.run()
        assert len(world.target.parcels) == 1
        assert len(world.told.events) <= 1

    def test_p6_a_synchronous_ack_that_came_after_the_end_is_kept_as_late(self, world: MemoryWorld, line: Line) -> None:
        world.target.answers.append(replace(SENT, kind=Kind.ACKED))
        ending = Ending(Status.CANCELLED, START, "x", START, START, 1)
        world.target.meanwhile = lambda parcel: world.table.end(parcel.message_id, ending)
        line.post(line.put())
        assert line.run() == []
        assert (line.now().status, line.now().late_ack_at) == (Status.CANCELLED, START)
        assert [e["type"] for e in world.told.events] == ["late_ack"]

    def test_with_too_little_time_left_the_attempt_is_put_back_for_the_next_run(
        self, world: MemoryWorld, line: Line
    ) -> None:
        line.post(line.put())
        assert line.run(remaining=11_999) == []
        assert (line.now().attempt, world.target.parcels, line.queue.sent[-1][2]) == (0, [], 1)
        world.now += 1000
        assert line.run(remaining=12_000) == []
        assert (line.now().attempt, line.queue.bodies()) == (1, [])

    def test_an_unforeseen_error_of_the_channel_leaves_the_job(self, world: MemoryWorld, line: Line) -> None:
        def broken(parcel: Parcel) -> None:
            raise RuntimeError("a bug")

        world.target.meanwhile = broken
        line.post(line.put())
        assert len(line.run()) == 1


class TestBatch:
    def test_just_what_failed_comes_again(self, world: MemoryWorld, line: Line) -> None:
        good, early, held, gone = line.put(1), line.put(2, due_at=START + 5_000), line.put(3), a_record(4)
        world.table.claim(claim_of(held, START, "another's"))
        for record in (good, early, held, gone):
            line.post(record)
        line.queue.send("poison")
        failed = line.run()
        assert len(failed) == 1
        assert [b["id"] for b in line.queue.bodies()] == [held.id, early.id]
        assert [p.message_id for p in world.target.parcels] == [good.id]
        ((body, reason),) = [(e.body, e.reason) for e in line.queue.dead]
        assert (body, reason) == ("poison", "body is not JSON")

    def test_is_sent_side_by_side(self, world: MemoryWorld, line: Line) -> None:
        everyone = threading.Barrier(10, timeout=10)
        world.target.meanwhile = lambda parcel: everyone.wait()
        for n in range(1, 11):
            line.post(line.put(n))
        assert line.run() == []
        assert len(world.target.parcels) == 10

    def test_of_nothing_but_poison_fails_nothing(self, line: Line) -> None:
        for body in ("", "[]", '{"v": 2}'):
            line.queue.send(body)
        assert line.run() == []
        assert [e.reason for e in line.queue.dead] == ["body is not JSON", "body is not an object", "version must be 1"]

    def test_poison_that_cannot_be_buried_stays(self, world: MemoryWorld, line: Line) -> None:
        world.wire.faults.append(Fault("sqs.bury", "throttle"))
        line.queue.send("poison")
        good = line.put()
        line.post(good)
        assert line.run() == ["webhook-1"]
        assert line.queue.dead == []
        assert len(world.target.parcels) == 1
        world.now += line.queue.visibility
        assert line.run() == []
        assert [e.body for e in line.queue.dead] == ["poison"]


class TestTask:
    """Jobs whose execution waits for the ACK, or, asked by the route, for nothing."""

    def put(self, line: Line, number: int = 1, **fields: Any) -> Record:
        return line.put(number, **{"scheduler": Scheduler.WORKFLOW, "workflow": "delivery_callback", **fields})

    def ask(
        self,
        line: Line,
        record: Record,
        attempt: int | None = None,
        token: str = "AAAA",
        first: int = 0,
        wait: int = 15,
    ) -> None:
        """What an execution puts into the queue, at this moment."""
        n = record.attempt + 1 if attempt is None else attempt
        task = {"token": token, "asked_at": iso(line.world.now), "wait": wait, "index": n - first - 1}
        line.post(record, n, task=task)

    def made(self, line: Line, token: str = "AAAA", **fields: Any) -> Record:
        """A message whose first attempt has been made, and whose task waits."""
        self.ask(line, self.put(line, **fields), token=token)
        assert line.run() == []
        return line.now()

    def test_p4_its_token_is_stored_by_the_claim_itself_and_no_timer_is_armed(
        self, world: MemoryWorld, line: Line
    ) -> None:
        self.ask(line, self.put(line))
        world.wire.calls.clear()
        assert line.run() == []
        calls = [c for c in world.wire.calls if not c.startswith("secretsmanager")]
        assert calls == ["dynamodb.claim", "channel.send", "dynamodb.record"]
        claim = next(change for change in world.table.changes if change.operation == "claim")
        assert (claim.after.task, claim.after.attempt) == ("AAAA", 1)
        assert (line.timers(), world.states.answers) == ([], {})
        assert line.now().attempts[0].outcome is Kind.SENT

    def test_that_the_route_asked_for_arms_no_timer_either(self, world: MemoryWorld, line: Line) -> None:
        line.post(self.put(line, workflow="delivery_poll"))
        assert line.run() == []
        assert (len(world.target.parcels), line.timers(), line.now().task) == (1, [], None)

    def test_beats_while_the_sending_is_under_way(self, world: MemoryWorld, line: Line) -> None:
        self.made(line)
        line.post(line.put(2))
        line.run()
        assert world.states.beaten == ["AAAA"]

    def test_that_has_timed_out_is_dropped_before_anything_else(self, world: MemoryWorld, line: Line) -> None:
        record = self.put(line)
        self.ask(line, record)
        world.now += 15_000
        world.wire.calls.clear()
        assert line.run() == []
        assert (world.wire.calls, line.queue.bodies(), line.now()) == ([], [], record)

    def test_up_to_that_moment_it_is_made(self, world: MemoryWorld, line: Line) -> None:
        self.ask(line, self.put(line))
        world.now += 14_999
        assert line.run() == []
        assert len(world.target.parcels) == 1

    @pytest.mark.parametrize("status", [Status.DELIVERED, Status.REJECTED, Status.EXPIRED, Status.CANCELLED])
    def test_p4_of_an_ended_message_is_completed_at_once(self, world: MemoryWorld, line: Line, status: Status) -> None:
        record = self.put(line)
        self.ask(line, record)
        world.table.end(record.id, Ending(status, START))
        assert line.run() == []
        assert world.states.answers == {"AAAA": {"status": str(status)}}
        assert (world.target.parcels, line.queue.bodies(), line.timers()) == ([], [], [])

    def test_p4_an_ack_just_before_the_claim_completes_it(self, world: MemoryWorld, line: Line) -> None:
        record = self.put(line)
        ack = Ending(Status.DELIVERED, START)
        world.wire.faults.append(Meanwhile("dynamodb.claim", lambda: world.table.end(record.id, ack)))
        self.ask(line, record)
        assert line.run() == []
        assert world.states.answers == {"AAAA": {"status": "DELIVERED"}}
        assert (world.target.parcels, line.now().task) == ([], None)

    def test_of_a_message_that_does_not_exist_is_completed_unknown(self, world: MemoryWorld, line: Line) -> None:
        self.ask(line, a_record(404))
        assert line.run() == []
        assert world.states.answers == {"AAAA": {"status": "UNKNOWN"}}

    @pytest.mark.parametrize("early", [1, 400, 1_000])
    def test_p3_early_by_up_to_a_second_it_waits_and_makes_the_attempt(
        self, world: MemoryWorld, line: Line, early: int
    ) -> None:
        record = self.made(line)
        world.now = record.due_at - early
        self.ask(line, record, token="BBBB", wait=30)
        assert line.run() == []
        assert (line.now().attempt, line.now().attempts[-1].sent_at) == (2, record.due_at)
        assert (line.now().task, world.states.answers) == ("BBBB", {})

    def test_p3_without_a_task_an_executions_attempt_waits_as_long(self, world: MemoryWorld, line: Line) -> None:
        record = self.put(line, workflow="delivery_poll", due_at=START + 1_000)
        line.post(record)
        assert line.run() == []
        assert (line.now().attempt, world.now) == (1, START + 1_000)

    def test_p3_for_the_queues_it_waits_for_no_moment(self, world: MemoryWorld, line: Line) -> None:
        line.post(line.put(due_at=START + 1))
        line.run()
        assert (line.now().attempt, world.now, line.queue.sent[-1][2]) == (0, START, 1)

    def test_p3_earlier_it_is_asked_to_come_again_when_due(self, world: MemoryWorld, line: Line) -> None:
        record = self.made(line)
        world.now += 4_500
        self.ask(line, record, token="BBBB", wait=30)
        assert line.run() == []
        assert world.states.answers == {
            "BBBB": {"status": "AGAIN", "pause": 11, "next": {"index": 1, "wait": 30, "heartbeat": 29}}
        }
        assert (line.now(), line.queue.bodies()) == (record, [])

    @pytest.mark.parametrize(("attempt", "first"), [(1, 0), (3, 0), (9, 0), (4, 3)])
    def test_p5_of_another_attempt_is_asked_to_come_with_the_right_one(
        self, world: MemoryWorld, line: Line, attempt: int, first: int
    ) -> None:
        record = self.made(line)
        self.ask(line, record, attempt, "BBBB", first)
        assert line.run() == []
        answer = world.states.answers["BBBB"]
        assert (answer["status"], answer["pause"], answer["next"]) == (
            "AGAIN",
            15,
            {"index": 1 - first, "wait": 30, "heartbeat": 29},
        )
        assert (len(world.target.parcels), line.now()) == (1, record)

    def test_p5_the_same_job_twice_is_one_attempt_and_its_task_goes_on_waiting(
        self, world: MemoryWorld, line: Line
    ) -> None:
        record = self.put(line)
        for _ in range(3):
            self.ask(line, record)
            assert line.run() == []
        assert (len(world.target.parcels), world.states.answers, world.states.late) == (1, {}, [])

    def test_p5_the_same_job_while_it_is_under_way_stays_in_the_queue(self, world: MemoryWorld, line: Line) -> None:
        record = self.put(line)
        world.table.claim(claim_of(record, START, "another's", task="AAAA"))
        self.ask(line, record)
        assert len(line.run()) == 1
        assert (world.states.answers, world.target.parcels) == ({}, [])

    def test_of_an_attempt_that_another_task_holds_is_asked_to_come_after_its_lease(
        self, world: MemoryWorld, line: Line
    ) -> None:
        record = self.put(line)
        taken = world.table.claim(claim_of(record, START, "another's", task="AAAA"))
        self.ask(line, record, token="BBBB")
        assert line.run() == []
        assert world.states.answers == {
            "BBBB": {"status": "AGAIN", "pause": 40, "next": {"index": 0, "wait": 15, "heartbeat": 14}}
        }
        assert line.now() == taken

    def test_p2_after_the_lease_of_one_that_died_it_is_made_again_with_the_new_task(
        self, world: MemoryWorld, line: Line
    ) -> None:
        record = self.put(line)
        world.table.claim(claim_of(record, START, "of the dead", task="AAAA"))
        world.now += LEASE
        self.ask(line, record, token="BBBB")
        assert line.run() == []
        assert (line.now().claims, line.now().task, line.timers()) == (2, "BBBB", [])

    @pytest.mark.parametrize(
        "fields", [{"scheduler": Scheduler.QUEUES}, {"attempt": 3, "base": 3, "life": 2}], ids=["taken over", "life 2"]
    )
    def test_of_what_is_no_longer_its_executions_settles(
        self, world: MemoryWorld, line: Line, fields: dict[str, Any]
    ) -> None:
        record = self.put(line, **fields)
        self.ask(line, replace(record, base=0), 1)
        assert line.run() == []
        assert world.states.answers == {"AAAA": {"status": "SETTLE"}}
        assert (world.target.parcels, line.now()) == ([], record)

    def test_a_takeover_between_reading_and_claiming_makes_no_attempt_with_a_task(
        self, world: MemoryWorld, line: Line
    ) -> None:
        record = self.put(line)
        world.wire.faults.append(Meanwhile("dynamodb.claim", lambda: world.table.hand_over(record)))
        self.ask(line, record)
        assert line.run() == []
        assert (line.now().attempt, line.now().task) == (0, None)
        assert world.states.answers == {"AAAA": {"status": "SETTLE"}}

    def test_what_the_queues_have_taken_over_gets_its_timer_again(self, world: MemoryWorld, line: Line) -> None:
        record = self.put(line)
        world.table.hand_over(record)
        line.post(record)
        assert line.run() == []
        assert line.timers() == [(line.now().token, 15)]

    @pytest.mark.parametrize(
        ("fields", "status"),
        [({"expires_at": START}, Status.EXPIRED), ({"attempt": 2, "max_attempts": 2}, Status.EXHAUSTED)],
    )
    def test_p2_what_is_due_to_end_is_ended_told_and_settled(
        self, world: MemoryWorld, line: Line, fields: dict[str, Any], status: Status
    ) -> None:
        self.ask(line, self.put(line, **fields))
        assert line.run() == []
        assert (line.now().status, len(world.told.alerts)) == (status, 1)
        assert world.states.answers == {"AAAA": {"status": "SETTLE"}}
        assert world.target.parcels == []

    def test_p2_beyond_the_last_attempt_nothing_is_claimed_though_its_function_died(
        self, world: MemoryWorld, line: Line
    ) -> None:
        record = self.put(line, max_attempts=1)
        taken = world.table.claim(claim_of(record, START, "of the dead", task="AAAA"))
        world.now = taken.due_at
        self.ask(line, taken, 2, "BBBB")
        assert line.run() == []
        assert line.now() == taken
        assert world.states.answers == {
            "BBBB": {"status": "AGAIN", "pause": 25, "next": {"index": 0, "wait": 15, "heartbeat": 14}}
        }

    def test_p5_beyond_the_last_attempt_of_the_queues_the_job_is_dropped(self, world: MemoryWorld, line: Line) -> None:
        record = line.put(max_attempts=1)
        taken = world.table.claim(claim_of(record, START, "of the dead"))
        world.now = taken.due_at
        line.post(taken, 2)
        assert line.run() == []
        assert (line.now(), line.queue.bodies(), world.target.parcels) == (taken, [], [])

    def test_p4_a_synchronous_ack_completes_it_after_the_record_is_closed(self, world: MemoryWorld, line: Line) -> None:
        world.target.answers.append(replace(SENT, kind=Kind.ACKED))
        self.made(line)
        calls = world.wire.calls
        assert calls.index("states.answer") > calls.index("dynamodb.record")
        assert world.states.answers == {"AAAA": {"status": "DELIVERED"}}

    def test_a_target_that_is_gone_completes_it_rejected(self, world: MemoryWorld, line: Line) -> None:
        world.target.answers.append(Outcome(Kind.GONE, "http_410", 5, 410))
        self.made(line)
        assert world.states.answers == {"AAAA": {"status": "REJECTED"}}

    def test_p4_a_synchronous_ack_stops_the_execution_that_is_ended_so(self, world: MemoryWorld, line: Line) -> None:
        world.target.answers.append(replace(SENT, kind=Kind.ACKED))
        record = self.put(line, workflow="delivery_stop_on_ack")
        line.post(record)
        assert line.run() == []
        assert world.states.stopped == [f"{record.id}-1"]

    def test_p3_retry_after_moves_the_due_time_without_a_timer(self, world: MemoryWorld, line: Line) -> None:
        world.target.answers.append(Outcome(Kind.FAILED, "http_503", 5, 503, retry_after=100))
        record = self.made(line)
        assert (record.due_at, record.token == record.claim, line.timers()) == (START + 100_000, False, [])
        world.now += 15_000
        self.ask(line, record, token="BBBB", wait=30)
        line.run()
        assert world.states.answers["BBBB"]["pause"] == 85

    def test_an_answer_that_failed_leaves_the_job_and_is_given_when_it_comes_again(
        self, world: MemoryWorld, line: Line
    ) -> None:
        record = self.put(line)
        self.ask(line, record, wait=3600)
        world.table.end(record.id, Ending(Status.DELIVERED, START))
        world.wire.faults.append(Fault("states.answer", "throttle"))
        assert len(line.run()) == 1
        assert world.states.answers == {}
        world.now += line.queue.visibility
        assert line.run() == []
        assert world.states.answers == {"AAAA": {"status": "DELIVERED"}}

    def test_p5_an_answer_that_comes_late_is_no_failure(self, world: MemoryWorld, line: Line) -> None:
        record = self.put(line)
        world.states.over.add("AAAA")
        world.table.end(record.id, Ending(Status.DELIVERED, START))
        self.ask(line, record)
        assert line.run() == []
        assert (world.states.late, line.queue.bodies()) == (["AAAA"], [])

    def test_a_claims_answer_that_was_lost_and_asked_for_again_goes_on_without_a_timer(
        self, world: MemoryWorld, line: Line
    ) -> None:
        world.wire.faults.append(Fault("dynamodb.claim", "repeat"))
        record = self.made(line)
        assert (record.claims, len(world.target.parcels), line.timers()) == (1, 1, [])
        assert world.states.answers == {}

    def test_with_too_little_time_left_it_is_put_back_with_its_task(self, world: MemoryWorld, line: Line) -> None:
        self.ask(line, self.put(line))
        assert line.run(remaining=11_999) == []
        world.now += 1_000
        assert line.run() == []
        assert (line.now().attempt, line.now().task) == (1, "AAAA")

    def test_a_bad_one_is_buried_and_fails_no_other(self, world: MemoryWorld, line: Line) -> None:
        record = self.put(line)
        line.post(record, task={"token": ""})
        ended = self.put(line, 2)
        world.table.end(ended.id, Ending(Status.DELIVERED, START))
        self.ask(line, ended, token="BBBB")
        self.ask(line, record)
        assert line.run() == []
        assert [e.reason for e in line.queue.dead] == ["task must have the fields asked_at, index, token, wait"]
        assert world.states.answers == {"BBBB": {"status": "DELIVERED"}}
        assert [p.message_id for p in world.target.parcels] == [record.id]
