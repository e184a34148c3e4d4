"""Long waits: timers hop at the cap, arrive on time, and stop as soon as the ACK is in. Needs a quiet stack."""

from typing import Any

from scripts.devices import acks, silent
from tests.localstack.kit import LATENESS, Kit, always, eventually, numbers, on_time

HOP = 2
"""The test stack's timer cap, in seconds."""


def hops(requests: list[dict[str, Any]], after: float, before: float) -> list[dict[str, Any]]:
    """The requests by which a timer re-armed itself in this span of time."""
    return [
        r
        for r in requests
        if (r["function"] or "").endswith("check-ack")
        and r["operation"] == "SendMessageBatch"
        and "-timer-" in r["params"]["Queue"]
        and after < r["t"] < before
    ]


def at_least(count: int, found: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """What was found, if there is enough of it."""
    return found if len(found) >= count else []


def test_a_long_wait_hops_and_the_ack_ends_it(kit: Kit) -> None:
    mark = kit.log.mark()
    device = kit.device(silent())
    message_id = kit.submit(device, schedule=[1, 2, 9])
    third, fourth = device.wait_for(4, within=40)[2:]
    kit.attempted(message_id, 4)

    on_time(kit.get(message_id), 1, 2, 9, lateness=LATENESS)
    # Four fit into those 9 s, if the queue itself takes next to no time. The last delay repeats: more come.
    made = eventually(lambda: at_least(4, hops(kit.log.since(mark), third.at, fourth.at + 9)), what="four hops")
    assert all(entry["DelaySeconds"] <= HOP for hop in made for entry in hop["params"]["Entries"])

    eventually(lambda: kit.live_timers(message_id), what="a timer after attempt 4")
    answer = kit.api.ack(fourth.ack_url)
    assert (answer.status, answer.body["status"]) == (200, "DELIVERED")
    acked_at = float(kit.records.item(message_id)["acked_at"]["N"]) / 1000
    kit.nothing_left(message_id, within=HOP + LATENESS)
    always(lambda: not kit.queues.of(message_id), during=2 * HOP, what="no timer after the ACK")
    later = hops(kit.log.since(mark), acked_at, acked_at + 60)
    # One may have been under way when the ACK came.
    assert len(later) <= 1
    assert numbers(device.receipts) == [1, 2, 3, 4]


def test_four_hours_hop_like_seconds(kit: Kit) -> None:
    device = kit.device(acks(after=3 * HOP + 1))
    message_id = kit.submit(device, schedule=[14_400])
    device.wait_for(1)
    record = kit.attempted(message_id, 1)

    assert record.due_at - record.attempts[0].sent_at == 14_400_000
    first = eventually(lambda: kit.queues.of(message_id, "timer-4h"), what="the timer in the 4 h queue")[0]
    hopped = eventually(
        lambda: [t for t in kit.queues.of(message_id, "timer-4h") if t.sqs_id != first.sqs_id], what="a hop"
    )
    assert hopped[0].document == first.document
    assert len(kit.live_timers(message_id)) <= 1

    message = kit.ends(message_id, "DELIVERED")
    kit.nothing_left(message_id, within=HOP + LATENESS)
    assert len(message["attempts"]) == 1
    assert numbers(device.receipts) == [1]
