"""What the parts of the worker share: its log, and how long it waits before it tries again."""

import contextlib
import json
import os
import random
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

STDERR = 2


def to_stderr(line: bytes) -> None:
    """Write one line in one call, past Python's buffers: no thread holds a lock on them when the process ends."""
    with contextlib.suppress(OSError):
        os.write(STDERR, line)


class Log:
    """One JSON object a line. Given are codes, ids and numbers: never a payload, a token, a claim or an ACK URL."""

    def __init__(self, worker: str, write: Callable[[bytes], None] = to_stderr) -> None:
        self._worker = worker
        self._write = write

    def info(self, event: str, **fields: Any) -> None:
        """Something went as it should."""
        self._line("info", event, fields)

    def warning(self, event: str, **fields: Any) -> None:
        """Something has to be tried again."""
        self._line("warning", event, fields)

    def error(self, event: str, **fields: Any) -> None:
        """Something that a person should look at."""
        self._line("error", event, fields)

    def _line(self, level: str, event: str, fields: dict[str, Any]) -> None:
        at = datetime.now(UTC).isoformat(timespec="milliseconds")
        given = {name: value for name, value in fields.items() if value is not None}
        line = {"at": at, "level": level, "event": event, "worker": self._worker, **given}
        self._write(json.dumps(line).encode() + b"\n")


class Backoff:
    """Waits that double up to a limit, half of each left to chance, so that many workers do not come back at once."""

    def __init__(
        self, first: float = 0.5, most: float = 30.0, chance: Callable[[float, float], float] = random.uniform
    ) -> None:
        """`first` and `most` are in seconds."""
        self._first = first
        self._most = most
        self._chance = chance
        self._wait = first

    def next(self) -> float:
        """Seconds to wait before the next try."""
        wait, self._wait = self._wait, min(self._most, 2 * self._wait)
        return self._chance(wait / 2, wait)

    def reset(self) -> None:
        """It went well: the next wait is a short one."""
        self._wait = self._first
