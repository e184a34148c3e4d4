"""Records for tests, at any point of a message's life."""

from dataclasses import replace
from typing import Any

from handlers.delivery.channel import Kind, Outcome
from handlers.delivery.message import Attempt, Record, Status, message_id_for
from handlers.delivery.ports import Claim
from tests.fakes.world import START

LEASE = 40_000
GRACE = 180_000
DAY = 86_400_000


def message_id(number: int) -> str:
    """A valid message id, another for every number."""
    return message_id_for(number.to_bytes(16, "big"))


def a_record(number: int = 1, **fields: Any) -> Record:
    """A message as `submit` stores it."""
    record = Record(
        id=message_id(number),
        caller="producer",
        target="https://device.example/inbox",
        channel="webhook",
        payload=b"open the door",
        content_type="text/plain",
        schedule=(15, 30, 14400),
        created_at=START,
        expires_at=START + DAY,
        due_at=START,
        body_hash="hash",
        sweep_at=START + GRACE,
    )
    return replace(record, **fields)


def claimed(record: Record, at: int = START, token: str = "t1") -> Record:
    """The record with its next attempt claimed."""
    n = record.attempt + 1
    attempt = Attempt(n=n, due_at=record.due_at, sent_at=at, claim=token)
    taken = replace(
        record,
        status=Status.AWAITING_ACK,
        attempt=n,
        token=token,
        lease_until=at + LEASE,
        claims=1,
        attempts=(*record.attempts, attempt),
    )
    return replace(taken, due_at=at + taken.delay * 1000)


def answered(record: Record, kind: Kind = Kind.SENT, reason: str = "http_200") -> Record:
    """The record with the outcome of its newest attempt."""
    last = replace(record.attempts[-1], outcome=kind, reason=reason, latency_ms=1)
    return replace(record, lease_until=None, attempts=(*record.attempts[:-1], last))


def claim_of(record: Record, now: int, token: str, attempt: int | None = None, **fields: Any) -> Claim:
    """The claim of a record's next attempt, or of another one."""
    n = record.attempt + 1 if attempt is None else attempt
    claim = Claim(record.id, n, record.base, token, now, now + LEASE, GRACE)
    return replace(claim, **fields)


SENT = Outcome(Kind.SENT, "http_200", 12, 200)
