"""What executions and their workers ask: the next attempt, a settlement, a job's state, and tasks."""

import base64
import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from handlers import ack, attempts, deliver, job, push, settle, tasks
from handlers.delivery.channel import Kind, Outcome
from handlers.delivery.errors import Unavailable, Unreadable
from handlers.delivery.jobs import parse_attempt, parse_timer
from handlers.delivery.message import Record, Scheduler, Status
from handlers.delivery.ports import Ending, Move
from handlers.delivery.workflows import execution_name
from handlers.runtime import http
from handlers.runtime.http import problem_of
from tests.fakes.events import Context, Reply, answer_event, api_event, reply_of, sqs_event
from tests.fakes.records import DAY, LEASE, a_record, answered, claim_of, claimed
from tests.fakes.wire import Fault, Meanwhile
from tests.fakes.world import SENT, START, MemoryWorld

ENDINGS = [Status.DELIVERED, Status.REJECTED, Status.EXPIRED, Status.EXHAUSTED, Status.CANCELLED]


def put(world: MemoryWorld, record: Record | None = None, **fields: Any) -> Record:
    """A message that an execution runs."""
    given = {"scheduler": Scheduler.WORKFLOW, "workflow": "delivery_poll", **fields}
    record = a_record(**given) if record is None else replace(record, **given)
    world.table.put(record)
    return record


def made(world: MemoryWorld, kind: Kind = Kind.SENT, **fields: Any) -> Record:
    """One whose first attempt has been made."""
    return put(world, answered(claimed(a_record(**fields)), kind))


def held(world: MemoryWorld, **fields: Any) -> Record:
    """One whose first attempt somebody is at, or died at."""
    return put(world, claimed(a_record(**fields)))


def stands(world: MemoryWorld) -> Record:
    return world.table.rows[a_record().id].record


def change(world: MemoryWorld, **fields: Any) -> None:
    """What another function does meanwhile."""
    row = world.table.rows[a_record().id]
    world.table.rows[row.record.id] = replace(row, record=replace(row.record, **fields))


def end(world: MemoryWorld, status: Status = Status.DELIVERED) -> None:
    world.table.end(a_record().id, Ending(status, START))


def queued(world: MemoryWorld, channel: str = "webhook") -> list[int]:
    return [parse_attempt(json.dumps(body)).attempt for body in world.channel_queues[channel].bodies()]


def timers(world: MemoryWorld) -> list[tuple[str, int]]:
    return [
        (parse_timer(json.dumps(body)).token, delay)
        for queue in world.timer_queues.values()
        for _, body, delay in queue.sent
    ]


def deliver_all(world: MemoryWorld) -> None:
    """One after the other: of two alike at the same time, one has to come again."""
    queue = world.channel_queues["webhook"]
    while batch := queue.receive(1):
        assert deliver.handler(sqs_event(queue, batch), Context()) == {"batchItemFailures": []}
        queue.delete(batch[0].id)


class TestAttempts:
    def ask(self, body: object = None, **fields: Any) -> Reply:
        asked = {"message_id": a_record().id, "life": 1, "from": 0, "index": 0, "delays": [15, 30, 14400], **fields}
        return reply_of(
            attempts.handler(api_event("POST", "/internal/attempts", asked if body is None else body), None)
        )

    def test_p3_the_first_attempt_is_queued_and_its_delay_is_the_wait(self, world: MemoryWorld) -> None:
        record = put(world)
        reply = self.ask()
        assert (reply.status, reply.json) == (200, {"wait": 15, "index": 1})
        assert world.channel_queues["webhook"].bodies() == [{"v": 1, "id": record.id, "attempt": 1, "base": 0}]
        assert stands(world) == record, "the claim moves the record, not the asking"

    def test_p3_each_asking_gets_the_next_attempt_with_the_next_delay(self, world: MemoryWorld) -> None:
        put(world)
        waits, index = [], 0
        for _ in range(3):
            following = self.ask(index=index).json
            deliver_all(world)
            waits.append(following["wait"])
            index = following["index"]
            world.now += following["wait"] * 1000
        assert waits == [15, 30, 14400]
        assert [p.attempt for p in world.target.parcels] == [1, 2, 3]

    def test_p6_a_later_life_goes_on_with_the_numbers(self, world: MemoryWorld) -> None:
        put(world, attempt=4, base=4, life=2)
        assert self.ask(life=2, **{"from": 4}).json == {"wait": 15, "index": 1}
        assert queued(world) == [5]

    def test_p5_a_repeat_before_the_claim_queues_a_duplicate_that_collapses(self, world: MemoryWorld) -> None:
        put(world)
        assert [self.ask().json for _ in range(2)] == [{"wait": 15, "index": 1}] * 2
        assert queued(world) == [1, 1]
        deliver_all(world)
        assert queued(world) == []
        assert [p.attempt for p in world.target.parcels] == [1]

    def test_p5_a_repeat_after_the_claim_queues_nothing(self, world: MemoryWorld) -> None:
        made(world)
        world.now += 2_000
        assert self.ask().json == {"wait": 13, "index": 1}
        assert queued(world) == []

    def test_p3_too_early_is_told_how_long_to_wait_and_asks_with_the_same_index(self, world: MemoryWorld) -> None:
        made(world)
        change(world, due_at=START + 600_000)
        assert self.ask(index=1).json == {"wait": 600, "index": 1}
        assert queued(world) == []

    def test_p3_by_a_second_or_less_the_attempt_is_queued_for_who_delivers_it_waits(self, world: MemoryWorld) -> None:
        record = made(world)
        world.now = record.due_at - 1_000
        assert self.ask(index=1).json == {"wait": 30, "index": 2}
        assert queued(world) == [2]
        world.now -= 1
        assert self.ask(index=1).json == {"wait": 2, "index": 1}
        assert queued(world) == [2]

    def test_p3_the_expiry_cuts_the_wait(self, world: MemoryWorld) -> None:
        put(world, expires_at=START + 9_500)
        assert self.ask().json == {"wait": 10, "index": 1}

    def test_an_attempt_that_is_held_is_waited_for(self, world: MemoryWorld) -> None:
        held(world, max_attempts=1)
        world.now += 20_000
        assert self.ask(index=1).json == {"wait": LEASE // 1000 - 20, "index": 0}

    @pytest.mark.parametrize("status", ENDINGS)
    def test_p4_of_an_ended_message_is_a_410_that_says_how_it_ended(self, world: MemoryWorld, status: Status) -> None:
        put(world)
        end(world, status)
        reply = self.ask()
        assert (reply.status, reply.json["type"]) == (410, "urn:until-ack:problem:over")
        assert reply.json["detail"] == str(status)
        assert queued(world) == []

    @pytest.mark.parametrize(
        ("fields", "asked", "says"),
        [
            ({"scheduler": Scheduler.QUEUES}, {}, "HANDED_OVER"),
            ({"life": 2}, {}, "HANDED_OVER"),
            ({}, {"life": 2}, "HANDED_OVER"),
            ({}, {"message_id": a_record(404).id}, "UNKNOWN"),
            ({"attempt": 3}, {"index": 3}, "USED_UP"),
            ({"attempt": 3}, {"from": 4, "index": 0}, "USED_UP"),
            ({"attempt": 1, "max_attempts": 1, "due_at": START + 60_000}, {"index": 1}, "SETTLE"),
        ],
    )
    def test_with_nothing_more_to_ask_for_is_a_410(
        self, world: MemoryWorld, fields: dict[str, Any], asked: dict[str, Any], says: str
    ) -> None:
        record = put(world, **fields)
        reply = self.ask(**asked)
        assert (reply.status, reply.json["detail"]) == (410, says)
        assert (queued(world), stands(world)) == ([], record)

    @pytest.mark.parametrize(
        ("fields", "status"),
        [({"expires_at": START}, Status.EXPIRED), ({"attempt": 2, "max_attempts": 2}, Status.EXHAUSTED)],
    )
    def test_p2_a_message_that_is_due_to_end_is_ended_and_told(
        self, world: MemoryWorld, fields: dict[str, Any], status: Status
    ) -> None:
        put(world, **fields)
        reply = self.ask()
        assert (reply.status, reply.json["detail"]) == (410, str(status))
        assert (stands(world).status, stands(world).untold) == (status, None)
        assert (len(world.told.events), len(world.told.alerts)) == (1, 1)

    def test_p4_an_ack_that_comes_before_the_ending_wins(self, world: MemoryWorld) -> None:
        put(world, expires_at=START)
        world.wire.faults.append(Meanwhile("dynamodb.end", lambda: change(world, status=Status.DELIVERED)))
        assert self.ask().json["detail"] == "DELIVERED"
        assert world.told.alerts == []

    def test_it_stops_no_execution_for_that_one_asks(self, world: MemoryWorld) -> None:
        put(world, workflow="delivery_stop_on_ack", expires_at=START)
        assert self.ask().status == 410
        assert world.states.stopped == []

    def test_p7_an_ending_that_nobody_was_told_of_is_told(self, world: MemoryWorld) -> None:
        record = put(world)
        world.table.end(record.id, Ending(Status.EXPIRED, START, "x", START, START, 1))
        self.ask()
        assert (len(world.told.alerts), stands(world).untold) == (1, None)

    @pytest.mark.parametrize("operation", ["dynamodb.get", "sqs.send", "sqs.entry"])
    def test_a_failing_service_is_a_503_and_it_may_ask_again(self, world: MemoryWorld, operation: str) -> None:
        put(world)
        world.wire.faults.append(Fault(operation, "throttle"))
        assert self.ask().status == 503
        assert self.ask().status == 200
        assert queued(world) == [1]

    @pytest.mark.parametrize(
        ("fields", "field"),
        [
            ({"message_id": "x"}, "message_id"),
            ({"message_id": a_record().id.upper()}, "message_id"),
            ({"life": 0}, "life"),
            ({"life": "1"}, "life"),
            ({"from": -1}, "from"),
            ({"index": -2}, "index"),
            ({"index": 0.5}, "index"),
            ({"delays": []}, "delays"),
            ({"delays": [0]}, "delays[0]"),
            ({"delays": [1] * 601}, "delays"),
            ({"delays": [31_536_001]}, "delays[0]"),
            ({"delays": 15}, "delays"),
            ({"more": 1}, "more"),
        ],
    )
    def test_a_bad_one_is_a_400_that_names_the_field_and_queues_nothing(
        self, world: MemoryWorld, fields: dict[str, Any], field: str
    ) -> None:
        put(world)
        reply = self.ask(**fields)
        assert (reply.status, reply.json["field"]) == (400, field)
        assert queued(world) == []

    def test_the_longest_one_is_not_too_long(self, world: MemoryWorld) -> None:
        put(world)
        assert self.ask(delays=[31_536_000] * 600).status == 200
        assert self.ask("x" * (attempts.MAX_BODY + 1)).status == 413


class TestSettle:
    def settle(self, life: int = 1, **trouble: str) -> str:
        event = {"execution": execution_name(a_record(life=life)), "trouble": trouble}
        return settle.handler(event, None)["status"]

    def heard(self, record: Record, status: str = "FAILED") -> str:
        """What the rule says of an execution that failed."""
        detail = {"name": execution_name(record), "status": status}
        event = {"source": "aws.states", "detail-type": "Step Functions Execution Status Change", "detail": detail}
        return settle.handler(event, None)["status"]

    @pytest.mark.parametrize("status", ENDINGS)
    @pytest.mark.parametrize("by_rule", [False, True])
    def test_of_an_ended_message_changes_nothing_and_says_nothing(
        self, world: MemoryWorld, status: Status, by_rule: bool
    ) -> None:
        record = put(world)
        end(world, status)
        before = stands(world)
        assert (self.heard(record, "ABORTED") if by_rule else self.settle(Error="Boom")) == str(status)
        assert stands(world) == before
        assert (world.told.events, world.told.alerts) == ([], [])

    @pytest.mark.usefixtures("world")
    def test_of_an_unknown_message_says_so(self) -> None:
        assert self.settle() == "UNKNOWN"

    @pytest.mark.parametrize("fields", [{"scheduler": Scheduler.QUEUES}, {"life": 2}])
    def test_p5_of_one_that_is_not_its_executions_any_more_changes_nothing(
        self, world: MemoryWorld, fields: dict[str, Any]
    ) -> None:
        record = put(world, **fields)
        assert self.settle(Error="Boom") == "HANDED_OVER"
        assert (stands(world), queued(world), timers(world), world.told.alerts) == (record, [], [], [])

    @pytest.mark.parametrize(
        ("fields", "status"),
        [({"expires_at": START}, Status.EXPIRED), ({"attempt": 2, "max_attempts": 2}, Status.EXHAUSTED)],
    )
    def test_p2_one_that_is_due_to_end_is_ended_and_told_once(
        self, world: MemoryWorld, fields: dict[str, Any], status: Status
    ) -> None:
        put(world, **fields)
        assert [self.settle() for _ in range(3)] == [str(status)] * 3
        assert stands(world).status is status
        assert (len(world.told.events), len(world.told.alerts)) == (1, 1)

    def test_p3_it_sits_out_a_second_for_the_execution_has_counted_from_its_asking(self, world: MemoryWorld) -> None:
        record = made(world, max_attempts=1)
        world.now = record.due_at - 1_000
        assert self.settle() == "EXHAUSTED"
        assert world.now == record.due_at

    def test_p3_more_than_a_second_early_the_queues_wait_for_the_rest(self, world: MemoryWorld) -> None:
        record = made(world, max_attempts=1)
        world.now = record.due_at - 1_001
        assert self.settle() == "HANDED_OVER"
        assert stands(world) == replace(record, scheduler=Scheduler.QUEUES)
        assert (timers(world), queued(world)) == ([(record.token, 2)], [])

    def test_p2_with_attempts_left_the_next_one_is_queued_when_due(self, world: MemoryWorld) -> None:
        record = made(world)
        world.now = record.due_at
        assert self.settle() == "HANDED_OVER"
        assert stands(world).scheduler is Scheduler.QUEUES
        assert (queued(world), timers(world)) == ([2], [])
        assert world.told.alerts == []

    def test_p2_before_any_attempt_the_first_one_is_queued_with_the_rest_of_its_delay(self, world: MemoryWorld) -> None:
        put(world, due_at=START + 7_400)
        assert self.settle() == "HANDED_OVER"
        assert [(body["attempt"], delay) for _, body, delay in world.channel_queues["webhook"].sent] == [(1, 8)]

    def test_p2_a_last_attempt_that_died_is_made_again_after_its_lease(self, world: MemoryWorld) -> None:
        held(world, max_attempts=1)
        world.now = START + LEASE
        assert self.settle() == "HANDED_OVER"
        assert queued(world) == [1]

    def test_what_the_queues_have_taken_over_goes_on_by_timers(self, world: MemoryWorld) -> None:
        put(world)
        self.settle(Error="Boom")
        deliver_all(world)
        assert timers(world) == [(stands(world).token, 15)]

    @pytest.mark.parametrize("by_rule", [False, True])
    def test_p7_with_trouble_a_person_hears_of_it_once(self, world: MemoryWorld, by_rule: bool) -> None:
        record = put(world)
        for _ in range(3):
            assert (self.heard(record) if by_rule else self.settle(Error="States.DataLimitExceeded")) == "HANDED_OVER"
        ((subject, text),) = world.told.alerts
        assert "lost its execution" in subject
        assert ("the execution is FAILED" if by_rule else "States.DataLimitExceeded") in text
        assert [e["type"] for e in world.told.events] == ["taken_over"]
        assert queued(world) == [1]

    def test_p7_others_words_get_no_line_of_their_own_in_the_alert(self, world: MemoryWorld) -> None:
        put(world)
        self.settle(Error="no\nStatus:    DELIVERED")
        ((_, text),) = world.told.alerts
        assert [line for line in text.splitlines() if line.startswith("Status:")] == ["Status:    PENDING"]

    def test_p7_an_alert_that_failed_fails_it_once_the_message_goes_on(self, world: MemoryWorld) -> None:
        put(world)
        world.wire.faults.append(Fault("sns.alert", "throttle"))
        with pytest.raises(Unavailable):
            self.settle(Error="Boom")
        assert (stands(world).scheduler, queued(world)) == (Scheduler.QUEUES, [1])
        assert [name for name, _ in world.log.counts if name == "ExecutionsLost"] == ["ExecutionsLost"]
        assert self.settle(Error="Boom") == "HANDED_OVER"
        assert queued(world) == [1]

    def test_p1_a_queue_that_refuses_leaves_it_to_the_sweep(self, world: MemoryWorld) -> None:
        record = put(world)
        world.wire.faults.append(Fault("sqs.send", "throttle"))
        assert self.settle() == "HANDED_OVER"
        assert world.log.said("handed over, but left to the sweep") == [{"message_id": record.id}]
        assert world.table.overdue(record.sweep_at or 0, 10) == [record.id]

    def test_p5_of_two_one_hands_over(self, world: MemoryWorld) -> None:
        put(world)
        world.wire.faults.append(Meanwhile("dynamodb.hand_over", lambda: self.settle()))
        assert self.settle() == "HANDED_OVER"
        assert queued(world) == [1]

    def test_p4_an_ack_that_comes_first_wins(self, world: MemoryWorld) -> None:
        put(world, expires_at=START)
        world.wire.faults.append(Meanwhile("dynamodb.end", lambda: change(world, status=Status.DELIVERED)))
        assert self.settle() == "DELIVERED"
        assert world.told.alerts == []

    def test_p4_an_ack_before_the_hand_over_leaves_no_attempt(self, world: MemoryWorld) -> None:
        put(world)
        world.wire.faults.append(Meanwhile("dynamodb.hand_over", lambda: change(world, status=Status.DELIVERED)))
        self.settle()
        assert (queued(world), stands(world).scheduler) == ([], Scheduler.WORKFLOW)

    def test_a_table_that_cannot_be_read_fails_it_and_the_next_one_does_the_work(self, world: MemoryWorld) -> None:
        put(world)
        world.wire.faults.append(Fault("dynamodb.get", "timeout"))
        with pytest.raises(Unavailable):
            self.settle()
        assert self.settle() == "HANDED_OVER"

    def test_an_execution_of_anothers_fails_it_and_touches_no_message(self, world: MemoryWorld) -> None:
        detail = {"name": "somebody-elses", "status": "FAILED"}
        with pytest.raises(ValueError, match="somebody"):
            settle.handler({"source": "aws.states", "detail": detail}, None)
        assert world.wire.calls == []


class TestSettleOfWorkers:
    """A channel that workers pull has no queue: another execution goes on."""

    def settle(self, generation: int = 1, **trouble: str) -> str:
        event = {"execution": execution_name(a_record(), generation), "trouble": trouble}
        return settle.handler(event, None)["status"]

    def pulled(self, world: MemoryWorld, record: Record | None = None, **fields: Any) -> Record:
        return put(world, record, channel="activity", workflow="delivery_activity", **fields)

    def test_p2_another_execution_goes_on_where_this_one_got_to(self, world: MemoryWorld) -> None:
        record = self.pulled(world, answered(claimed(a_record())))
        world.now = record.due_at
        assert self.settle() == "RESTARTED"
        ((name, told),) = world.states.started.items()
        assert name == f"{record.id}-1-2"
        assert (told["from"], told["next"]) == (1, {"index": 0, "wait": 30, "heartbeat": 29})
        assert stands(world) == replace(record, generation=2)

    def test_p5_a_repeat_starts_nothing_more(self, world: MemoryWorld) -> None:
        self.pulled(world)
        assert [self.settle() for _ in range(3)] == ["RESTARTED"] * 3
        assert len(world.states.started) == 1

    def test_p2_while_no_worker_comes_each_execution_is_followed_by_another(self, world: MemoryWorld) -> None:
        self.pulled(world, max_attempts=2, schedule=(1,))
        for n in range(1, 6):
            assert [self.settle(n) for _ in range(2)] == ["RESTARTED"] * 2
            assert list(world.states.started)[-1] == f"{a_record().id}-1-{n + 1}"
            assert len(world.states.started) == n
            world.now += sum(list(world.states.started.values())[-1]["delays"]) * 1000

    def test_p7_with_trouble_a_person_hears_of_it(self, world: MemoryWorld) -> None:
        self.pulled(world)
        assert [self.settle(Error="Boom") for _ in range(3)] == ["RESTARTED"] * 3
        assert len(world.told.alerts) == 1, "who repeats it starts nothing, and need not say so"

    def test_one_that_could_not_be_started_fails_and_the_next_does_the_work(self, world: MemoryWorld) -> None:
        self.pulled(world)
        world.wire.faults.append(Fault("states.start", "throttle"))
        with pytest.raises(Unavailable):
            self.settle()
        assert (self.settle(), len(world.states.started)) == ("RESTARTED", 1)

    def test_p2_after_the_last_attempt_a_timer_waits_for_the_end(self, world: MemoryWorld) -> None:
        record = self.pulled(world, answered(claimed(a_record(max_attempts=1))))
        assert self.settle() == "HANDED_OVER"
        assert (timers(world), world.states.started) == ([(record.token, 15)], {})
        assert stands(world).scheduler is Scheduler.QUEUES

    def test_p2_a_last_attempt_whose_worker_died_is_asked_for_again(self, world: MemoryWorld) -> None:
        self.pulled(world, claimed(a_record(max_attempts=1)))
        world.now = START + LEASE
        assert self.settle() == "RESTARTED"
        ((_, told),) = world.states.started.items()
        taken = take(told, "AAAA")
        assert taken.status == 409
        answer = world.states.answers["AAAA"]
        assert (answer["status"], answer["next"]["index"]) == ("AGAIN", -1)
        world.now += answer["pause"] * 1000
        again = take({**told, "next": answer["next"]}, "BBBB")
        assert (again.status, again.json["attempt"], stands(world).claims) == (200, 1, 2)


def asked(told: Mapping[str, Any], now: int = START) -> dict[str, Any]:
    """The input of the activity's task, as the state machine makes it of the execution's input."""
    attempt = told["from"] + told["next"]["index"] + 1
    task = {"asked_at": "2030-01-01T00:00:00Z", "wait": told["next"]["wait"], "index": told["next"]["index"]}
    return {"v": 1, "id": told["message_id"], "attempt": attempt, "base": told["base"], "task": task}


def take(told: Mapping[str, Any], token: str) -> Reply:
    return reply_of(tasks.handler(api_event("POST", "/internal/tasks", {"token": token, "job": asked(told)}), None))


class TestJob:
    def poll(self, wait: int = 15, index: int = 1) -> dict[str, Any]:
        event = {
            "message_id": a_record().id,
            "life": 1,
            "from": 0,
            "delays": [15, 30],
            "next": {"index": index, "wait": wait},
        }
        return job.handler(event, None)

    def target_says(self, world: MemoryWorld, kind: Kind, status: int | None) -> None:
        world.target.states.append(Outcome(kind, "why", 5, status))

    def test_p3_under_way_it_is_asked_again_after_the_wait_and_no_attempt_is_overdue(self, world: MemoryWorld) -> None:
        record = made(world)
        world.now = record.due_at
        assert self.poll(wait=20) == {"state": "RUNNING", "next": {"index": 1, "wait": 20}}
        assert (stands(world).due_at, stands(world).attempt) == (world.now + 20_000, 1)
        assert timers(world) == []

    def test_the_question_names_the_message_and_its_attempt_and_carries_neither_payload_nor_capability(
        self, world: MemoryWorld
    ) -> None:
        record = made(world)
        self.poll()
        (question,) = world.target.questions
        assert (question.message_id, question.attempt, question.target) == (record.id, 1, record.target)
        assert (question.payload, question.ack_url, question.nack_url) == (b"", "", "")

    def test_p3_the_expiry_cuts_the_wait(self, world: MemoryWorld) -> None:
        made(world, expires_at=START + 9_500)
        assert self.poll()["next"] == {"index": 1, "wait": 10}

    @pytest.mark.parametrize(
        ("since", "wait", "pause"),
        [(749, 15, 15), (799, 15, 15), (800, 15, 16), (86_400, 15, 1728), (86_400, 2000, 2000)],
    )
    def test_p3_the_longer_it_takes_the_less_often_it_is_asked_for(
        self, world: MemoryWorld, since: int, wait: int, pause: int
    ) -> None:
        made(world, expires_at=START + 365 * DAY)
        world.now += since * 1000
        assert self.poll(wait)["next"]["wait"] == pause
        assert stands(world).due_at == world.now + pause * 1000

    def test_p3_its_patience_counts_from_the_attempt_not_from_the_message(self, world: MemoryWorld) -> None:
        put(world, answered(claimed(a_record(expires_at=START + 365 * DAY), at=START + DAY)))
        world.now += DAY + 60_000
        assert self.poll()["next"]["wait"] == 15

    def test_p3_the_expiry_cuts_its_patience_too(self, world: MemoryWorld) -> None:
        made(world)
        world.now += DAY - 100_000
        assert self.poll()["next"]["wait"] == 100

    def test_p2_a_job_of_a_year_fits_into_one_execution(self, world: MemoryWorld) -> None:
        made(world, expires_at=START + 365 * DAY)
        asks, polled = 0, self.poll()
        while polled["state"] == "RUNNING":
            asks += 1
            world.now += polled["next"]["wait"] * 1000
            polled = self.poll()
        assert (polled["state"], world.now) == ("OVER", START + 365 * DAY)
        assert len(world.target.questions) == asks < 700

    def test_under_way_it_keeps_the_reason_of_an_earlier_nack(self, world: MemoryWorld) -> None:
        made(world, nack_reason="asleep")
        assert self.poll()["state"] == "RUNNING"
        assert stands(world).nack_reason == "asleep"

    def test_it_answers_index_and_wait_only_whatever_it_is_given(self, world: MemoryWorld) -> None:
        made(world)
        event = {"message_id": a_record().id, "life": 1, "next": {"index": 1, "wait": 15, "heartbeat": 14}}
        assert job.handler(event, None)["next"] == {"index": 1, "wait": 15}

    def test_p4_done_it_ends_delivered(self, world: MemoryWorld) -> None:
        made(world)
        self.target_says(world, Kind.ACKED, 200)
        assert self.poll() == {"state": "OVER", "next": {"index": 1, "wait": 15}}
        assert (stands(world).status, stands(world).reason) == (Status.DELIVERED, "the target's job is done")
        assert [e["status"] for e in world.told.events] == ["DELIVERED"]

    def test_p7_given_up_it_ends_rejected_and_alerts(self, world: MemoryWorld) -> None:
        made(world)
        self.target_says(world, Kind.GONE, 410)
        assert self.poll()["state"] == "OVER"
        assert stands(world).status is Status.REJECTED
        assert len(world.told.alerts) == 1

    @pytest.mark.parametrize(
        ("kind", "status"),
        [(Kind.SENT, 200), (Kind.FAILED, 404), (Kind.FAILED, 500), (Kind.FAILED, None), (Kind.BLOCKED, None)],
    )
    def test_p2_any_other_answer_means_that_it_is_started_anew(
        self, world: MemoryWorld, kind: Kind, status: int | None
    ) -> None:
        record = made(world)
        self.target_says(world, kind, status)
        assert self.poll() == {"state": "AGAIN", "next": {"index": 1, "wait": 15}}
        assert stands(world) == record

    @pytest.mark.parametrize("kind", [Kind.FAILED, Kind.BLOCKED])
    def test_a_job_that_was_not_taken_is_not_asked_for(self, world: MemoryWorld, kind: Kind) -> None:
        made(world, kind)
        assert self.poll()["state"] == "AGAIN"
        assert world.target.questions == []

    def test_nor_one_that_was_never_started_or_is_being_started(self, world: MemoryWorld) -> None:
        put(world)
        assert self.poll()["state"] == "AGAIN"
        world.table.claim(claim_of(stands(world), START, "t1"))
        assert self.poll()["state"] == "AGAIN"
        assert world.target.questions == []

    def test_nor_one_of_an_earlier_life(self, world: MemoryWorld) -> None:
        made(world)
        change(world, base=1)
        assert self.poll()["state"] == "AGAIN"
        assert world.target.questions == []

    @pytest.mark.parametrize(
        "fields", [{"scheduler": Scheduler.QUEUES}, {"life": 2}, {"expires_at": START}, {"status": Status.DELIVERED}]
    )
    def test_p4_what_is_not_its_executions_or_over_is_not_asked_for(
        self, world: MemoryWorld, fields: dict[str, Any]
    ) -> None:
        made(world)
        change(world, **fields)
        before = stands(world)
        assert self.poll()["state"] == "OVER"
        assert (world.target.questions, stands(world)) == ([], before)

    @pytest.mark.usefixtures("world")
    def test_nor_what_does_not_exist(self) -> None:
        assert self.poll()["state"] == "OVER"

    @pytest.mark.parametrize(("kind", "status"), [(Kind.SENT, 202), (Kind.ACKED, 200), (Kind.GONE, 410)])
    @pytest.mark.parametrize("operation", ["dynamodb.end", "dynamodb.move"])
    def test_p6_an_ack_meanwhile_wins(self, world: MemoryWorld, kind: Kind, status: int, operation: str) -> None:
        made(world)
        self.target_says(world, kind, status)
        quicker = {"status": Status.CANCELLED, "token": "another's"}
        world.wire.faults.append(Meanwhile(operation, lambda: change(world, **quicker)))
        if (operation == "dynamodb.move") == (status == 202):
            assert self.poll()["state"] == "AGAIN"
            assert stands(world).status is Status.CANCELLED
            assert world.told.alerts == []
        else:
            assert self.poll()["state"] in ("OVER", "RUNNING")

    def test_a_nack_meanwhile_keeps_its_due_time(self, world: MemoryWorld) -> None:
        made(world)
        moved = Move(START + 500_000, "of the NACK")
        world.wire.faults.append(
            Meanwhile("dynamodb.move", lambda: change(world, due_at=moved.due_at, token=moved.token))
        )
        assert self.poll()["state"] == "AGAIN"
        assert stands(world).due_at == START + 500_000

    def test_p5_asked_twice_it_ends_once(self, world: MemoryWorld) -> None:
        made(world)
        self.target_says(world, Kind.ACKED, 200)
        assert [self.poll()["state"] for _ in range(3)] == ["OVER"] * 3
        assert (len(world.target.questions), len(world.told.events)) == (1, 1)

    def test_a_table_that_cannot_be_read_fails_it(self, world: MemoryWorld) -> None:
        made(world)
        world.wire.faults.append(Fault("dynamodb.get", "timeout"))
        with pytest.raises(Unavailable):
            self.poll()
        assert world.target.questions == []


class TestPush:
    def waiting(self, world: MemoryWorld, channel: str = "webhook", **fields: Any) -> Record:
        record = put(world, workflow="delivery_push", channel=channel)
        task = {"asked_at": "2026-01-01T00:00:00Z", "wait": 15, "index": 0}
        body = {"v": 1, "id": record.id, "attempt": 1, "base": 0, "task": task, "channel": channel, **fields}
        world.states.waiting.append(("AAAA", json.dumps(body)))
        return record

    @pytest.mark.parametrize("channel", ["webhook", "email"])
    def test_puts_the_attempt_with_its_token_into_the_queue_of_the_tasks_own_channel(
        self, world: MemoryWorld, channel: str
    ) -> None:
        record = self.waiting(world, channel)
        assert push.handler({}, None) == {"started": True}
        (body,) = world.channel_queues[channel].bodies()
        asked = parse_attempt(json.dumps(body))
        assert (asked.message_id, asked.attempt) == (record.id, 1)
        assert asked.task is not None
        assert (asked.task.token, asked.task.wait) == ("AAAA", 15)

    def test_p2_a_task_that_was_pulled_late_counts_from_its_pulling(self, world: MemoryWorld) -> None:
        self.waiting(world)
        world.now += 600_000
        push.handler({}, None)
        (body,) = world.channel_queues["webhook"].bodies()
        assert body["task"]["asked_at"] == "2026-01-01T00:10:00.000Z"
        deliver_all(world)
        assert [parcel.attempt for parcel in world.target.parcels] == [1]

    def test_p5_one_whose_wait_is_over_since_its_pulling_is_dropped(self, world: MemoryWorld) -> None:
        self.waiting(world)
        world.now += 600_000
        push.handler({}, None)
        world.now += 60_000
        deliver_all(world)
        assert world.target.parcels == []

    def test_with_nothing_waiting_does_nothing(self, world: MemoryWorld) -> None:
        assert push.handler({}, None) == {"started": False}
        assert queued(world) == []

    @pytest.mark.parametrize("operation", ["states.pull", "sqs.send", "sqs.entry"])
    def test_a_failing_service_fails_it(self, world: MemoryWorld, operation: str) -> None:
        self.waiting(world)
        world.wire.faults.append(Fault(operation, "throttle"))
        with pytest.raises(Unavailable):
            push.handler({}, None)
        assert queued(world) == []

    @pytest.mark.parametrize("fields", [{"v": 2}, {"task": {}}, {"channel": 5}, {"attempt": 0}])
    def test_a_task_that_is_none_fails_it(self, world: MemoryWorld, fields: dict[str, Any]) -> None:
        self.waiting(world, **fields)
        with pytest.raises(Unreadable):
            push.handler({}, None)
        assert queued(world) == []

    def test_p4_the_ack_of_what_it_sent_completes_the_task(self, world: MemoryWorld) -> None:
        self.waiting(world)
        push.handler({}, None)
        deliver_all(world)
        (parcel,) = world.target.parcels
        assert reply_of(ack.handler(answer_event(parcel.ack_url), None)).status == 200
        assert world.states.answers == {"AAAA": {"status": "DELIVERED"}}


class TestTasks:
    @pytest.fixture
    def record(self, world: MemoryWorld) -> Record:
        return put(world, channel="activity", workflow="delivery_activity", target="meter-7", payload=b"\x00\xff")

    def input(self, attempt: int = 1, **fields: Any) -> dict[str, Any]:
        task = {"asked_at": "2026-01-01T00:00:00Z", "wait": 15, "index": attempt - 1}
        return {"v": 1, "id": a_record().id, "attempt": attempt, "base": 0, "task": task, **fields}

    def take(self, token: str = "AAAA", attempt: int = 1, **fields: Any) -> Reply:
        body = {"token": token, "job": self.input(attempt, **fields)}
        return reply_of(tasks.handler(api_event("POST", "/internal/tasks", body), None))

    def report(self, claim: str, attempt: int = 1, **fields: Any) -> Reply:
        body = {"attempt": attempt, "claim": claim, "kind": "SENT", "reason": "http_200", "latency_ms": 12, **fields}
        event = api_event("POST", "/internal/tasks/{id}/outcome", body, path={"id": a_record().id})
        return reply_of(tasks.handler(event, None))

    def test_p3_takes_the_attempt_with_its_task_and_gets_all_that_it_has_to_send(
        self, world: MemoryWorld, record: Record
    ) -> None:
        reply = self.take()
        taken = stands(world)
        assert reply.status == 200
        sent = dict(reply.json)
        assert sent.pop("ack_url").startswith(f"https://api.example/v1/messages/{record.id}/ack?cap=k1.")
        assert sent.pop("nack_url").startswith(f"https://api.example/v1/messages/{record.id}/nack?cap=k1.")
        assert base64.b64decode(sent.pop("payload")) == b"\x00\xff"
        assert sent == {
            "message_id": record.id,
            "attempt": 1,
            "claim": taken.claim,
            "target": "meter-7",
            "content_type": "text/plain",
            "lease_seconds": 40,
        }
        assert (taken.attempt, taken.task, taken.lease_until) == (1, "AAAA", START + LEASE)
        assert (timers(world), world.target.parcels, world.states.answers) == ([], [], {})

    def test_p5_a_repeat_gets_the_same_claim(self, world: MemoryWorld, record: Record) -> None:
        first = self.take()
        taken = stands(world)
        world.now += 1_000
        again = self.take()
        assert (again.status, again.json["claim"]) == (200, first.json["claim"])
        assert stands(world) == taken
        assert world.states.answers == {}

    def test_p4_of_an_ended_message_is_a_409_and_its_task_is_completed_at_once(
        self, world: MemoryWorld, record: Record
    ) -> None:
        end(world)
        reply = self.take()
        assert (reply.status, reply.json["type"]) == (409, "urn:until-ack:problem:not-now")
        assert world.states.answers == {"AAAA": {"status": "DELIVERED"}}

    def test_p5_while_another_worker_holds_it_is_a_409_and_it_is_asked_for_again_after_the_lease(
        self, world: MemoryWorld, record: Record
    ) -> None:
        self.take("AAAA")
        taken = stands(world)
        world.now += 10_000
        assert self.take("BBBB").status == 409
        assert world.states.answers == {
            "BBBB": {"status": "AGAIN", "pause": 30, "next": {"index": 0, "wait": 15, "heartbeat": 14}}
        }
        assert stands(world) == taken

    def test_p2_after_the_lease_of_a_worker_that_died_another_takes_it(
        self, world: MemoryWorld, record: Record
    ) -> None:
        dead = self.take("AAAA").json["claim"]
        world.now += LEASE
        taken = self.take("BBBB")
        assert (taken.status, taken.json["attempt"]) == (200, 1)
        assert taken.json["claim"] != dead
        assert (stands(world).claims, stands(world).task) == (2, "BBBB")

    def test_of_two_that_take_over_the_slower_is_a_503(self, world: MemoryWorld, record: Record) -> None:
        self.take("AAAA")
        world.now += LEASE
        world.wire.faults.append(Meanwhile("dynamodb.reclaim", lambda: self.take("BBBB")))
        assert self.take("CCCC").status == 503
        assert (stands(world).task, stands(world).claims) == ("BBBB", 2)
        assert "CCCC" not in world.states.answers

    def test_p3_too_early_is_a_409_and_it_is_asked_for_again_when_due(self, world: MemoryWorld, record: Record) -> None:
        claim = self.take().json["claim"]
        self.report(claim)
        world.now += 5_000
        assert self.take("BBBB", 2).status == 409
        assert world.states.answers == {
            "BBBB": {"status": "AGAIN", "pause": 10, "next": {"index": 1, "wait": 30, "heartbeat": 29}}
        }

    @pytest.mark.parametrize(
        ("job", "why"), [({"v": 2}, "version"), ({"id": "x"}, "id"), ({"task": {}}, "task"), ({"more": 1}, "fields")]
    )
    def test_one_whose_job_cannot_be_read_is_a_400(
        self, world: MemoryWorld, record: Record, job: dict[str, Any], why: str
    ) -> None:
        reply = self.take(**job)
        assert (reply.status, reply.json["field"]) == (400, "job")
        assert why in reply.json["limit"]
        assert stands(world) == record

    @pytest.mark.parametrize(
        "body", [{}, {"token": "AAAA"}, {"token": "", "job": {}}, {"token": "t" * 2049, "job": {}}]
    )
    def test_one_without_token_or_job_is_a_400(self, world: MemoryWorld, record: Record, body: object) -> None:
        assert reply_of(tasks.handler(api_event("POST", "/internal/tasks", body), None)).status == 400
        assert stands(world) == record

    @pytest.mark.parametrize("operation", ["dynamodb.claim", "secretsmanager.get"])
    def test_a_failing_service_is_a_503_and_it_may_take_it_again(
        self, world: MemoryWorld, record: Record, operation: str
    ) -> None:
        world.wire.faults.append(Fault(operation, "throttle"))
        assert self.take().status == 503
        assert self.take().status == 200
        assert stands(world).claims == 1

    def test_an_answer_that_failed_is_a_503(self, world: MemoryWorld, record: Record) -> None:
        end(world)
        world.wire.faults.append(Fault("states.answer", "throttle"))
        assert self.take().status == 503
        assert self.take().status == 409
        assert world.states.answers == {"AAAA": {"status": "DELIVERED"}}

    def test_its_outcome_is_recorded_and_the_task_goes_on_waiting_for_the_ack(
        self, world: MemoryWorld, record: Record
    ) -> None:
        claim = self.take().json["claim"]
        reply = self.report(claim, http_status=200)
        assert (reply.status, reply.json) == (200, {"id": record.id, "status": "AWAITING_ACK"})
        (attempt,) = stands(world).attempts
        assert (attempt.outcome, attempt.reason, attempt.http_status) == (Kind.SENT, "http_200", 200)
        assert (attempt.latency_ms, stands(world).lease_until) == (12, None)
        assert (world.states.answers, timers(world)) == ({}, [])

    def test_p5_a_repeated_report_changes_nothing(self, world: MemoryWorld, record: Record) -> None:
        claim = self.take().json["claim"]
        self.report(claim)
        before = stands(world)
        assert self.report(claim).status == 200
        assert stands(world) == before

    @pytest.mark.parametrize(("kind", "status"), [("ACKED", Status.DELIVERED), ("GONE", Status.REJECTED)])
    def test_p4_one_that_ends_the_message_completes_its_task(
        self, world: MemoryWorld, record: Record, kind: str, status: Status
    ) -> None:
        claim = self.take().json["claim"]
        assert self.report(claim, kind=kind).json["status"] == str(status)
        assert stands(world).status is status
        assert world.states.answers == {"AAAA": {"status": str(status)}}

    def test_p3_retry_after_moves_the_due_time(self, world: MemoryWorld, record: Record) -> None:
        claim = self.take().json["claim"]
        assert self.report(claim, kind="FAILED", retry_after=100).status == 200
        assert (stands(world).due_at, timers(world)) == (START + 100_000, [])

    def test_p6_after_an_ack_the_outcome_is_kept_and_nothing_else_changes(
        self, world: MemoryWorld, record: Record
    ) -> None:
        taken = self.take().json
        assert reply_of(ack.handler(answer_event(taken["ack_url"]), None)).status == 200
        assert world.states.answers == {"AAAA": {"status": "DELIVERED"}}
        assert self.report(taken["claim"]).json == {"id": record.id, "status": "DELIVERED"}
        assert stands(world).attempts[0].outcome is Kind.SENT
        assert len(world.told.events) == 1

    def test_p4_an_ack_while_the_next_attempt_waits_to_be_pulled_stops_the_execution_once_it_has_ended(
        self, world: MemoryWorld, record: Record
    ) -> None:
        taken = self.take().json
        world.states.over.add("AAAA")  # the delay is over, and no worker has pulled the next task
        assert reply_of(ack.handler(answer_event(taken["ack_url"]), None)).status == 200
        calls = world.wire.calls
        assert calls.index("dynamodb.end") < calls.index("states.answer") < calls.index("states.stop")
        assert (world.states.answers, world.states.stopped) == ({}, [f"{record.id}-1"])

    def test_p5_a_repeated_ack_stops_it_again_and_changes_nothing(self, world: MemoryWorld, record: Record) -> None:
        taken = self.take().json
        ack.handler(answer_event(taken["ack_url"]), None)
        assert (world.states.answers, world.states.stopped) == ({"AAAA": {"status": "DELIVERED"}}, [])
        before = stands(world)
        assert reply_of(ack.handler(answer_event(taken["ack_url"]), None)).status == 200
        assert (stands(world), len(world.told.events)) == (before, 1)
        assert world.states.answers == {"AAAA": {"status": "DELIVERED"}}
        assert world.states.stopped == [f"{record.id}-1"]

    def test_p8_a_foreign_claim_is_a_409_and_changes_nothing(self, world: MemoryWorld, record: Record) -> None:
        claim = self.take().json["claim"]
        before = stands(world)
        for reply in (self.report("another's"), self.report(claim, attempt=2)):
            assert (reply.status, reply.json["type"]) == (409, "urn:until-ack:problem:not-now")
        assert stands(world) == before

    def test_refusals_leave_nothing_behind(
        self, world: MemoryWorld, record: Record, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        raised: list[Exception] = []

        def kept(error: Exception) -> dict[str, Any]:
            raised.append(error)
            return problem_of(error)

        monkeypatch.setattr(http, "problem_of", kept)
        self.take()
        for _ in range(3):
            assert self.report("another's").status == 409
        assert len({id(error) for error in raised}) == 3, "a shared exception would keep every request's frames"

    @pytest.mark.usefixtures("world")
    def test_of_an_unknown_message_is_a_404(self) -> None:
        assert self.report("x").status == 404

    @pytest.mark.parametrize(
        ("fields", "field"),
        [
            ({"kind": "BLOCKED"}, "kind"),
            ({"kind": None}, "kind"),
            ({"reason": ""}, "reason"),
            ({"reason": "Not a code"}, "reason"),
            ({"reason": "x" * 65}, "reason"),
            ({"latency_ms": -1}, "latency_ms"),
            ({"http_status": 99}, "http_status"),
            ({"retry_after": 0}, "retry_after"),
            ({"retry_after": 31_536_001}, "retry_after"),
            ({"attempt": 0}, "attempt"),
            ({"claim": ""}, "claim"),
            ({"more": 1}, "more"),
        ],
    )
    def test_a_bad_report_is_a_400_and_changes_nothing(
        self, world: MemoryWorld, record: Record, fields: dict[str, Any], field: str
    ) -> None:
        claim = self.take().json["claim"]
        before = stands(world)
        reply = self.report(**{"claim": claim, **fields})
        assert (reply.status, reply.json["field"]) == (400, field)
        assert stands(world) == before

    def test_p2_a_worker_that_takes_and_never_reports_costs_no_more_than_its_attempt(
        self, world: MemoryWorld, record: Record
    ) -> None:
        self.take()
        world.now = stands(world).due_at + LEASE
        taken = self.take("BBBB", 2)
        assert (taken.status, taken.json["attempt"]) == (200, 2)


def test_an_outcome_is_worth_what_a_sending_is(world: MemoryWorld) -> None:
    """The worker's report and the channel's own answer leave the same record."""
    reported, sent = put(world), put(world, number=2)
    helper = TestTasks()
    claim = helper.take().json["claim"]
    helper.report(claim, http_status=200)
    world.channel_queues["webhook"].send(json.dumps({"v": 1, "id": sent.id, "attempt": 1, "base": 0}))
    deliver_all(world)
    first, second = (world.table.rows[i].record.attempts[0] for i in (reported.id, sent.id))
    assert replace(first, claim="") == replace(second, claim="")
    assert (first.outcome, first.reason, first.latency_ms) == (SENT.kind, SENT.reason, SENT.latency_ms)
    assert stands(world).expires_at == START + DAY
