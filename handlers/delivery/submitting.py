"""Taking messages in: durable first, then the first attempt."""

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

from handlers.delivery.errors import Conflict, Invalid, Unavailable
from handlers.delivery.message import Policy, Record, idempotent_id, message_id_for, new_record
from handlers.delivery.ports import Clock, Log, Store
from handlers.delivery.starting import Starter
from handlers.delivery.workflows import check_workflow, default_life

WRITERS = 10
"""Puts side by side: a batch of 100 is ten rounds, and the connection pool holds ten."""


@dataclass(frozen=True, slots=True)
class Accepted:
    """A message that is in the table. `repeated`: an earlier submission put it there."""

    record: Record
    repeated: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Intake:
    """Accepts messages. `grace` in seconds; `checks`, by channel, raise `Invalid` for what it cannot send."""

    store: Store
    starter: Starter
    checks: Mapping[str, Callable[[Record], None]]
    policy: Policy
    clock: Clock
    new_seed: Callable[[], bytes]
    log: Log
    grace: int

    def accept(
        self, bodies: Sequence[Mapping[str, Any] | Invalid], caller: str
    ) -> Sequence[Accepted | Invalid | Conflict | Unavailable]:
        """Accept messages whose fields have the right types; each is judged by itself.

        What was refused before (`Invalid`) keeps its place. An accepted message is in the table,
        and its first attempt in its channel's queue, or its execution started; if only that failed,
        the sweep sees to it.
        """
        with ThreadPoolExecutor(WRITERS) as pool:
            results = list(pool.map(lambda body: self._put(body, caller), bodies))
        self.starter.start([r.record for r in results if isinstance(r, Accepted) and _unattempted(r.record)])
        return results

    def _put(self, body: Mapping[str, Any] | Invalid, caller: str) -> Accepted | Invalid | Conflict | Unavailable:
        if isinstance(body, Invalid):
            return body
        try:
            self._check_channel(body["channel"])
            record = self._record(body, caller)
            check_workflow(record, self.starter.executions.workflows)
            self.checks[record.channel](record)
            existing = self.store.put(record)
        except (Invalid, Unavailable) as error:
            return error
        if existing is None:
            self.log.info("accepted", message_id=record.id, channel=record.channel)
            self.log.count("Accepted", channel=record.channel)
            return Accepted(record, repeated=False)
        if existing.body_hash != record.body_hash or existing.caller != caller:
            return Conflict(
                "idempotency-key-reused",
                f"idempotency_key {body.get('idempotency_key')!r} was used for another message",
            )
        return Accepted(existing, repeated=True)

    def _check_channel(self, channel: str) -> None:
        """A stack may do without a channel that the contract knows."""
        if channel not in self.checks:
            raise Invalid("channel", channel, f"one of {', '.join(sorted(self.checks))}")

    def _record(self, body: Mapping[str, Any], caller: str) -> Record:
        key = body.get("idempotency_key")
        return new_record(
            body,
            message_id=message_id_for(self.new_seed()) if key is None else idempotent_id(caller, key),
            caller=caller,
            policy=replace(
                self.policy, default_expires_in=default_life(body.get("workflow"), self.policy.default_expires_in)
            ),
            now=self.clock(),
            grace=self.grace,
        )


def _unattempted(record: Record) -> bool:
    """A repeat finds such a record when the first submission died before it enqueued."""
    return record.open and record.attempt == record.base
