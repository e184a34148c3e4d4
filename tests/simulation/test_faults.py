"""Each fault of the list, at each step: what it costs is time, never a message."""

import json
from typing import Literal

import pytest

from handlers.delivery.channel import Kind
from handlers.delivery.message import Status
from tests.fakes.events import Reply
from tests.fakes.wire import Fault, What
from tests.fakes.world import START
from tests.simulation.conftest import Simulate
from tests.simulation.invariants import check_promise
from tests.simulation.simulator import (
    CHANNEL_VISIBILITY,
    GRACE,
    HOUR,
    MINUTE,
    SECOND,
    SWEEP_PERIOD,
    SYNCHRONOUS,
    TIMEOUT,
    TIMER_VISIBILITY,
    Crash,
    Reaction,
    Simulation,
    acks,
    nacks,
    silent,
)

When = Literal["before", "after"]
LATENCY = SECOND


class TestDeliverDies:
    """Between claim, timer, sending and record; and just after each of them."""

    STEPS = (
        # operation, when, sendings that reach the device, claims of attempt 1
        pytest.param("dynamodb.claim", "before", 1, 1, id="before the claim"),
        pytest.param("dynamodb.claim", "after", 1, 2, id="between claim and timer"),
        pytest.param("sqs.send", "before", 1, 2, id="at the timer"),
        pytest.param("sqs.send", "after", 1, 2, id="between timer and sending"),
        pytest.param("channel.send", "before", 1, 2, id="at the sending"),
        pytest.param("channel.send", "after", 2, 2, id="between sending and record"),
        pytest.param("dynamodb.record", "before", 2, 2, id="at the record"),
        pytest.param("dynamodb.record", "after", 1, 1, id="after the record"),
    )

    @pytest.mark.parametrize(("operation", "when", "sendings", "claims"), STEPS)
    def test_the_attempt_is_made_again_after_the_lease_and_one_timer_chain_lives(
        self, simulation: Simulation, operation: str, when: When, sendings: int, claims: int
    ) -> None:
        simulation.wire.crashes.append(Crash(operation, when, function="deliver"))
        message = simulation.submit(silent(), schedule=[2000])
        simulation.run(CHANNEL_VISIBILITY + 5 * SECOND)
        record = simulation.record(message)
        assert simulation.sendings(message) == [1] * sendings
        assert (record.attempt, record.claims) == (1, claims)
        assert record.attempts[0].outcome is Kind.SENT
        assert simulation.live_timers(message) == 1
        simulation.run(900 * SECOND)
        assert simulation.timers(message) == 1, "the chain of the claim that died has stopped at its first hop"
        simulation.run(1100 * SECOND)
        assert simulation.sendings(message) == [1] * sendings + [2]
        assert simulation.live_timers(message) == 1

    @pytest.mark.parametrize(("operation", "when", "sendings", "claims"), STEPS)
    def test_with_a_batch_of_ten_it_takes_none_of_them_along(
        self, simulate: Simulate, operation: str, when: When, sendings: int, claims: int
    ) -> None:
        assert sendings >= claims - 1
        simulation = simulate(latency=5)
        simulation.wire.crashes.append(Crash(operation, when, function="deliver", skip=4))
        for _ in range(10):
            simulation.post(silent(), acks(30), schedule=[30], max_attempts=5)
        simulation.run(CHANNEL_VISIBILITY + 5 * MINUTE)
        assert len(simulation.accepted) == 10
        statuses = {simulation.record(message).status for message in simulation.accepted}
        assert statuses == {Status.DELIVERED}
        check_promise(simulation, faults=1, told_once=True)

    def test_while_its_job_is_delivered_twice_the_job_is_not_lost(self, simulate: Simulate) -> None:
        simulation = simulate(duplicates=1.0)
        simulation.wire.crashes.append(Crash("channel.send", "after", function="deliver"))
        message = simulation.submit(Reaction(latency=10 * SECOND), silent(), schedule=[600])
        simulation.run(CHANNEL_VISIBILITY + 15 * SECOND)
        assert simulation.sendings(message) == [1, 1]
        assert simulation.record(message).attempts[0].outcome is Kind.SENT

    def test_by_its_timeout_in_the_middle_of_a_sending(self, simulation: Simulation) -> None:
        endless = Reaction(latency=2 * TIMEOUT)
        message = simulation.submit(endless, silent(), acks(5), schedule=[600])
        simulation.run(CHANNEL_VISIBILITY + 5 * SECOND)
        assert simulation.sendings(message) == [1, 1]
        assert simulation.run_until_ended(message).status is Status.DELIVERED

    def test_with_the_next_attempt_due_before_the_job_comes_again_the_schedule_goes_on(
        self, simulation: Simulation
    ) -> None:
        simulation.wire.crashes.append(Crash("channel.send", "after", function="deliver"))
        message = simulation.submit(silent())
        simulation.run(CHANNEL_VISIBILITY + 5 * SECOND)
        assert simulation.sendings(message) == [1, 2, 3]
        assert [a.outcome for a in simulation.record(message).attempts] == [None, Kind.SENT, Kind.SENT]
        assert simulation.live_timers(message) == 1

    def test_an_ack_of_the_sending_that_killed_it_stops_everything(self, simulation: Simulation) -> None:
        simulation.wire.crashes.append(Crash("channel.send", "after", function="deliver"))
        message = simulation.submit(acks(200))
        simulation.run(HOUR)
        assert simulation.record(message).status is Status.DELIVERED
        assert simulation.sendings(message) == [1]

    def test_a_nack_of_the_sending_that_killed_it_is_kept(self, simulation: Simulation) -> None:
        simulation.wire.crashes.append(Crash("channel.send", "after", function="deliver"))
        message = simulation.submit(nacks(200, retry_after=1000), acks(5))
        simulation.run(900 * SECOND)
        assert simulation.sendings(message) == [1], "the target asked to be left alone"
        assert simulation.run_until_ended(message).status is Status.DELIVERED
        assert simulation.sendings(message) == [1, 2]

    def test_at_the_last_attempt_it_gets_its_chance_again(self, simulation: Simulation) -> None:
        simulation.wire.crashes.append(Crash("channel.send", "before", function="deliver"))
        message = simulation.submit(acks(50), max_attempts=1, schedule=[1])
        assert simulation.run_until_ended(message).status is Status.DELIVERED
        assert simulation.sendings(message) == [1]

    def test_at_every_try_of_the_last_attempt_it_ends_exhausted(self, simulation: Simulation) -> None:
        simulation.wire.crashes.append(Crash("channel.send", "before", function="deliver", times=99))
        message = simulation.submit(silent(), max_attempts=1, schedule=[1], expires_in=86_400)
        record = simulation.run_until_ended(message)
        assert (record.status, record.claims) == (Status.EXHAUSTED, 3)
        assert simulation.alerts_of(message) == 1

    def test_always_the_sweep_alerts_in_the_end(self, simulation: Simulation) -> None:
        simulation.wire.crashes.append(Crash("dynamodb.claim", "before", function="deliver", times=10_000))
        message = simulation.submit(silent(), expires_in=20 * 3600)
        simulation.run(6 * HOUR)
        record = simulation.record(message)
        assert (record.open, record.attempt) == (True, 0)
        assert simulation.alerts_of(message) == 1
        assert len(simulation.channel_queues["webhook"].dead) == 6
        simulation.wire.crashes.clear()
        assert simulation.run_until_ended(message, 21 * HOUR).status is Status.EXPIRED


class TestLostAnswers:
    def test_of_the_claim_the_attempt_goes_on(self, simulation: Simulation) -> None:
        simulation.wire.faults.append(Fault("dynamodb.claim", "repeat"))
        message = simulation.submit(silent())
        simulation.run(5 * SECOND)
        assert simulation.sendings(message) == [1]
        assert (simulation.record(message).claims, simulation.live_timers(message)) == (1, 1)

    @pytest.mark.parametrize("operation", ["dynamodb.claim", "dynamodb.record", "sqs.send", "dynamodb.put"])
    @pytest.mark.parametrize("what", ["lose", "repeat"])
    def test_at_any_step_the_message_arrives_all_the_same(
        self, simulation: Simulation, operation: str, what: What
    ) -> None:
        simulation.wire.faults.append(Fault(operation, what))
        message = simulation.submit(silent(), silent(), acks(10), retries=3, schedule=[5])
        assert simulation.run_until_ended(message).status is Status.DELIVERED
        assert sorted(set(simulation.sendings(message))) == [1, 2, 3]
        check_promise(simulation, faults=1, told_once=True)

    def test_of_an_ack_the_target_asks_again_and_is_answered_with_success(self, simulation: Simulation) -> None:
        simulation.wire.faults.append(Fault("dynamodb.end", "lose"))
        message = simulation.submit(acks(10))
        simulation.run(MINUTE)
        answers = [r for _, function, r in simulation.replies if function == "ack"]
        assert [r.status for r in answers if r] == [503, 200]
        assert simulation.record(message).status is Status.DELIVERED


class TestServices:
    @pytest.mark.parametrize(
        "operation",
        ["dynamodb.claim", "dynamodb.record", "dynamodb.get_many", "sqs.send", "sqs.entry", "secretsmanager.get"],
    )
    @pytest.mark.parametrize("what", ["throttle", "timeout"])
    def test_one_that_fails_a_while_delays_and_loses_nothing(
        self, simulation: Simulation, operation: str, what: What
    ) -> None:
        message = simulation.submit(silent(), acks(10), schedule=[600])
        simulation.wire.faults.append(Fault(operation, what, times=3))
        assert simulation.run_until_ended(message).status is Status.DELIVERED
        assert simulation.record(message).attempt <= 2, "what failed was tried again before the next attempt"
        check_promise(simulation, faults=3, told_once=True)

    def test_a_throttled_ack_is_asked_for_again(self, simulation: Simulation) -> None:
        simulation.wire.faults.append(Fault("dynamodb.end", "throttle", times=4))
        message = simulation.submit(acks(10))
        simulation.run(MINUTE)
        assert simulation.record(message).status is Status.DELIVERED

    def test_a_topic_that_is_down_for_an_hour_hears_of_the_ending_then(self, simulation: Simulation) -> None:
        outage = Fault("sns.publish", "throttle", times=10_000)
        simulation.wire.faults.append(outage)
        message = simulation.submit(silent(), expires_in=10)
        simulation.run(HOUR)
        assert simulation.record(message).status is Status.EXPIRED
        assert simulation.events_of(message) == []
        outage.times = 0
        simulation.run(GRACE + SWEEP_PERIOD)
        assert (simulation.events_of(message), simulation.alerts_of(message)) == (["EXPIRED"], 1)


class TestSubmitDies:
    @pytest.mark.parametrize(
        ("operation", "when"), [("sqs.send", "before"), ("dynamodb.put", "after")], ids=["enqueued", "answered"]
    )
    def test_p1_before_it_enqueued_the_sweep_makes_the_attempt(
        self, simulation: Simulation, operation: str, when: When
    ) -> None:
        simulation.wire.crashes.append(Crash(operation, when, function="submit"))
        target = simulation.post(acks(10))
        simulation.run(GRACE + 2 * SWEEP_PERIOD)
        (row,) = simulation.table.rows.values()
        assert row.record.status is Status.DELIVERED
        assert len(simulation.devices[target].got) == 1

    def test_p1_before_it_stored_nothing_was_accepted(self, simulation: Simulation) -> None:
        simulation.wire.crashes.append(Crash("dynamodb.put", "before", function="submit"))
        simulation.post(acks(10))
        simulation.run(HOUR)
        assert (simulation.accepted, simulation.table.rows) == ([], {})

    def test_p5_and_its_producer_repeats_with_the_key_it_is_one_message(self, simulation: Simulation) -> None:
        simulation.wire.crashes.append(Crash("sqs.send", "before", function="submit"))
        message = simulation.submit(acks(10), retries=2)
        simulation.run(5 * SECOND)
        assert list(simulation.table.rows) == [message]
        assert (simulation.record(message).status, simulation.sendings(message)) == (Status.DELIVERED, [1])


class TestTimers:
    def test_purged_all_of_them_the_sweep_makes_the_next_attempt_within_grace_and_period(
        self, simulation: Simulation
    ) -> None:
        message = simulation.submit(silent(), silent(), acks(10))
        simulation.run(20 * SECOND)
        for queue in simulation.timer_queues.values():
            queue.purge()
        assert simulation.run_until_ended(message).status is Status.DELIVERED
        assert simulation.sendings(message) == [1, 2, 3]
        _, second, third = simulation.starts(message)
        assert third - second <= 30 * SECOND + GRACE + SWEEP_PERIOD + LATENCY

    def test_purged_again_and_again_with_the_channels_queue_nothing_is_lost(self, simulation: Simulation) -> None:
        messages = [simulation.submit(silent(), silent(), acks(10), schedule=[5]) for _ in range(5)]

        def purge() -> None:
            for queue in simulation.all_queues:
                queue.purge()

        for second in range(0, 900, 100):
            simulation.at(START + second * SECOND, purge)
        for message in messages:
            assert simulation.run_until_ended(message).status is Status.DELIVERED
            assert simulation.sendings(message) == [1, 2, 3]

    def test_purged_with_the_expiry_next_the_sweep_ends_it(self, simulation: Simulation) -> None:
        message = simulation.submit(silent(), expires_in=30, schedule=[3600])
        simulation.run(5 * SECOND)
        for queue in simulation.timer_queues.values():
            queue.purge()
        record = simulation.run_until_ended(message)
        assert record.status is Status.EXPIRED
        assert (record.ended_at or 0) <= record.expires_at + GRACE + SWEEP_PERIOD + LATENCY

    @pytest.mark.parametrize("times", [1, 3])
    def test_delivered_early_and_more_than_once_they_make_one_attempt_on_time(
        self, simulation: Simulation, times: int
    ) -> None:
        message = simulation.submit(silent())
        simulation.run(2 * SECOND)
        record = simulation.record(message)
        body = json.dumps({"v": 1, "id": message, "attempt": 1, "token": record.token})
        for _ in range(times):
            simulation.timer_queues[15].send(body)
        simulation.run(20 * SECOND)
        assert simulation.sendings(message) == [1, 2]
        first, second = simulation.starts(message)
        assert 15 * SECOND <= second - first <= 16 * SECOND + LATENCY

    def test_delivered_late_they_still_make_the_attempt(self, simulation: Simulation) -> None:
        message = simulation.submit(silent())
        simulation.run(2 * SECOND)
        (envelope,) = simulation.timer_queues[15].envelopes.values()
        envelope.visible_at += 100 * SECOND
        simulation.at(envelope.visible_at, lambda: simulation.poll(simulation.timer_queues[15]))
        simulation.run(120 * SECOND)
        assert simulation.sendings(message) == [1, 2]

    def test_of_an_older_attempt_they_do_nothing(self, simulation: Simulation) -> None:
        message = simulation.submit(silent())
        simulation.run(2 * SECOND)
        token = simulation.record(message).token
        simulation.run(20 * SECOND)
        assert simulation.sendings(message) == [1, 2]
        for _ in range(3):
            body = {"v": 1, "id": message, "attempt": 1, "token": token}
            simulation.timer_queues[15].send(json.dumps(body))
        simulation.run(10 * SECOND)
        assert (simulation.sendings(message), simulation.live_timers(message)) == ([1, 2], 1)

    def test_an_attempt_that_comes_early_goes_back_and_is_made_once_on_time(self, simulation: Simulation) -> None:
        message = simulation.submit(silent())
        simulation.run(2 * SECOND)
        job = json.dumps({"v": 1, "id": message, "attempt": 2, "base": 0})
        simulation.channel_queues["webhook"].send(job)
        simulation.run(20 * SECOND)
        assert simulation.sendings(message) == [1, 2]
        first, second = simulation.starts(message)
        assert second - first >= 15 * SECOND


class TestClocks:
    @pytest.mark.parametrize("ahead", [5, 900, 5000])
    def test_p3_that_are_ahead_at_the_timers_make_no_attempt_early_and_lose_none(
        self, simulate: Simulate, ahead: int
    ) -> None:
        simulation = simulate(timer_cap=8)
        simulation.skew["check_ack"] = ahead
        message = simulation.submit(silent(), schedule=[15, 4000])
        simulation.run(25 * SECOND)
        first, second = simulation.starts(message)
        assert 15 * SECOND <= second - first <= 17 * SECOND + LATENCY


class TestCheckAckDies:
    @pytest.mark.parametrize("operation", ["dynamodb.get_many", "sqs.send"])
    @pytest.mark.parametrize("when", ["before", "after"])
    def test_at_any_step_the_next_attempt_is_made_once(
        self, simulation: Simulation, operation: str, when: When
    ) -> None:
        simulation.wire.crashes.append(Crash(operation, when, function="check_ack"))
        message = simulation.submit(silent(), schedule=[10, 600])
        simulation.run(10 * SECOND + TIMER_VISIBILITY + 5 * SECOND)
        assert simulation.sendings(message) == [1, 2]
        assert simulation.live_timers(message) == 1

    def test_after_a_hop_the_doubled_chain_collapses_at_the_next_claim(self, simulation: Simulation) -> None:
        simulation.wire.crashes.append(Crash("sqs.send", "after", function="check_ack"))
        message = simulation.submit(silent(), schedule=[1000])
        simulation.run(970 * SECOND)
        assert simulation.live_timers(message) == 2
        simulation.run(100 * SECOND)
        assert simulation.sendings(message) == [1, 2]
        assert simulation.live_timers(message) == 1


class TestKilledPublication:
    """An undelivered ending whose teller died is told all the same, by the timer or by the sweep, with one alert."""

    @pytest.mark.parametrize(
        ("operation", "when"), [("dynamodb.end", "after"), ("sns.publish", "before")], ids=["ended", "publishing"]
    )
    def test_p7_of_the_timers_function_it_is_told_when_the_timer_comes_again(
        self, simulation: Simulation, operation: str, when: When
    ) -> None:
        simulation.wire.crashes.append(Crash(operation, when, function="check_ack"))
        message = simulation.submit(silent(), expires_in=10)
        simulation.run(10 * SECOND + TIMER_VISIBILITY + 5 * SECOND)
        assert (simulation.events_of(message), simulation.alerts_of(message)) == (["EXPIRED"], 1)
        simulation.run(HOUR)
        assert simulation.alerts_of(message) == 1

    @pytest.mark.parametrize(
        ("operation", "when"), [("dynamodb.end", "after"), ("sns.publish", "before")], ids=["ended", "publishing"]
    )
    def test_p7_of_a_nack_it_is_told_by_the_sweep(self, simulation: Simulation, operation: str, when: When) -> None:
        simulation.wire.crashes.append(Crash(operation, when, function="ack"))
        message = simulation.submit(nacks(100))
        simulation.run(5 * SECOND)
        assert simulation.record(message).status is Status.REJECTED
        assert simulation.events_of(message) == []
        simulation.run(GRACE + SWEEP_PERIOD)
        assert (simulation.events_of(message), simulation.alerts_of(message)) == (["REJECTED"], 1)

    def test_p7_killed_between_event_and_alert_the_person_is_told_the_event_may_come_twice(
        self, simulation: Simulation
    ) -> None:
        simulation.wire.crashes.append(Crash("sns.alert", "before", function="check_ack"))
        message = simulation.submit(silent(), expires_in=10)
        simulation.run(HOUR)
        assert simulation.alerts_of(message) == 1
        assert set(simulation.events_of(message)) == {"EXPIRED"}
        ids = {e["event_id"] for e in simulation.told.events if e["message_id"] == message}
        assert ids == {f"{message}.1.EXPIRED"}

    def test_p7_a_sweep_that_dies_telling_leaves_it_to_the_next(self, simulation: Simulation) -> None:
        simulation.wire.crashes.append(Crash("dynamodb.end", "after", function="ack"))
        simulation.wire.crashes.append(Crash("sns.publish", "before", function="sweep"))
        message = simulation.submit(nacks(100))
        simulation.run(GRACE + 4 * SWEEP_PERIOD)
        assert (simulation.events_of(message), simulation.alerts_of(message)) == (["REJECTED"], 1)

    def test_of_a_delivered_ending_nobody_is_told_again(self, simulation: Simulation) -> None:
        simulation.wire.crashes.append(Crash("sns.publish", "before", function="ack"))
        message = simulation.submit(acks(10))
        simulation.run(HOUR)
        assert simulation.record(message).status is Status.DELIVERED
        assert simulation.alerts_of(message) == 0


class TestSweepDies:
    @pytest.mark.parametrize(
        ("operation", "when"),
        [("dynamodb.overdue", "after"), ("dynamodb.postpone_sweep", "after"), ("sqs.send", "before")],
    )
    def test_at_any_step_a_later_one_does_its_work(self, simulation: Simulation, operation: str, when: When) -> None:
        simulation.wire.crashes.append(Crash("sqs.send", "before", function="submit"))
        simulation.wire.crashes.append(Crash(operation, when, function="sweep"))
        target = simulation.post(acks(10))
        simulation.run(3 * GRACE + 3 * SWEEP_PERIOD)
        (row,) = simulation.table.rows.values()
        assert row.record.status is Status.DELIVERED
        assert len(simulation.devices[target].got) == 1


class TestSynchronousAck:
    def test_whose_record_was_killed_is_asked_for_again(self, simulation: Simulation) -> None:
        simulation.wire.crashes.append(Crash("dynamodb.record", "before", function="deliver"))
        message = simulation.submit(SYNCHRONOUS, schedule=[600])
        simulation.run(HOUR)
        assert simulation.record(message).status is Status.DELIVERED
        assert simulation.sendings(message) == [1, 1]


def test_a_forged_ack_in_the_middle_of_it_all_changes_nothing(simulation: Simulation) -> None:
    message = simulation.submit(silent(), silent(), acks(10), schedule=[5])
    simulation.run(2 * SECOND)
    url = simulation.device(message).got[0][1].ack_url
    simulation.answer(url[:-1] + ("A" if url[-1] != "A" else "B"))
    simulation.run(SECOND)
    reply: Reply | None = simulation.replies[-1][2]
    assert reply is not None
    assert reply.status == 403
    assert simulation.record(message).open
    assert simulation.run_until_ended(message).status is Status.DELIVERED
