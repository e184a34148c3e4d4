"""The fake store and the one over DynamoDB answer any sequence of writes alike."""

from collections.abc import Iterator
from dataclasses import replace
from itertools import count
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from handlers.aws.store import DynamoStore
from handlers.delivery.channel import Kind, Outcome
from handlers.delivery.message import UNDELIVERED, Record, Scheduler, Status
from handlers.delivery.ports import Ending, Move, Stale, Store
from tests.fakes.dynamodb import create_table, moto_dynamodb
from tests.fakes.examples import examples
from tests.fakes.records import a_record, claim_of
from tests.fakes.store import MemoryStore
from tests.fakes.world import START

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

FIRST = a_record(
    schedule=(1, 2),
    expires_at=START + 200_000,
    labels={"a": "b"},
    max_attempts=4,
    scheduler=Scheduler.WORKFLOW,
    workflow="delivery_callback",
)
OTHER = a_record(2, max_attempts=None)
_tables = count(1)

OPERATIONS = """
claim, claim, record, record, reclaim, move, end, end as seen, late_ack, claim_telling, told, postpone_sweep, take over,
hand_over, restart, reopen
"""
operations = st.sampled_from([operation.strip() for operation in OPERATIONS.split(",")])
times = st.sampled_from([0, 999, 1000, 3000, 41_000, 90_000, 199_999, 200_000])
tokens = st.sampled_from(["t1", "t2", "t3"])
endings = st.sampled_from([Status.DELIVERED, Status.REJECTED, Status.EXPIRED, Status.CANCELLED])
outcomes = st.sampled_from([Outcome(Kind.SENT, "http_200", 5, 200), Outcome(Kind.FAILED, "refused", 7)])
steps = st.tuples(operations, times, tokens, endings, outcomes, st.booleans(), st.integers(0, 3))
Step = tuple[str, int, str, Status, Outcome, bool, int]


@pytest.fixture(scope="module")
def dynamodb() -> "Iterator[DynamoDBClient]":
    with moto_dynamodb() as client:
        yield client


@examples(12)
@given(script=st.lists(steps, min_size=5, max_size=25))
def test_any_writes_have_the_same_effect(dynamodb: "DynamoDBClient", script: list[Step]) -> None:
    name = f"alike-{next(_tables)}"
    create_table(dynamodb, name)
    fake, real = Replay(MemoryStore()), Replay(DynamoStore(dynamodb, name))
    for step in script:
        assert fake.do(step) == real.do(step), step
    assert fake.everything() == real.everything()


class Replay:
    """Applies steps to a store. What a writer had seen may be the newest record, or an older one."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.seen: list[Record] = [FIRST]
        store.put(FIRST)
        store.put(OTHER)

    def do(self, step: Step) -> object:
        back = step[-1]
        seen = self.seen[max(0, len(self.seen) - 1 - back)]
        try:
            result = self._write(step, seen)
        except Stale as stale:
            return ("stale", stale.old)
        finally:
            now = self.store.get(FIRST.id)
            if now is not None and now != self.seen[-1]:
                self.seen.append(now)
        return result

    def _write(self, step: Step, seen: Record) -> object:
        operation, offset, token, status, outcome, flag, _ = step
        now, store = START + offset, self.store
        untold = now + 30_000 if status in UNDELIVERED else None
        ending = Ending(status, now, "why", untold, None if untold is None else now + 9, now // 1000)
        match operation:
            case "claim":
                return store.claim(claim_of(seen, now, token, task=f"task {token}" if flag else None))
            case "reclaim":
                if not seen.attempt or seen.lease_until is None:
                    return None
                task = f"task {token}" if flag else None
                return store.reclaim(claim_of(seen, now, token, seen.attempt, task=task), seen)
            case "record":
                if not seen.claim:
                    return None
                move = Move(now + 7, "moved") if flag else None
                return store.record(
                    seen, outcome, move=move, ending=ending if flag and offset else None, sweep_at=now + 3
                )
            case "move":
                return store.move(seen, Move(now + 5, token), "busy")
            case "end":
                return store.end(seen.id, ending, target_hash=seen.target_hash if flag else None)
            case "end as seen":
                return store.end(seen.id, ending, seen=seen)
            case "late_ack":
                return store.late_ack(seen.id, now)
            case "claim_telling":
                return seen.untold is not None and store.claim_telling(seen, now)
            case "told":
                if seen.untold is not None:
                    store.told(seen)
                return None
            case "postpone_sweep":
                return store.postpone_sweep(seen, now + 11, seen.sweeps + 1)
            case "take over":
                return store.postpone_sweep(seen, now + 11, seen.sweeps + 1, Scheduler.QUEUES)
            case "hand_over":
                return store.hand_over(seen)
            case "restart":
                return store.restart(seen, seen.generation + (1 if flag else 2))
            case "reopen":
                scheduler = Scheduler.WORKFLOW if flag else Scheduler.QUEUES
                return store.reopen(seen, replace(self._reopened(seen, now), scheduler=scheduler))
        return store.get(seen.id)

    @staticmethod
    def _reopened(seen: Record, now: int) -> Record:
        return replace(
            seen,
            status=Status.PENDING,
            life=seen.life + 1,
            base=seen.attempt,
            due_at=now,
            expires_at=now + 100_000,
            sweep_at=now + 1,
        )

    def everything(self) -> object:
        """All that can be read of the store."""
        store = self.store
        return (
            store.get_many([FIRST.id, OTHER.id]),
            sorted(store.overdue(START + 10_000_000, 100)),
            [r.id for r in store.list_open(100, None).records],
            [r.id for r in store.list_undelivered(0, 100, None).records],
            len(store.list_by_target(FIRST.target, 0, 100, None).records),
        )
