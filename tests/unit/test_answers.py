"""The target's answers: ACK, NACK, many at once, and the page with the button."""

import json
from dataclasses import replace
from itertools import count
from typing import Any

import pytest

from handlers import ack, deliver
from handlers.delivery.answering import RACES
from handlers.delivery.channel import Outcome
from handlers.delivery.jobs import attempt_job, parse_timer
from handlers.delivery.message import Record, Scheduler, Status
from handlers.delivery.ports import Ending
from handlers.delivery.telling import iso
from tests.fakes.events import Context, Reply, answer_event, api_event, capability_in, reply_of, sqs_event
from tests.fakes.records import a_record, claim_of
from tests.fakes.wire import Fault, Meanwhile
from tests.fakes.world import SENT, START, MemoryWorld

HOUR = 3600


class Target:
    """A message that was sent, and the device that got it."""

    def __init__(self, world: MemoryWorld, outcome: Outcome = SENT, **fields: Any) -> None:
        self.world = world
        record = a_record(**fields)
        self.id = record.id
        world.table.put(record)
        world.target.answers.append(outcome)
        self.deliver(attempt_job(record, record.attempt + 1).post("webhook").body)
        self.parcel = world.target.parcels[-1]

    def deliver(self, body: object) -> None:
        queue = self.world.channel_queues["webhook"]
        queue.send(json.dumps(body))
        batch = queue.receive()
        assert deliver.handler(sqs_event(queue, batch), Context()) == {"batchItemFailures": []}
        for envelope in batch:
            queue.delete(envelope.id)

    @property
    def record(self) -> Record:
        return self.world.table.rows[self.id].record

    def ack(self, **event: Any) -> Reply:
        return reply_of(ack.handler({**answer_event(self.parcel.ack_url), **event}, None))

    def nack(self, body: object = None) -> Reply:
        body = {"reason": "no room"} if body is None else body
        return reply_of(ack.handler(answer_event(self.parcel.nack_url, body), None))

    def change(self, **fields: Any) -> None:
        """What another function does meanwhile."""
        row = self.world.table.rows[self.id]
        self.world.table.rows[self.id] = replace(row, record=replace(row.record, **fields))

    def end(self, status: Status) -> None:
        untold = None if status is Status.DELIVERED else START + 30_000
        self.world.table.end(self.id, Ending(status, START, "ended", untold, untold))


@pytest.fixture
def target(world: MemoryWorld) -> Target:
    return Target(world)


class TestAck:
    def test_p4_ends_the_message_delivered(self, world: MemoryWorld, target: Target) -> None:
        world.now += 700
        reply = target.ack()
        assert (reply.status, reply.json) == (200, {"id": target.id, "status": "DELIVERED", "late": False})
        assert (target.record.status, target.record.acked_at) == (Status.DELIVERED, START + 700)
        assert [e["event_id"] for e in world.told.events] == [f"{target.id}.1.DELIVERED"]
        assert world.told.alerts == []

    def test_p5_repeated_it_is_answered_with_success_and_told_once(self, world: MemoryWorld, target: Target) -> None:
        first = target.ack()
        stands = target.record
        world.now += 5000
        assert [target.ack().json for _ in range(3)] == [first.json] * 3
        assert target.record == stands
        assert len(world.told.events) == 1

    def test_any_body_and_type_will_do(self, target: Target) -> None:
        assert target.ack(body="whatever", headers={"Content-Type": "text/plain"}).status == 200

    def test_a_body_over_the_limit_is_a_413_and_acks_nothing(self, target: Target) -> None:
        assert target.ack(body="x" * (ack.MAX_ANSWER + 1)).status == 413
        assert target.record.open

    @pytest.mark.parametrize("status", [Status.REJECTED, Status.EXPIRED, Status.EXHAUSTED, Status.CANCELLED])
    def test_p6_after_an_undelivered_ending_it_is_kept_as_late_once(
        self, world: MemoryWorld, target: Target, status: Status
    ) -> None:
        target.end(status)
        world.now += 9000
        late = {"id": target.id, "status": str(status), "late": True}
        assert target.ack().json == late
        world.now += 1
        assert target.ack().json == late
        assert (target.record.status, target.record.late_ack_at) == (status, START + 9000)
        assert [e["type"] for e in world.told.events] == ["late_ack"]

    def test_p6_that_races_a_redelivery_ends_the_new_life(self, world: MemoryWorld, target: Target) -> None:
        target.end(Status.EXPIRED)
        world.table.told(target.record)
        gone = target.record
        again = replace(gone, status=Status.PENDING, life=2, base=1, sweep_at=START)
        world.wire.faults.append(Meanwhile("dynamodb.late_ack", lambda: world.table.reopen(gone, again)))
        assert target.ack().json == {"id": target.id, "status": "DELIVERED", "late": False}
        assert (target.record.life, target.record.status) == (2, Status.DELIVERED)

    def test_of_a_deleted_message_is_a_404(self, world: MemoryWorld, target: Target) -> None:
        del world.table.rows[target.id]
        assert target.ack().status == 404
        assert target.nack().status == 404

    def test_that_the_table_could_not_take_is_a_503_and_may_come_again(
        self, world: MemoryWorld, target: Target
    ) -> None:
        world.wire.faults.append(Fault("dynamodb.end", "throttle"))
        assert target.ack().status == 503
        assert target.record.open
        assert target.ack().status == 200

    @pytest.mark.parametrize("what", ["lose", "repeat"])
    def test_p5_whose_answer_was_lost_has_ended_it_all_the_same(
        self, world: MemoryWorld, target: Target, what: Any
    ) -> None:
        world.wire.faults.append(Fault("dynamodb.end", what))
        target.ack()
        assert target.ack().json == {"id": target.id, "status": "DELIVERED", "late": False}
        assert target.record.status is Status.DELIVERED

    def test_is_a_success_even_when_the_event_fails(self, world: MemoryWorld, target: Target) -> None:
        world.wire.faults.append(Fault("sns.publish", "throttle"))
        assert target.ack().status == 200
        assert world.log.said("ending not told yet")


class TestNack:
    def test_without_retry_after_is_final_and_heard(self, world: MemoryWorld, target: Target) -> None:
        reply = target.nack()
        assert (reply.status, reply.json["status"]) == (200, "REJECTED")
        assert (target.record.status, target.record.reason) == (Status.REJECTED, "NACK: no room")
        assert target.record.untold is None
        assert [e["event_id"] for e in world.told.events] == [f"{target.id}.1.REJECTED"]
        ((subject, text),) = world.told.alerts
        assert target.id in subject
        assert "NACK: no room" in text

    def test_p5_repeated_it_changes_nothing(self, world: MemoryWorld, target: Target) -> None:
        target.nack()
        stands = target.record
        assert target.nack().json == {"id": target.id, "status": "REJECTED", "late": False}
        assert target.record == stands
        assert len(world.told.alerts) == 1

    def test_p3_with_retry_after_moves_the_next_attempt_out_with_a_timer_of_its_own(
        self, world: MemoryWorld, target: Target
    ) -> None:
        before = target.record
        assert target.nack({"reason": "asleep", "retry_after": HOUR}).json["status"] == "AWAITING_ACK"
        assert target.record.due_at == START + HOUR * 1000
        assert target.record.nack_reason == "asleep"
        assert target.record.token != before.token
        posted = world.timer_queues[15].sent[-1]
        assert posted[2] == 900
        assert parse_timer(json.dumps(posted[1])).token == target.record.token

    def test_p3_it_never_brings_the_next_attempt_forward(self, world: MemoryWorld) -> None:
        target = Target(world, schedule=(7200,))
        target.nack({"reason": "asleep", "retry_after": 1})
        assert target.record.due_at == START + 7_200_000

    def test_past_the_expiry_the_timer_is_for_the_expiry(self, world: MemoryWorld) -> None:
        target = Target(world, expires_at=START + 60_000)
        target.nack({"reason": "asleep", "retry_after": HOUR})
        assert world.timer_queues[15].sent[-1][2] == 60
        assert target.record.due_at == START + HOUR * 1000

    @pytest.mark.parametrize("what", ["throttle", "timeout"])
    def test_whose_timer_could_not_be_armed_is_a_503_and_changes_nothing(
        self, world: MemoryWorld, target: Target, what: Any
    ) -> None:
        before = target.record
        world.wire.faults.append(Fault("sqs.send", what))
        assert target.nack({"reason": "asleep", "retry_after": HOUR}).status == 503
        assert target.record == before

    @pytest.mark.parametrize(
        ("status", "late"), [(Status.DELIVERED, True), (Status.EXPIRED, True), (Status.REJECTED, False)]
    )
    @pytest.mark.parametrize("retry_after", [None, 60])
    def test_p6_of_an_ended_message_succeeds_and_changes_nothing(
        self, target: Target, status: Status, late: bool, retry_after: int | None
    ) -> None:
        target.end(status)
        stands = target.record
        body = {"reason": "no"} if retry_after is None else {"reason": "no", "retry_after": retry_after}
        assert target.nack(body).json == {"id": target.id, "status": str(status), "late": late}
        assert target.record == stands

    @pytest.mark.parametrize(
        ("body", "field"),
        [
            ({}, "reason"),
            ({"reason": 5}, "reason"),
            ({"reason": "x" * 501}, "reason"),
            ({"reason": "x", "retry_after": 0}, "retry_after"),
            ({"reason": "x", "retry_after": 31_536_001}, "retry_after"),
            ({"reason": "x", "when": 1}, "when"),
            ("{", "body"),
        ],
    )
    def test_a_bad_one_is_a_400_and_changes_nothing(self, target: Target, body: object, field: str) -> None:
        before = target.record
        reply = target.nack(body)
        assert (reply.status, reply.json["field"]) == (400, field)
        assert target.record == before

    def test_that_loses_a_race_looks_again(self, world: MemoryWorld, target: Target) -> None:
        world.wire.faults.append(Meanwhile("dynamodb.move", lambda: target.change(token="another's")))
        reply = target.nack({"reason": "asleep", "retry_after": HOUR})
        assert (reply.status, target.record.due_at) == (200, START + HOUR * 1000)
        assert parse_timer(json.dumps(world.timer_queues[15].sent[-1][1])).token == target.record.token

    def test_that_loses_every_race_is_a_503(self, world: MemoryWorld, target: Target) -> None:
        others = count()

        def another_is_quicker() -> None:
            target.change(token=f"another's {next(others)}")

        world.wire.faults += [Meanwhile("dynamodb.move", another_is_quicker, skip=n) for n in range(RACES)]
        assert target.nack({"reason": "asleep", "retry_after": HOUR}).status == 503
        assert target.record.due_at == START + 15_000

    def test_p4_an_ack_that_came_first_wins(self, world: MemoryWorld, target: Target) -> None:
        world.wire.faults.append(Meanwhile("dynamodb.end", lambda: target.end(Status.DELIVERED)))
        assert target.nack().json == {"id": target.id, "status": "DELIVERED", "late": True}


class TestBulk:
    def test_up_to_a_hundred_answers_each_by_itself(self, world: MemoryWorld) -> None:
        targets = [Target(world, number=n) for n in range(1, 5)]
        acks: list[dict[str, Any]] = [{"capability": capability_in(t.parcel.ack_url)} for t in targets]
        acks[1]["nack"] = {"reason": "no"}
        acks[2]["nack"] = {"reason": "asleep", "retry_after": HOUR}
        reply = reply_of(ack.handler(api_event("POST", "/acks", {"acks": acks}, caller=None), None))
        assert [(r["code"], r["status"]) for r in reply.json["results"]] == [
            (200, "DELIVERED"),
            (200, "REJECTED"),
            (200, "AWAITING_ACK"),
            (200, "DELIVERED"),
        ]
        assert [t.record.status for t in targets] == [r["status"] for r in reply.json["results"]]

    def test_one_that_the_table_refused_is_a_503_of_its_own(self, world: MemoryWorld) -> None:
        targets = [Target(world, number=n) for n in range(1, 4)]
        world.wire.faults.append(Fault("dynamodb.end", "throttle", skip=1))
        acks = [{"capability": capability_in(t.parcel.ack_url)} for t in targets]
        reply = reply_of(ack.handler(api_event("POST", "/acks", {"acks": acks}, caller=None), None))
        assert [r["code"] for r in reply.json["results"]] == [200, 503, 200]
        assert [t.record.open for t in targets] == [False, True, False]

    @pytest.mark.parametrize(
        "body", [{}, {"acks": []}, {"acks": [{}]}, {"acks": [{"capability": "x"}] * 101}, {"acks": "x"}]
    )
    @pytest.mark.usefixtures("world")
    def test_of_another_size_or_shape_is_a_400(self, body: object) -> None:
        assert reply_of(ack.handler(api_event("POST", "/acks", body), None)).status == 400

    def test_a_body_over_the_limit_is_a_413(self, world: MemoryWorld) -> None:
        assert reply_of(ack.handler(api_event("POST", "/acks", "x" * (ack.MAX_ACKS + 1)), None)).status == 413
        assert not world.wire.calls


class TestPage:
    def page(self, target: Target, method: str, capability: str | None = None) -> Reply:
        event = answer_event(target.parcel.ack_url)
        if capability is not None:
            event["queryStringParameters"] = {"cap": capability}
        return reply_of(ack.handler({**event, "httpMethod": method, "headers": {"Accept": "text/html,*/*"}}, None))

    def test_a_get_shows_a_button_and_acks_nothing(self, target: Target) -> None:
        reply = self.page(target, "GET")
        assert (reply.status, reply.headers["content-type"]) == (200, "text/html; charset=utf-8")
        assert f'action="?cap={capability_in(target.parcel.ack_url)}"' in reply.text
        assert target.record.open

    def test_the_button_acks_and_says_so(self, target: Target) -> None:
        reply = self.page(target, "POST")
        assert (reply.status, "is confirmed" in reply.text) == (200, True)
        assert target.record.status is Status.DELIVERED

    def test_too_late_it_says_so(self, target: Target) -> None:
        target.end(Status.EXPIRED)
        assert "after the message had ended" in self.page(target, "POST").text

    @pytest.mark.parametrize("method", ["GET", "POST"])
    @pytest.mark.parametrize("bad", ["", "x", '"><script>alert(1)</script>'])
    def test_a_bad_link_gets_a_page_that_repeats_none_of_it(self, target: Target, method: str, bad: str) -> None:
        reply = self.page(target, method, bad)
        assert (reply.status, "not valid" in reply.text, "script" in reply.text) == (403, True, False)
        assert target.record.open


def test_an_ack_during_the_sending_wins_over_its_outcome(world: MemoryWorld) -> None:
    def answer_at_once(parcel: Any) -> None:
        assert reply_of(ack.handler(answer_event(parcel.ack_url), None)).status == 200

    world.target.meanwhile = answer_at_once
    target = Target(world)
    assert target.record.status is Status.DELIVERED
    assert [a.reason for a in target.record.attempts] == ["http_200"]
    assert len(world.told.events) == 1


def test_p6_an_ack_of_an_earlier_attempt_ends_the_message(world: MemoryWorld) -> None:
    target = Target(world)
    world.now = target.record.due_at
    world.table.claim(claim_of(target.record, world.now, "t2"))
    assert target.ack().json["status"] == "DELIVERED"


def waiting(world: MemoryWorld, workflow: str = "delivery_callback", **fields: Any) -> Target:
    """A message whose attempt was made for an execution; where one waits for a task, its token is AAAA."""
    target = Target.__new__(Target)
    target.world = world
    record = a_record(scheduler=Scheduler.WORKFLOW, workflow=workflow, **fields)
    target.id = record.id
    world.table.put(record)
    body = dict(attempt_job(record, record.attempt + 1).post("webhook").body)
    if workflow == "delivery_callback":
        body["task"] = {"token": "AAAA", "asked_at": iso(world.now), "wait": 15, "index": 0}
    target.deliver(body)
    target.parcel = world.target.parcels[-1]
    world.wire.calls.clear()
    return target


class TestWorkflow:
    def test_p4_an_ack_completes_the_task_after_the_record_is_closed(self, world: MemoryWorld) -> None:
        target = waiting(world)
        assert target.ack().status == 200
        calls = world.wire.calls
        assert calls.index("dynamodb.end") < calls.index("states.answer") < calls.index("sns.publish")
        assert world.states.answers == {"AAAA": {"status": "DELIVERED"}}
        assert world.states.stopped == []

    def test_p4_an_ack_stops_the_execution_after_the_record_is_closed(self, world: MemoryWorld) -> None:
        target = waiting(world, "delivery_stop_on_ack")
        assert target.ack().status == 200
        calls = world.wire.calls
        assert calls.index("dynamodb.end") < calls.index("states.stop")
        assert (world.states.stopped, world.states.answers) == ([f"{target.id}-1"], {})

    @pytest.mark.parametrize("workflow", ["delivery_poll", "poll_express", "delivery_job_poller"])
    def test_p4_an_execution_that_looks_for_itself_is_left_alone(self, world: MemoryWorld, workflow: str) -> None:
        target = waiting(world, workflow)
        assert target.ack().json["status"] == "DELIVERED"
        assert (world.states.answers, world.states.stopped) == ({}, [])

    def test_p4_before_any_attempt_there_is_no_task_to_complete(self, world: MemoryWorld) -> None:
        target = waiting(world)
        target.change(task=None)
        assert target.ack().status == 200
        assert world.states.answers == {}

    def test_p5_every_repeated_ack_completes_again_and_is_answered_with_success(self, world: MemoryWorld) -> None:
        target = waiting(world)
        first = target.ack()
        stands = target.record
        assert [target.ack().json for _ in range(3)] == [first.json] * 3
        assert (target.record, len(world.told.events)) == (stands, 1)
        assert world.states.late == ["AAAA"] * 3

    def test_p4_a_repeat_completes_what_an_ack_that_died_had_not(self, world: MemoryWorld) -> None:
        target = waiting(world)
        target.end(Status.DELIVERED)
        assert world.states.answers == {}
        assert target.ack().json == {"id": target.id, "status": "DELIVERED", "late": False}
        assert world.states.answers == {"AAAA": {"status": "DELIVERED"}}

    def test_p5_a_task_that_has_timed_out_is_answered_with_success(self, world: MemoryWorld) -> None:
        target = waiting(world)
        world.states.over.add("AAAA")
        assert target.ack().json == {"id": target.id, "status": "DELIVERED", "late": False}
        assert (target.record.status, world.states.late) == (Status.DELIVERED, ["AAAA"])

    def test_p6_a_late_ack_completes_with_the_ending_that_came_first(self, world: MemoryWorld) -> None:
        target = waiting(world)
        target.end(Status.EXPIRED)
        assert target.ack().json == {"id": target.id, "status": "EXPIRED", "late": True}
        assert world.states.answers == {"AAAA": {"status": "EXPIRED"}}

    @pytest.mark.parametrize(
        ("workflow", "operation"), [("delivery_callback", "states.answer"), ("delivery_stop_on_ack", "states.stop")]
    )
    @pytest.mark.parametrize("what", ["throttle", "timeout", "lose"])
    def test_p4_an_ack_is_a_success_though_step_functions_fails_and_a_repeat_makes_up_for_it(
        self, world: MemoryWorld, workflow: str, operation: str, what: Any
    ) -> None:
        target = waiting(world, workflow)
        world.wire.faults.append(Fault(operation, what))
        assert target.ack().status == 200
        assert target.record.status is Status.DELIVERED
        assert len(world.told.events) == 1
        assert world.log.said("execution not told yet")
        assert target.ack().status == 200
        assert world.states.answers or world.states.stopped

    def test_p4_an_ack_ends_what_the_queues_have_taken_over(self, world: MemoryWorld) -> None:
        target = waiting(world)
        world.table.hand_over(target.record)
        assert target.ack().json["status"] == "DELIVERED"
        assert world.states.answers == {"AAAA": {"status": "DELIVERED"}}

    def test_many_at_once_complete_each_its_own(self, world: MemoryWorld) -> None:
        targets = [waiting(world), waiting(world, "delivery_stop_on_ack", number=2), Target(world, number=3)]
        acks = [{"capability": capability_in(t.parcel.ack_url)} for t in targets]
        reply = reply_of(ack.handler(api_event("POST", "/acks", {"acks": acks}, caller=None), None))
        assert [r["code"] for r in reply.json["results"]] == [200, 200, 200]
        assert world.states.answers == {"AAAA": {"status": "DELIVERED"}}
        assert world.states.stopped == [f"{targets[1].id}-1"]

    def test_a_final_nack_completes_it_rejected(self, world: MemoryWorld) -> None:
        target = waiting(world)
        assert target.nack().json["status"] == "REJECTED"
        assert world.states.answers == {"AAAA": {"status": "REJECTED"}}

    def test_a_final_nack_stops_the_execution(self, world: MemoryWorld) -> None:
        target = waiting(world, "delivery_stop_on_ack")
        target.nack()
        assert world.states.stopped == [f"{target.id}-1"]

    def test_p5_a_repeated_nack_completes_again(self, world: MemoryWorld) -> None:
        target = waiting(world)
        target.end(Status.REJECTED)
        assert target.nack().json == {"id": target.id, "status": "REJECTED", "late": False}
        assert world.states.answers == {"AAAA": {"status": "REJECTED"}}

    def test_a_nack_is_a_success_though_step_functions_fails(self, world: MemoryWorld) -> None:
        target = waiting(world)
        world.wire.faults.append(Fault("states.answer", "throttle"))
        assert target.nack().status == 200
        assert (target.record.status, target.record.untold) == (Status.REJECTED, None)

    def test_p3_a_nack_with_retry_after_moves_the_due_time_and_arms_no_timer(self, world: MemoryWorld) -> None:
        target = waiting(world)
        before = target.record
        assert target.nack({"reason": "asleep", "retry_after": HOUR}).json["status"] == "AWAITING_ACK"
        assert target.record.due_at == START + HOUR * 1000
        assert target.record.token != before.token
        assert "sqs.send" not in world.wire.calls
        assert (world.states.answers, world.states.stopped) == ({}, [])

    def test_p3_of_what_the_queues_have_taken_over_it_arms_one(self, world: MemoryWorld) -> None:
        target = waiting(world)
        world.table.hand_over(target.record)
        target.nack({"reason": "asleep", "retry_after": HOUR})
        posted = world.timer_queues[15].sent[-1]
        assert parse_timer(json.dumps(posted[1])).token == target.record.token
