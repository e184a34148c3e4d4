"""The messages table in DynamoDB. Every write is conditional; reads are consistent but for the indexes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from handlers.aws.errors import ConditionFailed, mapped
from handlers.aws.items import from_item, slot, stored, to_item, wire
from handlers.aws.listing import Listing, Place
from handlers.aws.updates import Update
from handlers.delivery.channel import Outcome
from handlers.delivery.errors import Unavailable
from handlers.delivery.message import SHARDS, UNDELIVERED, Record, Scheduler, Status, hash_target, shard_of
from handlers.delivery.ports import Claim, Ending, Move, Page, Stale
from handlers.delivery.schedule import MAX_DELAYS

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

_BATCH = 100
"""BatchGetItem's limit."""
_READ_ROUNDS = 3
_SHARDS = [str(shard) for shard in range(SHARDS)]
_WITHOUT_PAYLOAD = (
    "id", "caller", "target", "channel", "content_type", "schedule", "created_at", "expires_at", "due_at",
    "body_hash", "max_attempts", "labels", "scheduler", "workflow", "task", "generation", "status", "life", "base",
    "attempt", "token", "lease_until", "claims", "sweep_at", "sweeps", "untold", "ended_at", "reason", "nack_reason",
    "acked_at", "late_ack_at", "attempts", "dues",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class DynamoStore:
    """`handlers.delivery.ports.Store` over one DynamoDB table."""

    client: "DynamoDBClient"
    table: str

    def put(self, record: Record) -> Record | None:
        """See `Store.put`."""
        try:
            with mapped("dynamodb"):
                self.client.put_item(
                    TableName=self.table,
                    Item=to_item(record),
                    ConditionExpression="attribute_not_exists(id)",
                    ReturnValuesOnConditionCheckFailure="ALL_OLD",
                )
        except ConditionFailed as failure:
            return from_item(failure.item)
        return None

    def get(self, message_id: str) -> Record | None:
        """See `Store.get`."""
        with mapped("dynamodb"):
            answer = self.client.get_item(TableName=self.table, Key=_key(message_id), ConsistentRead=True)
        return from_item(answer["Item"]) if "Item" in answer else None

    def get_many(self, message_ids: Sequence[str]) -> Mapping[str, Record]:
        """See `Store.get_many`."""
        ids = list(dict.fromkeys(message_ids))
        records: dict[str, Record] = {}
        for start in range(0, len(ids), _BATCH):
            records.update(self._read(ids[start : start + _BATCH]))
        return records

    def _read(self, ids: Sequence[str]) -> dict[str, Record]:
        names = {f"#f{i}": name for i, name in enumerate(_WITHOUT_PAYLOAD)}
        request: dict[str, Any] = {
            self.table: {
                "Keys": [_key(i) for i in ids],
                "ConsistentRead": True,
                "ProjectionExpression": ", ".join(names),
                "ExpressionAttributeNames": names,
            }
        }
        records: dict[str, Record] = {}
        for _ in range(_READ_ROUNDS):
            with mapped("dynamodb"):
                answer = self.client.batch_get_item(RequestItems=request)
            records.update({r.id: r for r in map(from_item, answer["Responses"].get(self.table, []))})
            request = dict(answer.get("UnprocessedKeys", {}))
            if not request:
                return records
        raise Unavailable("dynamodb", "UnprocessedKeys")

    def claim(self, claim: Claim) -> Record:
        """See `Store.claim`. The delay is looked up by the write itself, in the record's schedule."""
        step = claim.attempt - claim.base
        update = self._taking(claim, claims=1)
        index = min(step - 1, MAX_DELAYS)
        delay = f"if_not_exists({update.name('schedule')}[{index}], {update.name('last_delay')})"
        # Before due_at is moved: what it was is when this attempt was due.
        update.sets.insert(0, f"{update.name(f'dues.{slot(claim.attempt)}')} = {update.name('due_at')}")
        update.set_expression("due_at", f"{update.value(claim.now)} + {delay}")
        if step > 1:
            # The first claim leaves the index alone: moving a key costs two write units.
            update.set_expression("sweep_at", f"{update.value(claim.now + claim.grace)} + {delay}")
        update.set("attempt", claim.attempt).set("status", str(Status.AWAITING_ACK)).remove("sweeps")
        update.when("attempt", claim.attempt - 1).when("base", claim.base)
        update.when("due_at", claim.now, "<=").when_within("max_attempts", step)
        if claim.task is not None:
            update.set("task", claim.task).when("scheduler", str(Scheduler.WORKFLOW))
        return self._update(claim.message_id, update)

    def reclaim(self, claim: Claim, seen: Record) -> Record:
        """See `Store.reclaim`."""
        update = self._taking(claim, claims=seen.claims + 1)
        update.set("due_at", claim.now + seen.delay * 1000)
        update.set("sweep_at", claim.now + seen.delay * 1000 + claim.grace).remove("sweeps")
        update.when("attempt", seen.attempt).when("token", seen.token)
        update.when("lease_until", claim.now, "<=")
        if claim.task is not None:
            update.set("task", claim.task)
        return self._update(claim.message_id, update)

    @staticmethod
    def _taking(claim: Claim, claims: int) -> Update:
        entry = {"n": claim.attempt, "s": claim.now, "c": claim.token}
        update = Update().set(f"attempts.{slot(claim.attempt)}", entry)
        update.set("token", claim.token).set("lease_until", claim.lease_until).set("claims", claims)
        return update.when_open().when("expires_at", claim.now, ">")

    def record(
        self,
        claimed: Record,
        outcome: Outcome,
        *,
        move: Move | None = None,
        ending: Ending | None = None,
        sweep_at: int | None = None,
    ) -> Record:
        """See `Store.record`."""
        update = self._outcome(claimed, outcome).when_open().when("attempt", claimed.attempt)
        if move is not None:
            update.set("due_at", move.due_at).set("token", move.token).when("token", claimed.token)
        if ending is not None:
            _end(update, claimed.id, ending)
        else:
            update.remove("lease_until")
            if sweep_at is not None:
                update.set("sweep_at", sweep_at)
        try:
            return self._update(claimed.id, update)
        except Stale:
            self._update(claimed.id, self._outcome(claimed, outcome))
            raise

    @staticmethod
    def _outcome(claimed: Record, outcome: Outcome) -> Update:
        path = f"attempts.{slot(claimed.attempt)}"
        update = Update().set(f"{path}.o", str(outcome.kind)).set(f"{path}.r", outcome.reason)
        update.set(f"{path}.ms", outcome.latency_ms).set(f"{path}.h", outcome.http_status)
        return update.when(f"{path}.c", claimed.claim)

    def move(self, seen: Record, move: Move, reason: str | None) -> Record:
        """See `Store.move`."""
        update = Update().set("due_at", move.due_at).set("token", move.token)
        if reason is not None:
            update.set("nack_reason", reason)
        update.when_open().when("attempt", seen.attempt).when("token", seen.token or None)
        return self._update(seen.id, update)

    def end(
        self, message_id: str, ending: Ending, *, seen: Record | None = None, target_hash: str | None = None
    ) -> Record:
        """See `Store.end`."""
        update = Update().when_open()
        _end(update, message_id, ending)
        if seen is not None:
            update.when("attempt", seen.attempt).when("token", seen.token or None)
        if target_hash is not None:
            update.when("target_hash", target_hash)
        return self._update(message_id, update)

    def late_ack(self, message_id: str, at: int) -> Record:
        """See `Store.late_ack`."""
        update = Update().set("late_ack_at", at).when("late_ack_at", None).when_undelivered()
        return self._update(message_id, update)

    def claim_telling(self, record: Record, until: int) -> bool:
        """See `Store.claim_telling`."""
        return self._succeeds(record.id, Update().set("untold", until).when("untold", record.untold))

    def told(self, record: Record) -> None:
        """See `Store.told`."""
        update = Update().remove("untold", "sweep_shard", "sweep_at")
        self._succeeds(record.id, update.when("untold", record.untold))

    def postpone_sweep(self, record: Record, sweep_at: int, sweeps: int, scheduler: Scheduler | None = None) -> bool:
        """See `Store.postpone_sweep`."""
        update = Update().set("sweep_at", sweep_at).set("sweeps", sweeps)
        if scheduler is not None:
            update.set("scheduler", stored(scheduler))
        return self._succeeds(record.id, update.when("sweep_at", record.sweep_at).when_open())

    def hand_over(self, record: Record) -> bool:
        """See `Store.hand_over`."""
        update = Update().remove("scheduler").when_open()
        update.when("scheduler", str(Scheduler.WORKFLOW)).when("life", record.life)
        return self._succeeds(record.id, update)

    def restart(self, record: Record, generation: int) -> bool:
        """See `Store.restart`."""
        update = Update().set("generation", generation).when_open()
        update.when("scheduler", str(Scheduler.WORKFLOW)).when("life", record.life).when_below("generation", generation)
        return self._succeeds(record.id, update)

    def reopen(self, seen: Record, reopened: Record) -> Record:
        """See `Store.reopen`."""
        update = Update()
        for field in ("life", "base", "due_at", "expires_at", "sweep_at"):
            update.set(field, getattr(reopened, field))
        update.set("status", str(reopened.status)).set("sweep_shard", reopened.shard)
        update.set("scheduler", stored(reopened.scheduler))
        update.remove("sweeps", "ended_at", "reason", "ttl", "undelivered_shard", "lease_until")
        update.remove("task", "generation")
        update.when("status", str(seen.status)).when("life", seen.life)
        update.when("late_ack_at", None).when("untold", None)
        return self._update(seen.id, update)

    def overdue(self, now: int, limit: int) -> Sequence[str]:
        """See `Store.overdue`."""
        listing = self._listing("overdue", "sweep_shard", "sweep_at", forward=True)
        share = max(1, limit // SHARDS)
        return [place.message_id for shard in range(SHARDS) for place in listing.upto(str(shard), now, share)]

    def list_open(self, limit: int, cursor: str | None) -> Page:
        """See `Store.list_open`."""
        listing = self._listing("overdue", "sweep_shard", "sweep_at", forward=True)
        return self._page(listing.page(_SHARDS, 0, limit, cursor))

    def list_undelivered(self, since: int, limit: int, cursor: str | None) -> Page:
        """See `Store.list_undelivered`."""
        listing = self._listing("undelivered", "undelivered_shard", "ended_at", forward=False)
        return self._page(listing.page(_SHARDS, since, limit, cursor))

    def list_by_target(self, target: str, since: int, limit: int, cursor: str | None) -> Page:
        """See `Store.list_by_target`."""
        listing = self._listing("by-target", "target_hash", "created_at", forward=False)
        return self._page(listing.page([hash_target(target)], since, limit, cursor))

    def _listing(self, index: str, partition: str, order: str, *, forward: bool) -> Listing:
        return Listing(self.client, self.table, index, partition, order, forward)

    def _page(self, found: tuple[Sequence[Place], str | None]) -> Page:
        places, cursor = found
        records = self.get_many([place.message_id for place in places])
        # The index lags: what has gone from the table is left out.
        return Page([records[p.message_id] for p in places if p.message_id in records], cursor)

    def _update(self, message_id: str, update: Update) -> Record:
        try:
            with mapped("dynamodb"):
                answer = self.client.update_item(
                    TableName=self.table,
                    Key=_key(message_id),
                    ReturnValues="ALL_NEW",
                    ReturnValuesOnConditionCheckFailure="ALL_OLD",
                    **update.request(),
                )
        except ConditionFailed as failure:
            raise Stale(from_item(failure.item) if failure.item else None) from None
        return from_item(answer["Attributes"])

    def _succeeds(self, message_id: str, update: Update) -> bool:
        try:
            self._update(message_id, update)
        except Stale:
            return False
        return True


def _key(message_id: str) -> dict[str, Any]:
    return {"id": wire(message_id)}


def _end(update: Update, message_id: str, ending: Ending) -> None:
    """The parts of a write that ends a message: out of the open index, into the undelivered one."""
    update.set("status", str(ending.status)).set("ended_at", ending.at).set("reason", ending.reason)
    update.set("ttl", ending.ttl).remove("lease_until")
    if ending.status is Status.DELIVERED:
        update.set("acked_at", ending.at)
    if ending.status in UNDELIVERED:
        update.set("undelivered_shard", shard_of(message_id))
    if ending.untold_until is None:
        update.remove("sweep_shard", "sweep_at")
    else:
        update.set("untold", ending.untold_until).set("sweep_at", ending.sweep_at)
