"""The workflows: what an execution is told, what it is answered, and which messages it may run."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from handlers.delivery.errors import Invalid
from handlers.delivery.message import Record, Scheduler
from handlers.delivery.schedule import MAX_DELAY
from handlers.delivery.workflows import (
    CATALOGUE,
    EXPRESS_SECONDS,
    MAX_ASKS,
    EndedBy,
    again,
    check_workflow,
    default_life,
    delays_ahead,
    execution_input,
    execution_name,
    heartbeat_within,
    read_execution_name,
    wait_after,
)
from tests.fakes.examples import examples
from tests.fakes.records import DAY, LEASE, a_record, answered, claimed
from tests.fakes.world import START

DEFINITIONS = Path(__file__).parents[2] / "definitions"
MAX_NAME = 80
"""Characters of an execution's name (StartExecution)."""
MAX_INPUT = 262_144
"""Bytes of an execution's input (Step Functions' quotas)."""


def for_workflow(workflow: str | None = "delivery_callback", **fields: Any) -> Record:
    return a_record(scheduler=Scheduler.WORKFLOW, workflow=workflow, **fields)


schedules = st.lists(st.integers(1, MAX_DELAY), min_size=1, max_size=20).map(tuple)
messages = st.builds(
    lambda schedule, lasts, most, made, base, late: for_workflow(
        schedule=schedule,
        expires_at=START + lasts,
        max_attempts=most,
        attempt=base + made,
        base=base,
        due_at=START + late,
    ),
    schedules | st.lists(st.integers(1, 60), min_size=1, max_size=5).map(tuple),
    st.integers(1, 31_536_000_000),
    st.none() | st.integers(1, 10_000),
    st.integers(0, 40),
    st.integers(0, 1_000_000),
    st.integers(-1000, 100_000),
)


class TestCatalogue:
    def test_says_how_the_end_of_a_message_reaches_each_execution(self) -> None:
        assert {name: workflow.ended_by for name, workflow in CATALOGUE.items()} == {
            "delivery_poll": EndedBy.READING,
            "poll_express": EndedBy.READING,
            "delivery_stop_on_ack": EndedBy.STOP,
            "delivery_callback": EndedBy.TASK,
            "delivery_event": EndedBy.TASK,
            "delivery_activity": EndedBy.TASK,
            "delivery_push": EndedBy.TASK,
            "delivery_job_poller": EndedBy.READING,
        }

    def test_is_what_a_message_may_ask_for(self) -> None:
        schema = json.loads((DEFINITIONS / "schemas/message.json").read_text())
        assert set(schema["properties"]["workflow"]["enum"]) == set(CATALOGUE)

    def test_only_of_an_activity_are_tasks_pulled(self) -> None:
        assert {name for name, workflow in CATALOGUE.items() if workflow.pulled} == {
            "delivery_activity",
            "delivery_push",
        }

    def test_only_an_express_workflow_has_a_longest_life(self) -> None:
        assert {n: w.longest for n, w in CATALOGUE.items() if w.longest} == {"poll_express": EXPRESS_SECONDS}


class TestDefaultLife:
    @pytest.mark.parametrize(
        ("workflow", "default", "seconds"),
        [
            ("poll_express", 604_800, 300),
            ("poll_express", 301, 300),
            ("poll_express", 300, 300),
            ("poll_express", 60, 60),
            ("delivery_poll", 604_800, 604_800),
            ("of an older stack", 604_800, 604_800),
            (None, 604_800, 604_800),
        ],
    )
    def test_is_the_stacks_unless_no_execution_lasts_so_long(
        self, workflow: str | None, default: int, seconds: int
    ) -> None:
        assert default_life(workflow, default) == seconds


class TestHeartbeatWithin:
    @pytest.mark.parametrize(
        ("wait", "heartbeat", "seconds"),
        [(14400, 60, 60), (61, 60, 60), (60, 60, 59), (15, 60, 14), (2, 60, 1), (1, 60, 1)],
    )
    def test_is_shorter_than_the_wait(self, wait: int, heartbeat: int, seconds: int) -> None:
        assert heartbeat_within(wait, heartbeat) == seconds


class TestDelaysAhead:
    def test_p3_are_the_schedules_with_the_last_one_repeated_until_the_expiry(self) -> None:
        ahead = delays_ahead(for_workflow(schedule=(15, 30, 600), expires_at=START + 1_300_000), START)
        assert ahead == [15, 30, 600, 600, 55]

    def test_end_at_the_last_attempt(self) -> None:
        assert delays_ahead(for_workflow(max_attempts=4), START) == [15, 30, 14400, 14400]

    def test_go_on_where_the_life_has_got_to(self) -> None:
        record = for_workflow(attempt=9, base=7, max_attempts=4)
        assert delays_ahead(record, START) == [14400, 14400]

    def test_start_anew_with_a_new_life(self) -> None:
        assert delays_ahead(for_workflow(attempt=7, base=7, max_attempts=2), START) == [15, 30]

    def test_are_no_more_than_one_execution_can_ask_for(self) -> None:
        record = for_workflow(schedule=(1,), expires_at=START + DAY)
        assert delays_ahead(record, START) == [1] * MAX_ASKS

    def test_p3_the_last_is_cut_so_that_it_ends_at_the_expiry_not_before(self) -> None:
        assert delays_ahead(for_workflow(expires_at=START + 20_001), START) == [15, 6]

    def test_count_from_the_due_time_when_that_comes_later(self) -> None:
        record = for_workflow(schedule=(100,), due_at=START + 50_000, expires_at=START + 200_000)
        assert delays_ahead(record, START) == [100, 50]

    @pytest.mark.parametrize(("lives", "ahead"), [(300, [100, 100, 90]), (290, [100, 100, 90]), (250, [100, 100, 50])])
    def test_of_an_express_execution_leave_it_time_to_settle(self, lives: int, ahead: list[int]) -> None:
        record = for_workflow("poll_express", schedule=(100,), expires_at=START + lives * 1000)
        assert delays_ahead(record, START) == ahead

    def test_of_an_expired_message_are_one_second_for_an_execution_needs_one(self) -> None:
        assert delays_ahead(for_workflow(), START + DAY) == [1]

    def test_p2_of_an_exhausted_message_are_one_for_its_last_attempt_may_have_died(self) -> None:
        assert delays_ahead(for_workflow(attempt=1, max_attempts=1), START) == [30]

    @examples(300)
    @given(record=messages, waited=st.integers(0, 31_536_000_000))
    def test_p3_whatever_the_message_they_are_whole_bounded_and_reach_no_further_than_the_expiry(
        self, record: Record, waited: int
    ) -> None:
        now = START + waited
        delays = delays_ahead(record, now)
        left = record.expires_at - max(now, record.due_at)
        assert 1 <= len(delays) <= MAX_ASKS
        assert all(type(delay) is int and 1 <= delay <= MAX_DELAY for delay in delays)
        if left > 0:
            # Whole seconds: rounded up, never short of it.
            assert sum(delays) * 1000 < left + 1000
            made = record.attempt - record.base
            expected = [record.schedule[min(made + n, len(record.schedule) - 1)] for n in range(len(delays))]
            assert delays[:-1] == expected[:-1]
            assert delays[-1] <= expected[-1]
            complete = len(delays) == MAX_ASKS or len(delays) >= (record.max_attempts or MAX_ASKS + 1) - made
            assert complete or sum(delays) * 1000 >= left


class TestWaitAfter:
    @pytest.mark.parametrize(("attempt", "seconds"), [(1, 15), (2, 30), (3, 14400), (9, 14400)])
    def test_is_the_attempts_own_delay(self, attempt: int, seconds: int) -> None:
        assert wait_after(for_workflow(), attempt, START) == seconds

    def test_counts_attempts_from_the_lifes_first(self) -> None:
        assert wait_after(for_workflow(attempt=7, base=7), 8, START) == 15

    def test_p3_ends_at_the_expiry(self) -> None:
        record = for_workflow(expires_at=START + 10_500)
        assert [wait_after(record, 1, START + offset) for offset in (0, 4_500, 10_499, 99_999)] == [11, 6, 1, 1]


class TestAgain:
    def test_p3_too_early_is_told_when_and_which_attempt_then(self) -> None:
        record = answered(claimed(for_workflow()))
        told = again(record, 0, START + 4_400, 60)
        assert told == {"status": "AGAIN", "pause": 11, "next": {"index": 1, "wait": 30, "heartbeat": 29}}

    def test_counts_from_the_attempts_made_before_the_execution(self) -> None:
        record = answered(claimed(for_workflow(attempt=5, base=3)))
        assert again(record, 5, START, 60)["next"] == {"index": 1, "wait": 14400, "heartbeat": 60}

    def test_when_due_already_it_still_pauses_a_second(self) -> None:
        record = answered(claimed(for_workflow()))
        assert again(record, 0, record.due_at + 9_000, 60)["pause"] == 1

    def test_while_another_holds_the_attempt_it_is_told_to_ask_for_it_again_after_the_lease(self) -> None:
        record = claimed(for_workflow())
        told = again(record, 0, START + 1_000, 60)
        assert told == {
            "status": "AGAIN",
            "pause": LEASE // 1000 - 1,
            "next": {"index": 0, "wait": 15, "heartbeat": 14},
        }

    def test_one_held_since_before_the_execution_has_the_index_before_its_first(self) -> None:
        record = claimed(for_workflow())
        assert again(record, 1, START, 60)["next"]["index"] == -1

    def test_after_the_lease_of_one_that_died_the_next_attempt_comes_in_its_time(self) -> None:
        record = claimed(for_workflow(schedule=(100,)))
        told = again(record, 0, START + LEASE, 60)
        assert told == {"status": "AGAIN", "pause": 60, "next": {"index": 1, "wait": 100, "heartbeat": 60}}

    def test_what_its_target_has_put_off_is_not_held(self) -> None:
        record = replace(claimed(for_workflow()), token="of the NACK", due_at=START + 600_000)
        assert again(record, 0, START, 60)["pause"] == 600

    def test_after_the_last_attempt_it_settles(self) -> None:
        record = answered(claimed(for_workflow(max_attempts=1)))
        assert again(record, 0, START, 60) == {"status": "SETTLE"}

    def test_the_last_attempt_itself_while_another_holds_it_is_asked_for_again(self) -> None:
        record = claimed(for_workflow(max_attempts=1))
        assert again(record, 0, START, 60)["next"]["index"] == 0

    def test_p2_the_last_attempt_whose_holder_died_is_asked_for_again(self) -> None:
        record = claimed(for_workflow(max_attempts=1))
        told = again(record, 1, START + LEASE, 60)
        assert told == {"status": "AGAIN", "pause": 1, "next": {"index": -1, "wait": 15, "heartbeat": 14}}

    def test_p2_that_attempt_is_not_asked_for_before_the_schedule_says_so(self) -> None:
        record = claimed(for_workflow(max_attempts=1, schedule=(100,)))
        assert again(record, 0, START + LEASE, 60)["pause"] == 60

    def test_one_that_has_died_too_often_settles(self) -> None:
        record = replace(claimed(for_workflow(max_attempts=1)), claims=3)
        assert again(record, 0, START + LEASE, 60) == {"status": "SETTLE"}

    def test_p3_it_never_pauses_past_the_expiry(self) -> None:
        record = answered(claimed(for_workflow(expires_at=START + 5_000)))
        assert again(record, 0, START, 60)["pause"] == 5


class TestExecution:
    def test_its_name_is_the_lifes(self) -> None:
        record = for_workflow()
        assert execution_name(record) == f"{record.id}-1"
        assert execution_name(replace(record, life=2)) == f"{record.id}-2"

    def test_p2_every_restart_has_a_name_of_its_own_for_a_name_is_used_up_for_90_days(self) -> None:
        record = for_workflow(attempt=3)
        names = [execution_name(record, generation) for generation in range(1, 5)]
        assert names == [f"{record.id}-1", f"{record.id}-1-2", f"{record.id}-1-3", f"{record.id}-1-4"]

    def test_p5_a_repeated_restart_has_the_same_name_however_far_the_message_has_got(self) -> None:
        assert execution_name(for_workflow(), 2) == execution_name(for_workflow(attempt=9), 2)

    def test_its_name_is_never_too_long(self) -> None:
        record = for_workflow(life=10**9, attempt=10**9)
        assert len(execution_name(record, 10**13)) <= MAX_NAME

    @pytest.mark.parametrize("generation", [1, 2, 12])
    def test_its_name_tells_the_message_the_life_and_the_generation(self, generation: int) -> None:
        record = for_workflow(life=3, attempt=5, base=2)
        assert read_execution_name(execution_name(record, generation)) == (record.id, 3, generation)

    @pytest.mark.parametrize(
        "name",
        [
            "",
            "mine",
            "mine-1",
            a_record().id,
            f"{a_record().id}-",
            f"{a_record().id}-x",
            f"{a_record().id}x-1",
            f"{a_record().id}-1-2-3",
        ],
    )
    def test_anothers_name_tells_nothing(self, name: str) -> None:
        with pytest.raises(ValueError, match=r".*"):
            read_execution_name(name)

    def test_it_is_told_all_that_it_needs_and_no_payload(self) -> None:
        record = for_workflow(attempt=5, base=4, life=2, max_attempts=3)
        assert execution_input(record, "https://sqs/webhook", 45, START) == {
            "v": 1,
            "message_id": record.id,
            "life": 2,
            "channel": "webhook",
            "queue_url": "https://sqs/webhook",
            "base": 4,
            "from": 5,
            "delays": [30, 14400],
            "last": 1,
            "heartbeats": [29, 45],
            "next": {"index": 0, "wait": 30, "heartbeat": 29},
            "trouble": {},
        }

    @examples(100)
    @given(record=messages)
    def test_what_it_is_told_fits_in_and_keeps_the_contract(self, record: Record) -> None:
        told = execution_input(record, "https://sqs.eu-central-1.amazonaws.com/0/until-ack-webhook", 60, START)
        assert len(json.dumps(told)) <= MAX_INPUT
        assert told["last"] == len(told["delays"]) - 1
        assert told["next"] == {"index": 0, "wait": told["delays"][0], "heartbeat": told["heartbeats"][0]}
        pairs = zip(told["delays"], told["heartbeats"], strict=True)
        assert all(1 <= beat <= 60 and (beat < delay or delay == 1) for delay, beat in pairs)
        schema = DEFINITIONS / "schemas/execution_input.json"
        if schema.exists():
            jsonschema.validate(told, json.loads(schema.read_text()))


class TestCheck:
    def test_a_message_for_the_queues_needs_no_workflow(self) -> None:
        check_workflow(a_record(), [])
        check_workflow(a_record(channel="email"), CATALOGUE)
        assert a_record().scheduler is Scheduler.QUEUES

    @pytest.mark.parametrize("workflow", sorted(CATALOGUE))
    def test_each_workflow_takes_a_message_of_a_channel_that_it_is_for(self, workflow: str) -> None:
        channel = "activity" if workflow == "delivery_activity" else "webhook"
        record = for_workflow(workflow, channel=channel, expires_at=START + EXPRESS_SECONDS * 1000)
        check_workflow(record, [workflow])
        assert not CATALOGUE[workflow].channels or channel in CATALOGUE[workflow].channels

    @pytest.mark.parametrize(
        ("record", "deployed", "field", "value", "limit"),
        [
            (
                a_record(workflow="delivery_poll"),
                CATALOGUE,
                "workflow",
                "delivery_poll",
                "given only with scheduler workflow",
            ),
            (a_record(channel="activity"), CATALOGUE, "scheduler", "queues", "workflow for the channel activity"),
            (for_workflow(None), CATALOGUE, "workflow", None, "one of delivery_activity, delivery_callback,"),
            (for_workflow("delivery_poll"), ["delivery_push"], "workflow", "delivery_poll", "one of delivery_push"),
            (for_workflow("delivery_poll"), [], "workflow", "delivery_poll", "left out: this stack has no workflows"),
            (
                for_workflow("delivery_activity"),
                CATALOGUE,
                "channel",
                "webhook",
                "activity for workflow delivery_activity",
            ),
            (
                for_workflow("delivery_push", channel="activity"),
                CATALOGUE,
                "workflow",
                "delivery_push",
                "delivery_activity for the channel activity",
            ),
            (
                for_workflow("delivery_job_poller", channel="email"),
                CATALOGUE,
                "channel",
                "email",
                "webhook for workflow delivery_job_poller",
            ),
            (
                for_workflow("poll_express", expires_at=START + 301_000),
                CATALOGUE,
                "expires_in",
                301,
                "at most 300 for workflow poll_express",
            ),
        ],
    )
    def test_what_its_scheduler_cannot_run_is_refused_with_field_value_and_limit(
        self, record: Record, deployed: Any, field: str, value: object, limit: str
    ) -> None:
        with pytest.raises(Invalid) as caught:
            check_workflow(record, deployed)
        assert (caught.value.field, caught.value.value) == (field, value)
        assert caught.value.limit.startswith(limit)
