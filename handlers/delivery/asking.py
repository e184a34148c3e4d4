"""What executions ask of the table: the next attempt, a target's job, and an end that fits the message's."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from handlers.delivery.channel import Kind, Outcome, Parcel
from handlers.delivery.errors import Over, Unavailable
from handlers.delivery.jobs import Timer, attempt_job
from handlers.delivery.lifecycle import End, Try, Wait, next_step
from handlers.delivery.message import Record, Scheduler, Status
from handlers.delivery.ports import (
    MAX_PAUSE,
    Clock,
    Executions,
    Log,
    Move,
    Pause,
    Post,
    Queues,
    Stale,
    Store,
)
from handlers.delivery.schedule import SQS_MAX_DELAY, seconds_until
from handlers.delivery.telling import Teller
from handlers.delivery.workflows import again, cut_off_at, read_execution_name, wait_after

JOB_PATIENCE = 50
"""A job is asked for again when a fiftieth of the time has passed that its message has taken so far, or its delay."""
ACCEPTED = 202
"""A target's answer while its job is still under way (RFC 9110, 202 Accepted)."""


@dataclass(frozen=True, slots=True)
class Ask:
    """An execution's request for its next attempt: `index` counts from 0, after the `first` made before it."""

    message_id: str
    life: int
    first: int
    index: int
    delays: Sequence[int]


@dataclass(frozen=True, slots=True)
class Next:
    """What the execution does: wait so many seconds, then ask with this index."""

    wait: int
    index: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Dispatcher:
    """Sends the attempts that executions ask for to their channels' queues."""

    store: Store
    queues: Queues
    teller: Teller
    clock: Clock
    log: Log

    def dispatch(self, ask: Ask) -> Next:
        """Enqueue the next attempt when its time has come; the wait is its delay, or less before the expiry.

        Too early, it says how long to wait. Raises `Over` when the message has ended, when another scheduler runs
        it, or when the execution's delays are used up, and `Unavailable`.
        """
        record = self.store.get(ask.message_id)
        if record is None:
            raise Over("UNKNOWN")
        if not record.open:
            self.teller.retell(record)
            raise Over(str(record.status))
        if record.scheduler is not Scheduler.WORKFLOW or record.life != ask.life:
            raise Over("HANDED_OVER")
        now = self.clock()
        match step := next_step(record, now):
            case Wait(until) if until - now > MAX_PAUSE:
                answer = again(record, ask.first, now, heartbeat=1)
                if answer["status"] != "AGAIN":
                    raise Over(answer["status"])
                # Not until the lease of whoever makes an attempt now, if the next is due before.
                pause = min(answer["pause"], -(-(until - now) // 1000))
                cut_off = cut_off_at(record)
                if answer["next"]["index"] >= len(ask.delays) or (cut_off and now + pause * 1000 > cut_off):
                    raise Over("USED_UP")
                return Next(pause, answer["next"]["index"])
            case End():
                raise Over(str(self._end(record, step)))
        return self._enqueue(ask, record, now)

    def _enqueue(self, ask: Ask, record: Record, now: int) -> Next:
        attempt = record.attempt + 1
        index = attempt - ask.first - 1
        if record.exhausted or not 0 <= index < len(ask.delays):
            raise Over("USED_UP")
        if self.queues.send([attempt_job(record, attempt).post(record.channel)]):
            raise Unavailable("sqs", "SendMessageBatch.Failed")
        self.log.info("attempt asked for", message_id=record.id, attempt=attempt)
        wait = min(ask.delays[index], wait_after(record, attempt, now))
        if cut_off := cut_off_at(record):
            wait = max(1, min(wait, (cut_off - now) // 1000))
        return Next(wait, index + 1)

    def _end(self, record: Record, step: End) -> Status:
        try:
            return self.teller.end(record, step).status
        except Stale as stale:
            return step.status if stale.old is None else stale.old.status


class Prober(Protocol):
    """Asks targets how far they are."""

    def ask(self, parcel: Parcel, deadline_seconds: float) -> Outcome:
        """Ask once for the state of a message's job. Never raises for a target's failure."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class JobPoller:
    """Asks the targets of messages for the state of the jobs that the messages started."""

    store: Store
    prober: Prober
    teller: Teller
    clock: Clock
    log: Log
    send_seconds: float

    def poll(self, message_id: str, life: int, wait: int) -> dict[str, Any]:
        """Ask for the job's state: done ends the message DELIVERED, refused for good REJECTED.

        Answers RUNNING with the seconds until it is asked again (`wait` at least, less before the expiry), AGAIN when
        the job is to be started anew, or OVER. Raises `Unavailable`.
        """
        record = self.store.get(message_id)
        if record is None or not record.open or record.life != life or record.scheduler is not Scheduler.WORKFLOW:
            return {"state": "OVER"}
        now = self.clock()
        if now >= record.expires_at:
            return {"state": "OVER"}
        if record.attempt == record.base or record.attempts[-1].outcome is not Kind.SENT:
            return {"state": "AGAIN"}
        outcome = self.prober.ask(_question(record), self.send_seconds)
        self.log.info("job asked for", message_id=record.id, outcome=str(outcome.kind), reason=outcome.reason)
        try:
            return self._conclude(record, outcome, wait)
        except Stale:
            # An ACK, a NACK or a cancellation was quicker; what is true now shows when the execution asks.
            return {"state": "AGAIN"}

    def _conclude(self, record: Record, outcome: Outcome, wait: int) -> dict[str, Any]:
        if outcome.kind is Kind.ACKED:
            self._end(record, Status.DELIVERED, "the target's job is done")
            return {"state": "OVER"}
        if outcome.kind is Kind.GONE:
            self._end(record, Status.REJECTED, f"the target has given its job up ({outcome.reason})")
            return {"state": "OVER"}
        if outcome.http_status != ACCEPTED:
            return {"state": "AGAIN"}
        now = self.clock()
        left = -(-(record.expires_at - now) // 1000)
        # The longer it takes, the less often it is asked for: a job of a year fits into one execution's history.
        patience = (now - (record.begun_at or now)) // (JOB_PATIENCE * 1000)
        pause = max(1, min(max(wait, patience), left))
        # A job under way is no overdue attempt: it is due when it is asked for next.
        self.store.move(record, Move(now + pause * 1000, record.token), None)
        return {"state": "RUNNING", "wait": pause}

    def _end(self, record: Record, status: Status, reason: str) -> None:
        ended = self.store.end(record.id, self.teller.ending(status, reason), seen=record)
        self.teller.try_to_tell(ended)


def _question(record: Record) -> Parcel:
    return Parcel(record.id, record.attempt, record.target, b"", record.content_type, ack_url="", nack_url="")


@dataclass(frozen=True, slots=True, kw_only=True)
class Settler:
    """Sees to a message whose execution is over: ends it, or lets it go on otherwise."""

    store: Store
    queues: Queues
    executions: Executions
    teller: Teller
    clock: Clock
    pause: Pause
    log: Log
    timer_cap: int

    def settle(self, execution: str, trouble: str = "") -> str:
        """Settle what an execution, by its name, leaves behind; with `trouble`, a person is told that it failed.

        Returns how the message stands: its status when it has ended, HANDED_OVER when the queues run it, RESTARTED
        when another execution does, UNKNOWN. Raises `Unavailable`, and `ValueError` for a name that is not ours.
        """
        message_id, life, generation = read_execution_name(execution)
        record = self.store.get(message_id)
        if record is None:
            return "UNKNOWN"
        if not record.open:
            self.teller.retell(record)
            return str(record.status)
        if record.scheduler is not Scheduler.WORKFLOW or record.life != life:
            return "HANDED_OVER"
        now = self.clock()
        step = next_step(record, now)
        if isinstance(step, Wait) and step.until - now <= MAX_PAUSE:
            # The execution has counted its last delay from its asking, the record from the claim just after it.
            self.pause((step.until - now) / 1000)
            now = self.clock()
            step = next_step(record, now)
        if isinstance(step, End):
            return self._end(record, step)
        return self._go_on(record, now, generation + 1, trouble)

    def _end(self, record: Record, step: End) -> str:
        try:
            return str(self.teller.end(record, step).status)
        except Stale as stale:
            if stale.old is not None and stale.old.open:
                # A NACK or an attempt was quicker. Tried again, it is settled as it stands then.
                raise Unavailable("dynamodb", "the record moved") from stale
            return "UNKNOWN" if stale.old is None else str(stale.old.status)

    def _go_on(self, record: Record, now: int, generation: int, trouble: str) -> str:
        asks = not record.exhausted or record.held_until is not None
        restarts = asks and record.channel not in self.queues.channels
        if restarts:
            first = self.store.restart(record, generation)
            self.executions.start(record, now, generation)
        else:
            first = self.store.hand_over(record)
            if first and not self._send_hint(record.id):
                self.log.warning("handed over, but left to the sweep", message_id=record.id)
        outcome = "RESTARTED" if restarts else "HANDED_OVER"
        self.log.info("execution settled", message_id=record.id, outcome=outcome, trouble=trouble)
        if trouble and first:
            # Last: should it fail, the message goes on all the same, and this function's own alarm calls somebody.
            self.log.count("ExecutionsLost", channel=record.channel)
            self.teller.troubled(record, trouble)
        return outcome

    def _send_hint(self, message_id: str) -> bool:
        # As it stands now: an attempt that was claimed just before the handing over has armed no timer.
        record, now = self.store.get(message_id), self.clock()
        if record is None or not record.open:
            return True
        step = next_step(record, now)
        return isinstance(step, End) or not self.queues.send([self._hint(record, step, now)])

    def _hint(self, record: Record, step: Wait | Try, now: int) -> Post:
        if isinstance(step, Try):
            return attempt_job(record, step.attempt).post(record.channel)
        if record.attempt == record.base:
            delay = seconds_until(step.until, now, SQS_MAX_DELAY)
            return attempt_job(record, record.attempt + 1).post(record.channel, delay)
        timer = Timer(record.id, record.attempt, record.token)
        return timer.post(record, step.until, now, self.queues.timers, self.timer_cap)
