"""What a channel is given to send, and what it answers."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol


class Kind(StrEnum):
    """How an attempt ended, as far as the schedule is concerned."""

    SENT = "SENT"
    """The target took it; its ACK comes over the other channel."""
    ACKED = "ACKED"
    """The target acknowledged in its answer (a synchronous ACK)."""
    FAILED = "FAILED"
    """Not taken this time; the schedule goes on."""
    GONE = "GONE"
    """The target says it will never take it; the message ends REJECTED."""
    BLOCKED = "BLOCKED"
    """The address is one that may not be reached; the schedule goes on, as names may change."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """The result of one attempt.

    `reason` is a short machine code (`http_503`, `read_timeout`); `retry_after` is in seconds.
    """

    kind: Kind
    reason: str
    latency_ms: int = 0
    http_status: int | None = None
    retry_after: int | None = None


@dataclass(frozen=True, slots=True)
class Parcel:
    """One attempt's worth of a message: what a channel sends."""

    message_id: str
    attempt: int
    target: str
    payload: bytes
    content_type: str
    ack_url: str
    nack_url: str


class Channel(Protocol):
    """A way to reach a target."""

    def send(self, parcel: Parcel, deadline_seconds: float) -> Outcome:
        """Send once, in at most `deadline_seconds`. Never raises for a target's failure."""
        ...
