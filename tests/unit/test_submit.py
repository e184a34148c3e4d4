"""POST /messages and POST /messages/batch."""

import json
from collections.abc import Mapping
from typing import Any

import pytest

from handlers import submit
from handlers.delivery.jobs import parse_attempt
from handlers.delivery.message import Scheduler, Status
from handlers.delivery.ports import Ending
from handlers.delivery.telling import iso
from handlers.runtime import bootstrap
from tests.fakes.events import Reply, api_event, reply_of
from tests.fakes.wire import Fault
from tests.fakes.world import START, MemoryWorld

GOOD = {"target": "https://device.example/inbox", "channel": "webhook", "payload": "open the door"}
MAIL = {"target": "someone@example.com", "channel": "email", "payload": "hello"}


def post(body: object = GOOD, caller: str = "arn:aws:iam::0:user/me") -> Reply:
    return reply_of(submit.handler(api_event("POST", "/messages", body, caller=caller), None))


def post_batch(messages: object) -> Reply:
    return reply_of(submit.handler(api_event("POST", "/messages/batch", {"messages": messages}), None))


def queued(world: MemoryWorld, channel: str = "webhook") -> list[str]:
    return [parse_attempt(json.dumps(body)).message_id for body in world.channel_queues[channel].bodies()]


class TestOne:
    def test_p1_a_202_means_that_it_is_stored_and_its_first_attempt_is_queued(self, world: MemoryWorld) -> None:
        reply = post({**GOOD, "labels": {"order": "17"}, "schedule": [1, 2], "expires_in": 60})
        assert reply.status == 202
        record = world.table.rows[reply.json["id"]].record
        assert reply.json == {
            "id": record.id,
            "status": "PENDING",
            "created_at": iso(START),
            "expires_at": iso(START + 60_000),
            "due_at": iso(START),
        }
        assert reply.headers["location"] == f"/messages/{record.id}"
        assert (record.payload, record.schedule) == (b"open the door", (1, 2))
        assert record.labels == {"order": "17"}
        assert record.sweep_at is not None
        assert queued(world) == [record.id]

    def test_p1_it_is_stored_before_it_is_queued(self, world: MemoryWorld) -> None:
        post()
        assert world.wire.calls == ["dynamodb.put", "sqs.send"]

    def test_p1_when_the_queue_fails_it_is_accepted_all_the_same_for_the_sweep_makes_the_attempt(
        self, world: MemoryWorld
    ) -> None:
        world.wire.faults.append(Fault("sqs.send", "throttle"))
        reply = post()
        assert reply.status == 202
        assert world.table.overdue(START + 180_000, 10) == [reply.json["id"]]
        assert world.log.said("first attempt left to the sweep") == [{"message_id": reply.json["id"]}]

    @pytest.mark.parametrize("what", ["throttle", "timeout"])
    def test_p1_when_the_table_fails_it_is_not_accepted(self, world: MemoryWorld, what: Any) -> None:
        world.wire.faults.append(Fault("dynamodb.put", what))
        assert post().status == 503
        assert (world.table.rows, queued(world)) == ({}, [])

    def test_p5_a_put_whose_answer_was_lost_and_was_repeated_is_one_message(self, world: MemoryWorld) -> None:
        world.wire.faults.append(Fault("dynamodb.put", "repeat"))
        reply = post()
        assert reply.status in (200, 202)
        assert queued(world) == [reply.json["id"]] == list(world.table.rows)

    def test_two_messages_alike_are_two(self, world: MemoryWorld) -> None:
        assert post().json["id"] != post().json["id"]
        assert len(world.table.rows) == 2

    def test_a_mail_goes_to_its_own_queue(self, world: MemoryWorld) -> None:
        message_id = post(MAIL).json["id"]
        assert (queued(world, "email"), queued(world, "webhook")) == ([message_id], [])


BAD: list[tuple[Mapping[str, object], str]] = [
    ({"payload": "x" * 1001}, "payload"),
    ({"payload": 7}, "payload"),
    ({"payload": "é", "payload_encoding": "base64"}, "payload"),
    ({"channel": "pigeon"}, "channel"),
    ({"target": "ftp://device.example"}, "target"),
    ({"target": "http://device.example"}, "target"),
    ({"target": "https://127.0.0.1/"}, "target"),
    ({"target": "https://169.254.169.254/latest/meta-data"}, "target"),
    ({"target": "someone@example.com"}, "target"),
    ({"channel": "email"}, "target"),
    ({"channel": "email", "target": "a@example.com", "payload": " "}, "payload"),
    ({"schedule": []}, "schedule"),
    ({"schedule": [0]}, "schedule[0]"),
    ({"schedule": [15, -3]}, "schedule[1]"),
    ({"schedule": [31_536_001]}, "schedule[0]"),
    ({"schedule": "sometimes"}, "schedule"),
    ({"expires_in": 0}, "expires_in"),
    ({"expires_in": -1}, "expires_in"),
    ({"expires_in": "1"}, "expires_in"),
    ({"max_attempts": 0}, "max_attempts"),
    ({"labels": {"": "x"}}, "labels"),
    ({"color": "red"}, "color"),
    ({"scheduler": "cron"}, "scheduler"),
    ({"scheduler": "workflow"}, "workflow"),
    ({"workflow": "delivery_poll"}, "workflow"),
    ({"scheduler": "queues", "workflow": "delivery_poll"}, "workflow"),
    ({"scheduler": "workflow", "workflow": "delivery_by_pigeon"}, "workflow"),
    ({"scheduler": "workflow", "workflow": "poll_express", "expires_in": 301}, "expires_in"),
    ({"scheduler": "workflow", "workflow": "delivery_activity"}, "channel"),
    ({"channel": "activity", "target": "meter-7"}, "scheduler"),
    ({"channel": "activity", "target": "meter-7", "scheduler": "workflow", "workflow": "delivery_poll"}, "workflow"),
    ({"channel": "activity", "target": "a\x00b", "scheduler": "workflow", "workflow": "delivery_activity"}, "target"),
    (
        {"channel": "email", "target": "a@example.com", "scheduler": "workflow", "workflow": "delivery_job_poller"},
        "channel",
    ),
]


@pytest.mark.parametrize(("change", "field"), BAD, ids=[json.dumps(change)[:40] for change, _ in BAD])
class TestBad:
    def test_alone_it_is_a_400_that_names_field_value_and_limit_and_nothing_is_stored(
        self, world: MemoryWorld, change: Mapping[str, object], field: str
    ) -> None:
        reply = post({**GOOD, **change})
        assert (reply.status, reply.headers["content-type"]) == (400, "application/problem+json")
        assert reply.json["field"] == field
        assert reply.json["limit"]
        assert "value" in reply.json
        assert (world.table.rows, world.wire.calls) == ({}, [])

    def test_in_a_batch_the_good_ones_go(self, world: MemoryWorld, change: Mapping[str, object], field: str) -> None:
        reply = post_batch([GOOD, {**GOOD, **change}, MAIL])
        assert reply.status == 200
        first, bad, last = reply.json["results"]
        assert [first["code"], bad["code"], last["code"]] == [202, 400, 202]
        assert (bad["index"], bad["problem"]["field"]) == (1, field)
        assert set(world.table.rows) == {first["id"], last["id"]}
        assert queued(world) + queued(world, "email") == [first["id"], last["id"]]


def test_a_payload_over_the_limit_is_told_its_size_and_the_limit(world: MemoryWorld) -> None:
    problem = post({**GOOD, "payload": "x" * 1001}).json
    assert problem["value"] == "1001 bytes"
    assert problem["limit"] == "at most 1000 bytes"
    assert "payload" in problem["detail"]
    assert not world.table.rows


@pytest.mark.parametrize("body", ["{", "[]", '"x"', None])
def test_malformed_json_is_a_400_and_nothing_is_stored(world: MemoryWorld, body: str | None) -> None:
    assert post(body).json["field"] == "body"
    assert not world.table.rows


def test_a_body_over_the_limit_is_a_413_and_nothing_is_stored(world: MemoryWorld) -> None:
    assert post({**GOOD, "payload": "x" * submit.MAX_BODY}).status == 413
    assert not world.table.rows


class TestIdempotency:
    KEYED: Mapping[str, Any] = {**GOOD, "idempotency_key": "order-17"}

    def test_p5_a_repeat_with_the_same_body_is_the_first_message(self, world: MemoryWorld) -> None:
        first = post(self.KEYED)
        world.now += 60_000
        again = post({name: self.KEYED[name] for name in sorted(self.KEYED, reverse=True)})
        assert (first.status, again.status) == (202, 200)
        assert again.json == first.json
        assert len(world.table.rows) == 1

    def test_a_repeat_with_another_body_is_a_409_and_changes_nothing(self, world: MemoryWorld) -> None:
        first = post(self.KEYED)
        before = dict(world.table.rows)
        reply = post({**self.KEYED, "payload": "shut the door"})
        assert (reply.status, reply.json["type"]) == (409, "urn:until-ack:problem:idempotency-key-reused")
        assert "order-17" in reply.json["detail"]
        assert world.table.rows == before
        assert queued(world) == [first.json["id"]]

    def test_another_callers_key_is_another_message(self, world: MemoryWorld) -> None:
        ids = {post(self.KEYED, caller=f"arn:aws:iam::0:user/{who}").json["id"] for who in ("me", "you")}
        assert len(ids) == len(world.table.rows) == 2

    def test_p1_a_repeat_queues_what_a_submit_that_died_had_not(self, world: MemoryWorld) -> None:
        world.wire.faults.append(Fault("sqs.send", "timeout"))
        message_id = post(self.KEYED).json["id"]
        assert queued(world) == []
        assert post(self.KEYED).status == 200
        assert queued(world) == [message_id]

    def test_a_repeat_shows_how_the_first_stands_and_queues_nothing_once_it_has_ended(self, world: MemoryWorld) -> None:
        message_id = post(self.KEYED).json["id"]
        world.table.end(message_id, Ending(Status.DELIVERED, START))
        world.channel_queues["webhook"].purge()
        assert post(self.KEYED).json["status"] == "DELIVERED"
        assert queued(world) == []

    def test_within_a_batch_it_collapses_too(self, world: MemoryWorld) -> None:
        results = post_batch([self.KEYED, self.KEYED, {**self.KEYED, "payload": "other"}]).json["results"]
        codes = [r["code"] for r in results]
        assert len(world.table.rows) == 1
        # The three are written side by side: which comes first is open, that one wins is not.
        assert codes.count(202) == 1
        assert sorted(codes) in ([200, 202, 409], [202, 409, 409])


class TestBatch:
    def test_of_a_hundred_goes_in_ten_requests(self, world: MemoryWorld) -> None:
        reply = post_batch([{**GOOD, "payload": str(n)} for n in range(100)])
        results = reply.json["results"]
        assert [r["index"] for r in results] == list(range(100))
        assert {r["code"] for r in results} == {202}
        assert queued(world) == [r["id"] for r in results]
        assert world.wire.calls.count("sqs.send") == 10
        payloads = [world.table.rows[r["id"]].record.payload for r in results]
        assert payloads == [str(n).encode() for n in range(100)]

    @pytest.mark.parametrize("messages", [[], [GOOD] * 101, "x", None, [5]])
    def test_of_another_size_or_shape_is_a_400(self, world: MemoryWorld, messages: object) -> None:
        assert post_batch(messages).status == 400
        assert not world.table.rows

    def test_a_throttled_put_fails_just_its_message(self, world: MemoryWorld) -> None:
        world.wire.faults.append(Fault("dynamodb.put", "throttle", times=1))
        codes = sorted(r["code"] for r in post_batch([GOOD] * 5).json["results"])
        assert codes == [202, 202, 202, 202, 503]
        assert len(world.table.rows) == len(queued(world)) == 4

    def test_a_message_that_the_queue_refused_is_left_to_the_sweep(self, world: MemoryWorld) -> None:
        world.wire.faults.append(Fault("sqs.entry", "throttle", skip=2))
        results = post_batch([GOOD] * 4).json["results"]
        assert {r["code"] for r in results} == {202}
        assert queued(world) == [r["id"] for n, r in enumerate(results) if n != 2]
        assert world.log.said("first attempt left to the sweep") == [{"message_id": results[2]["id"]}]


def test_a_channel_that_the_stack_does_without_is_a_400_and_nothing_is_stored() -> None:
    world = MemoryWorld({"CHANNEL_QUEUES": '{"webhook": "url:webhook"}', "MACHINES": "{}"})
    bootstrap.use(world)
    reply = post(MAIL)
    assert (reply.status, reply.json["field"], reply.json["limit"]) == (400, "channel", "one of webhook")
    assert world.table.rows == {}


class TestWorkflow:
    BY_POLL: Mapping[str, Any] = {**GOOD, "scheduler": "workflow", "workflow": "delivery_poll"}

    def test_p1_a_202_means_that_it_is_stored_and_its_execution_runs_with_no_attempt_queued(
        self, world: MemoryWorld
    ) -> None:
        reply = post({**self.BY_POLL, "schedule": [1, 2], "expires_in": 5})
        assert reply.status == 202
        record = world.table.rows[reply.json["id"]].record
        assert (record.scheduler, record.workflow) == (Scheduler.WORKFLOW, "delivery_poll")
        assert world.states.started == {
            f"{record.id}-1": {
                "v": 1,
                "message_id": record.id,
                "life": 1,
                "channel": "webhook",
                "queue_url": "url:webhook",
                "base": 0,
                "from": 0,
                "delays": [1, 2, 2],
                "last": 2,
                "heartbeats": [1, 1, 1],
                "next": {"index": 0, "wait": 1, "heartbeat": 1},
                "trouble": {},
            }
        }
        assert queued(world) == []

    def test_p1_it_is_stored_before_it_is_started(self, world: MemoryWorld) -> None:
        post(self.BY_POLL)
        assert [c for c in world.wire.calls if c != "sqs.send"] == ["dynamodb.put", "states.start"]

    @pytest.mark.parametrize("what", ["throttle", "timeout"])
    def test_p1_when_it_cannot_be_started_it_is_accepted_all_the_same_for_the_sweep_sees_to_it(
        self, world: MemoryWorld, what: Any
    ) -> None:
        world.wire.faults.append(Fault("states.start", what))
        reply = post(self.BY_POLL)
        assert (reply.status, world.states.started) == (202, {})
        assert world.table.overdue(START + 180_000, 10) == [reply.json["id"]]
        assert world.log.said("first attempt left to the sweep") == [{"message_id": reply.json["id"]}]

    def test_p5_a_repeat_with_an_idempotency_key_starts_no_second(self, world: MemoryWorld) -> None:
        keyed = {**self.BY_POLL, "idempotency_key": "order-17"}
        first = post(keyed)
        started = dict(world.states.started)
        world.now += 60_000
        again = post(keyed)
        assert (again.status, again.json) == (200, first.json)
        assert (world.states.started, queued(world)) == (started, [])

    def test_p1_a_repeat_starts_what_a_submit_that_died_had_not(self, world: MemoryWorld) -> None:
        keyed = {**self.BY_POLL, "idempotency_key": "order-17"}
        world.wire.faults.append(Fault("states.start", "timeout"))
        message_id = post(keyed).json["id"]
        assert world.states.started == {}
        assert post(keyed).status == 200
        assert list(world.states.started) == [f"{message_id}-1"]

    def test_a_repeat_of_what_the_queues_have_taken_over_starts_none(self, world: MemoryWorld) -> None:
        keyed = {**self.BY_POLL, "idempotency_key": "order-17"}
        message_id = post(keyed).json["id"]
        world.states.started.clear()
        world.table.hand_over(world.table.rows[message_id].record)
        assert post(keyed).status == 200
        assert (world.states.started, queued(world)) == ({}, [message_id])

    def test_another_workflow_under_the_same_key_is_a_409(self, world: MemoryWorld) -> None:
        keyed = {**self.BY_POLL, "idempotency_key": "order-17"}
        post(keyed)
        assert post({**keyed, "workflow": "delivery_callback"}).status == 409
        assert len(world.states.started) == 1

    def test_in_a_batch_each_goes_to_its_own_scheduler(self, world: MemoryWorld) -> None:
        results = post_batch([GOOD, self.BY_POLL, GOOD, {**self.BY_POLL, "workflow": "delivery_push"}]).json["results"]
        ids = [r["id"] for r in results]
        assert {r["code"] for r in results} == {202}
        assert queued(world) == [ids[0], ids[2]]
        assert set(world.states.started) == {f"{ids[1]}-1", f"{ids[3]}-1"}

    def test_p1_in_a_batch_one_that_cannot_be_started_is_no_others(self, world: MemoryWorld) -> None:
        world.wire.faults.append(Fault("states.start", "throttle", skip=1))
        results = post_batch([self.BY_POLL] * 4).json["results"]
        assert {r["code"] for r in results} == {202}
        assert len(world.states.started) == 3
        assert len(world.log.said("first attempt left to the sweep")) == 1

    def test_one_for_workers_needs_no_url_and_no_queue(self, world: MemoryWorld) -> None:
        pulled = {**GOOD, "channel": "activity", "target": "meter 7 in the cellar", "workflow": "delivery_activity"}
        reply = post({**pulled, "scheduler": "workflow"})
        assert reply.status == 202
        assert [told["channel"] for told in world.states.started.values()] == ["activity"]

    def test_an_express_one_may_last_as_long_as_its_execution(self, world: MemoryWorld) -> None:
        reply = post({**self.BY_POLL, "workflow": "poll_express", "expires_in": 300})
        assert reply.status == 202
        assert len(world.states.started) == 1

    def test_an_express_one_that_does_not_say_lives_as_long_as_its_execution_whose_last_seconds_are_for_settling(
        self, world: MemoryWorld
    ) -> None:
        reply = post({**self.BY_POLL, "workflow": "poll_express"})
        assert reply.status == 202
        assert world.table.rows[reply.json["id"]].record.expires_at == START + 300_000
        ((_, told),) = world.states.started.items()
        assert told["delays"] == [15, 30, 245]

    def test_an_express_one_lasts_no_longer_than_the_stack_says(self) -> None:
        world = MemoryWorld({"DEFAULT_EXPIRES_IN": "60"})
        bootstrap.use(world)
        reply = post({**self.BY_POLL, "workflow": "poll_express"})
        assert world.table.rows[reply.json["id"]].record.expires_at == START + 60_000

    def test_any_other_lasts_as_long_as_the_stack_says(self, world: MemoryWorld) -> None:
        reply = post(self.BY_POLL)
        assert world.table.rows[reply.json["id"]].record.expires_at == START + 604_800_000

    def test_an_express_one_that_is_to_last_longer_is_told_the_value_and_the_limit(self, world: MemoryWorld) -> None:
        problem = post({**self.BY_POLL, "workflow": "poll_express", "expires_in": 301}).json
        assert (problem["field"], problem["value"]) == ("expires_in", 301)
        assert problem["limit"].startswith("at most 300 ")
        assert (world.table.rows, world.states.started) == ({}, {})

    @pytest.mark.parametrize(
        ("machines", "limit"),
        [
            ({"delivery_push": "arn:push"}, "one of delivery_push"),
            ({}, "left out: this stack has no workflows"),
        ],
    )
    def test_one_that_the_stack_does_without_is_a_400_and_nothing_is_stored(
        self, machines: dict[str, str], limit: str
    ) -> None:
        world = MemoryWorld({"MACHINES": json.dumps(machines)})
        bootstrap.use(world)
        reply = post(self.BY_POLL)
        assert (reply.status, reply.json["field"], reply.json["limit"]) == (400, "workflow", limit)
        assert reply.json["value"] == "delivery_poll"
        assert (world.table.rows, world.wire.calls) == ({}, [])

    def test_the_channel_of_workers_is_there_only_with_its_workflow(self) -> None:
        world = MemoryWorld({"MACHINES": json.dumps({"delivery_push": "arn:push"})})
        bootstrap.use(world)
        reply = post({**GOOD, "channel": "activity"})
        assert (reply.status, reply.json["field"], reply.json["limit"]) == (400, "channel", "one of email, webhook")
        assert world.table.rows == {}
