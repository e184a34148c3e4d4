"""Functions of the queues that die, time out or cannot read: nothing is lost, one live chain of timers is left.

A process is killed by the LocalStack package when it makes a certain request: before the request takes effect, or
after it did and before its answer is sent. What it was at comes again after the visibility timeout, and so does
whatever else was in its batch: these tests run by themselves, and only one at a time is killed.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from scripts.devices import Device, silent
from tests.localstack.kit import (
    BROKEN,
    Kit,
    arming,
    claim,
    enqueueing,
    eventually,
    numbers,
    on_time,
    outcome,
    starts,
)  # fmt: skip

pytestmark = pytest.mark.together("rough")

LATER = [60, 600]
"""A schedule whose second attempt comes when nobody is killed any more, and what was has come again."""
SOON = [2, 600]
"""One whose second attempt comes before the job of the first has come again."""


@contextmanager
def killed(
    kit: Kit, moment: Callable[[str], dict[str, Any]], when: str, schedule: list[int], function: str = "deliver-webhook"
) -> Iterator[tuple[str, Device]]:
    """A message to a silent device, at which a function died; nobody else is killed meanwhile."""
    key, message_id = kit.foretell()
    device = kit.device(silent())
    dying = {**moment(message_id), "function": kit.functions[function], "when": when, "action": "kill"}
    with kit.alone, kit.faults(**dying) as fault:
        kit.submit(device, idempotency_key=key, schedule=schedule)
        fault.happened()
        assert kit.records.get(message_id).open
        yield message_id, device


def test_deliver_killed_before_its_claim(kit: Kit) -> None:
    with killed(kit, claim, "before", [600]) as (message_id, device):
        assert kit.records.get(message_id).attempt == 0
    kit.records.wait(message_id, lambda r: r.attempt == 1, kit.returns)
    kit.attempted(message_id, 1)
    assert numbers(device.receipts) == [1]
    kit.one_chain_and_an_ack(message_id, device)
    assert numbers(device.receipts) == [1]


def test_deliver_killed_between_claim_and_timer(kit: Kit) -> None:
    with killed(kit, claim, "after", [600]) as (message_id, device):
        record = kit.records.get(message_id)
        assert (record.attempt, record.attempts[0].outcome) == (1, None)
        assert kit.queues.timers(message_id) == [] == device.receipts
    kit.attempted(message_id, 1, kit.returns)
    # The same attempt, taken over after its lease: no number is skipped, and one delivery is made.
    assert kit.records.get(message_id).claims == 2
    assert numbers(device.receipts) == [1]
    kit.one_chain_and_an_ack(message_id, device)
    assert numbers(device.receipts) == [1]


def test_deliver_killed_between_timer_and_send(kit: Kit) -> None:
    with killed(kit, arming, "after", [600]) as (message_id, device):
        assert device.receipts == []
        first = kit.records.get(message_id).token
        eventually(lambda: [t for t in kit.queues.timers(message_id) if t.document["token"] == first], what="the timer")
    kit.attempted(message_id, 1, kit.returns)
    assert numbers(device.receipts) == [1]
    assert kit.records.get(message_id).token != first
    # The dead claim's timer is stale now, and goes with its next hop.
    eventually(
        lambda: {t.document["token"] for t in kit.queues.timers(message_id)} == {kit.records.get(message_id).token}
    )
    kit.one_chain_and_an_ack(message_id, device)
    assert numbers(device.receipts) == [1]


def test_the_timer_of_a_killed_deliver_makes_the_next_attempt_on_time(kit: Kit) -> None:
    with killed(kit, arming, "after", SOON) as (message_id, device):
        assert device.receipts == []
        kit.attempted(message_id, 2)
    on_time(kit.get(message_id), SOON[0])
    assert numbers(device.receipts) == [2]
    # The job of attempt 1 comes again, and is dropped.
    eventually(lambda: not kit.queues.of(message_id, "webhook"), kit.returns, what="job 1 dropped")
    assert numbers(device.receipts) == [2]
    kit.one_chain_and_an_ack(message_id, device)


def test_deliver_killed_between_send_and_record(kit: Kit) -> None:
    with killed(kit, outcome, "before", SOON) as (message_id, device):
        assert numbers(device.receipts) == [1]
        assert kit.records.get(message_id).attempts[0].outcome is None
        kit.attempted(message_id, 2)
    on_time(kit.get(message_id), SOON[0])
    eventually(lambda: not kit.queues.of(message_id, "webhook"), kit.returns, what="job 1 dropped")
    assert numbers(device.receipts) == [1, 2]
    kit.one_chain_and_an_ack(message_id, device)
    assert numbers(device.receipts) == [1, 2]


def test_an_attempt_whose_outcome_was_lost_is_made_again_when_nothing_else_happens(kit: Kit) -> None:
    with killed(kit, outcome, "before", [600]) as (message_id, device):
        assert numbers(device.receipts) == [1]
    kit.attempted(message_id, 1, kit.returns)
    assert numbers(device.receipts) == [1, 1]
    assert {receipt.message_id for receipt in device.receipts} == {message_id}
    kit.one_chain_and_an_ack(message_id, device)
    assert len(kit.get(message_id)["attempts"]) == 1


def test_a_function_that_times_out_in_a_batch(kit: Kit) -> None:
    mark = kit.log.mark()
    devices = [kit.device(silent()) for _ in range(3)]
    keys = [kit.foretell() for _ in devices]
    ids = [message_id for _, message_id in keys]
    function = kit.functions["deliver-webhook"]
    stuck = {**outcome(ids[1]), "function": function, "times": None}
    # Held for longer than the function may run, and refused then: the write of the dead must not take effect.
    with (
        kit.alone,
        kit.faults(**stuck, action="hold", seconds=20) as fault,
        kit.faults(**stuck, action="error", error=BROKEN),
    ):
        kit.api.submit_batch(
            [kit.message(d, idempotency_key=k, schedule=[600]) for d, (k, _) in zip(devices, keys, strict=True)]
        )
        fault.happened()
        eventually(
            lambda: [r for r in kit.log.since(mark) if r["function"] == function and r["error"] == "Sandbox.Timedout"],
            what="a function that timed out",
        )
        assert kit.records.get(ids[1]).attempts[0].outcome is None
    kit.attempted(ids[1], 1, kit.returns)
    for message_id in ids:
        eventually(lambda i=message_id: not kit.queues.of(i, "webhook"), kit.returns, what="no job left")  # type: ignore[misc]
    # Only the one without an outcome was made again.
    assert [numbers(device.receipts) for device in devices] == [[1], [1, 1], [1]]
    for message_id, device in zip(ids, devices, strict=True):
        kit.one_chain_and_an_ack(message_id, device)


@pytest.mark.parametrize("when", ["before", "after"])
def test_check_ack_killed_at_asking_for_the_next_attempt(kit: Kit, when: str) -> None:
    with killed(kit, enqueueing, when, [2, 600], "check-ack") as (message_id, device):
        pass
    # Before: the timer comes again, and asks. After: it comes again for nothing.
    kit.attempted(message_id, 2, kit.returns)
    first, second = starts(kit.get(message_id))
    assert second - first >= 2
    assert numbers(device.receipts) == [1, 2]
    kit.one_chain_and_an_ack(message_id, device)
    assert numbers(device.receipts) == [1, 2]


def test_check_ack_killed_at_a_hop(kit: Kit) -> None:
    with killed(kit, arming, "after", LATER, "check-ack") as (message_id, device):
        pass
    # The hop had been sent and its origin comes again: two chains for a while, and one attempt 2, on time.
    kit.attempted(message_id, 2, LATER[0] + kit.returns)
    on_time(kit.get(message_id), LATER[0])
    assert numbers(device.receipts) == [1, 2]
    kit.one_chain_and_an_ack(message_id, device)
    assert numbers(device.receipts) == [1, 2]


def test_a_publication_that_killed_check_ack_is_made_by_the_repeated_timer(kit: Kit) -> None:
    key, message_id = kit.foretell()
    device = kit.device(silent())
    with kit.alone, kit.faults(
        service="sns", operation="Publish", function=kit.functions["check-ack"], action="kill",
        where={"Message": message_id},
    ) as fault:  # fmt: skip
        kit.submit(device, idempotency_key=key, schedule=[1], max_attempts=1)
        fault.happened()
        assert kit.records.get(message_id).untold is not None
    # The first timer to come again may meet the lease of the dead; then it is the next sweep's.
    kit.swept(lambda: kit.records.get(message_id).untold is None, within=120, what="the ending told")
    kit.told(message_id, "EXHAUSTED")
    kit.nothing_left(message_id)
    assert len(kit.mails.saying(message_id)) == 1


@pytest.mark.parametrize("action", ["error", "partial"])
def test_timers_whose_records_cannot_be_read_come_again(kit: Kit, action: str) -> None:
    """One request reads the records of a whole batch of timers: it fails, or leaves some out."""
    key, message_id = kit.foretell()
    device = kit.device(silent())
    unread = {"service": "dynamodb", "operation": "BatchGetItem", "where": {"RequestItems": message_id}}
    how = {"action": "error", "error": BROKEN} if action == "error" else {"action": "partial", "entries": [0]}
    with kit.alone, kit.faults(**unread, **how, function=kit.functions["check-ack"], times=3) as fault:
        kit.submit(device, idempotency_key=key, schedule=[1, 600])
        eventually(lambda: fault.hits == 3, kit.returns, what="three failures")
    kit.attempted(message_id, 2, 2 * kit.returns)
    assert numbers(device.receipts) == [1, 2]
    kit.one_chain_and_an_ack(message_id, device)
