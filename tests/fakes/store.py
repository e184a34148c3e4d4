"""The messages table in memory, with exactly the conditions of `handlers.aws.store`."""

import base64
import binascii
import json
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeVar

from handlers.delivery.channel import Outcome
from handlers.delivery.errors import Invalid
from handlers.delivery.message import (
    ATTEMPTS_KEPT,
    SHARDS,
    UNDELIVERED,
    Attempt,
    Record,
    Scheduler,
    Status,
    hash_target,
)
from handlers.delivery.ports import Claim, Ending, Move, Page, Stale
from handlers.delivery.schedule import delay_after
from tests.fakes.wire import Wire

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Row:
    """A record, and what an item has beside it: its places in the sparse indexes, and its TTL."""

    record: Record
    overdue: bool
    undelivered: bool = False
    ttl: int | None = None


@dataclass(frozen=True, slots=True)
class Change:
    """One write that took effect."""

    operation: str
    before: Record | None
    after: Record


@dataclass(slots=True)
class MemoryStore:
    """`handlers.delivery.ports.Store` over a dictionary. Keeps every change that it has seen."""

    wire: Wire = field(default_factory=Wire)
    rows: dict[str, Row] = field(default_factory=dict)
    changes: list[Change] = field(default_factory=list)
    on_change: Callable[[Change], None] = lambda change: None
    _lock: threading.RLock = field(default_factory=threading.RLock)

    def put(self, record: Record) -> Record | None:
        def effect() -> Record | None:
            if record.id in self.rows:
                return self.rows[record.id].record
            self._write("put", Row(record, overdue=True))
            return None

        return self._call("put", effect)

    def get(self, message_id: str) -> Record | None:
        return self._call("get", lambda: self._record(message_id))

    def get_many(self, message_ids: Sequence[str]) -> Mapping[str, Record]:
        return self._call("get_many", lambda: self._without_payloads(message_ids))

    def claim(self, claim: Claim) -> Record:
        def effect() -> Record:
            old, row = self._expect(claim.message_id, lambda r: _claimable(r, claim))
            step = claim.attempt - claim.base
            due_at = claim.now + delay_after(old.schedule, step) * 1000
            taken = Attempt(n=claim.attempt, due_at=old.due_at, sent_at=claim.now, claim=claim.token)
            new = replace(
                old,
                status=Status.AWAITING_ACK,
                attempt=claim.attempt,
                token=claim.token,
                lease_until=claim.lease_until,
                claims=1,
                due_at=due_at,
                sweep_at=due_at + claim.grace if step > 1 else old.sweep_at,
                sweeps=0,
                attempts=_in_ring(old.attempts, taken),
                task=claim.task or old.task,
            )
            return self._write("claim", replace(row, record=new))

        return self._call("claim", effect)

    def reclaim(self, claim: Claim, seen: Record) -> Record:
        def effect() -> Record:
            old, row = self._expect(
                claim.message_id,
                lambda r: (
                    r.open
                    and r.expires_at > claim.now
                    and (r.attempt, r.token) == (seen.attempt, seen.token)
                    and r.lease_until is not None
                    and r.lease_until <= claim.now
                ),
            )
            due_at = claim.now + seen.delay * 1000
            last = old.attempts[-1]
            taken = Attempt(n=claim.attempt, due_at=last.due_at, sent_at=claim.now, claim=claim.token)
            new = replace(
                old,
                token=claim.token,
                lease_until=claim.lease_until,
                claims=seen.claims + 1,
                due_at=due_at,
                sweep_at=due_at + claim.grace,
                sweeps=0,
                attempts=_in_ring(old.attempts, taken),
                task=claim.task or old.task,
            )
            return self._write("reclaim", replace(row, record=new))

        return self._call("reclaim", effect)

    def record(
        self,
        claimed: Record,
        outcome: Outcome,
        *,
        move: Move | None = None,
        ending: Ending | None = None,
        sweep_at: int | None = None,
    ) -> Record:
        def effect() -> Record:
            try:
                old, row = self._expect(
                    claimed.id,
                    lambda r: (
                        r.open
                        and r.attempt == claimed.attempt
                        and _holds(r, claimed)
                        and (move is None or r.token == claimed.token)
                    ),
                )
            except Stale:
                old, row = self._expect(claimed.id, lambda r: _holds(r, claimed))
                self._write("outcome", replace(row, record=_with_outcome(old, claimed, outcome)))
                raise
            new = replace(_with_outcome(old, claimed, outcome), lease_until=None)
            if sweep_at is not None and ending is None:
                new = replace(new, sweep_at=sweep_at)
            if move is not None:
                new = replace(new, due_at=move.due_at, token=move.token)
            row = replace(row, record=new)
            return self._write("record", row if ending is None else _ended(row, ending))

        return self._call("record", effect)

    def move(self, seen: Record, move: Move, reason: str | None) -> Record:
        def effect() -> Record:
            old, row = self._expect(seen.id, lambda r: r.open and (r.attempt, r.token) == (seen.attempt, seen.token))
            new = replace(old, due_at=move.due_at, token=move.token, nack_reason=reason or old.nack_reason)
            return self._write("move", replace(row, record=new))

        return self._call("move", effect)

    def end(
        self, message_id: str, ending: Ending, *, seen: Record | None = None, target_hash: str | None = None
    ) -> Record:
        def effect() -> Record:
            _, row = self._expect(
                message_id,
                lambda r: (
                    r.open
                    and (seen is None or (r.attempt, r.token) == (seen.attempt, seen.token))
                    and target_hash in (None, r.target_hash)
                ),
            )
            return self._write("end", _ended(row, ending))

        return self._call("end", effect)

    def late_ack(self, message_id: str, at: int) -> Record:
        def effect() -> Record:
            old, row = self._expect(message_id, lambda r: r.late_ack_at is None and r.status in UNDELIVERED)
            return self._write("late_ack", replace(row, record=replace(old, late_ack_at=at)))

        return self._call("late_ack", effect)

    def claim_telling(self, record: Record, until: int) -> bool:
        def effect() -> bool:
            row = self.rows[record.id]
            if row.record.untold != record.untold:
                return False
            self._write("claim_telling", replace(row, record=replace(row.record, untold=until)))
            return True

        return self._call("claim_telling", effect)

    def told(self, record: Record) -> None:
        def effect() -> None:
            row = self.rows[record.id]
            if row.record.untold == record.untold:
                told = replace(row.record, untold=None, sweep_at=None)
                self._write("told", replace(row, record=told, overdue=False))

        self._call("told", effect)

    def postpone_sweep(self, record: Record, sweep_at: int, sweeps: int, scheduler: Scheduler | None = None) -> bool:
        def effect() -> bool:
            row = self.rows[record.id]
            if row.record.sweep_at != record.sweep_at or not row.record.open:
                return False
            new = replace(row.record, sweep_at=sweep_at, sweeps=sweeps, scheduler=scheduler or row.record.scheduler)
            self._write("postpone_sweep", replace(row, record=new))
            return True

        return self._call("postpone_sweep", effect)

    def hand_over(self, record: Record) -> bool:
        def effect() -> bool:
            row = self.rows[record.id]
            old = row.record
            if not old.open or old.scheduler is not Scheduler.WORKFLOW or old.life != record.life:
                return False
            self._write("hand_over", replace(row, record=replace(old, scheduler=Scheduler.QUEUES)))
            return True

        return self._call("hand_over", effect)

    def restart(self, record: Record, generation: int) -> bool:
        def effect() -> bool:
            row = self.rows[record.id]
            old = row.record
            runs = old.open and old.scheduler is Scheduler.WORKFLOW and old.life == record.life
            if not runs or old.generation >= generation:
                return False
            self._write("restart", replace(row, record=replace(old, generation=generation)))
            return True

        return self._call("restart", effect)

    def reopen(self, seen: Record, reopened: Record) -> Record:
        def effect() -> Record:
            old, row = self._expect(
                seen.id,
                lambda r: (r.status, r.life) == (seen.status, seen.life) and r.late_ack_at is None and r.untold is None,
            )
            new = replace(
                old,
                status=reopened.status,
                life=reopened.life,
                base=reopened.base,
                due_at=reopened.due_at,
                expires_at=reopened.expires_at,
                sweep_at=reopened.sweep_at,
                sweeps=0,
                ended_at=None,
                reason=None,
                lease_until=None,
                scheduler=reopened.scheduler,
                task=None,
                generation=1,
            )
            row = replace(row, record=new, overdue=True, undelivered=False, ttl=None)
            return self._write("reopen", row)

        return self._call("reopen", effect)

    def overdue(self, now: int, limit: int) -> Sequence[str]:
        def effect() -> Sequence[str]:
            share = max(1, limit // SHARDS)
            found: list[str] = []
            for shard in map(str, range(SHARDS)):
                places = [(r.sweep_at, r.id) for r in self._indexed() if r.shard == shard and r.sweep_at]
                found += [i for at, i in sorted(places) if at <= now][:share]
            return found

        return self._call("overdue", effect)

    def list_open(self, limit: int, cursor: str | None) -> Page:
        return self._call(
            "list_open", lambda: self._page(((r.sweep_at or 0, r) for r in self._indexed()), limit, cursor)
        )

    def list_undelivered(self, since: int, limit: int, cursor: str | None) -> Page:
        found = (
            (-(row.record.ended_at or 0), row.record)
            for row in self.rows.values()
            if row.undelivered and (row.record.ended_at or 0) >= since
        )
        return self._call("list_undelivered", lambda: self._page(found, limit, cursor))

    def list_by_target(self, target: str, since: int, limit: int, cursor: str | None) -> Page:
        found = (
            (-row.record.created_at, row.record)
            for row in self.rows.values()
            if row.record.target_hash == hash_target(target) and row.record.created_at >= since
        )
        return self._call("list_by_target", lambda: self._page(found, limit, cursor))

    def _page(self, found: Iterable[tuple[int, Record]], limit: int, cursor: str | None) -> Page:
        after = _read_cursor(cursor)
        places = sorted(((order, r.id) for order, r in found), key=lambda place: place)
        rest = [place for place in places if after is None or place > after]
        records = self._without_payloads([message_id for _, message_id in rest[:limit]])
        more = len(rest) > limit
        return Page(list(records.values()), _write_cursor(rest[limit - 1]) if more else None)

    def _indexed(self) -> Iterable[Record]:
        return (row.record for row in self.rows.values() if row.overdue)

    def _without_payloads(self, message_ids: Sequence[str]) -> dict[str, Record]:
        return {i: replace(self.rows[i].record, payload=b"") for i in dict.fromkeys(message_ids) if i in self.rows}

    def _record(self, message_id: str) -> Record | None:
        return self.rows[message_id].record if message_id in self.rows else None

    def _expect(self, message_id: str, condition: Callable[[Record], bool]) -> tuple[Record, Row]:
        row = self.rows.get(message_id)
        if row is None or not condition(row.record):
            raise Stale(None if row is None else row.record)
        return row.record, row

    def _write(self, operation: str, row: Row) -> Record:
        change = Change(operation, self._record(row.record.id), row.record)
        self.rows[row.record.id] = row
        self.changes.append(change)
        self.on_change(change)
        return row.record

    def _call(self, operation: str, effect: Callable[[], T]) -> T:
        def atomically() -> T:
            with self._lock:
                return effect()

        return self.wire.call(f"dynamodb.{operation}", atomically)


def _claimable(record: Record, claim: Claim) -> bool:
    return (
        record.open
        and record.expires_at > claim.now
        and record.attempt == claim.attempt - 1
        and record.base == claim.base
        and record.due_at <= claim.now
        and (record.max_attempts is None or record.max_attempts >= claim.attempt - claim.base)
        and (claim.task is None or record.scheduler is Scheduler.WORKFLOW)
    )


def _in_ring(attempts: Sequence[Attempt], new: Attempt) -> tuple[Attempt, ...]:
    kept = [a for a in attempts if a.n % ATTEMPTS_KEPT != new.n % ATTEMPTS_KEPT]
    return tuple(sorted([*kept, new], key=lambda a: a.n))


def _holds(record: Record, claimed: Record) -> bool:
    slot = claimed.attempt % ATTEMPTS_KEPT
    return any(a.n % ATTEMPTS_KEPT == slot and a.claim == claimed.claim for a in record.attempts)


def _with_outcome(record: Record, claimed: Record, outcome: Outcome) -> Record:
    def filled(attempt: Attempt) -> Attempt:
        if attempt.claim != claimed.claim:
            return attempt
        return replace(
            attempt,
            outcome=outcome.kind,
            reason=outcome.reason,
            latency_ms=outcome.latency_ms,
            http_status=outcome.http_status,
        )

    return replace(record, attempts=tuple(map(filled, record.attempts)))


def _ended(row: Row, ending: Ending) -> Row:
    record = replace(
        row.record,
        status=ending.status,
        ended_at=ending.at,
        reason=ending.reason,
        lease_until=None,
        acked_at=ending.at if ending.status is Status.DELIVERED else row.record.acked_at,
        untold=ending.untold_until,
        sweep_at=None if ending.untold_until is None else ending.sweep_at,
    )
    return Row(
        record,
        overdue=ending.untold_until is not None,
        undelivered=ending.status in UNDELIVERED,
        ttl=ending.ttl,
    )


def _write_cursor(place: tuple[int, str]) -> str:
    return base64.urlsafe_b64encode(json.dumps(place).encode()).decode()


def _read_cursor(cursor: str | None) -> tuple[int, str] | None:
    if cursor is None:
        return None
    try:
        order, message_id = json.loads(base64.urlsafe_b64decode(cursor))
    except (ValueError, TypeError, binascii.Error):
        raise Invalid("cursor", cursor, "the next_cursor of the page before, for the same query") from None
    return int(order), str(message_id)
