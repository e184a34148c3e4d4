"""Events and alerts: what is said, to whom, how often, and what happens when it fails."""

from dataclasses import replace
from typing import Any

import pytest

from handlers.delivery.errors import Unavailable
from handlers.delivery.message import Record, Scheduler, Status
from handlers.delivery.telling import TELL_LEASE, Teller, alert_of, attributes_of, event_of, iso
from tests.fakes.records import GRACE, a_record, answered, claimed
from tests.fakes.wire import Fault
from tests.fakes.world import START, MemoryWorld


@pytest.fixture
def teller(world: MemoryWorld) -> Teller:
    return Teller(world.table, world.told, world.states, world.clock, world.log, GRACE, retention=100)


def ended(world: MemoryWorld, teller: Teller, status: Status = Status.EXPIRED) -> Record:
    record = a_record()
    world.table.put(record)
    return world.table.end(record.id, teller.ending(status, "why"))


def stands(world: MemoryWorld) -> Record:
    return world.table.rows[a_record().id].record


class TestEnding:
    @pytest.mark.parametrize("status", [Status.REJECTED, Status.EXPIRED, Status.EXHAUSTED, Status.CANCELLED])
    def test_p7_undelivered_is_untold_in_the_same_write(self, teller: Teller, status: Status) -> None:
        ending = teller.ending(status, "why")
        assert (ending.at, ending.reason) == (START, "why")
        assert (ending.untold_until, ending.sweep_at) == (START + TELL_LEASE, START + GRACE)
        assert ending.ttl == START // 1000 + 100

    def test_delivered_is_not(self, teller: Teller) -> None:
        ending = teller.ending(Status.DELIVERED)
        assert (ending.untold_until, ending.sweep_at) == (None, None)
        assert ending.ttl == START // 1000 + 100


class TestTell:
    @pytest.mark.parametrize("status", [Status.REJECTED, Status.EXPIRED, Status.EXHAUSTED])
    def test_p7_a_bad_ending_is_published_and_reaches_a_person(
        self, world: MemoryWorld, teller: Teller, status: Status
    ) -> None:
        teller.tell(ended(world, teller, status))
        assert [e["status"] for e in world.told.events] == [str(status)]
        assert len(world.told.alerts) == 1
        assert stands(world).untold is None

    @pytest.mark.parametrize("status", [Status.DELIVERED, Status.CANCELLED])
    def test_any_other_is_published_only(self, world: MemoryWorld, teller: Teller, status: Status) -> None:
        teller.tell(ended(world, teller, status))
        assert [e["status"] for e in world.told.events] == [str(status)]
        assert world.told.alerts == []
        assert stands(world).untold is None

    @pytest.mark.parametrize("operation", ["sns.publish", "sns.alert", "dynamodb.told"])
    def test_p7_what_fails_stays_untold(self, world: MemoryWorld, teller: Teller, operation: str) -> None:
        world.wire.faults.append(Fault(operation, "throttle"))
        record = ended(world, teller)
        with pytest.raises(Unavailable):
            teller.tell(record)
        assert stands(world).untold == START + TELL_LEASE

    def test_trying_leaves_it_to_the_sweep(self, world: MemoryWorld, teller: Teller) -> None:
        world.wire.faults.append(Fault("sns.alert", "throttle"))
        teller.try_to_tell(ended(world, teller))
        assert stands(world).untold is not None
        assert world.log.said("ending not told yet")


class TestRetell:
    def test_within_the_lease_is_left_to_its_holder(self, world: MemoryWorld, teller: Teller) -> None:
        record = ended(world, teller)
        world.now += TELL_LEASE - 1
        teller.retell(record)
        assert world.told.events == []

    def test_after_it_takes_the_lease_and_tells(self, world: MemoryWorld, teller: Teller) -> None:
        record = ended(world, teller)
        world.now += TELL_LEASE
        teller.retell(record)
        assert (len(world.told.alerts), stands(world).untold) == (1, None)

    def test_p5_of_two_that_find_it_one_tells(self, world: MemoryWorld, teller: Teller) -> None:
        record = ended(world, teller)
        world.now += TELL_LEASE
        world.wire.faults.append(Fault("sns.publish", "throttle"))
        with pytest.raises(Unavailable):
            teller.retell(record)
        teller.retell(record)
        assert world.told.events == []
        assert stands(world).untold == world.now + TELL_LEASE

    def test_what_is_told_is_not_told_again(self, world: MemoryWorld, teller: Teller) -> None:
        teller.tell(ended(world, teller))
        world.now += TELL_LEASE
        teller.retell(stands(world))
        assert len(world.told.events) == 1


class TestNote:
    def test_is_published_once_and_its_loss_is_borne(self, world: MemoryWorld, teller: Teller) -> None:
        teller.note(a_record(), "late_ack")
        world.wire.faults.append(Fault("sns.publish", "throttle"))
        teller.note(a_record(), "late_ack")
        assert [e["type"] for e in world.told.events] == ["late_ack"]
        assert world.log.said("event not published")


class TestWords:
    def test_an_event_says_all_that_a_subscriber_needs_and_no_payload(self) -> None:
        record = replace(answered(claimed(a_record(labels={"order": "17"}))), status=Status.EXPIRED, reason="too old")
        event = event_of(record, "ended", START)
        assert event == {
            "v": 1,
            "event_id": f"{record.id}.1.EXPIRED",
            "type": "ended",
            "message_id": record.id,
            "life": 1,
            "status": "EXPIRED",
            "reason": "too old",
            "channel": "webhook",
            "target": record.target,
            "attempts": 1,
            "labels": {"order": "17"},
            "at": "2026-01-01T00:00:00.000Z",
        }
        assert attributes_of(event) == {"type": "ended", "status": "EXPIRED", "channel": "webhook"}

    def test_another_life_or_kind_is_another_event(self) -> None:
        record = replace(a_record(), status=Status.EXPIRED)
        events = [event_of(record, "ended", 0), event_of(replace(record, life=2), "ended", 0)]
        events.append(event_of(record, "late_ack", 0))
        assert len({e["event_id"] for e in events}) == 3

    def test_an_alert_says_what_of_which_message_and_what_to_do(self) -> None:
        record = replace(answered(claimed(a_record(labels={"order": "17"}))), status=Status.EXPIRED, reason="too old")
        subject, text = alert_of(record, "ended EXPIRED", "It did not arrive.", "POST /messages/{id}/redeliver")
        assert subject == f"until-ack: message {record.id} ended EXPIRED"
        said = ["It did not arrive.", record.target, "EXPIRED", "too old", "order = 17", "http_200"]
        assert all(part in text for part in [*said, f"/messages/{record.id}/redeliver"])
        assert "open the door" not in text

    def test_others_words_get_no_line_of_their_own_in_an_alert(self) -> None:
        evil = "no\nStatus:    DELIVERED\r\n\u2028\x00\x1b[2J"
        record = replace(a_record(labels={"a": evil}), status=Status.REJECTED, reason=f"NACK: {evil}")
        _, text = alert_of(record, "ended REJECTED", "first", "last")
        assert [line for line in text.splitlines() if line.startswith("Status:")] == ["Status:    REJECTED"]
        assert all(character.isprintable() or character == "\n" for character in text)

    @pytest.mark.parametrize(
        ("millis", "text"), [(0, "1970-01-01T00:00:00.000Z"), (START + 5, "2026-01-01T00:00:00.005Z")]
    )
    def test_times_are_iso_8601_in_utc_with_milliseconds(self, millis: int, text: str) -> None:
        assert iso(millis) == text


class TestRelease:
    def waits(self, workflow: str | None, **fields: Any) -> Record:
        record = a_record(scheduler=Scheduler.WORKFLOW, workflow=workflow, task="AAAA", **fields)
        return replace(record, status=Status.DELIVERED)

    @pytest.mark.parametrize("workflow", ["delivery_callback", "delivery_event", "delivery_activity", "delivery_push"])
    def test_p4_a_waiting_task_is_completed_with_the_status(
        self, world: MemoryWorld, teller: Teller, workflow: str
    ) -> None:
        teller.release(self.waits(workflow))
        assert (world.states.answers, world.states.stopped) == ({"AAAA": {"status": "DELIVERED"}}, [])

    @pytest.mark.parametrize("workflow", ["delivery_activity", "delivery_push"])
    def test_p4_one_whose_task_nobody_has_pulled_is_stopped(
        self, world: MemoryWorld, teller: Teller, workflow: str
    ) -> None:
        record = replace(self.waits(workflow, life=2), task=None)
        teller.release(record)
        assert (world.states.answers, world.states.late, world.states.stopped) == ({}, [], [f"{record.id}-2"])

    @pytest.mark.parametrize("workflow", ["delivery_activity", "delivery_push"])
    def test_p4_one_whose_known_task_is_over_is_stopped_for_the_next_waits_to_be_pulled(
        self, world: MemoryWorld, teller: Teller, workflow: str
    ) -> None:
        world.states.over.add("AAAA")
        record = self.waits(workflow)
        teller.release(record)
        assert (world.states.answers, world.states.late, world.states.stopped) == ({}, ["AAAA"], [f"{record.id}-1"])

    def test_p5_a_repeat_stops_it_and_keeps_the_first_answer(self, world: MemoryWorld, teller: Teller) -> None:
        record = self.waits("delivery_activity")
        teller.release(record)
        teller.release(replace(record, status=Status.CANCELLED))
        assert (world.states.answers, world.states.stopped) == ({"AAAA": {"status": "DELIVERED"}}, [f"{record.id}-1"])

    @pytest.mark.parametrize("workflow", ["delivery_callback", "delivery_event"])
    def test_one_whose_task_times_out_by_itself_is_never_stopped(
        self, world: MemoryWorld, teller: Teller, workflow: str
    ) -> None:
        record = self.waits(workflow)
        teller.release(replace(record, task=None))
        teller.release(record)
        teller.release(record)
        world.states.over.add("BBBB")
        teller.release(replace(record, task="BBBB"))
        assert (world.states.late, world.states.stopped) == (["AAAA", "BBBB"], [])

    def test_p4_an_execution_that_only_waits_is_stopped(self, world: MemoryWorld, teller: Teller) -> None:
        record = self.waits("delivery_stop_on_ack", life=3)
        teller.release(record)
        assert (world.states.answers, world.states.stopped) == ({}, [f"{record.id}-3"])

    @pytest.mark.parametrize(
        "workflow", [None, "delivery_poll", "poll_express", "delivery_job_poller", "of an older stack"]
    )
    def test_what_waits_for_nothing_is_left_alone(
        self, world: MemoryWorld, teller: Teller, workflow: str | None
    ) -> None:
        teller.release(self.waits(workflow))
        assert world.wire.calls == []

    def test_what_asks_for_itself_is_not_told(self, world: MemoryWorld, teller: Teller) -> None:
        for workflow in ("delivery_callback", "delivery_stop_on_ack"):
            replace(teller, executions=None).release(self.waits(workflow))
        assert world.wire.calls == []

    def test_a_failure_is_borne(self, world: MemoryWorld, teller: Teller) -> None:
        world.wire.faults.append(Fault("states.answer", "timeout"))
        teller.release(self.waits("delivery_callback"))
        assert len(world.log.said("execution not told yet")) == 1

    def test_so_is_a_stop_that_failed(self, world: MemoryWorld, teller: Teller) -> None:
        world.wire.faults.append(Fault("states.stop", "throttle"))
        teller.release(replace(self.waits("delivery_push"), task=None))
        assert (world.states.stopped, len(world.log.said("execution not told yet"))) == ([], 1)

    def test_a_task_that_could_not_be_asked_is_not_taken_for_over(self, world: MemoryWorld, teller: Teller) -> None:
        world.wire.faults.append(Fault("states.answer", "throttle"))
        teller.release(self.waits("delivery_activity"))
        assert world.states.stopped == []


class TestTroubled:
    def test_p7_a_lost_execution_is_published_and_reaches_a_person(self, world: MemoryWorld, teller: Teller) -> None:
        record = a_record()
        teller.troubled(record, "States.DataLimitExceeded")
        assert [e["event_id"] for e in world.told.events] == [f"{record.id}.1.taken_over"]
        ((subject, text),) = world.told.alerts
        assert subject == f"until-ack: message {record.id} lost its execution"
        assert "Trouble:   States.DataLimitExceeded" in text.splitlines()

    @pytest.mark.parametrize("operation", ["sns.publish", "sns.alert"])
    def test_p7_its_failure_is_heard_by_the_caller(self, world: MemoryWorld, teller: Teller, operation: str) -> None:
        world.wire.faults.append(Fault(operation, "throttle"))
        with pytest.raises(Unavailable):
            teller.troubled(a_record(), "Boom")
        assert world.told.alerts == []
