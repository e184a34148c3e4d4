"""The sweep: takes over what is overdue, exactly once; cannot make it worse; tells what is untold."""

import json
from dataclasses import replace
from typing import Any

import pytest

from handlers import deliver, sweep
from handlers.delivery.errors import Unavailable
from handlers.delivery.lifecycle import MAX_SWEEPS
from handlers.delivery.message import Record, Scheduler, Status
from handlers.delivery.ports import Ending
from handlers.runtime import bootstrap
from tests.fakes.events import Context, sqs_event
from tests.fakes.records import DAY, GRACE, a_record, answered, claimed, message_id
from tests.fakes.wire import Fault, Meanwhile
from tests.fakes.world import START, MemoryWorld


def put(world: MemoryWorld, number: int = 1, **fields: Any) -> Record:
    record = a_record(number, **fields)
    world.table.put(record)
    return record


def run(world: MemoryWorld) -> dict[str, int]:
    world.log.lines.clear()
    return sweep.handler({"source": "aws.events"}, None)


def jobs(world: MemoryWorld, channel: str = "webhook") -> list[tuple[str, int]]:
    return [(b["id"], b["attempt"]) for b in world.channel_queues[channel].bodies()]


def now(world: MemoryWorld, number: int = 1) -> Record:
    return world.table.rows[message_id(number)].record


class TestTakeover:
    def test_p1_what_no_queue_knows_of_is_attempted(self, world: MemoryWorld) -> None:
        record = put(world)
        world.now += GRACE
        assert run(world) == {"taken over": 1}
        assert jobs(world) == [(record.id, 1)]
        assert (now(world).sweep_at, now(world).sweeps) == (world.now + GRACE, 1)

    def test_what_is_not_overdue_is_left_alone(self, world: MemoryWorld) -> None:
        put(world)
        world.now += GRACE - 1
        assert run(world) == {}
        assert jobs(world) == []

    def test_what_waits_for_its_next_attempt_is_looked_at_again_after_it(self, world: MemoryWorld) -> None:
        record = answered(claimed(a_record(schedule=(3600,))))
        world.table.put(record)
        world.now += GRACE
        assert run(world) == {"healthy": 1}
        assert now(world).sweep_at == START + 3_600_000 + GRACE
        assert jobs(world) == []

    def test_a_lost_timer_is_taken_over_with_the_next_attempt(self, world: MemoryWorld) -> None:
        record = answered(claimed(a_record()))
        world.table.put(record)
        world.now = record.due_at + GRACE
        assert run(world) == {"taken over": 1}
        assert jobs(world) == [(record.id, 2)]

    def test_p5_two_sweeps_at_a_time_take_over_once(self, world: MemoryWorld) -> None:
        put(world)
        world.now += GRACE
        other = list[dict[str, int]]()
        world.wire.faults.append(Meanwhile("dynamodb.postpone_sweep", lambda: other.append(run(world))))
        assert run(world) == {"taken by another": 1}
        assert other == [{"taken over": 1}]
        assert len(jobs(world)) == 1
        assert now(world).sweeps == 1

    def test_it_waits_twice_as_long_each_time_then_alerts_once_and_stops(self, world: MemoryWorld) -> None:
        record = put(world)
        expected = START
        for n in range(MAX_SWEEPS):
            expected += GRACE << max(0, n - 1) if n else GRACE
            assert now(world).sweep_at == expected
            world.now = expected
            assert run(world) == {"taken over": 1}
            assert jobs(world) == [(record.id, 1)]
            world.channel_queues["webhook"].purge()
        world.now = now(world).sweep_at or 0
        assert run(world) == {"stuck": 1}
        assert [e["event_id"] for e in world.told.events] == [f"{record.id}.1.stuck"]
        ((subject, text),) = world.told.alerts
        assert "is stuck" in subject
        assert record.target in text
        assert now(world).sweep_at == record.expires_at + GRACE
        world.now = record.expires_at - 1
        assert run(world) == {}
        assert jobs(world) == []
        world.now = record.expires_at + GRACE
        assert run(world) == {"ended": 1}
        assert now(world).status is Status.EXPIRED

    @pytest.mark.parametrize("operation", ["sns.publish", "sns.alert"])
    def test_p7_an_alert_of_being_stuck_that_failed_is_given_by_a_later_sweep(
        self, world: MemoryWorld, operation: str
    ) -> None:
        put(world, sweeps=MAX_SWEEPS)
        world.now += GRACE
        world.wire.faults.append(Fault(operation, "throttle"))
        assert run(world) == {"failed": 1}
        assert world.told.alerts == []
        world.now += GRACE
        assert run(world) == {"stuck": 1}
        assert len(world.told.alerts) == 1

    def test_p5_two_sweeps_at_a_time_alert_once(self, world: MemoryWorld) -> None:
        put(world, sweeps=MAX_SWEEPS)
        world.now += GRACE
        world.wire.faults.append(Meanwhile("dynamodb.postpone_sweep", lambda: run(world)))
        run(world)
        assert len(world.told.alerts) == 1

    def test_a_queue_that_refuses_costs_a_takeover_not_the_message(self, world: MemoryWorld) -> None:
        put(world)
        world.now += GRACE
        world.wire.faults.append(Fault("sqs.send", "throttle"))
        assert run(world) == {"failed": 1}
        world.now = now(world).sweep_at or 0
        assert run(world) == {"taken over": 1}

    def test_one_messages_failure_is_no_others(self, world: MemoryWorld) -> None:
        for n in range(1, 4):
            put(world, n)
        world.now += GRACE
        world.wire.faults.append(Fault("dynamodb.postpone_sweep", "throttle", skip=1))
        assert run(world) == {"taken over": 2, "failed": 1}
        assert run(world) == {"taken over": 1}

    def test_a_channel_that_the_stack_no_longer_has_does_not_stop_the_others(self, world: MemoryWorld) -> None:
        put(world, 1, channel="fax")
        put(world, 2)
        world.now += GRACE
        assert run(world) == {"failed": 1, "taken over": 1}
        assert jobs(world) == [(message_id(2), 1)]


class TestHeld:
    def test_a_paused_channel_is_skipped_and_no_takeover_is_counted(self, world: MemoryWorld) -> None:
        world.environ["PAUSED_CHANNELS"] = json.dumps(["webhook"])
        bootstrap.use(world)
        put(world, 1)
        mail = put(world, 2, channel="email", target="a@example.com")
        world.now += GRACE
        assert run(world) == {"held": 1, "taken over": 1}
        assert (jobs(world), jobs(world, "email")) == ([], [(mail.id, 1)])
        assert (now(world).sweeps, now(world).sweep_at) == (0, world.now + GRACE)

    def test_a_channel_whose_queue_is_older_than_the_grace_is_skipped(self, world: MemoryWorld) -> None:
        put(world)
        world.channel_queues["webhook"].send("waiting")
        world.now += GRACE + 1000
        assert run(world) == {"held": 1}
        assert len(world.channel_queues["webhook"].envelopes) == 1

    def test_p2_what_is_held_still_expires(self, world: MemoryWorld) -> None:
        put(world, expires_at=START + 60_000)
        world.channel_queues["webhook"].send("waiting")
        world.now += DAY
        assert run(world) == {"ended": 1}
        assert now(world).status is Status.EXPIRED

    def test_not_knowing_the_age_stops_no_takeover(self, world: MemoryWorld) -> None:
        put(world)
        world.now += GRACE
        world.wire.faults.append(Fault("cloudwatch.age", "timeout", times=2))
        assert run(world) == {"taken over": 1}


class TestEndings:
    def test_p2_what_has_expired_is_ended_and_told(self, world: MemoryWorld) -> None:
        record = put(world, expires_at=START + 60_000)
        world.now += GRACE
        assert run(world) == {"ended": 1}
        assert (now(world).status, now(world).untold) == (Status.EXPIRED, None)
        assert [e["event_id"] for e in world.told.events] == [f"{record.id}.1.EXPIRED"]
        assert len(world.told.alerts) == 1

    def test_p2_what_is_exhausted_is_ended(self, world: MemoryWorld) -> None:
        record = answered(claimed(a_record(max_attempts=1)))
        world.table.put(record)
        world.now = record.due_at + GRACE
        assert run(world) == {"ended": 1}
        assert now(world).status is Status.EXHAUSTED

    def test_p4_an_ack_that_comes_first_wins(self, world: MemoryWorld) -> None:
        record = put(world, expires_at=START + 60_000)
        world.now += GRACE

        def ack() -> None:
            row = world.table.rows[record.id]
            world.table.rows[record.id] = replace(row, record=replace(row.record, status=Status.DELIVERED))

        world.wire.faults.append(Meanwhile("dynamodb.end", ack))
        assert run(world) == {"taken by another": 1}
        assert world.told.alerts == []

    def test_p7_an_untold_ending_is_told_once_its_lease_is_over(self, world: MemoryWorld) -> None:
        record = put(world)
        world.table.end(record.id, Ending(Status.REJECTED, START, "no", START + 30_000, START + GRACE, 1))
        world.now += GRACE
        assert run(world) == {"told": 1}
        assert (len(world.told.alerts), now(world).untold, now(world).sweep_at) == (1, None, None)
        world.now += DAY
        assert run(world) == {}

    def test_p5_two_sweeps_at_a_time_tell_once(self, world: MemoryWorld) -> None:
        record = put(world)
        world.table.end(record.id, Ending(Status.REJECTED, START, "no", START + 30_000, START + GRACE, 1))
        world.now += GRACE
        world.wire.faults.append(Meanwhile("dynamodb.claim_telling", lambda: run(world)))
        run(world)
        assert (len(world.told.events), len(world.told.alerts)) == (1, 1)

    def test_p7_a_publication_that_fails_is_tried_by_every_sweep_until_it_succeeds(self, world: MemoryWorld) -> None:
        record = put(world)
        world.table.end(record.id, Ending(Status.REJECTED, START, "no", START + 30_000, START + GRACE, 1))
        world.wire.faults.append(Fault("sns.publish", "throttle", times=3))
        for _ in range(3):
            world.now += GRACE
            assert run(world) == {"failed": 1}
        world.now += GRACE
        assert run(world) == {"told": 1}
        assert len(world.told.alerts) == 1

    def test_an_index_that_lags_behind_the_table_does_no_harm(self, world: MemoryWorld) -> None:
        record = put(world)
        world.table.end(record.id, Ending(Status.DELIVERED, START))
        row = world.table.rows[record.id]
        world.table.rows[record.id] = replace(row, overdue=True, record=replace(row.record, sweep_at=START))
        assert run(world) == {"ended": 1}
        assert (jobs(world), world.told.events) == ([], [])

    def test_what_has_been_deleted_is_passed_over(self, world: MemoryWorld) -> None:
        put(world)
        world.now += GRACE
        world.wire.faults.append(Meanwhile("dynamodb.get_many", world.table.rows.clear))
        assert run(world) == {}


class TestRun:
    def test_looks_after_at_most_its_limit(self, world: MemoryWorld) -> None:
        world.environ["SWEEP_LIMIT"] = "8"
        for n in range(1, 41):
            put(world, n)
        world.now += GRACE
        assert run(world) == {"taken over": 8}
        assert run(world) == {"taken over": 8}
        assert len(set(jobs(world))) == 16

    def test_reads_a_hundred_at_a_time(self, world: MemoryWorld) -> None:
        for n in range(1, 131):
            put(world, n)
        world.now += GRACE
        world.wire.calls.clear()
        assert run(world) == {"taken over": 130}
        assert world.wire.calls.count("dynamodb.get_many") == 2

    @pytest.mark.parametrize("operation", ["dynamodb.overdue", "dynamodb.get_many"])
    def test_a_table_that_cannot_be_read_fails_the_run_and_the_next_one_does_the_work(
        self, world: MemoryWorld, operation: str
    ) -> None:
        put(world)
        world.now += GRACE
        world.wire.faults.append(Fault(operation, "timeout"))
        with pytest.raises(Unavailable):
            run(world)
        assert run(world) == {"taken over": 1}


class TestWorkflow:
    def put(self, world: MemoryWorld, workflow: str = "delivery_callback", **fields: Any) -> Record:
        return put(world, **{"scheduler": Scheduler.WORKFLOW, "workflow": workflow, **fields})

    def test_p1_one_whose_execution_was_never_started_goes_on_by_the_queues(self, world: MemoryWorld) -> None:
        record = self.put(world)
        world.now += GRACE
        world.table.changes.clear()
        assert run(world) == {"taken over": 1}
        (change,) = world.table.changes
        assert (change.operation, change.after.sweeps) == ("postpone_sweep", 1)
        assert change.after.scheduler is Scheduler.QUEUES
        assert jobs(world) == [(record.id, 1)]

    def test_p2_the_attempt_that_it_asks_for_arms_a_timer(self, world: MemoryWorld) -> None:
        self.put(world)
        world.now += GRACE
        run(world)
        queue = world.channel_queues["webhook"]
        assert deliver.handler(sqs_event(queue, queue.receive()), Context()) == {"batchItemFailures": []}
        ((_, body, delay),) = world.timer_queues[15].sent
        assert (body["token"], delay) == (now(world).token, 15)

    def test_p5_of_two_sweeps_one_takes_over(self, world: MemoryWorld) -> None:
        self.put(world)
        world.now += GRACE
        world.wire.faults.append(Meanwhile("dynamodb.postpone_sweep", lambda: run(world)))
        assert run(world) == {"taken by another": 1}
        assert len(jobs(world)) == 1

    def test_one_that_its_execution_is_at_is_left_to_it(self, world: MemoryWorld) -> None:
        self.put(world, due_at=START + GRACE)
        world.now += GRACE
        assert run(world) == {"healthy": 1}
        assert (now(world).scheduler, jobs(world)) == (Scheduler.WORKFLOW, [])

    def test_held_it_stays_its_executions(self, world: MemoryWorld) -> None:
        self.put(world)
        world.channel_queues["webhook"].send("waiting")
        world.now += GRACE + 1000
        assert run(world) == {"held": 1}
        assert now(world).scheduler is Scheduler.WORKFLOW

    @pytest.mark.parametrize(("workflow", "stopped"), [("delivery_stop_on_ack", 1), ("delivery_callback", 0)])
    def test_p2_an_ending_completes_what_waits(self, world: MemoryWorld, workflow: str, stopped: int) -> None:
        record = self.put(world, workflow, task="AAAA", expires_at=START + 60_000)
        world.now += GRACE
        assert run(world) == {"ended": 1}
        assert world.states.stopped == [f"{record.id}-1"] * stopped
        assert world.states.answers == ({} if stopped else {"AAAA": {"status": "EXPIRED"}})

    def test_p7_telling_what_nobody_told_completes_what_waits_too(self, world: MemoryWorld) -> None:
        record = self.put(world, task="AAAA")
        world.table.end(record.id, Ending(Status.REJECTED, START, "no", START + 30_000, START + GRACE, 1))
        world.now += GRACE
        assert run(world) == {"told": 1}
        assert world.states.answers == {"AAAA": {"status": "REJECTED"}}

    def test_p1_one_for_workers_has_no_queue_and_its_execution_is_started_again(self, world: MemoryWorld) -> None:
        record = self.put(world, "delivery_activity", channel="activity")
        world.now += GRACE
        assert run(world) == {"waiting for a worker": 1}
        assert list(world.states.started) == [f"{record.id}-1"]
        assert (now(world).scheduler, now(world).sweeps) == (Scheduler.WORKFLOW, 1)
        assert (jobs(world), jobs(world, "email")) == ([], [])

    def test_p5_one_that_runs_is_not_started_twice(self, world: MemoryWorld) -> None:
        self.put(world, "delivery_activity", channel="activity")
        for _ in range(3):
            world.now = now(world).sweep_at or 0
            assert run(world) == {"waiting for a worker": 1}
        assert len(world.states.started) == 1

    def test_one_that_cannot_be_started_is_no_others_and_is_left_to_the_next_sweep(self, world: MemoryWorld) -> None:
        self.put(world, "delivery_activity", channel="activity")
        self.put(world, number=2)
        world.now += GRACE
        world.wire.faults.append(Fault("states.start", "throttle"))
        assert run(world) == {"failed": 1, "taken over": 1}
        world.now = now(world).sweep_at or 0
        assert run(world)["waiting for a worker"] == 1
        assert len(world.states.started) == 1

    def test_p7_that_no_worker_comes_reaches_a_person_once(self, world: MemoryWorld) -> None:
        self.put(world, "delivery_activity", channel="activity")
        seen = []
        for _ in range(MAX_SWEEPS + 1):
            world.now = now(world).sweep_at or 0
            seen += list(run(world))
        assert seen == ["waiting for a worker"] * MAX_SWEEPS + ["stuck"]
        assert len(world.told.alerts) == 1
