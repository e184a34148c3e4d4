"""Starting a life's deliveries: its first attempt goes to its channel's queue, or an execution begins."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from handlers.delivery.errors import Unavailable
from handlers.delivery.jobs import attempt_job
from handlers.delivery.message import Record, Scheduler
from handlers.delivery.ports import Clock, Executions, Log, Queues

STARTERS = 10
"""Executions started side by side: StartExecution takes one at a time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Starter:
    """Hands messages that wait for their first attempt to their schedulers."""

    queues: Queues
    executions: Executions
    clock: Clock
    log: Log

    def start(self, records: Sequence[Record]) -> None:
        """Start the messages' lives. What fails is left to the sweep: the table has the message."""
        queued = [record for record in records if record.scheduler is Scheduler.QUEUES]
        failed = [queued[position] for position in self._enqueue(queued)]
        if executed := [record for record in records if record.scheduler is Scheduler.WORKFLOW]:
            with ThreadPoolExecutor(min(STARTERS, len(executed))) as pool:
                started = pool.map(self._execute, executed)
                failed += [record for record, ok in zip(executed, started, strict=True) if not ok]
        for record in failed:
            self.log.warning("first attempt left to the sweep", message_id=record.id)
            self.log.count("NotEnqueued", channel=record.channel)

    def _enqueue(self, records: Sequence[Record]) -> frozenset[int]:
        return self.queues.send([attempt_job(record, record.attempt + 1).post(record.channel) for record in records])

    def _execute(self, record: Record) -> bool:
        try:
            self.executions.start(record, self.clock())
        except Unavailable as error:
            self.log.warning("execution not started", message_id=record.id, error=str(error))
            return False
        return True
