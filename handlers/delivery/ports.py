"""What the domain needs of the world. `handlers.aws` has the real ones, the tests' fakes the others.

Every method raises `Unavailable` when the service behind it throttles or fails.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Protocol

from handlers.delivery.channel import Outcome
from handlers.delivery.message import Record, Scheduler, Status

Clock = Callable[[], int]
"""Now, in milliseconds since the epoch."""
NewToken = Callable[[], str]
Pause = Callable[[float], None]
"""Let so many seconds pass."""
MAX_PAUSE = 1_000
"""Milliseconds that a function may sit out: queues and executions count in whole seconds."""


class Stale(Exception):
    """A conditional write found another record than it expected; `old` is what it found."""

    def __init__(self, old: Record | None) -> None:
        self.old = old
        super().__init__("the record has moved on")


@dataclass(frozen=True, slots=True)
class Ending:
    """How and when a message ends. `untold_until` is set when somebody must hear of it."""

    status: Status
    at: int
    reason: str | None = None
    untold_until: int | None = None
    sweep_at: int | None = None
    ttl: int = 0


@dataclass(frozen=True, slots=True)
class Move:
    """A new due time, with the token of the timer that was armed for it."""

    due_at: int
    token: str


@dataclass(frozen=True, slots=True)
class Claim:
    """The taking of attempt n: a lease with a token. `grace` is in milliseconds.

    `task` is the token of the task that waits for the ACK, if an execution asked; it is stored with the claim.
    """

    message_id: str
    attempt: int
    base: int
    token: str
    now: int
    lease_until: int
    grace: int
    task: str | None = None


@dataclass(frozen=True, slots=True)
class Page:
    """A page of a listing; `cursor` is None on the last."""

    records: Sequence[Record]
    cursor: str | None


class Store(Protocol):
    """The messages table. Every write is conditional; a failed condition raises `Stale`."""

    def put(self, record: Record) -> Record | None:
        """Store a new record. Returns the one that is there already, if there is."""

    def get(self, message_id: str) -> Record | None:
        """Read one record, consistently."""

    def get_many(self, message_ids: Sequence[str]) -> Mapping[str, Record]:
        """Read records consistently, without payloads; those that are missing do not exist."""

    def claim(self, claim: Claim) -> Record:
        """Take attempt n of an open, unexpired message whose attempt n-1 is the last and due.

        One that a task asks for is taken only while an execution runs the message.
        """

    def reclaim(self, claim: Claim, seen: Record) -> Record:
        """Take attempt n again after its lease has passed without an outcome."""

    def record(
        self,
        claimed: Record,
        outcome: Outcome,
        *,
        move: Move | None = None,
        ending: Ending | None = None,
        sweep_at: int | None = None,
    ) -> Record:
        """Record the outcome of the claimed attempt, and what follows from it, in one write.

        Raises `Stale` when the message has ended or moved on; the outcome is then recorded alone.
        """

    def move(self, seen: Record, move: Move, reason: str | None) -> Record:
        """Give an open message another due time and timer, as its target asked (NACK, with a reason)."""

    def end(
        self, message_id: str, ending: Ending, *, seen: Record | None = None, target_hash: str | None = None
    ) -> Record:
        """End an open message: as it was seen (same attempt and token), or whatever its attempt."""

    def late_ack(self, message_id: str, at: int) -> Record:
        """Keep the first ACK that comes after an undelivered ending."""

    def claim_telling(self, record: Record, until: int) -> bool:
        """Take over the telling of an ending from whoever died at it."""

    def told(self, record: Record) -> None:
        """Note that the ending has been told."""

    def postpone_sweep(self, record: Record, sweep_at: int, sweeps: int, scheduler: Scheduler | None = None) -> bool:
        """Move the sweep's time from the value that was read; a takeover changes the scheduler too.

        False when another did it first.
        """

    def hand_over(self, record: Record) -> bool:
        """Let the queues run an open message from now on. False when an execution no longer runs this life of it."""

    def restart(self, record: Record, generation: int) -> bool:
        """Note which generation of executions runs an open message now. False when it, or a later one, did before."""

    def reopen(self, seen: Record, reopened: Record) -> Record:
        """Open the next life of an ended message, as it was seen."""

    def overdue(self, now: int, limit: int) -> Sequence[str]:
        """Ids of messages whose sweep time has come, at most `limit`."""

    def list_open(self, limit: int, cursor: str | None) -> Page:
        """Open and untold messages, those due for the sweep first."""

    def list_undelivered(self, since: int, limit: int, cursor: str | None) -> Page:
        """What ended undelivered since then, newest first."""

    def list_by_target(self, target: str, since: int, limit: int, cursor: str | None) -> Page:
        """A target's messages submitted since then, newest first."""


@dataclass(frozen=True, slots=True)
class Post:
    """A message for a queue: a channel's, or the timer queue of a delay. `delay` is in seconds."""

    queue: str | int
    body: Mapping[str, Any]
    delay: int = 0


class Queues(Protocol):
    """The channel and timer queues."""

    @property
    def timers(self) -> Sequence[int]:
        """The delays, in seconds, that have a timer queue."""

    @property
    def channels(self) -> Sequence[str]:
        """The channels that have a queue."""

    def send(self, posts: Sequence[Post]) -> frozenset[int]:
        """Send all, batched by ten to a queue. Returns the positions of those that failed; never raises."""

    def age(self, channel: str) -> int:
        """How long the oldest message of a channel's queue has waited, in seconds."""


class Executions(Protocol):
    """The executions of the workflows."""

    @property
    def workflows(self) -> Sequence[str]:
        """The workflows that this stack has."""

    @property
    def heartbeat(self) -> int:
        """Seconds after which a worker that is not heard of counts as dead."""

    def start(self, record: Record, now: int, generation: int = 1) -> None:
        """Start an execution of a message's life, the first or a later one; a repeat changes nothing."""

    def answer(self, task: str, output: Mapping[str, Any]) -> bool:
        """Complete a waiting task. False when it came late: the task is over, or was completed before."""

    def stop(self, record: Record) -> None:
        """Stop the execution of a message's life, if it still runs."""

    def beating(self, task: str) -> AbstractContextManager[None]:
        """Send heartbeats for a task as long as the work within takes. Never raises."""


class Topics(Protocol):
    """The events and alerts topics."""

    def publish(self, event: Mapping[str, Any]) -> None:
        """Publish an event for subscribers."""

    def alert(self, subject: str, text: str) -> None:
        """Tell a person."""


class Signer(Protocol):
    """Makes capabilities."""

    def sign(self, message_id: str, target: str, expires_at: int) -> str:
        """A capability for a message; `expires_at` in milliseconds."""


class Log(Protocol):
    """Where the domain says what it did. Never payloads, never capabilities."""

    def info(self, msg: str, **fields: Any) -> None:
        """Something went as it should."""

    def warning(self, msg: str, **fields: Any) -> None:
        """Something went wrong that the design heals."""

    def error(self, msg: str, fault: Exception) -> None:
        """Something went wrong that nobody expected."""

    def count(self, name: str, **dimensions: str) -> None:
        """Count one of a metric."""
