"""The record as a DynamoDB item, and back. Short attribute names where they repeat per attempt."""

from collections.abc import Mapping
from typing import Any

from boto3.dynamodb.types import TypeDeserializer, TypeSerializer

from handlers.delivery.channel import Kind
from handlers.delivery.message import ATTEMPTS_KEPT, Attempt, Record, Scheduler, Status

Item = Mapping[str, Any]

_serializer = TypeSerializer()
_deserializer = TypeDeserializer()


def wire(value: Any) -> Any:
    """A Python value as DynamoDB's typed JSON."""
    return _serializer.serialize(value)


def slot(attempt: int) -> str:
    """Where the record keeps an attempt: a ring, so that a year of attempts stays bounded."""
    return str(attempt % ATTEMPTS_KEPT)


def stored(scheduler: Scheduler) -> str | None:
    """A scheduler as items have it: an item without one is the queues'."""
    return None if scheduler is Scheduler.QUEUES else str(scheduler)


def to_item(record: Record) -> dict[str, Any]:
    """The item of a new record; what is None or empty is left out, so that indexes stay sparse."""
    values: dict[str, Any] = {
        "id": record.id,
        "caller": record.caller,
        "target": record.target,
        "target_hash": record.target_hash,
        "channel": record.channel,
        "payload": record.payload,
        "content_type": record.content_type,
        # In milliseconds, so that the claim's write can add a delay to the time without a read.
        "schedule": [delay * 1000 for delay in record.schedule],
        "last_delay": record.schedule[-1] * 1000,
        "created_at": record.created_at,
        "expires_at": record.expires_at,
        "due_at": record.due_at,
        "body_hash": record.body_hash,
        "max_attempts": record.max_attempts,
        "labels": dict(record.labels) or None,
        "status": str(record.status),
        "life": record.life,
        "base": record.base,
        "attempt": record.attempt,
        "sweep_shard": record.shard,
        "sweep_at": record.sweep_at,
        "scheduler": stored(record.scheduler),
        "workflow": record.workflow,
        "attempts": {},
        "dues": {},
    }
    return {name: wire(value) for name, value in values.items() if value is not None}


def from_item(item: Item) -> Record:
    """The record of an item. The payload may have been left out by a projection."""
    v = {name: _deserializer.deserialize(value) for name, value in item.items()}
    return Record(
        id=v["id"],
        caller=v["caller"],
        target=v["target"],
        channel=v["channel"],
        # boto3 wraps bytes in a Binary of its own.
        payload=bytes(v["payload"]) if "payload" in v else b"",
        content_type=v["content_type"],
        schedule=tuple(int(delay) // 1000 for delay in v["schedule"]),
        created_at=int(v["created_at"]),
        expires_at=int(v["expires_at"]),
        due_at=int(v["due_at"]),
        body_hash=v["body_hash"],
        max_attempts=_int(v.get("max_attempts")),
        labels=v.get("labels", {}),
        scheduler=Scheduler(v.get("scheduler", Scheduler.QUEUES)),
        workflow=v.get("workflow"),
        task=v.get("task"),
        generation=int(v.get("generation", 1)),
        status=Status(v["status"]),
        life=int(v["life"]),
        base=int(v["base"]),
        attempt=int(v["attempt"]),
        token=v.get("token", ""),
        lease_until=_int(v.get("lease_until")),
        claims=int(v.get("claims", 0)),
        sweep_at=_int(v.get("sweep_at")),
        sweeps=int(v.get("sweeps", 0)),
        untold=_int(v.get("untold")),
        ended_at=_int(v.get("ended_at")),
        reason=v.get("reason"),
        nack_reason=v.get("nack_reason"),
        acked_at=_int(v.get("acked_at")),
        late_ack_at=_int(v.get("late_ack_at")),
        attempts=_attempts(v.get("attempts", {}), v.get("dues", {})),
    )


def _attempts(ring: Mapping[str, Mapping[str, Any]], dues: Mapping[str, Any]) -> tuple[Attempt, ...]:
    attempts = [
        Attempt(
            n=int(entry["n"]),
            due_at=int(dues[position]),
            sent_at=int(entry["s"]),
            claim=entry["c"],
            outcome=Kind(entry["o"]) if "o" in entry else None,
            reason=entry.get("r"),
            http_status=_int(entry.get("h")),
            latency_ms=_int(entry.get("ms")),
        )
        for position, entry in ring.items()
    ]
    return tuple(sorted(attempts, key=lambda attempt: attempt.n))


def _int(value: Any) -> int | None:
    return None if value is None else int(value)
