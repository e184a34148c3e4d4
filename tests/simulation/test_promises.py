"""The promise, one test after another: the real handlers, from the submission to the end."""

from itertools import pairwise

import pytest

from handlers.delivery.message import Status
from handlers.delivery.schedule import SQS_MAX_DELAY
from tests.fakes.world import START
from tests.simulation.conftest import Simulate
from tests.simulation.invariants import check_promise
from tests.simulation.simulator import (
    GONE,
    GRACE,
    HOUR,
    MINUTE,
    SECOND,
    SWEEP_PERIOD,
    SYNCHRONOUS,
    Reaction,
    Simulation,
    acks,
    hangs,
    nacks,
    refuses,
    silent,
)

LATENCY = SECOND
"""What the simulation's calls and queues add up to between a timer and the claim, at most."""


def test_p1_what_was_accepted_is_in_the_table_and_its_first_attempt_starts_at_once(
    simulation: Simulation,
) -> None:
    message = simulation.submit(silent())
    assert simulation.record(message).payload == b"open the door"
    simulation.run(LATENCY)
    assert simulation.sendings(message) == [1]


def test_p2_it_is_attempted_until_it_is_acked(simulation: Simulation) -> None:
    message = simulation.submit(refuses(), hangs(), silent(), acks(2 * SECOND))
    record = simulation.run_until_ended(message)
    assert (record.status, simulation.sendings(message)) == (Status.DELIVERED, [1, 2, 3, 4])
    assert [a.reason for a in record.attempts] == ["http_500", "read_timeout", "http_200", "http_200"]


def test_p2_or_until_it_expires(simulation: Simulation) -> None:
    message = simulation.submit(silent(), expires_in=60)
    record = simulation.run_until_ended(message)
    assert (record.status, simulation.sendings(message)) == (Status.EXPIRED, [1, 2, 3])
    assert record.expires_at <= (record.ended_at or 0) <= record.expires_at + SECOND + LATENCY


def test_p2_or_until_its_attempts_are_used_up_and_the_last_delay_has_passed(simulation: Simulation) -> None:
    message = simulation.submit(silent(), max_attempts=2)
    record = simulation.run_until_ended(message)
    assert (record.status, simulation.sendings(message)) == (Status.EXHAUSTED, [1, 2])
    assert (record.ended_at or 0) >= record.attempts[-1].sent_at + 30 * SECOND


def test_p2_an_ack_within_the_last_delay_still_counts(simulation: Simulation) -> None:
    message = simulation.submit(silent(), acks(29 * SECOND), max_attempts=2)
    assert simulation.run_until_ended(message).status is Status.DELIVERED


def test_p2_or_until_it_is_nacked_or_its_target_is_gone(simulation: Simulation) -> None:
    nacked, gone = simulation.submit(nacks(SECOND)), simulation.submit(refuses(), GONE)
    assert simulation.run_until_ended(nacked).status is Status.REJECTED
    assert simulation.run_until_ended(gone).status is Status.REJECTED
    assert (simulation.sendings(nacked), simulation.sendings(gone)) == ([1], [1, 2])


def test_p2_or_until_it_is_cancelled(simulation: Simulation) -> None:
    message = simulation.submit(silent())
    simulation.run(5 * SECOND)
    simulation.cancel(message)
    assert simulation.run_until_ended(message).status is Status.CANCELLED
    simulation.run(HOUR)
    assert (simulation.sendings(message), simulation.events_of(message)) == ([1], ["CANCELLED"])


def test_p3_attempts_start_after_15_s_30_s_and_every_4_h_no_earlier_and_a_second_later_at_most(
    simulation: Simulation,
) -> None:
    message = simulation.submit(silent(), expires_in=13 * 3600)
    simulation.run(13 * HOUR)
    starts = simulation.starts(message)
    assert len(starts) == 6
    gaps = [after - before for before, after in pairwise(starts)]
    for gap, delay in zip(gaps, [15, 30, 14400, 14400, 14400], strict=True):
        assert delay * SECOND <= gap <= (delay + 1) * SECOND + LATENCY


def test_p3_a_wait_of_4_h_is_at_most_17_hops_none_over_the_limit_of_sqs(simulation: Simulation) -> None:
    message = simulation.submit(silent(), schedule=[14400], expires_in=5 * 3600)
    simulation.run(4 * HOUR + MINUTE)
    assert simulation.sendings(message) == [1, 2]
    second_claim = START + simulation.starts(message)[1]
    hops = [delay for at, _, delay in simulation.timer_queues[14400].sent if at < second_claim]
    assert len(hops) <= 17
    assert max(hops) == SQS_MAX_DELAY
    assert sum(hops) >= 14400


def test_p3_a_schedule_of_1_2_and_9_s_hops_by_a_cap_of_2_s_and_is_on_time(simulate: Simulate) -> None:
    simulation = simulate(timer_cap=2)
    message = simulation.submit(silent(), schedule=[1, 2, 9])
    simulation.run(13 * SECOND + 4 * LATENCY)
    starts = simulation.starts(message)
    assert 9 * SECOND <= starts[3] - starts[2] <= 10 * SECOND + LATENCY
    hops = [a for a, body, _ in simulation.timer_queues[15].sent if body["attempt"] == 3]
    assert len(hops) >= 5


def test_p3_retry_after_holds_the_next_attempt_back(simulation: Simulation) -> None:
    message = simulation.submit(refuses("http_503", 503, retry_after=120), acks(5))
    assert simulation.run_until_ended(message).status is Status.DELIVERED
    first, second = simulation.starts(message)
    assert 120 * SECOND <= second - first <= 121 * SECOND + LATENCY


def test_p3_a_nack_that_asks_for_time_gets_it(simulation: Simulation) -> None:
    message = simulation.submit(nacks(5 * SECOND, retry_after=300), acks(5))
    record = simulation.run_until_ended(message)
    first, second = simulation.starts(message)
    assert 305 * SECOND <= second - first <= 306 * SECOND + LATENCY
    assert (record.status, record.nack_reason) == (Status.DELIVERED, "no")


@pytest.mark.parametrize("after", [0, 5, 200, 14_900, 15_001, 15_100])
def test_p4_after_an_ack_no_attempt_starts(simulation: Simulation, after: int) -> None:
    message = simulation.submit(acks(after))
    simulation.run(HOUR)
    record = simulation.record(message)
    assert record.status is Status.DELIVERED
    assert record.acked_at is not None
    assert all(START + start <= record.acked_at for start in simulation.starts(message))
    check_promise(simulation, faults=0, told_once=True)


def test_p4_an_ack_that_is_quicker_than_the_sendings_own_answer_wins(simulation: Simulation) -> None:
    message = simulation.submit(acks(100, latency=9 * SECOND))
    record = simulation.run_until_ended(message)
    assert (record.status, record.acked_at) == (Status.DELIVERED, record.ended_at)
    simulation.run(HOUR)
    assert (simulation.sendings(message), simulation.events_of(message)) == ([1], ["DELIVERED"])
    assert simulation.record(message).attempts[0].reason == "http_200"


def test_p4_a_synchronous_ack_ends_it_in_the_same_write(simulation: Simulation) -> None:
    message = simulation.submit(SYNCHRONOUS)
    simulation.run(HOUR)
    assert simulation.record(message).status is Status.DELIVERED
    assert simulation.sendings(message) == [1]


def test_p4_hopping_stops_within_one_hop_of_the_ack(simulate: Simulate) -> None:
    simulation = simulate(timer_cap=2)
    message = simulation.submit(acks(7_100), schedule=[3600])
    record = simulation.run_until_ended(message)
    simulation.run(HOUR)
    assert record.acked_at is not None
    armed = [at for queue in simulation.timer_queues.values() for at, _, _ in queue.sent]
    assert max(armed) <= record.acked_at
    assert all(not queue.envelopes for queue in simulation.timer_queues.values())


def test_p5_every_sqs_event_delivered_twice_has_the_effect_of_one(simulate: Simulate) -> None:
    simulation = simulate(duplicates=1.0)
    message = simulation.submit(silent(), silent(), acks(50), schedule=[2, 3])
    simulation.run_until_ended(message)
    simulation.run(10 * MINUTE)
    assert simulation.sendings(message) == [1, 2, 3]
    assert simulation.events_of(message) == ["DELIVERED"]
    check_promise(simulation, faults=0, told_once=True)


def test_p5_three_acks_are_one(simulation: Simulation) -> None:
    message = simulation.submit(acks(50, 50, 900))
    simulation.run(MINUTE)
    assert [r.json for _, f, r in simulation.replies if f == "ack" and r] == [
        {"id": message, "status": "DELIVERED", "late": False}
    ] * 3
    assert simulation.events_of(message) == ["DELIVERED"]


def test_p5_two_sweeps_at_the_same_time_take_over_once(simulate: Simulate) -> None:
    simulation = simulate(sweeps=2)
    message = simulation.submit(silent())
    simulation.run(2 * SECOND)
    for queue in simulation.timer_queues.values():
        queue.purge()
    simulation.run(15 * SECOND + GRACE + SWEEP_PERIOD)
    assert simulation.sendings(message) == [1, 2]
    assert len(simulation.log.said("taken over")) == 1


def test_p6_an_ack_after_the_end_is_kept_as_late_and_answered_with_success(simulation: Simulation) -> None:
    message = simulation.submit(acks(100 * SECOND), expires_in=10)
    simulation.run(5 * MINUTE)
    record = simulation.record(message)
    assert (record.status, record.late_ack_at is not None) == (Status.EXPIRED, True)
    (reply,) = [r for _, function, r in simulation.replies if function == "ack"]
    assert reply is not None
    assert (reply.status, reply.json["late"]) == (200, True)
    assert simulation.alerts_of(message) == 1


def test_p6_redelivery_opens_a_life_whose_numbers_go_on_and_whose_schedule_starts_anew(
    simulation: Simulation,
) -> None:
    message = simulation.submit(silent(), silent(), silent(), silent(), acks(10), max_attempts=2)
    assert simulation.run_until_ended(message).status is Status.EXHAUSTED
    simulation.redeliver(message)
    simulation.run(LATENCY)
    simulation.run_until_ended(message)
    simulation.redeliver(message)
    simulation.run(LATENCY)
    record = simulation.run_until_ended(message)
    assert (record.status, record.life) == (Status.DELIVERED, 3)
    assert simulation.sendings(message) == [1, 2, 3, 4, 5]
    starts = simulation.starts(message)
    assert 15 * SECOND <= starts[3] - starts[2] <= 16 * SECOND + LATENCY
    assert simulation.events_of(message) == ["EXHAUSTED", "EXHAUSTED", "DELIVERED"]
    assert simulation.alerts_of(message) == 2
    check_promise(simulation, faults=0, told_once=True)


def test_p6_an_ack_of_an_earlier_life_ends_the_present_one(simulation: Simulation) -> None:
    message = simulation.submit(silent(), max_attempts=1)
    simulation.run_until_ended(message)
    simulation.redeliver(message)
    simulation.run(5 * SECOND)
    assert simulation.sendings(message) == [1, 2]
    simulation.answer(simulation.device(message).got[0][1].ack_url)
    record = simulation.run_until_ended(message)
    assert (record.status, record.life) == (Status.DELIVERED, 2)


def test_p6_a_message_with_a_late_ack_is_not_redelivered(simulation: Simulation) -> None:
    message = simulation.submit(acks(100 * SECOND), expires_in=10)
    simulation.run(5 * MINUTE)
    simulation.redeliver(message)
    simulation.run(5 * MINUTE)
    (reply,) = [r for _, function, r in simulation.replies if function == "redeliver"]
    assert reply is not None
    assert reply.status == 409
    assert simulation.record(message).life == 1


@pytest.mark.parametrize(
    ("reaction", "fields", "status"),
    [
        (silent(), {"expires_in": 5}, "EXPIRED"),
        (silent(), {"max_attempts": 1}, "EXHAUSTED"),
        (nacks(10), {}, "REJECTED"),
        (GONE, {}, "REJECTED"),
    ],
)
def test_p7_every_undelivered_ending_is_published_once_and_reaches_a_person_once(
    simulation: Simulation, reaction: Reaction, fields: dict[str, int], status: str
) -> None:
    message = simulation.submit(reaction, **fields)
    simulation.run(HOUR)
    assert simulation.events_of(message) == [status]
    assert simulation.alerts_of(message) == 1


def test_p7_poison_lands_in_the_dead_letters_at_once_with_its_reason(simulation: Simulation) -> None:
    message = simulation.submit(silent())
    webhook, timers = simulation.channel_queues["webhook"], simulation.timer_queues[15]
    webhook.send("not json")
    timers.send('{"v": 9}')
    simulation.run(2 * SECOND)
    assert [e.reason for e in webhook.dead] == ["body is not JSON"]
    assert [e.reason for e in timers.dead] == ["version must be 1"]
    assert simulation.sendings(message) == [1]
    assert not webhook.envelopes


def test_batches_run_side_by_side_one_slow_target_costs_one_timeout(simulate: Simulate) -> None:
    simulation = simulate(latency=5)
    slow = [simulation.post(hangs()) for _ in range(10)]
    simulation.run(12 * SECOND)
    got = [simulation.devices[target].got for target in slow]
    assert all(len(sendings) == 1 for sendings in got)
    assert max(s[0][0] for s in got) - min(s[0][0] for s in got) < SECOND
    records = [row.record for row in simulation.table.rows.values()]
    assert [a.reason for r in records for a in r.attempts] == ["read_timeout"] * 10
