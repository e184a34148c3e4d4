"""The workflows: how an ending reaches each, what an execution is told, and what it is answered.

An execution is a clock and nothing else (ADR 0017): it asks for attempts, and the table decides.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from handlers.delivery.errors import Invalid
from handlers.delivery.lifecycle import MAX_CLAIMS
from handlers.delivery.message import Record, Scheduler, is_message_id
from handlers.delivery.schedule import delay_after

INPUT_VERSION = 1
MAX_ASKS = 600
"""Attempts that one execution may ask for: it must end before its history has 25,000 events (ADR 0017)."""
EXPRESS_SECONDS = 300
"""The longest execution of an Express workflow, quotas of AWS Step Functions."""
EXPRESS_MARGIN = 10
"""Seconds that are left for an Express execution's own steps, and to settle what it leaves behind."""
ACTIVITY = "activity"
"""The channel without a queue: workers pull."""


class EndedBy(StrEnum):
    """How the end of a message reaches the execution that waits for it."""

    TASK = "task"
    """The waiting task is completed."""
    STOP = "stop"
    """The execution is stopped."""
    READING = "reading"
    """Not at all: the execution looks for itself."""


@dataclass(frozen=True, slots=True)
class Workflow:
    """A way of orchestrating a delivery. `longest` is in seconds; without `channels` it takes any that has a queue.

    `pulled`: its tasks wait to be pulled from an activity, and until then they do not time out.
    """

    ended_by: EndedBy
    pulled: bool = False
    longest: int | None = None
    channels: Collection[str] = ()


CATALOGUE: Mapping[str, Workflow] = {
    "delivery_poll": Workflow(EndedBy.READING),
    "poll_express": Workflow(EndedBy.READING, longest=EXPRESS_SECONDS),
    "delivery_stop_on_ack": Workflow(EndedBy.STOP),
    "delivery_callback": Workflow(EndedBy.TASK),
    "delivery_event": Workflow(EndedBy.TASK),
    "delivery_activity": Workflow(EndedBy.TASK, pulled=True, channels=(ACTIVITY,)),
    "delivery_push": Workflow(EndedBy.TASK, pulled=True),
    "delivery_job_poller": Workflow(EndedBy.READING, channels=("webhook",)),
}


def check_workflow(record: Record, deployed: Collection[str]) -> None:
    """Refuse a message that its scheduler cannot run. Raises `Invalid`, naming the field."""
    if record.scheduler is Scheduler.QUEUES:
        if record.workflow is not None:
            raise Invalid("workflow", record.workflow, "given only with scheduler workflow")
        if record.channel == ACTIVITY:
            raise Invalid("scheduler", str(record.scheduler), "workflow for the channel activity: workers pull it")
        return
    if record.workflow is None or record.workflow not in deployed:
        names = f"one of {', '.join(sorted(deployed))}" if deployed else "left out: this stack has no workflows"
        raise Invalid("workflow", record.workflow, names)
    workflow = CATALOGUE[record.workflow]
    if workflow.channels and record.channel not in workflow.channels:
        raise Invalid("channel", record.channel, f"{' or '.join(workflow.channels)} for workflow {record.workflow}")
    if record.channel == ACTIVITY and ACTIVITY not in workflow.channels:
        raise Invalid("workflow", record.workflow, "delivery_activity for the channel activity: workers pull it")
    seconds = (record.expires_at - record.created_at) // 1000
    if workflow.longest is not None and seconds > workflow.longest:
        limit = f"at most {workflow.longest} for workflow {record.workflow}: no Express execution lasts longer"
        raise Invalid("expires_in", seconds, limit)


def default_life(workflow: str | None, default: int) -> int:
    """Seconds that a message lives which does not say: the default, or what its workflow lasts, if that is less."""
    longest = CATALOGUE[workflow].longest if workflow is not None and workflow in CATALOGUE else None
    return default if longest is None else min(default, longest)


def execution_name(record: Record, generation: int = 1) -> str:
    """The name of a life's execution: the same for a repeated start, another for each life and each restart.

    At most 80 characters (StartExecution).
    """
    name = f"{record.id}-{record.life}"
    return name if generation == 1 else f"{name}-{generation}"


def read_execution_name(name: str) -> tuple[str, int, int]:
    """The message id, the life and the generation that an execution is for. Raises `ValueError` for another's name."""
    message_id, *numbers = name.split("-")
    if not is_message_id(message_id) or not 1 <= len(numbers) <= 2:
        raise ValueError(f"no execution of ours: {name}")
    life, generation = map(int, [*numbers, "1"][:2])
    return message_id, life, generation


def execution_input(record: Record, queue_url: str, heartbeat: int, now: int) -> dict[str, Any]:
    """What an execution is told (definitions/schemas/execution_input.json). `heartbeat` is in seconds."""
    delays = delays_ahead(record, now)
    heartbeats = [heartbeat_within(delay, heartbeat) for delay in delays]
    return {
        "v": INPUT_VERSION,
        "message_id": record.id,
        "life": record.life,
        "channel": record.channel,
        "queue_url": queue_url,
        "base": record.base,
        "from": record.attempt,
        "delays": delays,
        "last": len(delays) - 1,
        "heartbeats": heartbeats,
        "next": {"index": 0, "wait": delays[0], "heartbeat": heartbeats[0]},
        "trouble": {},
    }


def delays_ahead(record: Record, now: int) -> list[int]:
    """The delays that an execution has to wait: the schedule's, the last repeating, in seconds.

    They end at the last attempt or at the expiry, the last one cut to it, and after MAX_ASKS at the latest. There is
    one at least: a last attempt whose holder died is asked for again.
    """
    made = record.attempt - record.base
    most = MAX_ASKS if record.max_attempts is None else max(1, min(MAX_ASKS, record.max_attempts - made))
    left = _seconds(record.expires_at - max(now, record.due_at))
    workflow = CATALOGUE.get(record.workflow or "")
    if workflow is not None and workflow.longest is not None:
        left = min(left, workflow.longest - EXPRESS_MARGIN)
    delays: list[int] = []
    while len(delays) < most and left > 0:
        delays.append(min(left, delay_after(record.schedule, made + len(delays) + 1)))
        left -= delays[-1]
    return delays or [1]


def cut_off_at(record: Record) -> int | None:
    """When an Express execution has no time left but to settle; None for one that lasts, or has only begun."""
    workflow = CATALOGUE.get(record.workflow or "")
    if workflow is None or workflow.longest is None or record.begun_at is None:
        return None
    return record.begun_at + (workflow.longest - EXPRESS_MARGIN) * 1000


def wait_after(record: Record, attempt: int, at: int) -> int:
    """Seconds that an execution waits after asking for an attempt `at` a time: its delay, or until the expiry."""
    delay = delay_after(record.schedule, max(1, attempt - record.base))
    return max(1, min(delay, _seconds(record.expires_at - at)))


def heartbeat_within(wait: int, heartbeat: int) -> int:
    """The heartbeat of a task that waits so long: it must be shorter (Amazon States Language). All in seconds."""
    return max(1, min(heartbeat, wait - 1))


def again(record: Record, first: int, now: int, heartbeat: int) -> dict[str, Any]:
    """What an execution is answered that asked for the wrong attempt, or too early: when, and which one then.

    `first` is the number of attempts made before the execution, `heartbeat` in seconds. While another holds the
    attempt that the record is at, it is that one: its holder may have died.
    """
    held = record.held_until is not None and now < record.held_until
    # The last attempt is made again when its holder has died, as `next_step` has it.
    died = record.exhausted and record.held_until is not None and record.claims < MAX_CLAIMS
    if record.exhausted and not held and not died:
        return {"status": "SETTLE"}
    attempt = record.attempt if held or died else record.attempt + 1
    at = max(now, record.held_until or 0) if held else max(now, record.next_due)
    wait = wait_after(record, attempt, at)
    return {
        "status": "AGAIN",
        "pause": max(1, _seconds(at - now)),
        "next": {"index": attempt - first - 1, "wait": wait, "heartbeat": heartbeat_within(wait, heartbeat)},
    }


def _seconds(millis: int) -> int:
    """Whole seconds, rounded up."""
    return -(-millis // 1000)
