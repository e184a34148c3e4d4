"""The sweep: takes over what its timers or attempts have lost, and tells what nobody told."""

from collections.abc import Collection
from dataclasses import dataclass, field, replace

from handlers.delivery.errors import Unavailable
from handlers.delivery.jobs import attempt_job
from handlers.delivery.lifecycle import MAX_SWEEPS, End, Stop, Stuck, Tell, Try, Wait, on_sweep, sweep_again_at
from handlers.delivery.message import Record, Scheduler
from handlers.delivery.ports import Clock, Executions, Log, Queues, Stale, Store
from handlers.delivery.telling import Teller

SWEPT = 1_000
"""Its multiples are the generations that the sweep starts: one for each attempt that was long overdue."""
PAGE = 100
"""Records read at a time: BatchGetItem's limit."""


@dataclass(slots=True)
class Swept:
    """What one run of the sweep did, by kind."""

    counts: dict[str, int] = field(default_factory=dict)

    def add(self, kind: str) -> None:
        """Count one."""
        self.counts[kind] = self.counts.get(kind, 0) + 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Sweeper:
    """Takes over overdue messages. `grace` in milliseconds."""

    store: Store
    queues: Queues
    executions: Executions
    teller: Teller
    clock: Clock
    log: Log
    grace: int
    paused: Collection[str]

    def sweep(self, limit: int) -> Swept:
        """Look after at most `limit` messages whose time has come; safe beside another sweep.

        Raises `Unavailable` when the table cannot be read; one message's failure is logged and
        left to the next run.
        """
        swept = Swept()
        ids = self.store.overdue(self.clock(), limit)
        backlogged = self._backlogged()
        for start in range(0, len(ids), PAGE):
            page = ids[start : start + PAGE]
            records = self.store.get_many(page)
            for message_id in page:
                if message_id in records:
                    swept.add(self._visit(records[message_id], backlogged))
        for kind, count in swept.counts.items():
            self.log.info("swept", kind=kind, count=count)
        return swept

    def _visit(self, record: Record, backlogged: Collection[str]) -> str:
        try:
            return self._look_after(record, backlogged)
        except Unavailable as error:
            self.log.warning("left to the next sweep", message_id=record.id, error=str(error))
            return "failed"

    def _look_after(self, record: Record, backlogged: Collection[str]) -> str:
        now = self.clock()
        if record.sweep_at is None or now < record.sweep_at:
            # The index lags behind the table: another sweep, or the message itself, has been quicker.
            return "looked after"
        match step := on_sweep(record, now, self.grace):
            case Wait(until):
                return self._postpone(record, until, "healthy")
            case Stop():
                # The index lags behind the table.
                return "ended"
            case Tell():
                self.teller.retell(record)
                return "told"
            case End():
                return self._end(record, step)
            case Stuck():
                return self._give_up(record)
            case Try(attempt):
                return self._take_over(record, attempt, now, backlogged)

    def _take_over(self, record: Record, attempt: int, now: int, backlogged: Collection[str]) -> str:
        if record.channel in backlogged:
            return self._postpone(record, now + self.grace, "held")
        again = sweep_again_at(record, now, self.grace)
        # From now on the queues run it: its execution has died, or was never started.
        queued = record.channel in self.queues.channels
        if not self.store.postpone_sweep(record, again, record.sweeps + 1, Scheduler.QUEUES if queued else None):
            return "taken by another"
        if not queued:
            return self._start_again(record, now)
        if self.queues.send([attempt_job(record, attempt).post(record.channel)]):
            raise Unavailable("sqs", "SendMessageBatch.Failed")
        self.log.warning("taken over", message_id=record.id, attempt=attempt, sweeps=record.sweeps + 1)
        self.log.count("TakenOver", channel=record.channel)
        return "taken over"

    def _start_again(self, record: Record, now: int) -> str:
        """For a channel that workers pull there is only an execution; one that runs is not started twice.

        The last time another is started beside it: it may have died without anybody hearing of it.
        """
        generation = SWEPT * (record.attempt + 1) if record.sweeps + 1 >= MAX_SWEEPS else record.generation
        if generation != record.generation:
            self.store.restart(record, generation)
        self.executions.start(record, now, generation)
        self.log.warning("waits for a worker, or for its execution", message_id=record.id, sweeps=record.sweeps + 1)
        return "waiting for a worker"

    def _give_up(self, record: Record) -> str:
        """Alert once; from here only the expiry, or a person, moves the message."""
        # First only by the grace: should this run die before the alert is out, the next one gives it.
        soon = self.clock() + self.grace
        if not self.store.postpone_sweep(record, soon, record.sweeps):
            return "taken by another"
        self.teller.stuck(record)
        last = record.expires_at + self.grace
        self.store.postpone_sweep(replace(record, sweep_at=soon), last, record.sweeps + 1)
        self.log.count("Stuck", channel=record.channel)
        return "stuck"

    def _end(self, record: Record, step: End) -> str:
        try:
            self.teller.end(record, step)
        except Stale:
            return "taken by another"
        return "ended"

    def _postpone(self, record: Record, until: int, kind: str) -> str:
        return kind if self.store.postpone_sweep(record, until, record.sweeps) else "taken by another"

    def _backlogged(self) -> Collection[str]:
        """Channels where a further hint would only lengthen the queue."""
        return {c for c in self.queues.channels if c in self.paused or self._late(c)}

    def _late(self, channel: str) -> bool:
        try:
            return self.queues.age(channel) * 1000 > self.grace
        except Unavailable as error:
            # Takeovers are few and far between by themselves; not knowing must not stop them.
            self.log.warning("queue age unknown", channel=channel, error=str(error))
            return False
