"""What happens next to a message, branch by branch."""

from dataclasses import replace

import pytest

from handlers.delivery.channel import Kind
from handlers.delivery.lifecycle import (
    MAX_CLAIMS,
    MAX_SWEEPS,
    End,
    Stop,
    Stuck,
    Tell,
    Try,
    Wait,
    next_step,
    on_sweep,
    on_timer,
    sweep_again_at,
)
from handlers.delivery.message import Record, Status
from tests.fakes.records import GRACE, LEASE, a_record, answered, claimed
from tests.fakes.world import START

NEW = a_record()
IN_FLIGHT = claimed(NEW)
WAITING = answered(IN_FLIGHT)
LAST = replace(IN_FLIGHT, max_attempts=1)
ENDED = replace(WAITING, status=Status.EXPIRED, ended_at=START)


class TestNextStep:
    def test_a_new_message_is_tried(self) -> None:
        assert next_step(NEW, START) == Try(1)

    def test_before_the_due_time_it_waits(self) -> None:
        assert next_step(WAITING, WAITING.due_at - 1) == Wait(WAITING.due_at)

    def test_at_the_due_time_it_is_tried_again(self) -> None:
        assert next_step(WAITING, WAITING.due_at) == Try(2)

    def test_from_the_expiry_on_it_has_expired(self) -> None:
        step = next_step(WAITING, WAITING.expires_at)
        assert isinstance(step, End)
        assert step.status is Status.EXPIRED

    def test_it_waits_for_the_expiry_when_that_comes_first(self) -> None:
        record = replace(WAITING, expires_at=WAITING.due_at - 5000)
        assert next_step(record, START) == Wait(record.expires_at)

    def test_after_the_last_attempt_it_is_exhausted_when_the_delay_has_passed(self) -> None:
        record = replace(WAITING, max_attempts=1)
        assert next_step(record, record.due_at - 1) == Wait(record.due_at)
        assert next_step(record, record.due_at) == End(Status.EXHAUSTED, "no ACK after 1 attempts")

    def test_attempts_of_earlier_lives_do_not_count(self) -> None:
        record = replace(WAITING, attempt=8, base=7, max_attempts=2)
        assert next_step(record, record.due_at) == Try(9)
        assert next_step(replace(record, base=6), record.due_at) == End(Status.EXHAUSTED, "no ACK after 2 attempts")

    def test_a_last_attempt_without_outcome_keeps_its_lease(self) -> None:
        held = replace(LAST, lease_until=LAST.due_at + 7)
        assert next_step(held, held.due_at) == Wait(held.due_at + 7)

    def test_a_last_attempt_whose_function_died_is_made_again(self) -> None:
        assert next_step(LAST, START + LEASE) == Try(1)

    def test_but_not_for_ever(self) -> None:
        step = next_step(replace(LAST, claims=MAX_CLAIMS), START + LEASE)
        assert isinstance(step, End)
        assert step.status is Status.EXHAUSTED

    def test_a_last_attempt_that_its_target_put_off_is_over(self) -> None:
        put_off = replace(LAST, token="of a NACK", due_at=START + LEASE)
        assert isinstance(next_step(put_off, START + LEASE), End)


class TestHeldUntil:
    def test_in_flight_it_is_the_lease(self) -> None:
        assert IN_FLIGHT.held_until == START + LEASE

    @pytest.mark.parametrize(
        "record",
        [
            NEW,
            WAITING,
            replace(IN_FLIGHT, token="of a NACK"),
            # The outcome came alone, because a NACK had moved the record.
            replace(answered(IN_FLIGHT, Kind.FAILED), lease_until=START + LEASE),
        ],
        ids=["new", "answered", "put off", "outcome alone"],
    )
    def test_else_nobody_holds_it(self, record: Record) -> None:
        assert record.held_until is None


class TestTimer:
    def test_of_the_claim_that_armed_it_acts(self) -> None:
        assert on_timer(WAITING, 1, "t1", WAITING.due_at) == Try(2)

    def test_early_waits_for_the_rest(self) -> None:
        assert on_timer(WAITING, 1, "t1", START) == Wait(WAITING.due_at)

    def test_p5_of_an_older_attempt_stops(self) -> None:
        later = claimed(WAITING, WAITING.due_at, "t2")
        assert on_timer(later, 1, "t1", later.due_at) == Stop("stale")

    def test_p5_of_a_claim_that_was_taken_over_stops(self) -> None:
        assert on_timer(replace(WAITING, token="t2"), 1, "t1", WAITING.due_at) == Stop("stale")

    def test_p4_of_an_acked_message_stops(self) -> None:
        acked = replace(WAITING, status=Status.DELIVERED)
        assert on_timer(acked, 1, "t1", WAITING.due_at) == Stop("ended")

    def test_p7_of_an_untold_ending_tells(self) -> None:
        assert on_timer(replace(ENDED, untold=START), 1, "other", START) == Tell()

    def test_of_a_message_that_is_gone_stops(self) -> None:
        assert on_timer(None, 1, "t1", START) == Stop("unknown message")


class TestSweep:
    def test_what_waits_is_healthy_until_due_and_grace(self) -> None:
        assert on_sweep(WAITING, START, GRACE) == Wait(WAITING.due_at + GRACE)

    def test_what_is_due_gets_its_grace(self) -> None:
        assert on_sweep(WAITING, WAITING.due_at, GRACE) == Wait(WAITING.due_at + GRACE)
        assert on_sweep(WAITING, WAITING.due_at + GRACE - 1, GRACE) == Wait(WAITING.due_at + GRACE)

    def test_what_is_overdue_is_taken_over(self) -> None:
        assert on_sweep(WAITING, WAITING.due_at + GRACE, GRACE) == Try(2)
        assert on_sweep(NEW, START + GRACE, GRACE) == Try(1)

    def test_what_has_expired_ends(self) -> None:
        step = on_sweep(WAITING, WAITING.expires_at, GRACE)
        assert isinstance(step, End)
        assert step.status is Status.EXPIRED

    def test_after_so_many_takeovers_it_is_stuck_and_before_that_not(self) -> None:
        late = START + GRACE
        assert on_sweep(replace(NEW, sweeps=MAX_SWEEPS - 1), late, GRACE) == Try(1)
        assert on_sweep(replace(NEW, sweeps=MAX_SWEEPS), late, GRACE) == Stuck()

    def test_what_is_stuck_still_expires(self) -> None:
        assert isinstance(on_sweep(replace(NEW, sweeps=MAX_SWEEPS), NEW.expires_at, GRACE), End)

    def test_an_untold_ending_is_told_a_told_one_left_alone(self) -> None:
        assert on_sweep(replace(ENDED, untold=START), START, GRACE) == Tell()
        assert on_sweep(ENDED, START, GRACE) == Stop("ended")


class TestSweepAgain:
    def test_doubles_each_time(self) -> None:
        waits = [sweep_again_at(replace(NEW, sweeps=n), START, GRACE) - START for n in range(4)]
        assert waits == [GRACE, 2 * GRACE, 4 * GRACE, 8 * GRACE]

    def test_but_looks_again_soon_after_the_expiry(self) -> None:
        record = replace(NEW, expires_at=START + 1000, sweeps=4)
        assert sweep_again_at(record, START, GRACE) == START + 1000 + GRACE
