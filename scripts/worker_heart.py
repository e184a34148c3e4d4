"""The heartbeats of all open tasks, sent by one thread: without them Step Functions takes the worker for dead."""

import heapq
import itertools
import threading
import time
from collections.abc import Callable

from scripts.worker_log import Backoff, Log
from scripts.worker_service import Fatal, Task, TaskOver, Tasks, Trouble


class Heart:
    """Beats for each task from `add` until its wait is over, the service says that it is, or `drop`."""

    def __init__(
        self,
        tasks: Tasks,
        every: float,
        log: Log,
        on_fatal: Callable[[Fatal], None],
        *,
        clock: Callable[[], float] = time.monotonic,
        backoff: Backoff | None = None,
    ) -> None:
        """`every` is the seconds between two heartbeats of a task, unless its wait is so short that it needs more."""
        self._tasks = tasks
        self._every = every
        self._log = log
        self._on_fatal = on_fatal
        self._clock = clock
        self._backoff = backoff or Backoff(0.5, max(0.5, every / 2))
        self._changed = threading.Condition()
        self._open: dict[str, tuple[Task, float]] = {}
        # When each is due; an entry whose task is no longer open is passed over.
        self._due: list[tuple[float, int, str]] = []
        self._order = itertools.count()
        self._not_before = 0.0
        self._warned_at = float("-inf")
        self._failing = False
        self._stopped = False

    def add(self, task: Task) -> None:
        """Beat for a task that has just been pulled; that was its first sign of life."""
        now = self._clock()
        with self._changed:
            self._open[task.token] = (task, now + task.wait)
            self._push(task.token, now + self._interval(task))
            self._changed.notify()

    def drop(self, token: str) -> None:
        """Beat no more for a task."""
        with self._changed:
            self._open.pop(token, None)

    def holds(self, token: str) -> bool:
        """Whether the task is still waited for, as far as is known."""
        with self._changed:
            return token in self._open and self._clock() < self._open[token][1]

    def __len__(self) -> int:
        """The number of open tasks."""
        with self._changed:
            return len(self._open)

    def run(self) -> None:
        """Beat until `stop`."""
        while (token := self._next()) is not None:
            self._beat(token)

    def stop(self) -> None:
        """End `run`."""
        with self._changed:
            self._stopped = True
            self._changed.notify()

    def _next(self) -> str | None:
        """The task whose heartbeat is due, once one is."""
        with self._changed:
            while not self._stopped:
                now = self._clock()
                if not self._due:
                    self._changed.wait()
                    continue
                due, _, token = self._due[0]
                if token not in self._open or now >= self._open[token][1]:
                    heapq.heappop(self._due)
                    self._open.pop(token, None)
                elif (wait := max(due, self._not_before) - now) > 0:
                    self._changed.wait(wait)
                else:
                    heapq.heappop(self._due)
                    self._warn(now - due, now)
                    return token
        return None

    def _beat(self, token: str) -> None:
        try:
            self._tasks.beat(token)
        except TaskOver as over:
            with self._changed:
                task = self._open.pop(token, None)
            if task:
                self._log.info("task over", message_id=task[0].message_id, attempt=task[0].attempt, code=str(over))
        except (Trouble, Fatal) as fault:
            self._later(token, fault)
        else:
            self._backoff.reset()
            if self._failing:
                self._failing = False
                self._log.info("heartbeats go on")
            with self._changed:
                if token in self._open:
                    self._push(token, self._clock() + self._interval(self._open[token][0]))

    def _interval(self, task: Task) -> float:
        # A task's heartbeat is shorter than its wait: the execution's input has it a second shorter at least.
        return min(self._every, max(1.0, task.wait - 1) / 3)

    def _later(self, token: str, fault: Trouble | Fatal) -> None:
        # What one call meets the others would too: all wait.
        now = self._clock()
        with self._changed:
            self._push(token, now)
            self._not_before = now + self._backoff.next()
        if isinstance(fault, Fatal):
            self._on_fatal(fault)
        elif not self._failing:
            self._failing = True
            self._log.warning("heartbeats fail", code=str(fault), open=len(self))

    def _push(self, token: str, at: float) -> None:
        heapq.heappush(self._due, (at, next(self._order), token))

    def _warn(self, late: float, now: float) -> None:
        if late > self._every and now - self._warned_at > 3 * self._every:
            self._warned_at = now
            self._log.warning("heartbeats are late: too many open tasks for one worker", open=len(self._open))
