"""The worker itself: polls for tasks while it has room, works on them side by side, and stops in good order."""

import contextlib
import queue
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any, Protocol

from handlers.delivery.channel import Channel, Kind, Outcome
from scripts.worker_heart import Heart
from scripts.worker_log import Backoff, Log
from scripts.worker_service import Fatal, Handover, Service, Signed, Task, Tasks, Trouble

REPORT_SECONDS = 900.0
"""How long an outcome is worth reporting: the next attempt is asked for without it, too."""
LAST_SECONDS = 5.0
"""What is left for reporting, once the time for draining is over."""
EMPTY_SECONDS = 1.0
"""No service waits for less before it says that there is no task; one that does is not to be hammered."""
MARGIN = 5.0
"""Seconds, or a fifth of a short lease, that are left for reporting within it."""
SIGNALS = (signal.SIGTERM, signal.SIGINT)
EXIT_CRASHED, EXIT_FATAL, EXIT_SIGNAL = 1, 2, 128
_ENDED_BY_ANSWER = (Kind.ACKED, Kind.GONE)


class Stoppable(Channel, Protocol):
    """A channel that can be told to give up."""

    def stop(self) -> None:
        """Give up what is being sent, and send nothing more."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """How a worker works. Times are in seconds."""

    concurrency: int = 4
    """Tasks that are handed over at once. One that waits for its ACK does not count."""
    polls: int = 1
    """Polls that are open at once."""
    timeout: float = 30.0
    """The most that handing one over may take."""
    heartbeat: float = 60.0
    """After so long without a heartbeat Step Functions gives up a task."""
    drain: float = 60.0
    """The most that stopping may take."""


class Worker:
    """Pulls tasks and hands them over until it is stopped. It keeps nothing that is needed after it."""

    def __init__(
        self,
        tasks: Tasks,
        api: Signed,
        channel: Stoppable,
        settings: Settings,
        log: Log,
        *,
        backoff: Callable[[], Backoff] = Backoff,
    ) -> None:
        self._tasks = tasks
        self._channel = channel
        self._settings = settings
        self._log = log
        self._backoff = backoff
        # Signals, faults, and None whenever something has ended. Safe in signal handlers, unlike an Event.
        self._news: queue.SimpleQueue[int | Exception | None] = queue.SimpleQueue()
        self._changed = threading.Condition()
        self._stopping = threading.Event()
        self._out_of_time = threading.Event()
        self._polling = 0
        self._handing = 0
        self._done: Counter[str] = Counter()
        self._fault: Exception | None = None
        self._signals = 0
        self._service = Service(api, log, self._out_of_time.wait, backoff=backoff)
        self._heart = Heart(tasks, settings.heartbeat / 3, log, self._news.put)

    def stop(self, number: int = signal.SIGTERM, _frame: FrameType | None = None) -> None:
        """Stop in good order; the second time, at once. A signal handler."""
        self._news.put(int(number))

    def run(self) -> int:
        """Work until `stop`, or until going on is of no use; the exit code."""
        threading.Thread(target=self._guard, args=(self._heart.run,), name="heart", daemon=True).start()
        for _ in range(self._settings.polls):
            threading.Thread(target=self._guard, args=(self._poll,), name="poll", daemon=True).start()
        while not self._signals and self._fault is None:
            self._hear(None)
        code = self._end()
        self._heart.stop()
        return code

    def _end(self) -> int:
        """Finish what has been begun, as far as the time for it goes; the exit code."""
        self._stopping.set()
        with self._changed:
            self._changed.notify_all()
            self._log.info("stopping", polling=self._polling, handing_over=self._handing, at_most=self._settings.drain)
        number = self._drain(self._settings.drain)
        self._out_of_time.set()
        self._channel.stop()
        number = number or self._drain(LAST_SECONDS)
        with self._changed:
            self._log.info(
                "stopped",
                **self._done,
                unfinished=self._handing,
                polls_left=self._polling,
                awaiting_ack=len(self._heart),
            )
        if number:
            return EXIT_SIGNAL + number
        if self._fault is None:
            return 0
        return EXIT_FATAL if isinstance(self._fault, Fatal) else EXIT_CRASHED

    def _drain(self, seconds: float) -> int:
        """Wait until nothing is under way; the number of the signal that ends that at once, or 0."""
        until = time.monotonic() + seconds
        # Of two signals the second ends it, whatever it was that began it.
        while self._busy() and (left := until - time.monotonic()) > 0:
            number = self._hear(left)
            if number and self._signals > 1:
                return number
        return 0

    def _busy(self) -> bool:
        # A command that runs on matters for as long as it is given; an open poll only until the time is over.
        with self._changed:
            return self._handing > 0 or (self._polling > 0 and not self._out_of_time.is_set())

    def _hear(self, seconds: float | None) -> int:
        """The next piece of news, waited for; a signal's number, or 0."""
        try:
            news = self._news.get(timeout=seconds)
        except queue.Empty:
            return 0
        if isinstance(news, Exception):
            if self._fault is None:
                self._fault = news
                text = str(news) if isinstance(news, Fatal) else _where(news)
                self._log.error("giving up", why=text)
            return 0
        if news is not None:
            self._signals += 1
        return news or 0

    def _guard(self, work: Callable[[], None]) -> None:
        # A worker without one of its threads would look alive and do nothing.
        try:
            work()
        except Exception as error:
            self._news.put(error)

    def _poll(self) -> None:
        backoff = self._backoff()
        while self._reserve():
            with self._reserved():
                began = time.monotonic()
                try:
                    task = self._tasks.pull()
                except Trouble as trouble:
                    wait = backoff.next()
                    self._log.warning("poll failed", code=str(trouble), again_in=round(wait, 1))
                else:
                    if task:
                        self._take_up(task)
                    empty = task is None and time.monotonic() - began < EMPTY_SECONDS
                    wait = backoff.next() if empty else 0
                    if not empty:
                        backoff.reset()
            if wait:
                self._stopping.wait(wait)

    def _reserve(self) -> bool:
        """Wait for a free slot and take it for a poll; false once polling is over."""
        with self._changed:
            self._changed.wait_for(
                lambda: self._stopping.is_set() or self._polling + self._handing < self._settings.concurrency
            )
            if self._stopping.is_set():
                return False
            self._polling += 1
            return True

    @contextlib.contextmanager
    def _reserved(self) -> Iterator[None]:
        try:
            yield
        finally:
            with self._changed:
                self._polling -= 1
                self._changed.notify_all()
            self._news.put(None)

    def _take_up(self, task: Task) -> None:
        # Counted before its poll's end, so that a task that came together with a signal is waited for.
        self._heart.add(task)
        with self._changed:
            self._handing += 1
        threading.Thread(target=self._guard, args=(lambda: self._work(task),), name="task", daemon=True).start()

    def _work(self, task: Task) -> None:
        try:
            self._deliver(task)
        finally:
            with self._changed:
                self._handing -= 1
                self._changed.notify_all()
            self._news.put(None)

    def _deliver(self, task: Task) -> None:
        self._count("taken")
        try:
            handover = self._service.take(task, lambda: self._heart.holds(task.token))
        except Fatal:
            self._heart.drop(task.token)
            raise
        if handover is None:
            # Without heartbeats, an execution that still waits soon asks anew.
            self._heart.drop(task.token)
            self._count("nothing_to_do")
            return
        outcome = self._hand_over(handover)
        self._count(outcome.kind.lower())
        recorded = self._report(task, handover, outcome)
        if not recorded:
            self._count("unreported")
        elif outcome.kind in _ENDED_BY_ANSWER:
            self._heart.drop(task.token)
        self._log.info(
            "handed over", message_id=task.message_id, attempt=task.attempt, outcome=str(outcome.kind),
            reason=outcome.reason, http_status=outcome.http_status, latency_ms=outcome.latency_ms, recorded=recorded,
        )  # fmt: skip

    def _report(self, task: Task, handover: Handover, outcome: Outcome) -> bool:
        until = time.monotonic() + REPORT_SECONDS
        try:
            return self._service.report(task, handover, outcome, lambda: time.monotonic() < until)
        except Fatal as fault:
            self._news.put(fault)
            return False

    def _hand_over(self, handover: Handover) -> Outcome:
        lease = handover.lease_seconds - min(MARGIN, handover.lease_seconds / 5)
        seconds = min(self._settings.timeout, lease - (time.monotonic() - handover.asked_at))
        if seconds <= 0:
            return Outcome(Kind.FAILED, "no_time")
        try:
            return self._channel.send(handover.parcel, seconds)
        except Exception as error:
            self._log.error("handing over failed", message_id=handover.parcel.message_id, fault=_where(error))
            return Outcome(Kind.FAILED, "worker_fault")

    def _count(self, what: str) -> None:
        with self._changed:
            self._done[what] += 1


def _where(error: BaseException) -> str:
    """The type of an error and its place: its text may hold anything."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    place = f" at {Path(trace.tb_frame.f_code.co_filename).name}:{trace.tb_lineno}" if trace else ""
    return type(error).__name__ + place


@contextlib.contextmanager
def stopped_by_signals(worker: Worker) -> Iterator[None]:
    """Let SIGTERM and SIGINT stop the worker, within."""
    before: dict[int, Any] = {number: signal.signal(number, worker.stop) for number in SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
