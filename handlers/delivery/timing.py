"""What timers do when they arrive: hop, ask for the next attempt, or end the message."""

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass

from handlers.delivery.errors import Unavailable
from handlers.delivery.jobs import Timer, attempt_job
from handlers.delivery.lifecycle import End, Tell, Try, Wait, on_timer
from handlers.delivery.message import Record
from handlers.delivery.ports import Clock, Log, Post, Queues, Stale, Store
from handlers.delivery.telling import Teller


@dataclass(frozen=True, slots=True, kw_only=True)
class Timekeeper:
    """Answers timers, a batch at a time. `timer_cap` in seconds."""

    store: Store
    queues: Queues
    teller: Teller
    clock: Clock
    log: Log
    timer_cap: int

    def check(self, timers: Mapping[str, Timer]) -> Mapping[str, Exception]:
        """Answer the timers. Returns the ones that failed, which must stay in their queue.

        Raises `Unavailable` when none of the records could be read.
        """
        records = self.store.get_many([timer.message_id for timer in timers.values()])
        failed: dict[str, Exception] = {}
        posts: dict[str, Post] = {}
        for key, timer in timers.items():
            try:
                post = self._answer(timer, records.get(timer.message_id))
            except Exception as error:
                # One record's fault is no other's.
                failed[key] = error
                continue
            if post is not None:
                posts[key] = post
        keys = list(posts)
        for position in self.queues.send(list(posts.values())):
            failed[keys[position]] = Unavailable("sqs", "SendMessageBatch.Failed")
        return failed

    def _answer(self, timer: Timer, record: Record | None) -> Post | None:
        now = self.clock()
        step = on_timer(record, timer.attempt, timer.token, now)
        self.log.info(
            "timer", message_id=timer.message_id, attempt=timer.attempt, step=type(step).__name__.lower()
        )  # fmt: skip
        match step:
            case Wait(until) if record is not None:
                return timer.post(record, until, now, self.queues.timers, self.timer_cap)
            case Try(attempt) if record is not None:
                self.log.count("TimersFired", channel=record.channel)
                return attempt_job(record, attempt).post(record.channel)
            case End() if record is not None:
                self._end(record, step)
            case Tell() if record is not None:
                self.teller.retell(record)
            case _:
                pass
        return None

    def _end(self, record: Record, step: End) -> None:
        # Stale: an ACK, a NACK or another timer was first.
        with suppress(Stale):
            self.teller.end(record, step)
