"""The wire between a function and a service: where calls are counted, and where faults are put in."""

import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Literal, TypeVar

from handlers.delivery.errors import Throttled, Unavailable

T = TypeVar("T")

What = Literal["throttle", "timeout", "lose", "repeat"]
"""`throttle`: refused. `timeout`: never arrives. `lose`: takes effect, the answer is lost.
`repeat`: takes effect, the answer is lost, and the client asks again and gets the second answer."""


class LimitBroken(BaseException):
    """A request that AWS would refuse. No `except Exception` of the code under test may hide it."""


@dataclass(slots=True)
class Fault:
    """What goes wrong with calls of one operation, after `skip` good ones, `times` times."""

    operation: str
    what: What
    skip: int = 0
    times: int = 1
    hits: int = 0

    def strikes(self, operation: str) -> bool:
        """Whether this call is one that goes wrong."""
        if operation != self.operation or self.times == 0:
            return False
        if self.skip > 0:
            self.skip -= 1
            return False
        self.times -= 1
        self.hits += 1
        return True


class Meanwhile(Fault):
    """Not a fault at all: something that happens just before a call, as if another had been quicker."""

    def __init__(self, operation: str, happens: Callable[[], object], skip: int = 0) -> None:
        super().__init__(operation, "throttle", skip)
        self.happens = happens

    def strikes(self, operation: str) -> bool:
        """Let it happen when the call comes; the call itself goes through."""
        if super().strikes(operation):
            self.happens()
        return False


@dataclass(slots=True)
class Wire:
    """Carries out the calls of the fakes. The simulation has one on which time passes, too."""

    faults: list[Fault] = field(default_factory=list)
    calls: list[str] = field(default_factory=list)
    _lock: threading.RLock = field(default_factory=threading.RLock)

    def call(self, operation: str, effect: Callable[[], T]) -> T:
        """Carry out one call, unless a fault is due."""
        self.calls.append(operation)
        return self.with_fault(operation, effect)

    def with_fault(self, operation: str, effect: Callable[[], T]) -> T:
        """Carry out the effect, or what a fault makes of it."""
        with self._lock:
            fault = next((f for f in self.faults if f.strikes(operation)), None)
        if fault is None:
            return effect()
        service = operation.partition(".")[0]
        if fault.what == "throttle":
            raise Throttled(service, "ThrottlingException")
        if fault.what == "timeout":
            raise Unavailable(service, "ConnectTimeoutError")
        if fault.what == "lose":
            effect()
            raise Unavailable(service, "ReadTimeoutError")
        with suppress(Exception):
            effect()
        return effect()
