"""What must hold after any run, whatever went wrong in it: the promise, P1 to P7, read off the table's history."""

from collections import Counter, defaultdict
from collections.abc import Sequence

from handlers.delivery.message import ALERTING, UNDELIVERED, Record, Status
from handlers.delivery.schedule import delay_after
from tests.simulation.simulator import CHANNEL_VISIBILITY, GRACE, SECOND, SWEEP_PERIOD, Moment, Simulation

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
    rounds = 1 + faults
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


def _endings(moments: Sequence[Moment]) -> list[Moment]:
    return [m for m in moments if m.change.before is not None and m.change.before.open and not m.change.after.open]
