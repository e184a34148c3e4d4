"""The bodies of queue messages: hints that carry ids and tokens, never a payload."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from handlers.delivery.errors import Unreadable
from handlers.delivery.message import Record, is_message_id
from handlers.delivery.ports import Post
from handlers.delivery.schedule import seconds_until, timer_queue

VERSION = 1
MAX_ATTEMPT = 1_000_000_000
"""A year of attempts, one a second, is a thirtieth of it."""


@dataclass(frozen=True, slots=True)
class AttemptJob:
    """The order to make attempt n: what a channel queue carries. `base` is the life's first attempt less one."""

    message_id: str
    attempt: int
    base: int

    def post(self, channel: str, delay: int = 0) -> Post:
        """This job as a message for its channel's queue, after `delay` seconds."""
        body = {"v": VERSION, "id": self.message_id, "attempt": self.attempt, "base": self.base}
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
    body = _parse(text, {"v", "id", "attempt", "base"})
    job = AttemptJob(_id(body), _number(body, "attempt", 1), _number(body, "base", 0))
    if job.base >= job.attempt:
        raise Unreadable("base must be below attempt")
    return job


def parse_timer(text: str) -> Timer:
    """Read a timer queue's body. Raises `Unreadable` with the reason."""
    body = _parse(text, {"v", "id", "attempt", "token"})
    token = body["token"]
    if not isinstance(token, str) or not 1 <= len(token) <= 64:
        raise Unreadable("token must be a string of 1 to 64 characters")
    return Timer(_id(body), _number(body, "attempt", 1), token)


def _parse(text: str, fields: set[str]) -> dict[str, Any]:
    try:
        body = json.loads(text)
    except (ValueError, RecursionError):
        raise Unreadable("body is not JSON") from None
    if not isinstance(body, dict):
        raise Unreadable("body is not an object")
    if body.get("v") != VERSION:
        raise Unreadable(f"version must be {VERSION}")
    if set(body) != fields:
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
