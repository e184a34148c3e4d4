"""The target's answers: ACK and NACK, over whatever brings them."""

from dataclasses import dataclass

from handlers.delivery.capability import Capability, Keyring
from handlers.delivery.errors import Forbidden, NotFound, Unavailable
from handlers.delivery.jobs import Timer
from handlers.delivery.message import Record, Scheduler, Status
from handlers.delivery.ports import Clock, Log, Move, NewToken, Queues, Stale, Store
from handlers.delivery.telling import Teller

RACES = 5
"""How often a NACK looks again when the record moves under it."""


@dataclass(frozen=True, slots=True)
class Answered:
    """What the target is told: how the message stands, and whether its answer came late."""

    message_id: str
    status: Status
    late: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Desk:
    """Takes ACKs and NACKs. `timer_cap` in seconds."""

    store: Store
    queues: Queues
    keyring: Keyring
    teller: Teller
    clock: Clock
    new_token: NewToken
    log: Log
    timer_cap: int

    def admit(self, text: str, message_id: str | None = None) -> Capability:
        """Check a capability, before any other I/O. Raises `Forbidden`."""
        capability = self.keyring.verify(text, self.clock())
        if message_id is not None and capability.message_id != message_id:
            raise Forbidden
        return capability

    def ack(self, capability: Capability) -> Answered:
        """Record an ACK: it ends an open message, repeats are harmless, a late one is kept.

        Raises `NotFound` when the record has been deleted after its retention.
        """
        for _ in range(RACES):
            ending = self.teller.ending(Status.DELIVERED, "acknowledged")
            try:
                record = self.store.end(capability.message_id, ending, target_hash=capability.target_hash)
            except Stale as stale:
                answered = self._again(self._own(stale.old, capability))
                if answered is not None:
                    return answered
                continue
            self.log.info("acknowledged", message_id=record.id, attempt=record.attempt)
            self.teller.try_to_tell(record)
            return Answered(record.id, record.status)
        raise Unavailable("dynamodb", "the record kept moving")

    def _again(self, record: Record) -> Answered | None:
        """Answer an ACK for an ended message; None when it was redelivered meanwhile."""
        # Whoever closed the record may have died before it completed what waits.
        if not record.open:
            self.teller.release(record)
        if record.status is Status.DELIVERED:
            return Answered(record.id, record.status)
        if record.late_ack_at is not None:
            return Answered(record.id, record.status, late=True)
        try:
            kept = self.store.late_ack(record.id, self.clock())
        except Stale:
            return None
        self.log.info("late ACK", message_id=kept.id, status=str(kept.status))
        self.log.count("LateAcks", channel=kept.channel)
        self.teller.note(kept, "late_ack")
        return Answered(kept.id, kept.status, late=True)

    def nack(self, capability: Capability, reason: str, retry_after: int | None) -> Answered:
        """Record a NACK: final, or with `retry_after` (seconds) a later next attempt.

        For an ended message it changes nothing and succeeds. Raises `NotFound` as `ack` does.
        """
        for _ in range(RACES):
            record = self._own(self.store.get(capability.message_id), capability)
            if not record.open:
                self.teller.release(record)
                return Answered(record.id, record.status, late=record.status is not Status.REJECTED)
            try:
                if retry_after is None:
                    return self._reject(record, reason)
                return self._put_off(record, reason, retry_after)
            except Stale:
                continue
        raise Unavailable("dynamodb", "the record kept moving")

    def _reject(self, record: Record, reason: str) -> Answered:
        ending = self.teller.ending(Status.REJECTED, f"NACK: {reason}")
        ended = self.store.end(record.id, ending, target_hash=record.target_hash)
        self.log.info("rejected by its target", message_id=record.id, attempt=record.attempt)
        self.teller.try_to_tell(ended)
        return Answered(ended.id, ended.status)

    def _put_off(self, record: Record, reason: str, retry_after: int) -> Answered:
        now = self.clock()
        due_at = max(record.due_at, now + retry_after * 1000)
        token = self.new_token()
        if record.scheduler is Scheduler.QUEUES:
            timer = Timer(record.id, record.attempt, token)
            post = timer.post(record, min(due_at, record.expires_at), now, self.queues.timers, self.timer_cap)
            if self.queues.send([post]):
                raise Unavailable("sqs", "SendMessageBatch.Failed")
        # An execution learns of it when it asks too early.
        moved = self.store.move(record, Move(due_at, token), reason)
        return Answered(moved.id, moved.status)

    @staticmethod
    def _own(record: Record | None, capability: Capability) -> Record:
        if record is None:
            raise NotFound
        if record.target_hash != capability.target_hash:
            raise Forbidden
        return record
