"""Faults on demand: what the tests let go wrong, one request at a time.

A fault is a rule over AWS requests (service, operation, the function that makes it, its parameters) and an action:
kill the function's process, answer with an error, drop the connection, hold the request, or let entries of a batch
fail. `before` happens before the request takes effect; `after`, when it has and its answer has not been sent.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import re
import signal
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

ACTIONS = ("kill", "error", "drop", "hold", "partial")
MOMENTS = ("before", "after")
_FIELDS = {
    "service", "operation", "function", "where", "skip", "times", "when", "action", "error", "seconds", "entries",
    "internal",
}  # fmt: skip


class InvalidFaultError(ValueError):
    """The description of a fault cannot be used; the text says why."""


@dataclass
class Fault:
    """One rule, and how often it has matched and acted."""

    id: str
    action: str
    when: str
    service: str | None = None
    operation: str | None = None
    function: str | None = None
    where: dict[str, re.Pattern[str]] = field(default_factory=dict)
    skip: int = 0
    times: int | None = 1
    error: dict[str, Any] = field(default_factory=dict)
    seconds: float = 0.0
    entries: list[int] | None = None
    internal: bool = False
    matched: int = 0
    hits: int = 0

    def as_document(self) -> dict[str, Any]:
        """Return the fault as the endpoint lists it."""
        document = {name: value for name, value in vars(self).items() if name != "where"}
        return document | {"where": {name: pattern.pattern for name, pattern in self.where.items()}}


@dataclass(frozen=True)
class Request:
    """What a fault can be matched against."""

    service: str
    operation: str
    function: str | None
    params: Mapping[str, Any]
    internal: bool = False


def parse(number: str, document: Any) -> Fault:
    """Make a fault of what was posted."""
    if not isinstance(document, dict):
        raise InvalidFaultError("the body must be a JSON object")
    unknown = set(document) - _FIELDS
    if unknown:
        raise InvalidFaultError(f"unknown fields: {', '.join(sorted(unknown))}")
    action, when = document.get("action"), document.get("when", "before")
    if action not in ACTIONS:
        raise InvalidFaultError(f"action must be one of {', '.join(ACTIONS)}")
    if when not in MOMENTS:
        raise InvalidFaultError(f"when must be one of {', '.join(MOMENTS)}")
    if action == "partial" and when != "before":
        raise InvalidFaultError("entries of a batch can only fail before")
    try:
        where = {str(name): re.compile(pattern) for name, pattern in (document.get("where") or {}).items()}
        times = document.get("times", 1)
        return Fault(
            id=number,
            action=str(action),
            when=str(when),
            service=document.get("service"),
            operation=document.get("operation"),
            function=document.get("function"),
            where=where,
            skip=int(document.get("skip", 0)),
            times=None if times is None else int(times),
            error=dict(document.get("error") or {}),
            seconds=float(document.get("seconds", 0)),
            entries=None if document.get("entries") is None else [int(n) for n in document["entries"]],
            internal=bool(document.get("internal", False)),
        )
    except (re.error, TypeError, ValueError, AttributeError) as error:
        raise InvalidFaultError(str(error)) from error


class Faults:
    """The faults that are set."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._numbers = itertools.count(1)
        self._faults: dict[str, Fault] = {}

    def add(self, document: Any) -> Fault:
        """Set a fault."""
        fault = parse(str(next(self._numbers)), document)
        with self._lock:
            self._faults[fault.id] = fault
        return fault

    def all(self) -> list[dict[str, Any]]:
        """Return every fault with its counts."""
        with self._lock:
            return [fault.as_document() for fault in self._faults.values()]

    def clear(self, number: str | None = None) -> bool:
        """Forget one fault or all; return whether there was one."""
        with self._lock:
            if number is not None:
                return self._faults.pop(number, None) is not None
            found = bool(self._faults)
            self._faults.clear()
            return found

    def take(self, request: Request, when: str) -> list[Fault]:
        """Return the faults that act on this request now, and count them."""
        if not self._faults:
            return []
        acting = []
        with self._lock:
            for fault in self._faults.values():
                if fault.when != when or not _matches(fault, request):
                    continue
                if fault.times is not None and fault.hits >= fault.times:
                    continue
                fault.matched += 1
                if fault.matched > fault.skip:
                    fault.hits += 1
                    acting.append(fault)
        return acting


def _matches(fault: Fault, request: Request) -> bool:
    return (
        fault.internal == request.internal
        and fault.service in (None, request.service)
        and fault.operation in (None, request.operation)
        and fault.function in (None, request.function)
        and all(name in request.params and pattern.search(str(request.params[name])) for name, pattern in
                fault.where.items())
    )  # fmt: skip


def kill(pid: int | None) -> None:
    """End a function's process and wait until it is gone, so that it cannot go on with anything."""
    if pid is None:
        return
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)
    deadline = time.monotonic() + 2
    while time.monotonic() < deadline and _alive(pid):
        threading.Event().wait(0.002)


def _alive(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat", "rb") as stat:
            return stat.read().rpartition(b")")[2].split()[0] not in (b"Z", b"X")
    except FileNotFoundError:
        return False


faults = Faults()
