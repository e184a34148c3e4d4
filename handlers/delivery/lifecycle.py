"""What happens next to a message: pure decisions, from the record and the time."""

from dataclasses import dataclass

from handlers.delivery.message import Record, Status

MAX_CLAIMS = 3
"""Claims of one attempt that may die without an outcome before it counts as made."""
MAX_SWEEPS = 5
"""Takeovers without a claim before the sweep alerts and stops (ADR 0010)."""


@dataclass(frozen=True, slots=True)
class Stop:
    """Nothing is left to do for this hint."""

    why: str


@dataclass(frozen=True, slots=True)
class Wait:
    """Not yet: come back then (milliseconds since the epoch)."""

    until: int


@dataclass(frozen=True, slots=True)
class Try:
    """Make this attempt."""

    attempt: int


@dataclass(frozen=True, slots=True)
class End:
    """End the message undelivered."""

    status: Status
    reason: str


@dataclass(frozen=True, slots=True)
class Tell:
    """The message has ended, and nobody was told yet."""


@dataclass(frozen=True, slots=True)
class Stuck:
    """Takeovers have not helped: a person must look."""


Step = Stop | Wait | Try | End | Tell


def next_step(record: Record, now: int) -> Wait | Try | End:
    """What an open message needs at this time."""
    if now >= record.expires_at:
        return End(Status.EXPIRED, "no ACK before the message expired")
    if now < record.next_due:
        return Wait(record.next_due)
    if not record.exhausted:
        return Try(record.attempt + 1)
    if record.held_until is not None and record.claims < MAX_CLAIMS:
        # The last attempt has no outcome: its function is still at it, or died. It gets its chance.
        return Wait(record.held_until) if now < record.held_until else Try(record.attempt)
    return End(Status.EXHAUSTED, f"no ACK after {record.attempt - record.base} attempts")


def on_timer(record: Record | None, attempt: int, token: str, now: int) -> Step:
    """What a timer finds: it acts only for the claim that armed it."""
    if record is None:
        return Stop("unknown message")
    if not record.open:
        return Tell() if record.untold is not None else Stop("ended")
    if record.attempt != attempt or record.token != token:
        return Stop("stale")
    return next_step(record, now)


def on_sweep(record: Record, now: int, grace: int) -> Step | Stuck:
    """What the sweep finds in a record whose time has come. `grace` is in milliseconds.

    A message whose timer or attempt is not overdue by more than the grace is left to it.
    """
    if not record.open:
        return Tell() if record.untold is not None else Stop("ended")
    step = next_step(record, now)
    if isinstance(step, Wait):
        return Wait(step.until + grace)
    if isinstance(step, End):
        return step
    if now < record.due_at + grace:
        return Wait(record.due_at + grace)
    return Stuck() if record.sweeps >= MAX_SWEEPS else step


def sweep_again_at(record: Record, now: int, grace: int) -> int:
    """When a taken-over message is looked at again: the grace, doubled each time, or just after its expiry."""
    return min(now + (grace << record.sweeps), record.expires_at + grace)
