"""Step Functions in memory, as far as the functions see it: starts, stops, completed tasks, tasks to be pulled."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from handlers.delivery.errors import Unavailable
from handlers.delivery.message import Record
from handlers.delivery.workflows import execution_input, execution_name
from tests.fakes.wire import LimitBroken, Wire


@dataclass(slots=True)
class MemoryExecutions:
    """`handlers.delivery.ports.Executions`: what was started, stopped and answered."""

    machines: list[str]
    wire: Wire = field(default_factory=Wire)
    started: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    """Inputs by execution name."""
    stopped: list[str] = field(default_factory=list)
    answers: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    """The first answer to each task."""
    late: list[str] = field(default_factory=list)
    """Tasks that were answered again, or after they were over."""
    over: set[str] = field(default_factory=set)
    """Tasks that have timed out."""
    beaten: list[str] = field(default_factory=list)
    waiting: list[tuple[str, str]] = field(default_factory=list)
    """Tasks that can be pulled: token and input."""

    heartbeat: int = 60

    @property
    def workflows(self) -> Sequence[str]:
        return sorted(self.machines)

    def start(self, record: Record, now: int, generation: int = 1) -> None:
        def effect() -> None:
            if record.workflow not in self.machines:
                raise Unavailable("states", "StateMachineDoesNotExist")
            name = execution_name(record, generation)
            if len(name) > 80:
                raise LimitBroken(name)
            self.started.setdefault(name, execution_input(record, f"url:{record.channel}", 60, now))

        self.wire.call("states.start", effect)

    def answer(self, task: str, output: Mapping[str, Any]) -> bool:
        def effect() -> bool:
            if task in self.answers or task in self.over:
                self.late.append(task)
                return False
            self.answers[task] = output
            return True

        return self.wire.call("states.answer", effect)

    def stop(self, record: Record) -> None:
        self.wire.call("states.stop", lambda: self.stopped.append(execution_name(record, record.generation)))

    @contextmanager
    def beating(self, task: str) -> Iterator[None]:
        self.beaten.append(task)
        yield

    def pull(self) -> tuple[str, str] | None:
        return self.wire.call("states.pull", lambda: self.waiting.pop(0) if self.waiting else None)
