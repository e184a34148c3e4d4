"""The time between attempts: schedules, and the timers and hops that keep them.

Delays are whole seconds; points in time are milliseconds since the epoch.
"""

from collections.abc import Collection, Mapping, Sequence

from handlers.delivery.errors import Invalid

SQS_MAX_DELAY = 900
"""SQS DelaySeconds, quotas of Amazon SQS; LocalStack does not enforce it, so this code does."""
MAX_DELAY = 31_536_000
MAX_DELAYS = 20


def parse_schedule(value: object, named: Mapping[str, tuple[int, ...]]) -> tuple[int, ...]:
    """The delays of a schedule given by name or as a list of whole seconds.

    Raises `Invalid` for an unknown name, an empty or too long list, or a delay out of range.
    """
    if isinstance(value, str):
        if value not in named:
            raise Invalid("schedule", value, f"one of {', '.join(sorted(named))}")
        return named[value]
    if not isinstance(value, list):
        raise Invalid("schedule", value, "the name of a schedule or a list of delays")
    if not 1 <= len(value) <= MAX_DELAYS:
        raise Invalid("schedule", f"{len(value)} delays", f"a list of 1 to {MAX_DELAYS} delays")
    for index, delay in enumerate(value):
        if type(delay) is not int or not 1 <= delay <= MAX_DELAY:
            raise Invalid(f"schedule[{index}]", delay, f"a whole number of seconds from 1 to {MAX_DELAY}")
    return tuple(value)


def delay_after(schedule: Sequence[int], step: int) -> int:
    """The delay after the step-th attempt of a life, counted from 1; the last one repeats."""
    return schedule[min(step, len(schedule)) - 1]


def timer_queue(delay: int, configured: Collection[int]) -> int:
    """Which timer queue takes a delay: the largest one not above it, else the shortest."""
    return max((c for c in configured if c <= delay), default=min(configured))


def seconds_until(due_at: int, now: int, cap: int = SQS_MAX_DELAY) -> int:
    """The DelaySeconds for something due then: whole seconds, rounded up, at most the cap.

    What is further away than the cap hops: it is armed again when the cap has passed.
    """
    return max(0, min(cap, SQS_MAX_DELAY, -((now - due_at) // 1000)))
