"""What any store of messages must do: the fake and the one over DynamoDB keep the same contract."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import count
from typing import TYPE_CHECKING, Any

import pytest

from handlers.aws.store import DynamoStore
from handlers.delivery.channel import Kind, Outcome
from handlers.delivery.errors import Invalid
from handlers.delivery.message import ATTEMPTS_KEPT, SHARDS, Record, Scheduler, Status, shard_of
from handlers.delivery.ports import Ending, Move, Page, Stale, Store
from tests.fakes.dynamodb import create_table, moto_dynamodb
from tests.fakes.records import DAY, GRACE, LEASE, SENT, a_record, claim_of, message_id
from tests.fakes.store import MemoryStore
from tests.fakes.world import START

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

SECOND = 1000
_numbers = count(1)
DELIVERED = Ending(Status.DELIVERED, START + 5, "acknowledged", ttl=77)
REJECTED = Ending(Status.REJECTED, START + 6, "no", untold_until=START + 36, sweep_at=START + 99, ttl=78)
EXPIRED = replace(REJECTED, status=Status.EXPIRED)
WORKFLOW: Mapping[str, Any] = {"scheduler": Scheduler.WORKFLOW, "workflow": "delivery_callback"}
"""What a message has that an execution runs."""


@dataclass
class Subject:
    """A store, and a way to look at a record's TTL, which no port shows."""

    store: Store
    ttl: Callable[[str], int | None]


@pytest.fixture(scope="module")
def dynamodb() -> "Iterator[DynamoDBClient]":
    with moto_dynamodb() as client:
        yield client


def _memory() -> Subject:
    store = MemoryStore()
    return Subject(store, lambda i: store.rows[i].ttl)


def _dynamo(client: "DynamoDBClient", name: str) -> Subject:
    create_table(client, name)

    def ttl(i: str) -> int | None:
        item = client.get_item(TableName=name, Key={"id": {"S": i}})["Item"]
        return int(item["ttl"]["N"]) if "ttl" in item else None

    return Subject(DynamoStore(client, name), ttl)


@pytest.fixture(params=["memory", "dynamo"])
def subject(request: pytest.FixtureRequest) -> Subject:
    if request.param == "memory":
        return _memory()
    return _dynamo(request.getfixturevalue("dynamodb"), f"messages-{next(_numbers)}")


@pytest.fixture
def store(subject: Subject) -> Store:
    return subject.store


def put(store: Store, number: int = 1, **fields: Any) -> Record:
    record = a_record(number, **fields)
    assert store.put(record) is None
    return record


def take(store: Store, record: Record, at: int = START, token: str = "t1") -> Record:
    return store.claim(claim_of(record, at, token))


def attempted(store: Store, record: Record, at: int, token: str, outcome: Outcome = SENT) -> Record:
    return store.record(take(store, record, at, token), outcome)


def refused(write: Callable[[], object]) -> Record | None:
    """What stands where a write was refused."""
    with pytest.raises(Stale) as caught:
        write()
    return caught.value.old


def every_page(read: Callable[[str | None], Page]) -> list[str]:
    ids, cursor = list[str](), None
    for _ in range(100):
        page = read(cursor)
        ids += [record.id for record in page.records]
        cursor = page.cursor
        if cursor is None:
            return ids
    raise AssertionError("the pages have no end")


class TestPut:
    def test_what_is_put_is_read_back_whole(self, store: Store) -> None:
        record = put(
            store,
            labels={"order": "17"},
            max_attempts=3,
            schedule=(1, 31_536_000),
            payload=b"\x00\xff byte for byte",
        )
        assert store.get(record.id) == record

    def test_a_workflows_message_is_read_back_whole(self, store: Store) -> None:
        record = put(store, **WORKFLOW)
        assert store.get(record.id) == record
        assert store.get_many([record.id])[record.id] == replace(record, payload=b"")
        (listed,) = store.list_open(10, None).records
        assert (listed.scheduler, listed.workflow) == (Scheduler.WORKFLOW, "delivery_callback")

    def test_an_empty_payload_is_a_payload(self, store: Store) -> None:
        record = put(store, payload=b"")
        assert store.get(record.id) == record

    def test_a_second_put_returns_the_first_record_and_changes_nothing(self, store: Store) -> None:
        first = put(store)
        assert store.put(a_record(payload=b"another")) == first
        assert store.get(first.id) == first

    def test_what_does_not_exist_is_none(self, store: Store) -> None:
        assert store.get(message_id(404)) is None


class TestGetMany:
    def test_reads_without_payloads_and_leaves_out_what_is_missing(self, store: Store) -> None:
        one, two = put(store, 1), put(store, 2)
        found = store.get_many([two.id, message_id(404), one.id, one.id])
        assert found == {r.id: replace(r, payload=b"") for r in (one, two)}

    def test_reads_more_than_one_request_takes(self, store: Store) -> None:
        ids = [put(store, n).id for n in range(1, 131)]
        assert set(store.get_many(ids)) == set(ids)

    def test_of_nothing_is_nothing(self, store: Store) -> None:
        assert store.get_many([]) == {}


class TestClaim:
    def test_takes_the_first_attempt(self, store: Store) -> None:
        record = put(store)
        now = START + 3 * SECOND
        taken = store.claim(claim_of(record, now, "t1"))
        assert taken == store.get(record.id)
        assert (taken.status, taken.attempt, taken.token) == (Status.AWAITING_ACK, 1, "t1")
        assert (taken.lease_until, taken.claims) == (now + LEASE, 1)
        assert taken.due_at == now + 15 * SECOND
        assert taken.payload == record.payload
        (attempt,) = taken.attempts
        assert (attempt.n, attempt.claim, attempt.outcome) == (1, "t1", None)
        assert (attempt.due_at, attempt.sent_at) == (START, now)

    def test_the_first_claim_leaves_the_sweeps_time_alone_later_ones_move_it(self, store: Store) -> None:
        record = put(store)
        first = attempted(store, record, START, "t1")
        assert first.sweep_at == record.sweep_at
        second = take(store, first, first.due_at, "t2")
        assert second.sweep_at == second.due_at + GRACE == first.due_at + 30 * SECOND + GRACE

    def test_delays_follow_the_schedule_and_the_last_repeats(self, store: Store) -> None:
        record = put(store)
        delays = []
        for n in range(1, 6):
            now = record.due_at + n
            record = attempted(store, record, now, f"t{n}")
            delays.append((record.due_at - now) // SECOND)
        assert delays == [15, 30, 14400, 14400, 14400]
        assert [a.n for a in record.attempts] == [1, 2, 3, 4, 5]

    def test_numbers_and_schedule_of_a_later_life_start_after_its_base(self, store: Store) -> None:
        record = attempted(store, put(store), START, "t1")
        ended = store.end(record.id, EXPIRED)
        store.told(ended)
        again = replace(record, life=2, base=1, status=Status.PENDING, due_at=START + 50)
        reopened = store.reopen(replace(ended, untold=None), again)
        taken = store.claim(claim_of(reopened, START + 60, "t2"))
        assert (taken.attempt, taken.due_at) == (2, START + 60 + 15 * SECOND)

    def test_forgets_the_takeovers_before_it(self, store: Store) -> None:
        record = put(store)
        assert store.postpone_sweep(record, START + 5, 3)
        assert take(store, record).sweeps == 0

    def test_an_own_claim_whose_answer_was_lost_is_seen_by_its_token(self, store: Store) -> None:
        claim = claim_of(put(store), START, "mine")
        taken = store.claim(claim)
        old = refused(lambda: store.claim(claim))
        assert old == taken
        assert old is not None
        assert old.claim == "mine"

    def test_is_refused_to_all_but_the_first(self, store: Store) -> None:
        record = put(store)
        first = take(store, record, token="first")
        assert refused(lambda: take(store, record, token="second")) == first
        assert store.get(record.id) == first

    def test_is_refused_too_early(self, store: Store) -> None:
        record = attempted(store, put(store), START, "t1")
        early = claim_of(record, record.due_at - 1, "t2")
        assert refused(lambda: store.claim(early)) == record
        assert store.claim(replace(early, now=record.due_at)).attempt == 2

    def test_is_refused_from_the_expiry_on(self, store: Store) -> None:
        record = put(store, expires_at=START + 10)
        claim = claim_of(record, START + 10, "t1")
        assert refused(lambda: store.claim(claim)) == record
        assert store.claim(replace(claim, now=START + 9)).attempt == 1

    @pytest.mark.parametrize("attempt", [2, 3, 21, 500])
    def test_is_refused_out_of_turn(self, store: Store, attempt: int) -> None:
        record = put(store)
        assert refused(lambda: store.claim(claim_of(record, START, "t", attempt))) == record

    def test_is_refused_for_another_life(self, store: Store) -> None:
        record = attempted(store, put(store), START, "t1")
        claim = claim_of(record, record.due_at, "t2", base=1)
        assert refused(lambda: store.claim(claim)) == record

    def test_is_refused_for_what_has_ended(self, store: Store) -> None:
        record = put(store)
        ended = store.end(record.id, DELIVERED)
        assert refused(lambda: take(store, record)) == ended

    def test_is_refused_for_what_does_not_exist(self, store: Store) -> None:
        assert refused(lambda: take(store, a_record())) is None

    @pytest.mark.parametrize("most", [1, 2])
    def test_p2_is_refused_beyond_the_last_attempt(self, store: Store, most: int) -> None:
        record = put(store, max_attempts=most)
        for n in range(1, most + 1):
            record = attempted(store, record, record.due_at, f"t{n}")
        assert record.attempt == most
        assert refused(lambda: take(store, record, record.due_at, "more")) == record
        assert store.get(record.id) == record

    def test_p6_counts_the_attempts_of_its_own_life(self, store: Store) -> None:
        record = put(store, max_attempts=2, attempt=7, base=6)
        taken = take(store, record, START, "t8")
        assert taken.attempt == 8
        assert refused(lambda: take(store, taken, taken.due_at, "t9")) == taken

    def test_p4_keeps_the_task_that_asked_in_the_same_write(self, store: Store) -> None:
        record = put(store, **WORKFLOW)
        taken = store.claim(claim_of(record, START, "t1", task="AAAA"))
        assert taken == store.get(record.id)
        assert (taken.attempt, taken.task, taken.scheduler) == (1, "AAAA", Scheduler.WORKFLOW)
        assert store.get_many([record.id])[record.id].task == "AAAA"

    def test_the_next_task_takes_the_last_ones_place(self, store: Store) -> None:
        record = store.record(store.claim(claim_of(put(store, **WORKFLOW), START, "t1", task="AAAA")), SENT)
        assert store.claim(claim_of(record, record.due_at, "t2", task="BBBB")).task == "BBBB"

    def test_without_a_task_it_keeps_the_one_there_is(self, store: Store) -> None:
        record = store.record(store.claim(claim_of(put(store, **WORKFLOW), START, "t1", task="AAAA")), SENT)
        assert store.claim(claim_of(record, record.due_at, "t2")).task == "AAAA"

    def test_p4_with_a_task_it_is_refused_for_what_the_queues_run(self, store: Store) -> None:
        record = put(store)
        assert refused(lambda: store.claim(claim_of(record, START, "t1", task="AAAA"))) == record
        assert store.get(record.id) == record

    def test_p4_with_a_task_it_is_refused_for_what_has_ended(self, store: Store) -> None:
        record = put(store, **WORKFLOW)
        ended = store.end(record.id, DELIVERED)
        assert refused(lambda: store.claim(claim_of(record, START, "t1", task="AAAA"))) == ended

    def test_without_a_task_it_is_whoevers_runs_it(self, store: Store) -> None:
        assert take(store, put(store, **WORKFLOW)).scheduler is Scheduler.WORKFLOW


class TestReclaim:
    def test_takes_the_same_attempt_again_and_counts(self, store: Store) -> None:
        seen = take(store, put(store))
        now = START + LEASE
        again = store.reclaim(claim_of(seen, now, "t2", 1), seen)
        assert (again.attempt, again.token, again.claim, again.claims) == (1, "t2", "t2", 2)
        assert again.lease_until == now + LEASE
        assert (again.due_at, again.sweep_at) == (now + 15 * SECOND, now + 15 * SECOND + GRACE)
        (attempt,) = again.attempts
        assert (attempt.due_at, attempt.sent_at) == (START, now)

    def test_keeps_the_task_that_asked_or_the_one_there_is(self, store: Store) -> None:
        seen = store.claim(claim_of(put(store, **WORKFLOW), START, "t1", task="AAAA"))
        again = store.reclaim(claim_of(seen, START + LEASE, "t2", 1, task="BBBB"), seen)
        assert (again.task, again.claims) == ("BBBB", 2)
        assert store.reclaim(claim_of(again, START + 2 * LEASE, "t3", 1), again).task == "BBBB"

    def test_is_refused_while_the_lease_lives(self, store: Store) -> None:
        seen = take(store, put(store))
        claim = claim_of(seen, START + LEASE - 1, "t2", 1)
        assert refused(lambda: store.reclaim(claim, seen)) == seen

    def test_of_two_one_wins(self, store: Store) -> None:
        seen = take(store, put(store))
        won = store.reclaim(claim_of(seen, START + LEASE, "t2", 1), seen)
        assert refused(lambda: store.reclaim(claim_of(seen, START + LEASE, "t3", 1), seen)) == won

    def test_is_refused_once_the_outcome_is_in(self, store: Store) -> None:
        seen = take(store, put(store))
        done = store.record(seen, SENT)
        assert refused(lambda: store.reclaim(claim_of(seen, START + LEASE, "t2", 1), seen)) == done

    def test_is_refused_from_the_expiry_on(self, store: Store) -> None:
        seen = take(store, put(store, expires_at=START + LEASE))
        assert refused(lambda: store.reclaim(claim_of(seen, START + LEASE, "t2", 1), seen)) == seen

    def test_is_refused_for_what_has_ended(self, store: Store) -> None:
        seen = take(store, put(store))
        ended = store.end(seen.id, DELIVERED)
        assert refused(lambda: store.reclaim(claim_of(seen, START + LEASE, "t2", 1), seen)) == ended


class TestRecord:
    def test_keeps_the_outcome_and_gives_the_lease_back(self, store: Store) -> None:
        taken = take(store, put(store))
        done = store.record(taken, Outcome(Kind.FAILED, "http_503", 45, 503))
        assert done == store.get(taken.id)
        assert (done.lease_until, done.status, done.due_at) == (None, Status.AWAITING_ACK, taken.due_at)
        (attempt,) = done.attempts
        assert (attempt.outcome, attempt.reason) == (Kind.FAILED, "http_503")
        assert (attempt.http_status, attempt.latency_ms) == (503, 45)

    def test_an_outcome_may_have_no_status(self, store: Store) -> None:
        done = store.record(take(store, put(store)), Outcome(Kind.FAILED, "refused"))
        assert (done.attempts[0].reason, done.attempts[0].http_status) == ("refused", None)

    def test_moves_the_due_time_with_the_outcome(self, store: Store) -> None:
        taken = take(store, put(store))
        done = store.record(taken, SENT, move=Move(START + 99, "t2"))
        assert (done.due_at, done.token, done.claim) == (START + 99, "t2", "t1")

    def test_may_bring_the_sweep_forward(self, store: Store) -> None:
        done = store.record(take(store, put(store)), SENT, sweep_at=START + 7)
        assert done.sweep_at == START + 7
        assert store.overdue(START + 7, 10) == [done.id]

    def test_ends_the_message_with_the_outcome(self, subject: Subject) -> None:
        store = subject.store
        taken = take(store, put(store))
        done = store.record(taken, replace(SENT, kind=Kind.ACKED), ending=DELIVERED, sweep_at=START + 7)
        assert (done.status, done.acked_at, done.ended_at) == (Status.DELIVERED, START + 5, START + 5)
        assert (done.attempts[0].outcome, done.lease_until, done.sweep_at) == (Kind.ACKED, None, None)
        assert subject.ttl(done.id) == 77
        assert store.overdue(START + DAY, 10) == []

    def test_after_an_ack_only_the_outcome_is_kept(self, store: Store) -> None:
        taken = take(store, put(store))
        ended = store.end(taken.id, DELIVERED)
        assert refused(lambda: store.record(taken, SENT, ending=REJECTED)) == ended
        kept = store.get(taken.id)
        assert kept is not None
        assert kept.attempts[0].outcome is Kind.SENT
        assert replace(kept, attempts=ended.attempts) == ended

    def test_after_the_next_claim_only_the_outcome_is_kept(self, store: Store) -> None:
        first = take(store, put(store))
        second = take(store, first, first.due_at, "t2")
        assert refused(lambda: store.record(first, SENT, move=Move(START + 1, "x"))) == second
        kept = store.get(first.id)
        assert kept is not None
        assert [a.outcome for a in kept.attempts] == [Kind.SENT, None]
        assert (kept.token, kept.lease_until, kept.due_at) == ("t2", second.lease_until, second.due_at)

    def test_a_move_that_lost_to_another_leaves_the_outcome_alone(self, store: Store) -> None:
        taken = take(store, put(store))
        store.move(taken, Move(START + 50, "nack"), "busy")
        refused(lambda: store.record(taken, SENT, move=Move(START + 99, "later")))
        kept = store.get(taken.id)
        assert kept is not None
        assert (kept.due_at, kept.token, kept.attempts[0].outcome) == (START + 50, "nack", Kind.SENT)

    def test_of_a_claim_that_was_taken_over_nothing_is_kept(self, store: Store) -> None:
        lost = take(store, put(store))
        again = store.reclaim(claim_of(lost, START + LEASE, "t2", 1), lost)
        assert refused(lambda: store.record(lost, SENT, ending=DELIVERED)) == again
        assert store.get(lost.id) == again


class TestRing:
    def test_keeps_the_newest_attempts_in_order(self, store: Store) -> None:
        record = put(store, schedule=(1,), expires_at=START + DAY)
        total = ATTEMPTS_KEPT + 5
        for n in range(1, total + 1):
            record = attempted(store, record, record.due_at, f"t{n}")
        assert [a.n for a in record.attempts] == list(range(total - ATTEMPTS_KEPT + 1, total + 1))
        assert [a.claim for a in record.attempts] == [f"t{a.n}" for a in record.attempts]
        assert all(a.due_at == START + (a.n - 1) * SECOND for a in record.attempts)

    def test_a_slot_that_is_used_again_forgets_the_outcome_it_held(self, store: Store) -> None:
        record = put(store, schedule=(1,))
        for n in range(1, ATTEMPTS_KEPT + 1):
            outcome = Outcome(Kind.FAILED, "http_500", 3, 500)
            record = attempted(store, record, record.due_at, f"t{n}", outcome)
        taken = take(store, record, record.due_at, "again")
        last = taken.attempts[-1]
        assert (last.n, last.claim) == (ATTEMPTS_KEPT + 1, "again")
        assert (last.outcome, last.reason, last.http_status, last.latency_ms) == (None, None, None, None)


class TestMove:
    def test_gives_another_due_time_and_token(self, store: Store) -> None:
        done = store.record(take(store, put(store)), SENT)
        moved = store.move(done, Move(START + 99, "t2"), "asleep")
        assert moved == replace(done, due_at=START + 99, token="t2", nack_reason="asleep")
        assert store.get(done.id) == moved

    def test_of_a_message_that_was_never_claimed(self, store: Store) -> None:
        assert store.move(put(store), Move(START + 99, "t2"), "asleep").token == "t2"

    def test_without_a_reason_the_last_one_stays(self, store: Store) -> None:
        nacked = store.move(put(store), Move(START + 99, "t2"), "asleep")
        moved = store.move(nacked, Move(START + 199, "t2"), None)
        assert (moved.due_at, moved.nack_reason) == (START + 199, "asleep")
        assert store.get(moved.id) == moved

    def test_without_any_reason_there_is_none(self, store: Store) -> None:
        moved = store.move(put(store), Move(START + 99, "t2"), None)
        assert moved.nack_reason is None
        assert store.get(moved.id) == moved

    def test_is_refused_when_the_record_has_another_token(self, store: Store) -> None:
        taken = take(store, put(store))
        moved = store.move(taken, Move(START + 99, "t2"), "asleep")
        assert refused(lambda: store.move(taken, Move(START + 50, "t3"), "again")) == moved

    def test_is_refused_when_the_next_attempt_was_claimed(self, store: Store) -> None:
        first = take(store, put(store))
        second = take(store, first, first.due_at, "t2")
        stale = replace(first, token="t2")
        assert refused(lambda: store.move(stale, Move(START + 50, "t3"), "again")) == second

    def test_is_refused_when_it_has_ended(self, store: Store) -> None:
        taken = take(store, put(store))
        ended = store.end(taken.id, DELIVERED)
        assert refused(lambda: store.move(taken, Move(START + 50, "t3"), "again")) == ended


class TestEnd:
    def test_by_an_ack_leaves_the_indexes_and_gets_a_ttl(self, subject: Subject) -> None:
        store = subject.store
        taken = take(store, put(store))
        ended = store.end(taken.id, DELIVERED, target_hash=taken.target_hash)
        assert ended == store.get(taken.id)
        assert (ended.status, ended.acked_at, ended.ended_at) == (Status.DELIVERED, START + 5, START + 5)
        assert (ended.untold, ended.sweep_at, ended.lease_until) == (None, None, None)
        assert subject.ttl(ended.id) == 77
        assert store.overdue(START + DAY, 10) == []
        assert store.list_open(10, None).records == []
        assert store.list_undelivered(0, 10, None).records == []

    def test_undelivered_is_untold_and_in_both_indexes(self, subject: Subject) -> None:
        store = subject.store
        ended = store.end(put(store).id, REJECTED)
        assert (ended.status, ended.reason, ended.acked_at) == (Status.REJECTED, "no", None)
        assert (ended.untold, ended.sweep_at) == (START + 36, START + 99)
        assert subject.ttl(ended.id) == 78
        assert store.overdue(START + 99, 10) == [ended.id]
        assert store.overdue(START + 98, 10) == []
        assert [r.id for r in store.list_undelivered(START + 6, 10, None).records] == [ended.id]

    def test_only_once(self, store: Store) -> None:
        record = put(store)
        ended = store.end(record.id, DELIVERED)
        assert refused(lambda: store.end(record.id, REJECTED)) == ended
        assert store.get(record.id) == ended

    def test_as_seen_only_while_nothing_has_moved(self, store: Store) -> None:
        record = put(store)
        taken = take(store, record)
        assert refused(lambda: store.end(record.id, EXPIRED, seen=record)) == taken
        moved = store.move(taken, Move(START + 50, "t2"), "busy")
        assert refused(lambda: store.end(record.id, EXPIRED, seen=taken)) == moved
        assert store.end(record.id, EXPIRED, seen=moved).status is Status.EXPIRED

    def test_as_seen_before_any_attempt(self, store: Store) -> None:
        record = put(store)
        assert store.end(record.id, EXPIRED, seen=record).status is Status.EXPIRED

    def test_is_refused_for_another_target(self, store: Store) -> None:
        record = put(store)
        other = a_record(target="https://other.example").target_hash
        assert refused(lambda: store.end(record.id, DELIVERED, target_hash=other)) == record

    def test_is_refused_for_what_does_not_exist(self, store: Store) -> None:
        assert refused(lambda: store.end(message_id(404), DELIVERED)) is None
        assert store.get(message_id(404)) is None


class TestLateAck:
    @pytest.mark.parametrize("status", [Status.REJECTED, Status.EXPIRED, Status.EXHAUSTED, Status.CANCELLED])
    def test_the_first_is_kept_after_an_undelivered_ending(self, store: Store, status: Status) -> None:
        ended = store.end(put(store).id, replace(REJECTED, status=status))
        kept = store.late_ack(ended.id, START + 500)
        assert kept == replace(ended, late_ack_at=START + 500)
        assert refused(lambda: store.late_ack(ended.id, START + 501)) == kept

    def test_is_refused_while_open_and_after_an_ack(self, store: Store) -> None:
        record = put(store)
        assert refused(lambda: store.late_ack(record.id, START)) == record
        ended = store.end(record.id, DELIVERED)
        assert refused(lambda: store.late_ack(record.id, START)) == ended


class TestTelling:
    def test_the_lease_to_tell_goes_to_one(self, store: Store) -> None:
        ended = store.end(put(store).id, REJECTED)
        assert store.claim_telling(ended, START + 70)
        assert not store.claim_telling(ended, START + 71)
        now = store.get(ended.id)
        assert now is not None
        assert now.untold == START + 70

    def test_told_leaves_the_overdue_index_and_stays_undelivered(self, store: Store) -> None:
        ended = store.end(put(store).id, REJECTED)
        store.told(ended)
        assert store.get(ended.id) == replace(ended, untold=None, sweep_at=None)
        assert store.overdue(START + DAY, 10) == []
        assert store.list_open(10, None).records == []
        assert len(store.list_undelivered(0, 10, None).records) == 1

    def test_only_the_holder_of_the_lease_says_told(self, store: Store) -> None:
        ended = store.end(put(store).id, REJECTED)
        assert store.claim_telling(ended, START + 70)
        store.told(ended)
        now = store.get(ended.id)
        assert now is not None
        assert now.untold == START + 70
        store.told(now)
        told = store.get(ended.id)
        assert told is not None
        assert told.untold is None

    def test_telling_twice_is_told_once(self, store: Store) -> None:
        ended = store.end(put(store).id, REJECTED)
        store.told(ended)
        store.told(ended)
        assert store.get(ended.id) == replace(ended, untold=None, sweep_at=None)


class TestPostponeSweep:
    def test_moves_the_time_from_the_value_read_once(self, store: Store) -> None:
        record = put(store)
        assert store.postpone_sweep(record, START + 500, 1)
        assert not store.postpone_sweep(record, START + 600, 1)
        now = store.get(record.id)
        assert now is not None
        assert (now.sweep_at, now.sweeps) == (START + 500, 1)
        assert store.overdue(START + 499, 10) == []
        assert store.overdue(START + 500, 10) == [record.id]

    def test_is_refused_for_what_has_ended(self, store: Store) -> None:
        record = put(store)
        ended = store.end(record.id, replace(REJECTED, sweep_at=record.sweep_at))
        assert not store.postpone_sweep(record, START + 500, 1)
        assert store.get(record.id) == ended

    def test_a_takeover_gives_it_to_the_queues_in_the_same_write(self, store: Store) -> None:
        record = put(store, **WORKFLOW)
        assert store.postpone_sweep(record, START + 500, 1, Scheduler.QUEUES)
        expected = replace(record, sweep_at=START + 500, sweeps=1, scheduler=Scheduler.QUEUES)
        assert store.get(record.id) == expected
        assert not store.postpone_sweep(record, START + 600, 1, Scheduler.QUEUES)
        assert store.get(record.id) == expected

    @pytest.mark.parametrize("fields", [{}, WORKFLOW])
    def test_without_one_the_scheduler_stays(self, store: Store, fields: Mapping[str, Any]) -> None:
        record = put(store, **fields)
        assert store.postpone_sweep(record, START + 500, 1)
        now = store.get(record.id)
        assert now is not None
        assert now.scheduler is record.scheduler


class TestHandOver:
    def test_gives_it_to_the_queues_once(self, store: Store) -> None:
        record = put(store, **WORKFLOW)
        assert store.hand_over(record)
        assert not store.hand_over(record)
        assert store.get(record.id) == replace(record, scheduler=Scheduler.QUEUES)

    def test_whatever_attempt_it_is_at(self, store: Store) -> None:
        record = put(store, **WORKFLOW)
        taken = store.claim(claim_of(record, START, "t1", task="AAAA"))
        assert store.hand_over(record)
        assert store.get(record.id) == replace(taken, scheduler=Scheduler.QUEUES)

    def test_p4_is_refused_for_what_has_ended(self, store: Store) -> None:
        record = put(store, **WORKFLOW)
        ended = store.end(record.id, DELIVERED)
        assert not store.hand_over(record)
        assert store.get(record.id) == ended

    def test_p6_is_refused_for_another_life(self, store: Store) -> None:
        record = put(store, life=2, **WORKFLOW)
        assert not store.hand_over(replace(record, life=1))
        assert store.get(record.id) == record

    def test_is_refused_for_what_the_queues_run(self, store: Store) -> None:
        record = put(store)
        assert not store.hand_over(record)
        assert store.get(record.id) == record


class TestRestart:
    def test_notes_each_generation_once(self, store: Store) -> None:
        record = put(store, **WORKFLOW)
        assert [store.restart(record, generation) for generation in (2, 2, 3, 2)] == [True, False, True, False]
        assert store.get(record.id) == replace(record, generation=3)

    def test_p4_is_refused_for_what_has_ended(self, store: Store) -> None:
        record = put(store, **WORKFLOW)
        ended = store.end(record.id, DELIVERED)
        assert not store.restart(record, 2)
        assert store.get(record.id) == ended

    def test_p6_is_refused_for_another_life(self, store: Store) -> None:
        record = put(store, life=2, **WORKFLOW)
        assert not store.restart(replace(record, life=1), 2)
        assert store.get(record.id) == record

    def test_is_refused_for_what_the_queues_run(self, store: Store) -> None:
        record = put(store)
        assert not store.restart(record, 2)
        assert store.get(record.id) == record

    def test_a_redelivery_begins_with_the_first_again(self, store: Store) -> None:
        record = put(store, **WORKFLOW)
        store.restart(record, 2)
        store.end(record.id, REJECTED)
        ended = store.get(record.id)
        assert ended is not None
        store.told(ended)
        told = replace(ended, untold=None)
        reopened = replace(told, status=Status.PENDING, life=2, expires_at=START + DAY, sweep_at=START + 901)
        assert store.reopen(told, reopened).generation == 1


class TestReopen:
    def again(self, ended: Record) -> Record:
        return replace(
            ended,
            status=Status.PENDING,
            life=ended.life + 1,
            base=ended.attempt,
            due_at=START + 900,
            expires_at=START + 2 * DAY,
            sweep_at=START + 901,
        )

    def test_opens_the_next_life(self, subject: Subject) -> None:
        store = subject.store
        record = attempted(store, put(store), START, "t1")
        ended = store.end(record.id, EXPIRED)
        store.told(ended)
        told = replace(ended, untold=None)
        opened = store.reopen(told, self.again(told))
        assert opened == store.get(record.id)
        assert (opened.status, opened.life, opened.base, opened.attempt) == (Status.PENDING, 2, 1, 1)
        assert (opened.due_at, opened.expires_at, opened.sweep_at) == (
            START + 900,
            START + 2 * DAY,
            START + 901,
        )
        assert (opened.ended_at, opened.reason, opened.sweeps, opened.lease_until) == (None, None, 0, None)
        assert opened.attempts == record.attempts
        assert subject.ttl(opened.id) is None
        assert store.overdue(START + 901, 10) == [opened.id]
        assert store.list_undelivered(0, 10, None).records == []

    def test_p6_a_workflows_message_is_its_workflows_again_and_waits_for_no_task(self, store: Store) -> None:
        record = put(store, **WORKFLOW)
        store.claim(claim_of(record, START, "t1", task="AAAA"))
        store.hand_over(record)
        ended = store.end(record.id, EXPIRED)
        assert (ended.task, ended.scheduler) == ("AAAA", Scheduler.QUEUES)
        store.told(ended)
        told = replace(ended, untold=None)
        opened = store.reopen(told, replace(self.again(told), scheduler=Scheduler.WORKFLOW, task=None))
        assert opened == store.get(record.id)
        assert (opened.scheduler, opened.workflow, opened.task) == (Scheduler.WORKFLOW, "delivery_callback", None)

    def test_once_a_life(self, store: Store) -> None:
        ended = store.end(put(store).id, EXPIRED)
        store.told(ended)
        told = replace(ended, untold=None)
        opened = store.reopen(told, self.again(told))
        assert refused(lambda: store.reopen(told, self.again(told))) == opened
        second = store.end(opened.id, EXPIRED)
        store.told(second)
        assert refused(lambda: store.reopen(told, self.again(told))) is not None

    def test_is_refused_after_a_late_ack(self, store: Store) -> None:
        ended = store.end(put(store).id, EXPIRED)
        store.told(ended)
        late = store.late_ack(ended.id, START + 500)
        assert refused(lambda: store.reopen(ended, self.again(ended))) == replace(late, untold=None, sweep_at=None)

    def test_is_refused_while_the_ending_is_untold(self, store: Store) -> None:
        ended = store.end(put(store).id, EXPIRED)
        assert refused(lambda: store.reopen(ended, self.again(ended))) == ended

    def test_a_life_that_has_ended_again_may_be_acked_late(self, store: Store) -> None:
        ended = store.end(put(store).id, EXPIRED)
        store.told(ended)
        told = replace(ended, untold=None)
        store.reopen(told, self.again(told))
        again = store.end(ended.id, EXPIRED)
        assert store.late_ack(again.id, START + 999).late_ack_at == START + 999


class TestOverdue:
    def test_over_all_shards_the_latest_first_and_bounded(self, store: Store) -> None:
        by_shard: dict[str, list[str]] = {}
        for n in range(1, 41):
            record = put(store, n, sweep_at=START + n)
            by_shard.setdefault(shard_of(record.id), []).append(record.id)
        assert len(by_shard) == SHARDS
        found = store.overdue(START + 40, 8)
        assert {shard_of(i) for i in found} == set(by_shard)
        for shard, ids in by_shard.items():
            assert [i for i in found if shard_of(i) == shard] == ids[:2]

    def test_only_what_is_due(self, store: Store) -> None:
        due, later = put(store, 1, sweep_at=START + 5), put(store, 2, sweep_at=START + 6)
        assert store.overdue(START + 5, 100) == [due.id]
        assert set(store.overdue(START + 6, 100)) == {due.id, later.id}


class TestLists:
    @pytest.mark.parametrize("limit", [1, 3, 7, 100])
    def test_open_messages_the_most_urgent_first_each_once(self, store: Store, limit: int) -> None:
        wanted = [put(store, n, sweep_at=START + n).id for n in range(1, 24)]
        assert every_page(lambda cursor: store.list_open(limit, cursor)) == wanted

    @pytest.mark.parametrize("limit", [1, 3, 7, 100])
    def test_undelivered_messages_the_newest_first_each_once(self, store: Store, limit: int) -> None:
        ids = [put(store, n).id for n in range(1, 24)]
        for n, i in enumerate(ids):
            store.end(i, replace(EXPIRED, at=START + n))
        wanted = list(reversed(ids[5:]))
        assert every_page(lambda cursor: store.list_undelivered(START + 5, limit, cursor)) == wanted

    @pytest.mark.parametrize("limit", [1, 4, 100])
    def test_a_targets_messages_the_newest_first_whatever_their_status(self, store: Store, limit: int) -> None:
        for n in range(20, 25):
            put(store, n, target="https://other.example")
        ids = [put(store, n, created_at=START + n).id for n in range(1, 10)]
        store.end(ids[3], DELIVERED)
        store.end(ids[4], EXPIRED)
        target = a_record().target
        found = every_page(lambda cursor: store.list_by_target(target, START + 3, limit, cursor))
        assert found == list(reversed(ids[2:]))

    def test_pages_come_without_payloads(self, store: Store) -> None:
        record = put(store)
        assert list(store.list_open(10, None).records) == [replace(record, payload=b"")]

    def test_many_at_the_same_time_are_each_listed_once(self, store: Store) -> None:
        ids = [put(store, n).id for n in range(1, 30)]
        found = every_page(lambda cursor: store.list_open(4, cursor))
        assert sorted(found) == sorted(ids)

    @pytest.mark.parametrize("cursor", ["x", "", "é", "bm90IGpzb24=", "WzEsMiwzXQ==", "W1siOSIsMSwieCJdXQ=="])
    def test_a_cursor_that_is_not_ours_is_named(self, store: Store, cursor: str) -> None:
        with pytest.raises(Invalid) as caught:
            store.list_open(10, cursor)
        assert caught.value.field == "cursor"
