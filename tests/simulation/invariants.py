"""What must hold after any run, whatever went wrong in it: the promise, P1 to P7, read off the table's history."""

from collections import Counter, defaultdict
from collections.abc import Sequence

from handlers.delivery.lifecycle import MAX_SWEEPS
from handlers.delivery.message import ALERTING, UNDELIVERED, Record, Status
from handlers.delivery.schedule import delay_after
from handlers.delivery.sweeping import SWEPT
from handlers.delivery.workflows import ACTIVITY, read_execution_name
from handlers.runtime.schemas import check
from tests.simulation.simulator import CHANNEL_VISIBILITY, GRACE, SECOND, SWEEP_PERIOD, Moment, Simulation
from tests.simulation.states import MAX_EVENTS, Execution

Life = tuple[str, int]
CLAIMS = ("claim", "reclaim")
QUEUE_LATENCY = 2 * SECOND
"""What the simulated queue and the calls around it add to a delay, at most, when nothing goes wrong."""


def check_promise(simulation: Simulation, *, faults: int, told_once: bool) -> None:
    """Check all of them. `faults`: how many went wrong; `told_once`: nothing kept an ending from being told."""
    nothing_unforeseen(simulation)
    by_message: dict[str, list[Moment]] = defaultdict(list)
    for moment in simulation.moments:
        by_message[moment.change.after.id].append(moment)
    for message_id in simulation.accepted:
        assert message_id in simulation.table.rows, f"P1: {message_id} was accepted and is not in the table"
    for moments in by_message.values():
        ends_in_time(moments, faults)
        attempts_are_numbered(simulation, moments)
        attempts_keep_their_distance(moments)
        nothing_starts_after_the_end(simulation, moments)
        ends_once(moments)
        undelivered_is_heard(simulation, moments)
        nothing_waits_for_ever(moments, faults)
        if not faults:
            attempts_are_on_time(moments)
    for execution in simulation.sfn.executions:
        execution_keeps_its_contract(simulation, execution, faults)
        restarts_follow_one_another(simulation, execution)
    if told_once:
        nothing_is_said_twice(simulation)
    for queue in simulation.timer_queues.values():
        assert all(0 <= delay <= 900 for _, _, delay in queue.sent), "P3: a DelaySeconds over the limit"


def nothing_unforeseen(simulation: Simulation) -> None:
    """No function failed in a way that nobody has thought of."""
    assert simulation.unforeseen == []
    assert simulation.log.said("unexpected") == []
    causes = {str(line["cause"]).partition("(")[0] for line in simulation.log.said("record comes again")}
    assert causes <= {"Busy", "Unavailable", "Throttled"}, causes


def ends_in_time(moments: Sequence[Moment], faults: int) -> None:
    """P2: the message has ended, by its expiry and what the sweep takes; each fault may cost one more round of it."""
    last = moments[-1].change.after
    assert not last.open, f"P2: without an end: {last}"
    for moment in _endings(moments):
        ended = moment.change.after
        bound = ended.expires_at + (GRACE + SWEEP_PERIOD) * (1 + faults) + QUEUE_LATENCY
        assert moment.at <= bound, f"P2: ended {moment.at - ended.expires_at} ms after its expiry"


def attempts_are_numbered(simulation: Simulation, moments: Sequence[Moment]) -> None:
    """P5: attempts are 1 to n without a gap, each claimed once; what was sent was claimed, and not more often."""
    taken = Counter(m.change.after.attempt for m in moments if m.change.operation in CLAIMS)
    first = [m.change.after.attempt for m in moments if m.change.operation == "claim"]
    assert first == list(range(1, len(first) + 1)), f"P5: attempts {first}"
    record = moments[-1].change.after
    numbers = [attempt.n for attempt in record.attempts]
    assert numbers == sorted(set(numbers)), f"P5: two records of one attempt: {numbers}"
    device = simulation.devices.get(record.target)
    sent = Counter(p.attempt for _, p in device.got if p.message_id == record.id) if device else Counter[int]()
    assert all(sent[n] <= taken[n] for n in sent), f"P5: sent {sent}, claimed {taken}"


def attempts_keep_their_distance(moments: Sequence[Moment]) -> None:
    """P3: attempt n+1 starts no earlier than delay n after attempt n, and not before a hold is over."""
    previous: Record | None = None
    for moment in moments:
        if moment.change.operation not in CLAIMS:
            continue
        record, before = moment.change.after, moment.change.before
        assert before is not None
        start = record.attempts[-1].sent_at
        if moment.change.operation == "claim":
            assert start >= before.due_at, f"P3: attempt {record.attempt} came {before.due_at - start} ms early"
            if previous is not None and previous.life == record.life:
                delay = delay_after(record.schedule, previous.attempt - previous.base) * SECOND
                assert start - previous.attempts[-1].sent_at >= delay, f"P3: attempt {record.attempt} too early"
        previous = record


def nothing_waits_for_ever(moments: Sequence[Moment], faults: int) -> None:
    """P3: what is lost costs the grace and the sweep's period; what is lost again, twice the grace, and so on."""
    # For workers that pull, it is only the sweep's last takeover that starts another execution.
    pulled = faults > 0 and moments[0].change.after.channel == ACTIVITY
    rounds = 1 + faults + (MAX_SWEEPS if pulled else 0)
    bound = (2**rounds - 1) * GRACE + rounds * (SWEEP_PERIOD + CHANNEL_VISIBILITY) + QUEUE_LATENCY
    for moment in moments:
        before, after = moment.change.before, moment.change.after
        waited = moment.change.operation == "claim" or after.status in (Status.EXPIRED, Status.EXHAUSTED)
        if before is not None and before.open and waited and not before.exhausted:
            late = moment.at - before.due_at
            assert late <= bound, f"P3: {late} ms without the attempt that was due"


def attempts_are_on_time(moments: Sequence[Moment]) -> None:
    """P3: when nothing goes wrong, no later than a second, and the queue's latency, after that; and each once."""
    for moment in moments:
        assert moment.change.operation != "reclaim", "P5: an attempt was made twice, and nobody had died"
        if moment.change.operation == "claim" and moment.change.before is not None:
            late = moment.change.after.attempts[-1].sent_at - moment.change.before.due_at
            assert late <= SECOND + QUEUE_LATENCY, f"P3: attempt {moment.change.after.attempt} was {late} ms late"


def nothing_starts_after_the_end(simulation: Simulation, moments: Sequence[Moment]) -> None:
    """P4: from the ending on, no attempt is claimed, and before long no timer is armed."""
    open_ = True
    for moment in moments:
        if moment.change.operation in CLAIMS:
            assert open_, f"P4: attempt {moment.change.after.attempt} started after the end"
        open_ = moment.change.after.open
    record = moments[-1].change.after
    over = moments[-1].at if record.ended_at is None else record.ended_at
    timers = [
        at
        for queue in simulation.timer_queues.values()
        for at, body, _ in queue.sent
        if body["id"] == record.id and at > over + 30 * SECOND
    ]
    assert timers == [], f"P4: timers armed {[at - over for at in timers]} ms after the end"


def ends_once(moments: Sequence[Moment]) -> None:
    """P6: each life ends once, and what ended it stands."""
    ends = Counter(m.change.after.life for m in _endings(moments))
    assert all(count == 1 for count in ends.values()), f"P6: ends by life: {ends}"
    final: dict[int, Status] = {}
    for moment in moments:
        record = moment.change.after
        if record.life in final:
            assert record.status is final[record.life], "P6: an ending was changed"
        elif not record.open:
            final[record.life] = record.status
    lives = [m.change.after.life for m in moments]
    assert lives == sorted(lives)


def undelivered_is_heard(simulation: Simulation, moments: Sequence[Moment]) -> None:
    """P7: every undelivered ending was published, and the ones that a person must know of were mailed."""
    published = {event["event_id"] for event in simulation.told.events}
    for moment in _endings(moments):
        record = moment.change.after
        if record.status in UNDELIVERED:
            assert f"{record.id}.{record.life}.{record.status}" in published, f"P7: never told: {record}"
        if record.status in ALERTING:
            mails = [t for s, t in simulation.told.alerts if record.id in s and f"(life {record.life})" in t]
            assert any(str(record.status) in text for text in mails), f"P7: no alert: {record}"
    assert moments[-1].change.after.untold is None, "P7: still untold"


def nothing_is_said_twice(simulation: Simulation) -> None:
    """P5: one event and one alert for each ending."""
    events = Counter(event["event_id"] for event in simulation.told.events)
    assert all(count == 1 for count in events.values()), f"P5: {events}"
    alerts = Counter(subject for subject, _ in simulation.told.alerts)
    lives = Counter(event["message_id"] for event in simulation.told.events if event["type"] == "ended")
    assert all(count <= lives[subject.split()[2]] for subject, count in alerts.items()), f"P5: {alerts}"


def execution_keeps_its_contract(simulation: Simulation, execution: Execution, faults: int) -> None:
    """An execution stays within AWS's limits, says how its message stands, and leaves no task behind."""
    assert execution.length <= MAX_EVENTS, f"{execution.name}: {execution.length} events"
    message_id, life, _ = read_execution_name(execution.name)
    record = simulation.record(message_id)
    if execution.status == "SUCCEEDED":
        assert check("execution_output", execution.output) == execution.output
        assert (execution.output["message_id"], execution.output["life"]) == (record.id, life)
        status = execution.output["status"]
        lives = {m.change.after.status for m in simulation.moments if m.change.after.id == record.id}
        assert status in {str(s) for s in lives - {Status.PENDING, Status.AWAITING_ACK}} | HANDED_ON, status
    elif execution.status == "TIMED_OUT" and simulation.sfn.types[execution.workflow] == "EXPRESS" and faults:
        # Faults cost it time, and its own is short.
        pass
    elif not execution.running:
        killed = execution.cause == "killed by the test" or execution.status in ("ABORTED", "DELETED")
        assert killed, f"{execution.name} {execution.status}: {execution.error} {execution.cause}"
    assert execution.running or not execution.waiting


def restarts_follow_one_another(simulation: Simulation, execution: Execution) -> None:
    """Only what no queue can run is started again: after the one before, or by the sweep's last takeover."""
    message_id, life, generation = read_execution_name(execution.name)
    if generation == 1:
        return
    assert execution.workflow == "delivery_activity", f"{execution.name} of {execution.workflow}"
    before = [e for e in simulation.sfn.of(message_id) if read_execution_name(e.name)[1:] == (life, generation - 1)]
    if before:
        over = before[0].stopped_at
        # The one that is settled ends just after it.
        settling = "Settle" in {state for _, _, state in before[0].history}
        assert settling or (over is not None and over <= execution.started_at), f"{execution.name} beside another"
    else:
        assert generation >= SWEPT, f"{execution.name} comes after none"


def executions_are_over(simulation: Simulation, within: int = 2 * SECOND) -> None:
    """Every execution has ended, and not later than so many ms after its life of the message, or before it."""
    for execution in simulation.sfn.executions:
        message_id, life, _ = read_execution_name(execution.name)
        ends = [
            m.at
            for m in simulation.moments
            if m.change.after.id == message_id and not m.change.after.open and m.change.after.life == life
        ]
        assert execution.stopped_at is not None, f"{execution.name} still runs"
        assert execution.stopped_at <= ends[0] + within, f"{execution.name}: {execution.stopped_at - ends[0]} ms late"


HANDED_ON = {"HANDED_OVER", "RESTARTED", "UNKNOWN"}


def _endings(moments: Sequence[Moment]) -> list[Moment]:
    return [m for m in moments if m.change.before is not None and m.change.before.open and not m.change.after.open]
