"""The bodies of queue messages: hints that carry ids and tokens, never a payload."""

import json
from collections.abc import Sequence, Set
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from handlers.delivery.errors import Unreadable
from handlers.delivery.message import Record, is_message_id
from handlers.delivery.ports import Post
from handlers.delivery.schedule import seconds_until, timer_queue

VERSION = 1
MAX_ATTEMPT = 1_000_000_000
"""A year of attempts, one a second, is a thirtieth of it."""
MAX_TASK_TOKEN = 2048
"""SendTaskSuccess's limit."""


@dataclass(frozen=True, slots=True)
class Task:
    """The task of an execution that waits for the ACK: its token, and when it stops waiting.

    `wait` is in seconds; `index` is the attempt's place among those of its execution, from 0.
    """

    token: str
    asked_at: str
    wait: int
    index: int

    def over(self, now: int) -> bool:
        """Whether the task has timed out: its execution asks for the next attempt by now."""
        return now >= datetime.fromisoformat(self.asked_at).timestamp() * 1000 + self.wait * 1000


@dataclass(frozen=True, slots=True)
class AttemptJob:
    """The order to make attempt n: what a channel queue carries. `base` is the life's first attempt less one."""

    message_id: str
    attempt: int
    base: int
    task: Task | None = None
    """Given when an execution asks."""

    def post(self, channel: str, delay: int = 0) -> Post:
        """This job as a message for its channel's queue, after `delay` seconds."""
        body: dict[str, Any] = {"v": VERSION, "id": self.message_id, "attempt": self.attempt, "base": self.base}
        if self.task is not None:
            task = self.task
            body["task"] = {"token": task.token, "asked_at": task.asked_at, "wait": task.wait, "index": task.index}
        return Post(channel, body, delay)


@dataclass(frozen=True, slots=True)
class Timer:
    """The question whether attempt n has been ACKed: what a timer queue carries, with the token of its claim."""

    message_id: str
    attempt: int
    token: str

    def post(self, record: Record, due_at: int, now: int, queues: Sequence[int], cap: int) -> Post:
        """This timer as a message for the timer queue of the record's present delay."""
        queue = timer_queue(record.delay, queues)
        body = {"v": VERSION, "id": self.message_id, "attempt": self.attempt, "token": self.token}
        return Post(queue, body, seconds_until(due_at, now, cap))


def attempt_job(record: Record, attempt: int) -> AttemptJob:
    """The job that makes this attempt of the record's message."""
    return AttemptJob(record.id, attempt, record.base)


def parse_attempt(text: str) -> AttemptJob:
    """Read a channel queue's body. Raises `Unreadable` with the reason."""
    return _attempt(_parse(text, {"v", "id", "attempt", "base"}, frozenset({"task"})))


def parse_task(text: str, token: str) -> tuple[AttemptJob, str]:
    """Read the input of an activity's task, whose token came beside it: the job, and the channel that it is for.

    Raises `Unreadable` with the reason.
    """
    body = _parse(text, {"v", "id", "attempt", "base", "task"}, frozenset({"channel"}))
    channel = body.get("channel", "")
    if not isinstance(body["task"], dict) or not isinstance(channel, str):
        raise Unreadable("task must be an object and channel a string")
    return _attempt({**body, "task": {**body["task"], "token": token}}), channel


def _attempt(body: dict[str, Any]) -> AttemptJob:
    job = AttemptJob(_id(body), _number(body, "attempt", 1), _number(body, "base", 0))
    if job.base >= job.attempt:
        raise Unreadable("base must be below attempt")
    return replace(job, task=_task(body["task"])) if "task" in body else job


def _task(task: Any) -> Task:
    if not isinstance(task, dict) or set(task) != {"token", "asked_at", "wait", "index"}:
        raise Unreadable("task must have the fields asked_at, index, token, wait")
    token, asked_at = task["token"], task["asked_at"]
    if not isinstance(token, str) or not 1 <= len(token) <= MAX_TASK_TOKEN:
        raise Unreadable(f"task.token must be a string of 1 to {MAX_TASK_TOKEN} characters")
    try:
        if datetime.fromisoformat(asked_at).tzinfo is None:
            raise ValueError(asked_at)
    except (ValueError, TypeError):
        raise Unreadable("task.asked_at must be a time in ISO 8601 with an offset") from None
    return Task(token, asked_at, _number(task, "wait", 1), _number(task, "index", -1))


def parse_timer(text: str) -> Timer:
    """Read a timer queue's body. Raises `Unreadable` with the reason."""
    body = _parse(text, {"v", "id", "attempt", "token"})
    token = body["token"]
    if not isinstance(token, str) or not 1 <= len(token) <= 64:
        raise Unreadable("token must be a string of 1 to 64 characters")
    return Timer(_id(body), _number(body, "attempt", 1), token)


def _parse(text: str, fields: set[str], optional: Set[str] = frozenset()) -> dict[str, Any]:
    try:
        body = json.loads(text)
    except (ValueError, RecursionError):
        raise Unreadable("body is not JSON") from None
    if not isinstance(body, dict):
        raise Unreadable("body is not an object")
    if body.get("v") != VERSION:
        raise Unreadable(f"version must be {VERSION}")
    if set(body) - optional != fields:
        raise Unreadable(f"fields must be {', '.join(sorted(fields))}")
    return body


def _id(body: dict[str, Any]) -> str:
    value = body["id"]
    if not isinstance(value, str) or not is_message_id(value):
        raise Unreadable("id is not a message id")
    return value


def _number(body: dict[str, Any], field: str, least: int) -> int:
    value = body[field]
    if type(value) is not int or not least <= value <= MAX_ATTEMPT:
        raise Unreadable(f"{field} must be a whole number from {least} to {MAX_ATTEMPT}")
    return value
