"""Deadlines, and a socket that keeps to one."""

import io
from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer, WriteableBuffer

Clock = Callable[[], float]


class AnswerTooLarge(Exception):
    """The answer is longer than anything a target needs to say."""


class Deadline:
    """A moment on a monotonic clock that every step of an attempt is held to."""

    def __init__(self, seconds: float, now: Clock) -> None:
        self._now = now
        self._end = now() + seconds

    def left(self) -> float:
        """Seconds until it passes; TimeoutError when it has."""
        left = self._end - self._now()
        if left <= 0:
            raise TimeoutError("the deadline has passed")
        return left

    def sooner(self, seconds: float) -> "Deadline":
        """The deadline in `seconds` from now, or this one if that is earlier."""
        return Deadline(min(seconds, self._end - self._now()), self._now)


class Socket(Protocol):
    """What is needed of a connected socket, plain or TLS."""

    def settimeout(self, value: float | None, /) -> None:
        """Bound the next call."""

    def send(self, data: "ReadableBuffer", /) -> int:
        """Send some of it, and say how much."""
        ...

    def recv_into(self, buffer: "WriteableBuffer", /) -> int:
        """Receive some, 0 at the end."""
        ...

    def close(self) -> None:
        """Let go of it."""


class _Incoming(io.RawIOBase):
    """Reads a socket under one deadline for the whole answer, and up to one size.

    A socket's own timeout starts anew with every byte, which lets a slow sender hold it for ever.
    """

    def __init__(self, sock: Socket, deadline: Deadline, limit: int) -> None:
        super().__init__()
        self._sock = sock
        self._deadline = deadline
        self._left = limit

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: "WriteableBuffer", /) -> int:
        self._sock.settimeout(self._deadline.left())
        count = self._sock.recv_into(buffer)
        self._left -= count
        if self._left < 0:
            raise AnswerTooLarge
        return count


class BoundedSocket:
    """What http.client sees of a connection: a socket whose every use is held to a deadline."""

    def __init__(self, sock: Socket, deadline: Deadline, limit: int) -> None:
        self._sock = sock
        self._deadline = deadline
        self._limit = limit

    def sendall(self, data: "ReadableBuffer") -> None:
        """Send all of it before the deadline."""
        view = memoryview(data)
        while view:
            self._sock.settimeout(self._deadline.left())
            view = view[self._sock.send(view) :]

    def makefile(self, mode: str) -> io.BufferedReader:
        """The answer as a file; `mode` is always rb."""
        return io.BufferedReader(_Incoming(self._sock, self._deadline, self._limit))

    def close(self) -> None:
        """Nothing: http.client closes before the body is read. Whoever opened the socket closes it."""
