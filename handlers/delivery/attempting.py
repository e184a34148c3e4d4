"""Making an attempt: claim, arm the timer, send, record. Losing any step loses time, never a message."""

from collections.abc import Mapping
from contextlib import nullcontext, suppress
from dataclasses import dataclass
from typing import Any

from handlers.delivery.channel import Channel, Kind, Outcome, Parcel
from handlers.delivery.errors import Unavailable
from handlers.delivery.jobs import AttemptJob, Task, Timer
from handlers.delivery.lifecycle import End, next_step
from handlers.delivery.message import Record, Scheduler, Status
from handlers.delivery.ports import (
    MAX_PAUSE,
    Claim,
    Clock,
    Executions,
    Log,
    Move,
    NewToken,
    Pause,
    Post,
    Queues,
    Signer,
    Stale,
    Store,
)
from handlers.delivery.schedule import SQS_MAX_DELAY, seconds_until
from handlers.delivery.telling import Teller
from handlers.delivery.workflows import again


class Busy(Exception):
    """Not now: the record goes back to its queue, to come again after the visibility timeout."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Courier:
    """Makes the attempts of one channel. `lease` and `grace` are in milliseconds, the rest in seconds."""

    store: Store
    queues: Queues
    executions: Executions
    channel: Channel
    signer: Signer
    teller: Teller
    clock: Clock
    pause: Pause
    new_token: NewToken
    log: Log
    ack_base_url: str
    lease: int
    grace: int
    timer_cap: int
    queue: str
    """The channel's name, and its queue's."""
    send_seconds: float
    """The most that one sending may take."""
    margin_seconds: float = 2.0
    """What is left for claiming, arming and recording around it."""

    def attempt(self, job: AttemptJob, remaining_ms: int) -> None:
        """Make the attempt that a job asks for, if it is still to be made.

        Raises `Busy` when another holds the attempt, and `Unavailable` when a service fails; in both
        cases the job must stay in its queue.
        """
        if job.task is not None and job.task.over(self.clock()):
            # Its execution has gone on without it, and asks for the next attempt.
            self._drop(job, "its task has timed out")
            return
        if remaining_ms < (self.send_seconds + self.margin_seconds) * 1000:
            # A cold start has used the time up; left in its queue, the job would wait for the visibility timeout.
            self._send(job.post(self.queue, 1))
            self._drop(job, "too little time left: put back")
            return
        record = self.take(job, self.new_token())
        if record is None:
            return
        with nullcontext() if job.task is None else self.executions.beating(job.task.token):
            outcome = self.channel.send(self.parcel(record), self.send_seconds)
        self.finish(record, outcome)

    def take(self, job: AttemptJob, token: str) -> Record | None:
        """Claim the attempt, and arm its timer unless an execution waits. None: it is not to be made.

        A task that asked in vain has been answered then. Raises as `attempt` does.
        """
        record = self._claim(job, token)
        if record is not None and record.scheduler is Scheduler.QUEUES:
            self._arm(record, record.token, record.next_due)
        return record

    def _claim(self, job: AttemptJob, token: str) -> Record | None:
        now = self.clock()
        claim = Claim(
            job.message_id, job.attempt, job.base, token, now, now + self.lease, self.grace,
            None if job.task is None else job.task.token,
        )  # fmt: skip
        try:
            return self.store.claim(claim)
        except Stale as stale:
            return self._refused(job, claim, stale.old)

    def _refused(self, job: AttemptJob, claim: Claim, old: Record | None) -> Record | None:
        if old is None:
            return self._dismiss(job, {"status": "UNKNOWN"}, "unknown message")
        if not old.open:
            self.teller.retell(old)
            return self._dismiss(job, {"status": str(old.status)}, "ended")
        if old.attempt == job.attempt and old.claim == claim.token:
            # Our own write took effect and its answer was lost.
            return old
        if isinstance(step := next_step(old, claim.now), End):
            self._end(old, step)
            return self._dismiss(job, {"status": "SETTLE"}, "due to end")
        if job.task is not None and (old.scheduler is Scheduler.QUEUES or old.base != job.base):
            return self._dismiss(job, {"status": "SETTLE"}, "no longer its execution's")
        repeated = job.task is None or job.task.token == old.task
        if old.attempt == job.attempt and old.held_until is not None:
            if claim.now >= old.held_until:
                return self._reclaim(job, claim, old)
            if repeated:
                raise Busy("another function holds this attempt")
        if old.attempt == job.attempt - 1 and old.base == job.base and claim.now < old.due_at:
            return self._too_early(job, claim, old)
        if job.task is None or repeated:
            return self._dismiss(job, None, "stale")
        return self._ask_again(job, job.task, old, claim.now)

    def _too_early(self, job: AttemptJob, claim: Claim, old: Record) -> Record | None:
        early = old.due_at - claim.now
        if old.scheduler is Scheduler.WORKFLOW and early <= MAX_PAUSE:
            # An execution counts from its asking, the record from the claim just after it. Put back for a whole
            # second each time, attempts would fall behind more and more.
            self.pause(early / 1000)
            return self._claim(job, claim.token)
        if job.task is not None:
            return self._ask_again(job, job.task, old, claim.now)
        self._send(job.post(old.channel, max(1, seconds_until(old.due_at, claim.now, SQS_MAX_DELAY))))
        return self._dismiss(job, None, "too early: put back")

    def _ask_again(self, job: AttemptJob, task: Task, old: Record, now: int) -> Record | None:
        return self._dismiss(
            job,
            again(old, job.attempt - 1 - task.index, now, self.executions.heartbeat),
            "not now: asked to come again",
        )

    def _dismiss(self, job: AttemptJob, output: Mapping[str, Any] | None, why: str) -> Record | None:
        """Drop a job; the task that asked for it is told how to go on."""
        if job.task is not None and output is not None:
            self.executions.answer(job.task.token, output)
        self._drop(job, why)
        return None

    def _reclaim(self, job: AttemptJob, claim: Claim, old: Record) -> Record:
        try:
            record = self.store.reclaim(claim, old)
        except Stale as stale:
            if stale.old is not None and stale.old.claim == claim.token:
                return stale.old
            raise Busy("another function took this attempt over") from stale
        self.log.warning("attempt taken over after its lease", message_id=job.message_id, attempt=job.attempt)
        self.log.count("Reclaimed", channel=old.channel)
        return record

    def finish(self, record: Record, outcome: Outcome) -> None:
        """Record the outcome of a claimed attempt, and what follows from it."""
        ending, move = None, None
        if outcome.kind is Kind.ACKED:
            ending = self.teller.ending(Status.DELIVERED, "acknowledged in the answer")
        elif outcome.kind is Kind.GONE:
            ending = self.teller.ending(Status.REJECTED, f"the target is gone ({outcome.reason})")
        elif outcome.retry_after is not None:
            move = self._put_off(record, outcome.retry_after)
        self.log.info(
            "attempt made", message_id=record.id, attempt=record.attempt, outcome=str(outcome.kind),
            reason=outcome.reason, http_status=outcome.http_status, latency_ms=outcome.latency_ms,
        )  # fmt: skip
        self.log.count("Attempts", channel=record.channel, outcome=str(outcome.kind))
        try:
            updated = self.store.record(record, outcome, move=move, ending=ending, sweep_at=self._sweep_at(record))
        except Stale as stale:
            if outcome.kind is Kind.ACKED and stale.old is not None and not stale.old.open:
                self._late_ack(stale.old)
            return
        if ending is not None:
            self.teller.try_to_tell(updated)

    def _late_ack(self, old: Record) -> None:
        """Keep a synchronous ACK that lost the race, unless another ACK won it."""
        try:
            self.teller.note(self.store.late_ack(old.id, self.clock()), "late_ack")
        except Stale:
            self.log.info("already acknowledged", message_id=old.id)

    def _sweep_at(self, record: Record) -> int | None:
        """An earlier time for the sweep when the expiry comes first, or a takeover had put it far off."""
        latest = record.next_due + self.grace
        return latest if record.sweep_at is not None and record.sweep_at > latest else None

    def _put_off(self, record: Record, retry_after: int) -> Move | None:
        due_at = self.clock() + retry_after * 1000
        if due_at <= record.due_at:
            return None
        token = self.new_token()
        if record.scheduler is Scheduler.WORKFLOW:
            # Its execution learns of it when it asks too early.
            return Move(due_at, token)
        # Timer before write: if the write is lost, this timer is stale and the first one still lives.
        self._arm(record, token, min(due_at, record.expires_at))
        return Move(due_at, token)

    def _arm(self, record: Record, token: str, due_at: int) -> None:
        timer = Timer(record.id, record.attempt, token)
        self._send(timer.post(record, due_at, self.clock(), self.queues.timers, self.timer_cap))

    def _send(self, post: Post) -> None:
        if self.queues.send([post]):
            raise Unavailable("sqs", "SendMessageBatch.Failed")

    def _end(self, old: Record, step: End) -> None:
        with suppress(Stale):
            self.teller.end(old, step)

    def _drop(self, job: AttemptJob, why: str) -> None:
        self.log.info("attempt dropped", message_id=job.message_id, attempt=job.attempt, why=why)

    def parcel(self, record: Record) -> Parcel:
        """What an attempt of a message sends."""
        capability = self.signer.sign(record.id, record.target, record.expires_at)
        base = f"{self.ack_base_url}/messages/{record.id}"
        return Parcel(
            message_id=record.id,
            attempt=record.attempt,
            target=record.target,
            payload=record.payload,
            content_type=record.content_type,
            ack_url=f"{base}/ack?cap={capability}",
            nack_url=f"{base}/nack?cap={capability}",
        )
