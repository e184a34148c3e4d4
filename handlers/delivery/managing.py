"""What producers and operators do with a message that exists: read, list, cancel, redeliver."""

from dataclasses import dataclass, replace

from handlers.delivery.errors import Conflict, Invalid, NotFound, Unavailable
from handlers.delivery.message import OPEN, UNDELIVERED, Record, Scheduler, Status
from handlers.delivery.ports import Clock, Log, Page, Stale, Store
from handlers.delivery.starting import Starter
from handlers.delivery.telling import Teller
from handlers.delivery.workflows import CATALOGUE, default_life

MAX_PAGE = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Registrar:
    """Reads and cancels messages."""

    store: Store
    teller: Teller
    log: Log

    def get(self, message_id: str) -> Record:
        """One message. Raises `NotFound`."""
        record = self.store.get(message_id)
        if record is None:
            raise NotFound
        return record

    def page(self, status: str | None, target: str | None, since: int, limit: int, cursor: str | None) -> Page:
        """A page of messages by status, target and time. A status may be `open` or `undelivered` too.

        Filtering by status within a target may make a page shorter than its limit.
        Raises `Invalid` when neither an index for the status nor a target says where to look.
        """
        wanted = _wanted(status)
        if target is not None:
            page = self.store.list_by_target(target, since, limit, cursor)
        elif wanted and wanted <= OPEN:
            page = self.store.list_open(limit, cursor)
        elif wanted and wanted <= UNDELIVERED:
            page = self.store.list_undelivered(since, limit, cursor)
        else:
            raise Invalid("target", None, "given, unless status is open or undelivered")
        kept = [r for r in page.records if (not wanted or r.status in wanted) and _when(r, wanted) >= since]
        return Page(kept, page.cursor)

    def cancel(self, message_id: str) -> Record:
        """End an open message CANCELLED; a repeat changes nothing.

        Raises `NotFound`, or `Conflict` when it has ended otherwise.
        """
        try:
            ended = self.store.end(message_id, self.teller.ending(Status.CANCELLED, "cancelled"))
        except Stale as stale:
            if stale.old is None:
                raise NotFound from None
            if stale.old.status is Status.CANCELLED:
                return stale.old
            raise Conflict("ended", f"the message has ended {stale.old.status}") from None
        self.log.info("cancelled", message_id=message_id)
        self.teller.try_to_tell(ended)
        return ended


@dataclass(frozen=True, slots=True, kw_only=True)
class Redeliverer:
    """Opens the next life of a message. `grace` in milliseconds, `default_expires_in` in seconds."""

    store: Store
    starter: Starter
    teller: Teller
    clock: Clock
    log: Log
    grace: int
    default_expires_in: int

    def redeliver(self, message_id: str, expires_in: int | None = None) -> Record:
        """Open life k+1 of a message that ended undelivered, and make its next attempt now.

        Attempt numbers go on, the schedule starts anew. Raises `NotFound`, `Conflict` when the
        message is open, was delivered or has a late ACK, `Invalid` for a life that its workflow cannot last,
        and `Unavailable`.
        """
        record = self._told(message_id)
        if record.open:
            raise Conflict("open", f"the message is {record.status}; it is still being delivered")
        if record.status is Status.DELIVERED or record.late_ack_at is not None:
            raise Conflict("delivered", "the target has acknowledged this message")
        now = self.clock()
        lasts = self._expires_in(record, expires_in)
        reopened = replace(
            record,
            status=Status.PENDING,
            life=record.life + 1,
            base=record.attempt,
            due_at=now,
            expires_at=now + lasts * 1000,
            sweep_at=now + self.grace,
            sweeps=0,
            ended_at=None,
            reason=None,
            lease_until=None,
            scheduler=Scheduler.QUEUES if record.workflow is None else Scheduler.WORKFLOW,
            task=None,
            generation=1,
        )
        try:
            stored = self.store.reopen(record, reopened)
        except Stale:
            raise Conflict("open", "the message was redelivered or acknowledged meanwhile") from None
        self.log.info("redelivered", message_id=message_id, life=stored.life)
        self.starter.start([stored])
        return stored

    def _expires_in(self, record: Record, expires_in: int | None) -> int:
        """Seconds that the new life lasts: as asked, else the default, which an Express workflow may cut."""
        workflow = CATALOGUE.get(record.workflow or "")
        longest = None if workflow is None else workflow.longest
        if expires_in is None:
            return default_life(record.workflow, self.default_expires_in)
        if longest is not None and expires_in > longest:
            raise Invalid("expires_in", expires_in, f"at most {longest} for workflow {record.workflow}")
        return expires_in

    def _told(self, message_id: str) -> Record:
        """The record, once its ending has been told: a new life must not swallow the alert."""
        record = self.store.get(message_id)
        if record is not None and record.untold is not None:
            self.teller.retell(record)
            record = self.store.get(message_id)
        if record is None:
            raise NotFound
        if record.untold is not None:
            raise Unavailable("sns", "the ending is still being told")
        return record


def _wanted(status: str | None) -> frozenset[Status]:
    if status is None:
        return frozenset()
    if status in ("open", "undelivered"):
        return OPEN if status == "open" else UNDELIVERED
    try:
        return frozenset({Status(status)})
    except ValueError:
        names = ", ".join(["open", "undelivered", *Status])
        raise Invalid("status", status, f"one of {names}") from None


def _when(record: Record, wanted: frozenset[Status]) -> int:
    """The time that `since` is held against: the ending of what ended badly, else the submission."""
    if wanted and wanted <= UNDELIVERED and record.ended_at is not None:
        return record.ended_at
    return record.created_at
