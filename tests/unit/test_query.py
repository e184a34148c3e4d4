"""GET /messages, GET /messages/{id}, DELETE /messages/{id} and POST /messages/{id}/redeliver."""

from typing import Any

import pytest

from handlers import query, redeliver
from handlers.delivery.channel import Kind, Outcome
from handlers.delivery.message import Record, Scheduler, Status
from handlers.delivery.ports import Ending
from tests.fakes.events import Reply, api_event, reply_of
from tests.fakes.records import DAY, a_record, claim_of, message_id
from tests.fakes.wire import Fault, Meanwhile
from tests.fakes.world import SENT, START, MemoryWorld

TARGET = a_record().target


def put(world: MemoryWorld, number: int = 1, **fields: Any) -> Record:
    record = a_record(number, **fields)
    world.table.put(record)
    return record


def end(world: MemoryWorld, record: Record, status: Status, at: int = START, told: bool = True) -> Record:
    untold = None if status is Status.DELIVERED else at + 30_000
    ended = world.table.end(record.id, Ending(status, at, "ended", untold, untold, 1))
    if told:
        world.table.told(ended)
    return world.table.rows[record.id].record


def call(method: str, resource: str = "/messages/{id}", path_id: str | None = None, **event: Any) -> Reply:
    path = None if path_id is None else {"id": path_id}
    function = redeliver if resource.endswith("redeliver") else query
    return reply_of(function.handler(api_event(method, resource, path=path, **event), None))


def listed(**filters: str) -> Reply:
    return call("GET", "/messages", query=filters)


def ids(reply: Reply) -> list[str]:
    assert reply.status == 200, reply.text
    return [m["id"] for m in reply.json["messages"]]


class TestGet:
    def test_shows_a_message_with_its_attempts(self, world: MemoryWorld) -> None:
        record = put(world, labels={"order": "17"}, max_attempts=9)
        taken = world.table.claim(claim_of(record, START + 5, "t1"))
        world.table.record(taken, Outcome(Kind.FAILED, "http_503", 45, 503))
        shown = call("GET", path_id=record.id).json
        assert shown == {
            "id": record.id,
            "target": TARGET,
            "channel": "webhook",
            "status": "AWAITING_ACK",
            "life": 1,
            "created_at": "2026-01-01T00:00:00.000Z",
            "expires_at": "2026-01-02T00:00:00.000Z",
            "schedule": [15, 30, 14400],
            "max_attempts": 9,
            "scheduler": "queues",
            "workflow": None,
            "labels": {"order": "17"},
            "next_attempt_at": "2026-01-01T00:00:15.005Z",
            "ended_at": None,
            "reason": None,
            "nack_reason": None,
            "acked_at": None,
            "late_ack_at": None,
            "attempts": [
                {
                    "n": 1,
                    "due_at": "2026-01-01T00:00:00.000Z",
                    "sent_at": "2026-01-01T00:00:00.005Z",
                    "outcome": "FAILED",
                    "reason": "http_503",
                    "http_status": 503,
                    "latency_ms": 45,
                }
            ],
        }

    def test_never_shows_the_payload_or_a_token(self, world: MemoryWorld) -> None:
        record = put(world)
        world.table.claim(claim_of(record, START, "secret-token"))
        text = call("GET", path_id=record.id).text
        assert "open the door" not in text
        assert "secret-token" not in text

    def test_an_attempt_in_flight_has_no_outcome(self, world: MemoryWorld) -> None:
        world.table.claim(claim_of(put(world), START, "t1"))
        (attempt,) = call("GET", path_id=message_id(1)).json["attempts"]
        assert (attempt["outcome"], attempt["http_status"]) == (None, None)

    @pytest.mark.parametrize(
        "fields",
        [{"expires_at": START + 10_000, "due_at": START + 15_000}, {"max_attempts": 1, "attempt": 1}],
        ids=["expires first", "had its last"],
    )
    def test_where_no_attempt_comes_none_is_announced(self, world: MemoryWorld, fields: dict[str, Any]) -> None:
        put(world, **fields)
        assert call("GET", path_id=message_id(1)).json["next_attempt_at"] is None

    @pytest.mark.parametrize("text", [message_id(404), "x", "", "%2e%2e"])
    @pytest.mark.usefixtures("world")
    def test_what_does_not_exist_is_a_404(self, text: str) -> None:
        reply = call("GET", path_id=text)
        assert (reply.status, reply.json["type"]) == (404, "urn:until-ack:problem:not-found")

    def test_a_failing_table_is_a_503(self, world: MemoryWorld) -> None:
        world.wire.faults.append(Fault("dynamodb.get", "timeout"))
        assert call("GET", path_id=put(world).id).status == 503


class TestList:
    @pytest.fixture
    def many(self, world: MemoryWorld) -> dict[str, list[str]]:
        """Messages of two targets, in several states."""
        open_ = [put(world, n, created_at=START + n, sweep_at=START + n) for n in range(1, 6)]
        acked = [put(world, n, created_at=START + n) for n in range(6, 8)]
        lost = [put(world, n, created_at=START + n) for n in range(8, 11)]
        other = put(world, 11, target="https://other.example", created_at=START)
        for n, record in enumerate(acked + lost):
            end(world, record, Status.DELIVERED if record in acked else Status.EXPIRED, START + 100 + n)
        return {
            "open": [r.id for r in [*open_, other]],
            "acked": [r.id for r in acked],
            "lost": [r.id for r in lost],
        }

    def test_open_ones_the_most_urgent_first(self, many: dict[str, list[str]]) -> None:
        assert ids(listed(status="open")) == many["open"]

    def test_by_one_open_status(self, world: MemoryWorld, many: dict[str, list[str]]) -> None:
        first = world.table.rows[many["open"][0]].record
        world.table.claim(claim_of(first, START, "t1"))
        assert ids(listed(status="AWAITING_ACK")) == [first.id]
        assert ids(listed(status="PENDING")) == many["open"][1:]

    def test_undelivered_ones_the_newest_first(self, many: dict[str, list[str]]) -> None:
        assert ids(listed(status="undelivered")) == many["lost"][::-1]
        assert ids(listed(status="EXPIRED")) == many["lost"][::-1]
        assert ids(listed(status="REJECTED")) == []

    def test_since_is_held_against_the_ending_of_what_ended_badly(self, many: dict[str, list[str]]) -> None:
        since = "2026-01-01T00:00:00.104Z"
        assert ids(listed(status="undelivered", since=since)) == [many["lost"][2]]

    def test_since_is_held_against_the_submission_else(self, many: dict[str, list[str]]) -> None:
        since = "2026-01-01T01:00:00.004+01:00"
        assert ids(listed(status="open", since=since)) == many["open"][3:5]
        assert len(ids(listed(target=TARGET, since=since))) == 7

    def test_of_a_target_the_newest_first_and_of_any_status(self, many: dict[str, list[str]]) -> None:
        expected = many["lost"][::-1] + many["acked"][::-1] + many["open"][4::-1]
        assert ids(listed(target=TARGET)) == expected
        assert ids(listed(target=TARGET, status="DELIVERED")) == many["acked"][::-1]
        assert ids(listed(target="https://nobody.example")) == []

    @pytest.mark.parametrize("limit", [1, 2, 4, 100])
    def test_page_by_page_each_comes_once(self, many: dict[str, list[str]], limit: int) -> None:
        found, cursor = list[str](), dict[str, str]()
        for _ in range(20):
            reply = listed(status="open", limit=str(limit), **cursor)
            assert len(ids(reply)) <= limit
            found += ids(reply)
            if reply.json["next_cursor"] is None:
                break
            cursor = {"cursor": reply.json["next_cursor"]}
        assert found == many["open"]

    def test_a_page_shows_no_attempts(self, world: MemoryWorld) -> None:
        put(world)
        (shown,) = listed(status="open").json["messages"]
        assert "attempts" not in shown
        assert shown["status"] == "PENDING"

    @pytest.mark.parametrize(
        ("filters", "field"),
        [
            ({}, "target"),
            ({"status": "DELIVERED"}, "target"),
            ({"status": "lost", "target": "x"}, "status"),
            ({"status": "open", "since": "yesterday"}, "since"),
            ({"status": "open", "since": "2026-01-01T00:00:00"}, "since"),
            ({"status": "open", "since": ""}, "since"),
            ({"status": "open", "limit": "0"}, "limit"),
            ({"status": "open", "limit": "101"}, "limit"),
            ({"status": "open", "limit": "-1"}, "limit"),
            ({"status": "open", "limit": "ten"}, "limit"),
            ({"status": "open", "limit": "²"}, "limit"),
            ({"status": "open", "limit": "000000010000"}, "limit"),
            ({"status": "open", "limit": "9" * 5000}, "limit"),
            ({"status": "open", "cursor": "made up"}, "cursor"),
            ({"status": "open", "sort": "asc"}, "sort"),
        ],
    )
    @pytest.mark.usefixtures("world")
    def test_a_bad_filter_is_named(self, filters: dict[str, str], field: str) -> None:
        reply = listed(**filters)
        assert (reply.status, reply.json["field"]) == (400, field)
        assert reply.json["limit"]

    @pytest.mark.parametrize("since", ["0001-01-01T00:00:00+23:59", "9999-12-31T23:59:59.999-23:59"])
    @pytest.mark.usefixtures("world")
    def test_any_time_may_be_asked_for(self, since: str) -> None:
        assert ids(listed(status="open", since=since)) == []


class TestCancel:
    def test_p4_ends_an_open_message_and_is_told_without_an_alert(self, world: MemoryWorld) -> None:
        record = put(world)
        reply = call("DELETE", path_id=record.id)
        assert (reply.status, reply.json["status"], reply.json["reason"]) == (200, "CANCELLED", "cancelled")
        stands = world.table.rows[record.id].record
        assert (stands.status, stands.untold) == (Status.CANCELLED, None)
        assert [e["event_id"] for e in world.told.events] == [f"{record.id}.1.CANCELLED"]
        assert world.told.alerts == []

    def test_p5_repeated_it_changes_nothing(self, world: MemoryWorld) -> None:
        record = put(world)
        call("DELETE", path_id=record.id)
        world.now += 1000
        stands = world.table.rows[record.id].record
        reply = call("DELETE", path_id=record.id)
        assert (reply.status, reply.json["ended_at"]) == (200, "2026-01-01T00:00:00.000Z")
        assert world.table.rows[record.id].record == stands
        assert len(world.told.events) == 1

    @pytest.mark.parametrize("status", [Status.DELIVERED, Status.EXPIRED, Status.REJECTED])
    def test_p6_what_has_ended_otherwise_is_a_409(self, world: MemoryWorld, status: Status) -> None:
        record = end(world, put(world), status)
        reply = call("DELETE", path_id=record.id)
        assert (reply.status, str(status) in reply.json["detail"]) == (409, True)
        assert world.table.rows[record.id].record == record

    @pytest.mark.usefixtures("world")
    def test_what_does_not_exist_is_a_404(self) -> None:
        assert call("DELETE", path_id=message_id(404)).status == 404

    def test_is_a_success_even_when_the_event_fails_for_it_stays_untold(self, world: MemoryWorld) -> None:
        world.wire.faults.append(Fault("sns.publish", "throttle"))
        record = put(world)
        assert call("DELETE", path_id=record.id).status == 200
        assert world.table.rows[record.id].record.untold is not None


class TestRedeliver:
    def again(self, record: Record, body: object = None) -> Reply:
        return call("POST", "/messages/{id}/redeliver", record.id, body=body)

    def test_p6_opens_the_next_life_with_numbers_going_on(self, world: MemoryWorld) -> None:
        taken = world.table.claim(claim_of(put(world), START, "t1"))
        record = end(world, world.table.record(taken, SENT), Status.EXPIRED)
        world.now += 60_000
        reply = self.again(record, {"expires_in": 600})
        assert (reply.status, reply.json["status"], reply.json["life"]) == (202, "PENDING", 2)
        stands = world.table.rows[record.id].record
        assert (stands.attempt, stands.base, stands.due_at) == (1, 1, world.now)
        assert stands.expires_at == world.now + 600_000
        assert world.channel_queues["webhook"].bodies() == [{"v": 1, "id": record.id, "attempt": 2, "base": 1}]

    def test_the_new_life_lasts_as_long_as_the_stack_says_unless_told(self, world: MemoryWorld) -> None:
        record = end(world, put(world), Status.CANCELLED)
        assert self.again(record).status == 202
        assert world.table.rows[record.id].record.expires_at == START + 7 * DAY

    def test_p1_when_the_queue_fails_the_sweep_makes_the_attempt(self, world: MemoryWorld) -> None:
        record = end(world, put(world), Status.EXPIRED)
        world.wire.faults.append(Fault("sqs.send", "throttle"))
        assert self.again(record).status == 202
        assert world.table.overdue(START + 180_000, 10) == [record.id]

    def test_what_is_open_is_a_409(self, world: MemoryWorld) -> None:
        record = put(world)
        assert (self.again(record).status, world.table.rows[record.id].record) == (409, record)

    def test_p6_what_was_delivered_or_acked_late_is_a_409(self, world: MemoryWorld) -> None:
        delivered = end(world, put(world, 1), Status.DELIVERED)
        late = end(world, put(world, 2), Status.EXPIRED)
        world.table.late_ack(late.id, START)
        for record in (delivered, late):
            reply = self.again(record)
            assert (reply.status, reply.json["type"]) == (409, "urn:until-ack:problem:delivered")
        assert world.channel_queues["webhook"].bodies() == []

    def test_p5_twice_opens_one_life(self, world: MemoryWorld) -> None:
        record = end(world, put(world), Status.EXPIRED)
        assert [self.again(record).status for _ in range(2)] == [202, 409]
        assert world.table.rows[record.id].record.life == 2

    def test_p6_an_ack_that_comes_first_wins(self, world: MemoryWorld) -> None:
        record = end(world, put(world), Status.EXPIRED)
        late = Meanwhile("dynamodb.reopen", lambda: world.table.late_ack(record.id, START))
        world.wire.faults.append(late)
        assert self.again(record).status == 409
        assert world.table.rows[record.id].record.status is Status.EXPIRED

    def test_p7_an_ending_that_nobody_was_told_of_is_told_first(self, world: MemoryWorld) -> None:
        record = end(world, put(world), Status.EXPIRED, told=False)
        assert self.again(record).status == 503
        world.now = record.untold or 0
        assert self.again(record).status == 202
        assert [e["event_id"] for e in world.told.events] == [f"{record.id}.1.EXPIRED"]
        assert len(world.told.alerts) == 1

    @pytest.mark.usefixtures("world")
    def test_what_does_not_exist_is_a_404(self) -> None:
        assert self.again(a_record(404)).status == 404

    @pytest.mark.parametrize("body", [{"expires_in": 0}, {"expires_in": 31_536_001}, {"x": 1}, "[]", "{"])
    def test_a_bad_body_is_a_400_and_opens_nothing(self, world: MemoryWorld, body: object) -> None:
        record = end(world, put(world), Status.EXPIRED)
        assert self.again(record, body).status == 400
        assert world.table.rows[record.id].record == record


class TestWorkflow:
    def put(self, world: MemoryWorld, workflow: str = "delivery_callback", **fields: Any) -> Record:
        return put(world, **{"scheduler": Scheduler.WORKFLOW, "workflow": workflow, **fields})

    def again(self, record: Record, body: object = None) -> Reply:
        return call("POST", "/messages/{id}/redeliver", record.id, body=body)

    def test_a_message_shows_its_scheduler_and_workflow_and_no_task(self, world: MemoryWorld) -> None:
        record = self.put(world)
        world.table.claim(claim_of(record, START, "t1", task="secret-task"))
        reply = call("GET", path_id=record.id)
        assert (reply.json["scheduler"], reply.json["workflow"]) == ("workflow", "delivery_callback")
        assert "secret-task" not in reply.text

    def test_p4_a_cancellation_completes_the_task_once_the_record_is_closed(self, world: MemoryWorld) -> None:
        record = self.put(world)
        world.table.claim(claim_of(record, START, "t1", task="AAAA"))
        assert call("DELETE", path_id=record.id).status == 200
        calls = world.wire.calls
        assert calls.index("states.answer") > calls.index("dynamodb.end")
        assert world.states.answers == {"AAAA": {"status": "CANCELLED"}}

    def test_p4_it_stops_the_execution_that_is_ended_so(self, world: MemoryWorld) -> None:
        record = self.put(world, "delivery_stop_on_ack", life=2)
        assert call("DELETE", path_id=record.id).status == 200
        assert world.states.stopped == [f"{record.id}-2"]

    @pytest.mark.parametrize("workflow", ["delivery_poll", "delivery_callback"])
    def test_with_nothing_that_waits_it_only_ends_the_message(self, world: MemoryWorld, workflow: str) -> None:
        record = self.put(world, workflow)
        assert call("DELETE", path_id=record.id).status == 200
        assert (world.states.answers, world.states.stopped) == ({}, [])
        assert world.table.rows[record.id].record.status is Status.CANCELLED

    @pytest.mark.parametrize("workflow", ["delivery_activity", "delivery_push"])
    def test_p4_what_nobody_has_pulled_yet_is_stopped_for_it_might_wait_for_ever(
        self, world: MemoryWorld, workflow: str
    ) -> None:
        record = self.put(world, workflow, life=2)
        assert call("DELETE", path_id=record.id).status == 200
        assert (world.states.answers, world.states.stopped) == ({}, [f"{record.id}-2"])

    @pytest.mark.parametrize("operation", ["states.answer", "states.stop"])
    def test_it_is_a_success_even_when_the_execution_cannot_be_told(self, world: MemoryWorld, operation: str) -> None:
        workflow = "delivery_callback" if operation == "states.answer" else "delivery_stop_on_ack"
        record = self.put(world, workflow)
        world.table.claim(claim_of(record, START, "t1", task="AAAA"))
        world.wire.faults.append(Fault(operation, "throttle"))
        assert call("DELETE", path_id=record.id).status == 200
        assert world.table.rows[record.id].record.status is Status.CANCELLED
        assert world.log.said("execution not told yet")

    def test_p6_a_redelivery_starts_the_next_lifes_execution_and_queues_nothing(self, world: MemoryWorld) -> None:
        taken = world.table.claim(claim_of(self.put(world), START, "t1", task="AAAA"))
        record = end(world, world.table.record(taken, SENT), Status.EXPIRED)
        world.now += 60_000
        assert self.again(record, {"expires_in": 40}).json["scheduler"] == "workflow"
        ((name, told),) = world.states.started.items()
        assert name == f"{record.id}-2"
        assert (told["life"], told["base"], told["from"], told["delays"]) == (2, 1, 1, [15, 25])
        assert world.channel_queues["webhook"].bodies() == []
        assert world.table.rows[record.id].record.task is None

    def test_p6_what_the_queues_had_taken_over_is_its_workflows_again(self, world: MemoryWorld) -> None:
        record = self.put(world)
        world.table.hand_over(record)
        ended = end(world, record, Status.EXPIRED)
        assert ended.scheduler is Scheduler.QUEUES
        assert self.again(ended).status == 202
        assert world.table.rows[record.id].record.scheduler is Scheduler.WORKFLOW
        assert list(world.states.started) == [f"{record.id}-2"]

    def test_p1_an_execution_that_cannot_be_started_is_left_to_the_sweep(self, world: MemoryWorld) -> None:
        record = end(world, self.put(world), Status.EXPIRED)
        world.wire.faults.append(Fault("states.start", "throttle"))
        assert self.again(record).status == 202
        assert world.table.overdue(START + 180_000, 10) == [record.id]

    def test_an_express_workflow_cuts_the_life_that_the_stack_would_give(self, world: MemoryWorld) -> None:
        record = end(world, self.put(world, "poll_express"), Status.EXPIRED)
        assert self.again(record).status == 202
        assert world.table.rows[record.id].record.expires_at == START + 300_000

    def test_one_that_was_asked_for_may_last_as_long_as_its_execution(self, world: MemoryWorld) -> None:
        record = end(world, self.put(world, "poll_express"), Status.EXPIRED)
        assert self.again(record, {"expires_in": 300}).status == 202
        assert world.table.rows[record.id].record.expires_at == START + 300_000

    def test_a_longer_one_that_was_asked_for_is_a_400_and_opens_nothing(self, world: MemoryWorld) -> None:
        record = end(world, self.put(world, "poll_express"), Status.EXPIRED)
        reply = self.again(record, {"expires_in": 301})
        assert (reply.status, reply.json["field"], reply.json["value"]) == (400, "expires_in", 301)
        assert reply.json["limit"] == "at most 300 for workflow poll_express"
        assert world.table.rows[record.id].record == record
