"""Each workflow of the catalogue, played against the real handlers: what the device gets, when, and how it ends."""

from itertools import pairwise
from typing import Any

import pytest

from handlers.delivery.asking import JOB_PATIENCE
from handlers.delivery.channel import Kind, Outcome
from handlers.delivery.message import Record, Scheduler, Status
from handlers.delivery.workflows import CATALOGUE, MAX_ASKS, EndedBy
from tests.fakes.world import START
from tests.simulation import states
from tests.simulation.conftest import Simulate
from tests.simulation.invariants import QUEUE_LATENCY, check_promise, executions_are_over
from tests.simulation.simulator import (
    GONE,
    HOUR,
    JOB_DONE,
    MINUTE,
    SECOND,
    SYNCHRONOUS,
    UNDER_WAY,
    Crash,
    Reaction,
    Simulation,
    acks,
    hangs,
    nacks,
    refuses,
    silent,
)
from tests.simulation.states import DEPLOYMENTS, MAX_EVENTS, Execution, fields_for
from tests.simulation.worker import Worker

ALL = list(DEPLOYMENTS)
STANDARD = [workflow for workflow, (_, kind) in DEPLOYMENTS.items() if kind == "STANDARD"]
PROMPT = 2 * SECOND
ROUND = 400
"""Milliseconds that the calls and steps of one attempt take in the simulation, at most."""
TRANSITIONS = {
    "delivery_poll": 4,
    "poll_express": 4,
    "delivery_stop_on_ack": 2,
    "delivery_callback": 3,
    "delivery_event": 3,
    "delivery_activity": 3,
    "delivery_push": 5,
    "delivery_job_poller": 4,
}
"""State transitions from one attempt to the next: what AWS bills."""
DAY = 24 * HOUR


def begin(simulation: Simulation, workflow: str, *reactions: Reaction, **fields: Any) -> str:
    """Submit a message for a workflow; a worker pulls where one is needed. Returns the id."""
    if workflow == "delivery_activity" and not simulation.sfn.executions:
        Worker(simulation).start()
    retries = fields.pop("retries", 0)
    return simulation.submit(*reactions, retries=retries, **fields_for(workflow, **fields))


def finish(simulation: Simulation, message: str, within: int = 10 * HOUR) -> Record:
    """Let the message end, and its execution after it."""
    record = simulation.run_until_ended(message, within)
    last = simulation.now + max(record.schedule) * SECOND + MINUTE
    while any(e.running for e in simulation.sfn.of(message)) and simulation.now < last:
        simulation.run(SECOND)
    simulation.run(15 * SECOND)
    return record


def slack(simulation: Simulation, workflow: str, record: Record) -> int:
    """How long an execution may outlive its message, in ms: one that looks for itself looks after its delay."""
    reading = CATALOGUE[workflow].ended_by is EndedBy.READING
    return max(record.schedule) * SECOND + PROMPT if reading else PROMPT


def check_story(simulation: Simulation, workflow: str, message: str, status: Status, attempts: int) -> Execution:
    """What holds of every undisturbed delivery. Returns its only execution."""
    record = finish(simulation, message)
    (execution,) = simulation.sfn.of(message)
    assert (record.status, simulation.sendings(message)) == (status, list(range(1, attempts + 1)))
    assert record.scheduler is Scheduler.WORKFLOW
    for (before, after), delay in zip(pairwise(simulation.starts(message)), delays(record), strict=False):
        assert delay * SECOND <= after - before <= (delay + 1) * SECOND + QUEUE_LATENCY
    executions_are_over(simulation, slack(simulation, workflow, record))
    assert all(queue.envelopes == {} and queue.dead == [] for queue in simulation.all_queues)
    assert all(queue.sent == [] for queue in simulation.timer_queues.values()), "an execution is the timer"
    assert simulation.log.said("record buried") == []
    check_promise(simulation, faults=0, told_once=True)
    return execution


def delays(record: Record, count: int = 100) -> list[int]:
    """The schedule, with its last delay repeated."""
    return [*record.schedule, *[record.schedule[-1]] * count]


def check_ended(execution: Execution, workflow: str, status: Status) -> None:
    """How an execution ends whose message somebody else has ended."""
    stopped = (execution.status, execution.output) == ("ABORTED", None)
    if CATALOGUE[workflow].ended_by is EndedBy.STOP:
        assert stopped
    elif not (stopped and workflow in ("delivery_activity", "delivery_push")):
        # A task that has not been pulled yet cannot be completed: its execution is stopped.
        assert (execution.status, execution.output["status"]) == ("SUCCEEDED", status)


@pytest.mark.parametrize("workflow", ALL)
class TestStories:
    def test_acked_before_the_first_delay(self, simulation: Simulation, workflow: str) -> None:
        message = begin(simulation, workflow, acks(3 * SECOND))
        check_ended(check_story(simulation, workflow, message, Status.DELIVERED, 1), workflow, Status.DELIVERED)

    def test_acked_between_attempts_2_and_3(self, simulation: Simulation, workflow: str) -> None:
        message = begin(simulation, workflow, silent(), acks(10 * SECOND))
        check_ended(check_story(simulation, workflow, message, Status.DELIVERED, 2), workflow, Status.DELIVERED)

    def test_acked_in_the_answer(self, simulation: Simulation, workflow: str) -> None:
        message = begin(simulation, workflow, refuses(), SYNCHRONOUS)
        check_ended(check_story(simulation, workflow, message, Status.DELIVERED, 2), workflow, Status.DELIVERED)

    def test_acked_before_the_sending_is_recorded(self, simulation: Simulation, workflow: str) -> None:
        message = begin(simulation, workflow, acks(0, latency=4 * SECOND))
        check_ended(check_story(simulation, workflow, message, Status.DELIVERED, 1), workflow, Status.DELIVERED)

    def test_acked_three_times(self, simulation: Simulation, workflow: str) -> None:
        message = begin(simulation, workflow, silent(), acks(500, 510, 9000))
        check_ended(check_story(simulation, workflow, message, Status.DELIVERED, 2), workflow, Status.DELIVERED)
        assert [r.status for _, function, r in simulation.replies if r and function == "ack"] == [200] * 3

    def test_nacked(self, simulation: Simulation, workflow: str) -> None:
        message = begin(simulation, workflow, silent(), nacks(SECOND))
        check_ended(check_story(simulation, workflow, message, Status.REJECTED, 2), workflow, Status.REJECTED)
        assert simulation.alerts_of(message) == 1

    def test_gone(self, simulation: Simulation, workflow: str) -> None:
        message = begin(simulation, workflow, GONE)
        check_ended(check_story(simulation, workflow, message, Status.REJECTED, 1), workflow, Status.REJECTED)

    def test_cancelled(self, simulation: Simulation, workflow: str) -> None:
        message = begin(simulation, workflow, silent())
        simulation.run(5 * SECOND)
        simulation.cancel(message)
        check_ended(check_story(simulation, workflow, message, Status.CANCELLED, 1), workflow, Status.CANCELLED)
        assert simulation.alerts_of(message) == 0

    def test_never_acked_until_the_attempts_are_used_up(self, simulation: Simulation, workflow: str) -> None:
        message = begin(simulation, workflow, silent(), schedule=[5, 9], max_attempts=4)
        execution = check_story(simulation, workflow, message, Status.EXHAUSTED, 4)
        assert (execution.status, execution.output["status"]) == ("SUCCEEDED", "EXHAUSTED")
        record = simulation.record(message)
        assert (record.ended_at or 0) >= record.attempts[-1].sent_at + 9 * SECOND
        assert simulation.alerts_of(message) == 1

    def test_never_acked_until_it_expires(self, simulation: Simulation, workflow: str) -> None:
        message = begin(simulation, workflow, silent(), schedule=[5, 9], expires_in=40)
        execution = check_story(simulation, workflow, message, Status.EXPIRED, 5)
        assert (execution.status, execution.output["status"]) == ("SUCCEEDED", "EXPIRED")
        record = simulation.record(message)
        assert record.expires_at <= (record.ended_at or 0) <= record.expires_at + SECOND + QUEUE_LATENCY

    def test_targets_failures_are_attempts(self, simulation: Simulation, workflow: str) -> None:
        message = begin(simulation, workflow, refuses(), hangs(), refuses("refused", None), acks(10), schedule=[15])
        check_ended(check_story(simulation, workflow, message, Status.DELIVERED, 4), workflow, Status.DELIVERED)
        assert [a.outcome for a in simulation.record(message).attempts] == [Kind.FAILED] * 3 + [Kind.SENT]

    def test_transitions_per_attempt(self, simulation: Simulation, workflow: str) -> None:
        counts = []
        for attempts in (4, 5):
            message = begin(simulation, workflow, silent(), schedule=[5], max_attempts=attempts)
            finish(simulation, message)
            (execution,) = simulation.sfn.of(message)
            counts.append(execution.transitions)
        assert counts[1] - counts[0] == TRANSITIONS[workflow]

    def test_two_dozen_at_once_do_not_disturb_each_other(self, simulation: Simulation, workflow: str) -> None:
        Worker(simulation).start()
        fields = fields_for(workflow, schedule=[5, 9], max_attempts=6)
        for n in range(24):
            simulation.post(*[silent()] * (n % 4), acks(n * 100), **fields)
        simulation.run(3 * MINUTE)
        assert len(simulation.accepted) == 24
        for n, message in enumerate(simulation.accepted):
            assert simulation.record(message).status is Status.DELIVERED, n
        executions_are_over(simulation, 9 * SECOND + PROMPT)
        check_promise(simulation, faults=0, told_once=True)


@pytest.mark.parametrize("workflow", ALL)
def test_p4_an_ack_wins_the_race_with_the_next_attempt_in_both_orders(simulate: Simulate, workflow: str) -> None:
    sendings = set()
    for seed, offset in enumerate(range(14_900, 15_460, 20)):
        simulation = simulate(seed=seed, latency=25)
        message = begin(simulation, workflow, acks(offset), silent())
        record = finish(simulation, message)
        simulation.run(MINUTE)
        assert record.status is Status.DELIVERED
        sendings.add(tuple(simulation.sendings(message)))
        executions_are_over(simulation, slack(simulation, workflow, record))
        (execution,) = simulation.sfn.of(message)
        check_ended(execution, workflow, Status.DELIVERED)
        check_promise(simulation, faults=0, told_once=True)
        simulation.close()
    assert sendings == {(1,), (1, 2)}, "both orders have been seen"


@pytest.mark.parametrize("workflow", ALL)
def test_p4_an_ack_of_the_first_life_ends_the_second_before_and_after_its_first_claim(
    simulate: Simulate, workflow: str
) -> None:
    sendings = set()
    for seed, offset in enumerate(range(19_600, 20_400, 40)):
        simulation = simulate(seed=seed)
        message = begin(simulation, workflow, acks(offset), silent(), schedule=[600], max_attempts=1)
        simulation.run(5 * SECOND)
        simulation.cancel(message)
        simulation.run(15 * SECOND)
        simulation.redeliver(message, expires_in=200)
        simulation.run(15 * SECOND)
        record = finish(simulation, message)
        # Before the redelivery, the ACK is kept as a late one, and the redelivery refused.
        assert record.status is (Status.DELIVERED if record.life == 2 else Status.CANCELLED)
        assert (record.late_ack_at is not None) is (record.life == 1)
        sendings.add((record.life, len(simulation.sendings(message))))
        check_promise(simulation, faults=0, told_once=True)
        simulation.close()
    assert sendings >= {(1, 1), (2, 2)}


@pytest.mark.parametrize("workflow", ALL)
class TestLives:
    def test_a_redelivery_is_another_execution_and_attempts_go_on(self, simulation: Simulation, workflow: str) -> None:
        message = begin(simulation, workflow, silent(), silent(), silent(), acks(10), schedule=[5], max_attempts=2)
        assert finish(simulation, message).status is Status.EXHAUSTED
        simulation.redeliver(message, expires_in=120)
        simulation.run(SECOND)
        record = finish(simulation, message)
        assert (record.status, record.life) == (Status.DELIVERED, 2)
        assert simulation.sendings(message) == [1, 2, 3, 4]
        assert [e.name for e in simulation.sfn.of(message)] == [f"{message}-1", f"{message}-2"]
        assert simulation.sfn.of(message)[1].told["from"] == 2
        executions_are_over(simulation, slack(simulation, workflow, record))
        check_promise(simulation, faults=0, told_once=True)

    def test_an_execution_of_an_older_life_leaves_the_new_one_alone(
        self, simulation: Simulation, workflow: str
    ) -> None:
        message = begin(simulation, workflow, silent(), schedule=[20])
        simulation.run(5 * SECOND)
        simulation.cancel(message)
        simulation.run(SECOND)
        simulation.redeliver(message, expires_in=90)
        simulation.run(SECOND)
        record = finish(simulation, message)
        assert (record.status, record.life) == (Status.EXPIRED, 2)
        assert simulation.sendings(message) == [1, 2, 3, 4, 5, 6]
        first, second = simulation.sfn.of(message)
        assert (second.status, second.output["status"]) == ("SUCCEEDED", "EXPIRED")
        assert first.status == "ABORTED" or first.output["status"] in ("CANCELLED", "HANDED_OVER")
        check_promise(simulation, faults=0, told_once=True)

    @pytest.mark.parametrize("when", ["before", "after"])
    def test_a_repeated_submission_does_not_start_it_twice(
        self, simulation: Simulation, workflow: str, when: Any
    ) -> None:
        simulation.wire.crashes.append(Crash("states.start", when, function="submit"))
        message = begin(simulation, workflow, silent(), acks(10), schedule=[5], retries=3)
        record = finish(simulation, message)
        started = len(simulation.sfn.of(message))
        assert started == 1
        assert (record.status, simulation.sendings(message)) == (Status.DELIVERED, [1, 2])
        check_promise(simulation, faults=1, told_once=True)

    def test_a_nack_with_retry_after_moves_the_attempt_and_the_schedule_follows(
        self, simulation: Simulation, workflow: str
    ) -> None:
        # An Express execution that is put off may be cut off: see TestExpress.
        life = {"expires_in": 280} if workflow == "poll_express" else {}
        message = begin(simulation, workflow, nacks(500, 100), silent(), acks(10), **life)
        record = finish(simulation, message)
        assert (record.status, simulation.sendings(message)) == (Status.DELIVERED, [1, 2, 3])
        first, second, third = simulation.starts(message)
        assert 100 * SECOND <= second - first <= 102 * SECOND + QUEUE_LATENCY
        assert 30 * SECOND <= third - second <= 31 * SECOND + QUEUE_LATENCY
        check_promise(simulation, faults=0, told_once=True)

    def test_retry_after_of_a_503_does_too(self, simulation: Simulation, workflow: str) -> None:
        busy = refuses("http_503", 503, retry_after=70)
        message = begin(simulation, workflow, busy, busy, acks(10), schedule=[5])
        record = finish(simulation, message)
        assert (record.status, simulation.sendings(message)) == (Status.DELIVERED, [1, 2, 3])
        for before, after in pairwise(simulation.starts(message)):
            assert 70 * SECOND <= after - before <= 71 * SECOND + QUEUE_LATENCY
        check_promise(simulation, faults=0, told_once=True)

    def test_a_retry_after_beyond_the_expiry_ends_it_then(self, simulation: Simulation, workflow: str) -> None:
        message = begin(simulation, workflow, nacks(500, 1000), schedule=[5], expires_in=60)
        record = finish(simulation, message)
        assert (record.status, simulation.sendings(message)) == (Status.EXPIRED, [1])
        assert (record.ended_at or 0) <= record.expires_at + SECOND + QUEUE_LATENCY
        check_promise(simulation, faults=0, told_once=True)


@pytest.mark.parametrize("workflow", [w for w in ALL if w != "delivery_activity"])
def test_a_backlog_longer_than_the_first_delays_makes_no_attempt_twice(simulation: Simulation, workflow: str) -> None:
    simulation.held["webhook"] = START + 70 * SECOND
    message = begin(simulation, workflow, silent(), silent(), acks(10), schedule=[5, 10, 20], expires_in=280)
    simulation.run(69 * SECOND)
    jobs = simulation.channel_queues["webhook"].bodies()
    assert len(jobs) >= 4
    record = finish(simulation, message)
    assert (record.status, simulation.sendings(message)) == (Status.DELIVERED, [1, 2, 3])
    first, second, third = simulation.starts(message)
    if "task" in jobs[0]:
        over = [line for line in simulation.log.said("attempt dropped") if line["why"] == "its task has timed out"]
        assert len(over) >= 3
    assert 5 * SECOND <= second - first <= 6 * SECOND + QUEUE_LATENCY
    assert 10 * SECOND <= third - second <= 11 * SECOND + QUEUE_LATENCY
    (execution,) = simulation.sfn.of(message)
    check_ended(execution, workflow, Status.DELIVERED)


@pytest.mark.parametrize("workflow", STANDARD)
def test_p3_on_time_for_five_days_without_drift(simulate: Simulate, workflow: str) -> None:
    simulation = simulate(sweeps=0)
    message = begin(simulation, workflow, silent(), expires_in=5 * 86_400)
    record = finish(simulation, message, 6 * DAY)
    assert record.status is Status.EXPIRED
    starts = simulation.starts(message)
    assert len(starts) == 2 + 30
    gaps = [after - before for before, after in pairwise(starts)]
    for gap, delay in zip(gaps, delays(record), strict=False):
        assert delay * SECOND <= gap <= (delay + 1) * SECOND
    # Each gap may be a little longer than its delay: no more than the calls of its own round take.
    most = ROUND * len(starts)
    assert starts[-1] - starts[0] - sum(delays(record)[: len(gaps)]) * SECOND <= most
    assert record.expires_at <= (record.ended_at or 0) <= record.expires_at + SECOND + most
    executions_are_over(simulation)
    check_promise(simulation, faults=0, told_once=True)


@pytest.mark.parametrize("workflow", STANDARD)
def test_a_year_is_so_many_attempts_by_the_execution_and_the_rest_by_the_queues_or_another(
    simulate: Simulate, workflow: str
) -> None:
    simulation = simulate(sweeps=0, latency=10)
    message = begin(simulation, workflow, *[silent()] * (MAX_ASKS + 3), acks(10), expires_in=365 * 86_400)
    record = finish(simulation, message, 200 * DAY)
    assert (record.status, record.attempt) == (Status.DELIVERED, MAX_ASKS + 4)
    executions = simulation.sfn.of(message)
    if workflow == "delivery_activity":
        assert [e.name for e in executions] == [f"{message}-1", f"{message}-1-2"]
        assert executions[0].output["status"] == "RESTARTED"
    else:
        (execution,) = executions
        assert execution.output["status"] == "HANDED_OVER"
        assert record.scheduler is Scheduler.QUEUES
    assert all(e.length < MAX_EVENTS for e in executions)
    assert simulation.sendings(message) == list(range(1, MAX_ASKS + 5))
    for (before, after), delay in zip(pairwise(simulation.starts(message)), delays(record, MAX_ASKS + 4), strict=False):
        assert delay * SECOND <= after - before <= (delay + 1) * SECOND + QUEUE_LATENCY
    assert simulation.told.alerts == []


class TestJobs:
    def test_a_job_under_way_is_waited_for_and_not_started_again(self, simulation: Simulation) -> None:
        message = begin(simulation, "delivery_job_poller", silent(), schedule=[10])
        simulation.device(message).states += [UNDER_WAY] * 3 + [JOB_DONE]
        record = finish(simulation, message)
        assert (record.status, simulation.sendings(message)) == (Status.DELIVERED, [1])
        asked = simulation.device(message).asked
        assert len(asked) == 4
        assert all(10 * SECOND <= after - before <= 11 * SECOND for before, after in pairwise(asked))
        check_promise(simulation, faults=0, told_once=True)

    def test_a_job_that_is_given_up_rejects_the_message(self, simulation: Simulation) -> None:
        message = begin(simulation, "delivery_job_poller", silent(), schedule=[10])
        simulation.device(message).states += [UNDER_WAY, Outcome(Kind.GONE, "http_410", 5, 410)]
        record = finish(simulation, message)
        assert (record.status, simulation.sendings(message)) == (Status.REJECTED, [1])
        assert simulation.alerts_of(message) == 1
        check_promise(simulation, faults=0, told_once=True)

    def test_a_job_that_was_lost_is_started_again(self, simulation: Simulation) -> None:
        message = begin(simulation, "delivery_job_poller", silent(), schedule=[10])
        simulation.device(message).states += [UNDER_WAY, refuses().outcome, UNDER_WAY, JOB_DONE]
        record = finish(simulation, message)
        assert (record.status, simulation.sendings(message)) == (Status.DELIVERED, [1, 2])
        check_promise(simulation, faults=0, told_once=True)

    def test_an_endless_job_ends_with_the_message(self, simulation: Simulation) -> None:
        message = begin(simulation, "delivery_job_poller", silent(), schedule=[10], expires_in=95)
        simulation.device(message).states += [UNDER_WAY] * 100
        record = finish(simulation, message)
        assert (record.status, simulation.sendings(message)) == (Status.EXPIRED, [1])
        assert (record.ended_at or 0) <= record.expires_at + SECOND + QUEUE_LATENCY
        check_promise(simulation, faults=0, told_once=True)

    @pytest.mark.parametrize("answering", [acks(12 * SECOND), nacks(12 * SECOND)])
    def test_an_answer_over_the_other_channel_counts_while_it_is_under_way(
        self, simulation: Simulation, answering: Reaction
    ) -> None:
        message = begin(simulation, "delivery_job_poller", answering, schedule=[10])
        simulation.device(message).states += [UNDER_WAY] * 100
        record = finish(simulation, message)
        assert record.status in (Status.DELIVERED, Status.REJECTED)
        assert len(simulation.device(message).asked) == 1
        check_promise(simulation, faults=0, told_once=True)


@pytest.mark.parametrize("workflow", STANDARD)
def test_a_target_that_puts_off_every_attempt_keeps_no_execution_over_its_limit(
    simulate: Simulate, workflow: str
) -> None:
    simulation = simulate(sweeps=0)
    lengths = []
    for attempts in (10, 20):
        message = begin(simulation, workflow, nacks(500, 60), schedule=[30], max_attempts=attempts)
        record = finish(simulation, message)
        assert (record.status, record.attempt) == (Status.EXHAUSTED, attempts)
        lengths.append(simulation.sfn.of(message)[0].length)
    assert MAX_ASKS * (lengths[1] - lengths[0]) / 10 + lengths[0] < MAX_EVENTS


class TestLongJobs:
    @pytest.mark.parametrize("schedule", [[1], [30], [15, 30, 14400]])
    def test_one_of_a_year_keeps_its_execution_within_its_limit(self, simulate: Simulate, schedule: list[int]) -> None:
        simulation = simulate(sweeps=0)
        message = begin(simulation, "delivery_job_poller", silent(), schedule=schedule, expires_in=365 * 86_400)
        simulation.device(message).states += [UNDER_WAY] * 5_000
        record = finish(simulation, message, 366 * DAY)
        assert (record.status, simulation.sendings(message)) == (Status.EXPIRED, [1])
        (execution,) = simulation.sfn.of(message)
        assert (execution.status, execution.output["status"]) == ("SUCCEEDED", "EXPIRED")
        assert execution.length < MAX_EVENTS / 2
        assert [subject for subject, _ in simulation.told.alerts if "lost its execution" in subject] == []

    def test_one_is_asked_for_the_less_often_the_longer_it_takes(self, simulation: Simulation) -> None:
        message = begin(simulation, "delivery_job_poller", silent(), schedule=[10], expires_in=86_400)
        simulation.device(message).states += [UNDER_WAY] * 200 + [JOB_DONE]
        record = finish(simulation, message, DAY)
        assert (record.status, simulation.sendings(message)) == (Status.DELIVERED, [1])
        started = record.attempts[0].sent_at
        for before, after in pairwise(simulation.device(message).asked):
            patience = max(10 * SECOND, (before - started) / JOB_PATIENCE)
            assert patience - SECOND <= after - before <= patience + 2 * SECOND
        check_promise(simulation, faults=0, told_once=True)

    def test_those_that_are_lost_again_and_again_do_too(self, simulate: Simulate) -> None:
        simulation = simulate(sweeps=0)
        message = begin(simulation, "delivery_job_poller", silent(), schedule=[30], expires_in=365 * 86_400)
        simulation.device(message).states += [*[UNDER_WAY] * 20, refuses().outcome] * 100
        record = finish(simulation, message, 366 * DAY)
        assert record.status is Status.EXPIRED
        assert simulation.sfn.of(message)[0].length < MAX_EVENTS


class TestExpress:
    @pytest.mark.parametrize("fields", [{}, {"expires_in": 300}])
    def test_a_message_of_the_longest_life_is_handed_over_in_time_and_ends_by_its_timer(
        self, simulation: Simulation, fields: dict[str, Any]
    ) -> None:
        message = begin(simulation, "poll_express", silent(), **fields)
        record = finish(simulation, message)
        (execution,) = simulation.sfn.of(message)
        assert (execution.status, execution.output["status"]) == ("SUCCEEDED", "HANDED_OVER")
        assert execution.stopped_at is not None
        assert execution.stopped_at - execution.started_at < states.EXPRESS_SECONDS * SECOND
        assert (record.status, record.scheduler) == (Status.EXPIRED, Scheduler.QUEUES)
        assert (record.ended_at or 0) - record.created_at <= 301 * SECOND + QUEUE_LATENCY
        assert simulation.sendings(message) == [1, 2, 3]
        assert simulation.alerts_of(message) == 1
        check_promise(simulation, faults=0, told_once=True)

    def test_one_of_290_seconds_ends_by_its_own_execution(self, simulation: Simulation) -> None:
        message = begin(simulation, "poll_express", silent(), schedule=[15, 30], expires_in=290)
        record = finish(simulation, message)
        (execution,) = simulation.sfn.of(message)
        assert (record.status, execution.output["status"]) == (Status.EXPIRED, "EXPIRED")
        assert (record.ended_at or 0) <= record.expires_at + SECOND + QUEUE_LATENCY
        check_promise(simulation, faults=0, told_once=True)

    @pytest.mark.parametrize("put_off", [20, 100])
    def test_one_whose_target_puts_it_off_ends_in_time_too(self, simulation: Simulation, put_off: int) -> None:
        message = begin(simulation, "poll_express", nacks(500, put_off), silent())
        record = finish(simulation, message)
        (execution,) = simulation.sfn.of(message)
        assert record.status is Status.EXPIRED
        assert (execution.status, execution.output["status"]) == ("SUCCEEDED", "HANDED_OVER")
        assert (record.ended_at or 0) <= record.expires_at + SECOND + QUEUE_LATENCY

    def test_one_that_is_started_twice_makes_each_attempt_once(self, simulate: Simulate) -> None:
        simulation = simulate(duplicates=1.0)
        message = begin(simulation, "poll_express", silent(), silent(), acks(10), schedule=[5, 9])
        record = finish(simulation, message)
        assert [e.output["status"] for e in simulation.sfn.of(message)] == ["DELIVERED"] * 2
        assert (record.status, simulation.sendings(message)) == (Status.DELIVERED, [1, 2, 3])
        check_promise(simulation, faults=0, told_once=True)
