"""The message and its record: what the table holds, and what can be read off it.

Times are integers, milliseconds since the epoch, unless a name says otherwise.
"""

import base64
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from handlers.delivery.channel import Kind
from handlers.delivery.errors import Invalid
from handlers.delivery.schedule import delay_after, parse_schedule

MAX_EXPIRES_IN = 31_536_000
"""A year, in seconds: the longest life of a message."""
SHARDS = 4
"""Partitions of the sparse indexes; one partition takes 1,000 writes a second."""
ATTEMPTS_KEPT = 32
"""How many of the newest attempts a record keeps; older ones are in the logs."""
MAX_LABEL_NAME = 64
_CONTENT_TYPES = {
    "text": "text/plain; charset=utf-8",
    "json": "application/json",
    "base64": "application/octet-stream",
}


class Status(StrEnum):
    """Where a message stands."""

    PENDING = "PENDING"
    AWAITING_ACK = "AWAITING_ACK"
    DELIVERED = "DELIVERED"
    REJECTED = "REJECTED"
    EXPIRED = "EXPIRED"
    EXHAUSTED = "EXHAUSTED"
    CANCELLED = "CANCELLED"
    SUPERSEDED = "SUPERSEDED"


class Scheduler(StrEnum):
    """Who holds the time between a message's attempts."""

    QUEUES = "queues"
    WORKFLOW = "workflow"


OPEN = frozenset({Status.PENDING, Status.AWAITING_ACK})
UNDELIVERED = frozenset({Status.REJECTED, Status.EXPIRED, Status.EXHAUSTED, Status.CANCELLED})
ALERTING = frozenset({Status.REJECTED, Status.EXPIRED, Status.EXHAUSTED})
"""The endings that a person must hear of; a cancellation was a person's own doing."""


@dataclass(frozen=True, slots=True)
class Attempt:
    """One sending of a message, as the record keeps it. `claim` is the lease's token."""

    n: int
    due_at: int
    sent_at: int
    claim: str
    outcome: Kind | None = None
    reason: str | None = None
    http_status: int | None = None
    latency_ms: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """A message as the table holds it: the truth that queues and timers only hint at."""

    id: str
    caller: str
    target: str
    channel: str
    payload: bytes
    content_type: str
    schedule: tuple[int, ...]
    created_at: int
    expires_at: int
    due_at: int
    body_hash: str
    max_attempts: int | None = None
    labels: Mapping[str, str] = field(default_factory=dict)
    scheduler: Scheduler = Scheduler.QUEUES
    """Who holds the time now: the queues take a message over whose execution has died."""
    workflow: str | None = None
    """The workflow that the message was submitted for."""
    task: str | None = None
    """The token of the task that waits for this message's ACK. Kept after the end: every ACK completes it again."""
    generation: int = 1
    """Which of this life's executions runs it: one that died is replaced where there is no queue."""
    status: Status = Status.PENDING
    life: int = 1
    base: int = 0
    """Attempts made in earlier lives; the schedule starts anew after them."""
    attempt: int = 0
    token: str = ""
    lease_until: int | None = None
    claims: int = 0
    sweep_at: int | None = None
    sweeps: int = 0
    untold: int | None = None
    """Set on an ending that nobody has been told of yet; until then somebody is telling it."""
    ended_at: int | None = None
    reason: str | None = None
    nack_reason: str | None = None
    acked_at: int | None = None
    late_ack_at: int | None = None
    attempts: tuple[Attempt, ...] = ()

    @property
    def open(self) -> bool:
        """Whether the message may still be attempted."""
        return self.status in OPEN

    @property
    def next_due(self) -> int:
        """When the timer fires: the next attempt's time, or the expiry if that comes first."""
        return min(self.due_at, self.expires_at)

    @property
    def delay(self) -> int:
        """The delay, in seconds, after the attempt that the record is at."""
        return delay_after(self.schedule, max(1, self.attempt - self.base))

    @property
    def claim(self) -> str:
        """The token of the claim that holds, or held, the attempt that the record is at."""
        return self.attempts[-1].claim if self.attempts else ""

    @property
    def held_until(self) -> int | None:
        """The lease of the newest attempt, while it has no outcome and its target has not put it off."""
        outcome = self.attempts[-1].outcome if self.attempts else None
        return self.lease_until if outcome is None and self.token == self.claim else None

    @property
    def begun_at(self) -> int | None:
        """When the oldest attempt of this life that the record still has was started."""
        return next((attempt.sent_at for attempt in self.attempts if attempt.n > self.base), None)

    @property
    def exhausted(self) -> bool:
        """Whether this life has had its last attempt."""
        return self.max_attempts is not None and self.attempt - self.base >= self.max_attempts

    @property
    def shard(self) -> str:
        """The partition of the sparse indexes that the message belongs to."""
        return shard_of(self.id)

    @property
    def target_hash(self) -> str:
        """The target, as index key and as part of a capability."""
        return hash_target(self.target)


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """What a stack accepts; times in seconds, sizes in bytes."""

    schedules: Mapping[str, tuple[int, ...]]
    default_expires_in: int
    max_payload_bytes: int


def shard_of(message_id: str) -> str:
    """The index partition of a message id: stable, and even over all ids."""
    return str(hashlib.sha256(message_id.encode()).digest()[0] % SHARDS)


def hash_target(target: str) -> str:
    """A short, fixed-length stand-in for a target: 16 URL-safe characters of its SHA-256."""
    return base64.urlsafe_b64encode(hashlib.sha256(target.encode()).digest()[:12]).decode()


def message_id_for(seed: bytes) -> str:
    """A message id from 16 bytes: 26 lower-case letters and digits."""
    return base64.b32encode(seed).decode().rstrip("=").lower()


def idempotent_id(caller: str, key: str) -> str:
    """The id of the message that this caller's idempotency key names."""
    return message_id_for(hashlib.sha256(f"{caller}\0{key}".encode()).digest()[:16])


def is_message_id(text: str) -> bool:
    """Whether the text has the form of a message id."""
    return len(text) == 26 and all(c in "abcdefghijklmnopqrstuvwxyz234567" for c in text)


def new_record(
    body: Mapping[str, Any], *, message_id: str, caller: str, policy: Policy, now: int, grace: int
) -> Record:
    """Make the record of a submitted message whose fields have the right types.

    `grace` is in seconds: how late a message may be before the sweep looks after it.

    Raises `Invalid`, naming the field, for what the schema cannot say.
    """
    payload, content_type = _payload(body, policy.max_payload_bytes)
    schedule = parse_schedule(body.get("schedule", "default"), policy.schedules)
    # 60.0 is an integer to JSON Schema.
    expires_in = int(body.get("expires_in", policy.default_expires_in))
    max_attempts = body.get("max_attempts")
    return Record(
        id=message_id,
        caller=caller,
        target=body["target"],
        channel=body["channel"],
        payload=payload,
        content_type=content_type,
        schedule=schedule,
        created_at=now,
        expires_at=now + expires_in * 1000,
        due_at=now,
        body_hash=_body_hash(body),
        max_attempts=None if max_attempts is None else int(max_attempts),
        scheduler=Scheduler(body.get("scheduler", Scheduler.QUEUES)),
        workflow=body.get("workflow"),
        labels=_labels(body.get("labels", {})),
        sweep_at=now + grace * 1000,
    )


def _labels(labels: Mapping[str, str]) -> Mapping[str, str]:
    for name in labels:
        if not 1 <= len(name) <= MAX_LABEL_NAME:
            raise Invalid("labels", name, f"an object whose names have 1 to {MAX_LABEL_NAME} characters")
    return labels


def _payload(body: Mapping[str, Any], limit: int) -> tuple[bytes, str]:
    value, encoding = body["payload"], body.get("payload_encoding")
    if encoding == "base64":
        if not isinstance(value, str):
            raise Invalid("payload", value, "a base64 string when payload_encoding is base64")
        try:
            data, kind = base64.b64decode(value, validate=True), "base64"
        except ValueError:
            raise Invalid("payload", value, "valid base64 (RFC 4648, padded)") from None
    elif isinstance(value, str):
        try:
            data, kind = value.encode(), "text"
        except UnicodeEncodeError:
            raise Invalid("payload", "a lone surrogate", "text that UTF-8 can encode") from None
    elif isinstance(value, dict | list):
        data, kind = json.dumps(value, separators=(",", ":")).encode(), "json"
    else:
        raise Invalid("payload", value, "a string, an object or an array")
    if len(data) > limit:
        size = f"{len(data)} bytes"
        raise Invalid("payload", size, f"at most {limit} bytes", f"payload has {size}; the limit is {limit} bytes")
    return data, body.get("content_type", _CONTENT_TYPES[kind])


def _body_hash(body: Mapping[str, Any]) -> str:
    canonical = json.dumps(body, sort_keys=True, separators=(",", ":")).encode()
    return base64.urlsafe_b64encode(hashlib.sha256(canonical).digest()[:18]).decode()
