"""Failure is heard: what happens to a message is published, and its bad endings reach a person."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from handlers.delivery.errors import Unavailable
from handlers.delivery.lifecycle import End
from handlers.delivery.message import ALERTING, UNDELIVERED, Record, Status
from handlers.delivery.ports import Clock, Ending, Executions, Log, Store, Topics
from handlers.delivery.workflows import CATALOGUE, EndedBy

EVENT_VERSION = 1
TELL_LEASE = 30_000
"""Milliseconds for which the one who ended a message is left alone with telling it."""


def iso(millis: int) -> str:
    """Milliseconds since the epoch as ISO 8601 in UTC."""
    moment = datetime.fromtimestamp(millis / 1000, UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def event_of(record: Record, kind: str, at: int) -> dict[str, Any]:
    """The event that tells subscribers of a message. They deduplicate on `event_id`."""
    return {
        "v": EVENT_VERSION,
        "event_id": f"{record.id}.{record.life}.{record.status if kind == 'ended' else kind}",
        "type": kind,
        "message_id": record.id,
        "life": record.life,
        "status": str(record.status),
        "reason": record.reason,
        "channel": record.channel,
        "target": record.target,
        "attempts": record.attempt,
        "labels": dict(record.labels),
        "at": iso(at),
    }


_UNDELIVERED = (
    "A message did not arrive.",
    "It is kept. To try again, when the reason is gone: POST /messages/{id}/redeliver.",
)
_STUCK = (
    "A message is overdue, and putting it back to its channel's queue has not helped.",
    "It is kept, and is tried no more by itself. Look at the channel's function, queue and dead letters.",
)


def alert_of(record: Record, subject: str, first: str, last: str) -> tuple[str, str]:
    """Subject and text of the mail that tells a person: what, of which message, and what to do."""
    lines = [
        first,
        "",
        f"Message:   {record.id} (life {record.life})",
        f"Target:    {record.target}",
        f"Channel:   {record.channel}",
        f"Status:    {record.status}",
        f"Reason:    {record.reason or 'none given'}",
        f"Attempts:  {record.attempt}",
        f"Submitted: {iso(record.created_at)}",
        f"Expires:   {iso(record.expires_at)}",
    ]
    if record.attempts:
        latest = record.attempts[-1]
        lines.append(f"Latest:    attempt {latest.n} at {iso(latest.sent_at)}: {latest.reason or 'no outcome'}")
    lines += [f"Label:     {name} = {value}" for name, value in sorted(record.labels.items())]
    lines += ["", *last.replace("{id}", record.id).splitlines()]
    return f"until-ack: message {record.id} {subject}", "\n".join(map(_one_line, lines)) + "\n"


def _one_line(text: str) -> str:
    # Reasons and labels are others' words: no line of their own, and no character that SNS refuses.
    return "".join(c if c.isprintable() else " " for c in text)


_TROUBLED = (
    "The execution that delivered a message has failed. The message goes on without it.",
    "Nothing needs to be done for this message. Look at why the execution failed: others may fail likewise.",
)


@dataclass(frozen=True, slots=True)
class Teller:
    """Ends messages and tells of it. `grace` in milliseconds, `retention` in seconds.

    `executions` is None where the execution itself asks, and so learns of the end by the answer.
    """

    store: Store
    topics: Topics
    executions: Executions | None
    clock: Clock
    log: Log
    grace: int
    retention: int

    def ending(self, status: Status, reason: str | None = None) -> Ending:
        """An ending as of now; an undelivered one is untold until it has been published."""
        now = self.clock()
        ttl = now // 1000 + self.retention
        if status not in UNDELIVERED:
            return Ending(status, now, reason, ttl=ttl)
        return Ending(status, now, reason, untold_until=now + TELL_LEASE, sweep_at=now + self.grace, ttl=ttl)

    def end(self, seen: Record, step: End) -> Record:
        """End an open message undelivered, as it was seen, and tell. Raises `Stale` and `Unavailable`."""
        ended = self.store.end(seen.id, self.ending(step.status, step.reason), seen=seen)
        self.tell(ended)
        return ended

    def tell(self, record: Record) -> None:
        """Publish an ending and note that it is told. Raises `Unavailable`; then it stays untold."""
        self.log.count("Ended", status=str(record.status), channel=record.channel)
        self.release(record)
        self.topics.publish(event_of(record, "ended", record.ended_at or self.clock()))
        if record.status in ALERTING:
            self.topics.alert(*alert_of(record, f"ended {record.status}", *_UNDELIVERED))
        if record.untold is not None:
            self.store.told(record)

    def try_to_tell(self, record: Record) -> None:
        """Tell, and leave it to the sweep when that fails: the caller's own work is done."""
        try:
            self.tell(record)
        except Unavailable as error:
            self.log.warning("ending not told yet", message_id=record.id, error=str(error))

    def retell(self, record: Record) -> None:
        """Tell an ending that somebody died at; not one that somebody is still telling."""
        now = self.clock()
        if record.untold is None or now < record.untold:
            return
        until = now + TELL_LEASE
        if self.store.claim_telling(record, until):
            self.tell(replace(record, untold=until))

    def release(self, record: Record) -> None:
        """Complete what waits for an ended message: its task, its execution, or nothing.

        Repeats are harmless, and so is a failure: the execution finds the end by itself, later.
        """
        workflow = CATALOGUE.get(record.workflow or "")
        if workflow is None or self.executions is None:
            return
        try:
            if workflow.ended_by is EndedBy.STOP:
                self.executions.stop(record)
            elif workflow.ended_by is EndedBy.TASK:
                answered = record.task is not None and self.executions.answer(
                    record.task, {"status": str(record.status)}
                )
                if workflow.pulled and not answered:
                    # The task that waits now has not been pulled; it might wait for a worker for ever.
                    self.executions.stop(record)
        except Unavailable as error:
            self.log.warning("execution not told yet", message_id=record.id, error=str(error))

    def note(self, record: Record, kind: str) -> None:
        """Publish something that is not an ending; losing it loses no message."""
        try:
            self.topics.publish(event_of(record, kind, self.clock()))
        except Unavailable as error:
            self.log.warning("event not published", message_id=record.id, type=kind, error=str(error))

    def stuck(self, record: Record) -> None:
        """Tell a person that takeovers have not helped. Raises `Unavailable`."""
        self.topics.publish(event_of(record, "stuck", self.clock()))
        self.topics.alert(*alert_of(record, "is stuck", *_STUCK))

    def troubled(self, record: Record, trouble: str) -> None:
        """Tell a person that a message lost its execution. Raises `Unavailable`."""
        self.topics.publish(event_of(record, "taken_over", self.clock()))
        first, last = _TROUBLED
        self.topics.alert(*alert_of(record, "lost its execution", first, f"{last}\nTrouble:   {_one_line(trouble)}"))


def attributes_of(event: Mapping[str, Any]) -> dict[str, str]:
    """The event's message attributes, which filter policies select by."""
    return {"type": event["type"], "status": event["status"], "channel": event["channel"]}
