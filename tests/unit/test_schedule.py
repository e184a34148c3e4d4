"""Schedules, timers' queues and hops."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from handlers.delivery.errors import Invalid
from handlers.delivery.schedule import (
    MAX_DELAY,
    MAX_DELAYS,
    SQS_MAX_DELAY,
    delay_after,
    parse_schedule,
    seconds_until,
    timer_queue,
)
from tests.fakes.examples import examples

NAMED = {"default": (15, 30, 14400), "quick": (1, 2, 9)}


def test_a_schedule_by_name() -> None:
    assert parse_schedule("quick", NAMED) == (1, 2, 9)


@pytest.mark.parametrize("delays", [[1], [MAX_DELAY], [15, 30, 14400], [1] * MAX_DELAYS])
def test_a_schedule_of_ones_own(delays: list[int]) -> None:
    assert parse_schedule(delays, NAMED) == tuple(delays)


@pytest.mark.parametrize(
    ("value", "field", "limit"),
    [
        ("unknown", "schedule", "one of default, quick"),
        ([], "schedule", "1 to 20 delays"),
        ([1] * 21, "schedule", "1 to 20 delays"),
        ([0], "schedule[0]", "1 to 31536000"),
        ([15, -1], "schedule[1]", "1 to 31536000"),
        ([15, 30, MAX_DELAY + 1], "schedule[2]", "1 to 31536000"),
        ([1.5], "schedule[0]", "whole number"),
        ([True], "schedule[0]", "whole number"),
        (["15"], "schedule[0]", "whole number"),
        ([None], "schedule[0]", "whole number"),
        (15, "schedule", "a list of delays"),
        (None, "schedule", "a list of delays"),
        ({"delays": [1]}, "schedule", "a list of delays"),
    ],
)
def test_a_bad_schedule_is_refused_by_field_and_limit(value: object, field: str, limit: str) -> None:
    with pytest.raises(Invalid) as caught:
        parse_schedule(value, NAMED)
    assert caught.value.field == field
    assert limit in caught.value.limit


def test_the_last_delay_repeats() -> None:
    assert [delay_after((15, 30, 14400), step) for step in range(1, 6)] == [15, 30, 14400, 14400, 14400]


@pytest.mark.parametrize(
    ("delay", "queue"),
    [(1, 15), (14, 15), (15, 15), (29, 15), (30, 30), (900, 30), (14399, 30), (14400, 14400), (86400, 14400)],
)
def test_a_delay_goes_to_the_largest_queue_not_above_it_else_the_shortest(delay: int, queue: int) -> None:
    assert timer_queue(delay, [30, 14400, 15]) == queue


@pytest.mark.parametrize(
    ("left", "seconds"), [(0, 0), (-5000, 0), (1, 1), (999, 1), (1000, 1), (1001, 2), (899_001, 900)]
)
def test_time_is_rounded_up_to_whole_seconds(left: int, seconds: int) -> None:
    assert seconds_until(1_000_000 + left, 1_000_000) == seconds


@examples(200)
@given(left=st.integers(-(10**12), 10**12), cap=st.integers(1, 10_000))
def test_p3_no_delay_is_above_the_limit_of_sqs_and_none_ends_early(left: int, cap: int) -> None:
    seconds = seconds_until(left, 0, cap)
    assert 0 <= seconds <= min(cap, SQS_MAX_DELAY)
    assert seconds * 1000 >= left or seconds == min(cap, SQS_MAX_DELAY)
    assert (seconds - 1) * 1000 < max(left, 0)


@pytest.mark.parametrize(("cap", "hops"), [(900, 16), (2, 7200)])
def test_p3_a_wait_of_four_hours_hops_by_the_cap(cap: int, hops: int) -> None:
    due_at, now, made = 14_400_000, 0, 0
    while now < due_at:
        now += seconds_until(due_at, now, cap) * 1000
        made += 1
    assert (now, made) == (due_at, hops)
