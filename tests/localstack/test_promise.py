"""The promise, P1 to P6, on the real functions: lost hints, repeated events, races."""

import secrets
from concurrent.futures import ThreadPoolExecutor

import pytest

from scripts.client import Answer
from scripts.devices import acks, nacks, silent
from tests.localstack.kit import Kit, always, eventually, job, numbers, on_time, timer

pytestmark = pytest.mark.together("calm")


def test_p1_a_message_whose_first_hint_was_lost_is_made_by_the_sweep(kit: Kit) -> None:
    key, message_id = kit.foretell()
    device = kit.device(acks())
    failing = {"code": "InternalError", "status": 500, "message": "not now"}
    with kit.faults(
        service="sqs", operation="SendMessageBatch", function=kit.functions["submit"],
        where={"Entries": message_id}, times=None, action="error", error=failing,
    ) as fault:  # fmt: skip
        assert kit.submit(device, idempotency_key=key) == message_id
        assert fault.hits
    assert kit.queues.of(message_id) == []
    kit.swept(lambda: device.receipts, what="the sweep's attempt")
    kit.ends(message_id, "DELIVERED")
    assert numbers(device.receipts) == [1]


def test_p3_an_attempt_is_never_early(kit: Kit) -> None:
    device = kit.device(silent())
    message_id = kit.submit(device, schedule=[4, 600])
    record = kit.attempted(message_id, 1)
    # Everything that could start it early, at once: the job by hand, its timer early, and again.
    kit.send("webhook", job(message_id, 2), job(message_id, 2))
    kit.send("timer-15s", timer(message_id, 1, record.token), timer(message_id, 1, record.token))
    kit.send("timer-4h", timer(message_id, 1, record.token))
    device.wait_for(2)
    kit.attempted(message_id, 2)

    on_time(kit.get(message_id), 4)
    always(lambda: numbers(device.receipts) == [1, 2], during=3, what="two attempts")
    assert len(kit.live_timers(message_id)) <= 1
    assert kit.api.cancel(message_id).status == 200


def test_p4_no_event_starts_an_attempt_after_the_ack(kit: Kit) -> None:
    device = kit.device(silent())
    message_id = kit.submit(device, schedule=[1, 600])
    first, _ = device.wait_for(2)
    record = kit.attempted(message_id, 2)
    assert kit.api.ack(first.ack_url).status == 200
    before = kit.records.item(message_id)

    kit.send("webhook", *(job(message_id, n) for n in (1, 2, 3)))
    tokens = [a.claim for a in record.attempts]
    kit.send("timer-15s", timer(message_id, 1, tokens[0]), timer(message_id, 2, tokens[1]))
    kit.send("timer-4h", timer(message_id, 2, tokens[1]))
    kit.nothing_left(message_id)
    kit.sweep()
    assert numbers(device.receipts) == [1, 2]
    assert kit.records.item(message_id) == before


def test_p5_every_event_may_come_again(kit: Kit) -> None:
    device = kit.device(silent())
    message_id = kit.submit(device, schedule=[2, 2, 600])
    one = kit.attempted(message_id, 1)
    # Attempt 1 has been made; its job comes again, three times.
    kit.send("webhook", *[job(message_id, 1)] * 3)
    two = kit.attempted(message_id, 2)
    # Timer 1 comes again, late, as does job 1; timer 2 and job 2 come again, early.
    kit.send("timer-15s", *[timer(message_id, 1, one.token)] * 2, *[timer(message_id, 2, two.token)] * 2)
    kit.send("webhook", job(message_id, 1), *[job(message_id, 2)] * 2)
    three = kit.attempted(message_id, 3)
    # A timer of this attempt with a token that no claim has, and events of attempts that do not exist.
    kit.send("timer-15s", timer(message_id, 3, "nobody"), timer(message_id, 9, three.token))
    kit.send("webhook", job(message_id, 9), job(message_id, 4, base=3))
    # A copy that met the live lease of an attempt comes again after the visibility timeout.
    eventually(lambda: not kit.queues.of(message_id, "webhook", "timer-15s"), kit.returns, what="all events taken")

    assert numbers(device.receipts) == [1, 2, 3]
    message = kit.get(message_id)
    on_time(message, 2, 2)
    assert message["status"] == "AWAITING_ACK"
    always(lambda: len(kit.live_timers(message_id)) <= 1, during=3, what="one live timer")
    assert kit.records.get(message_id) == three
    assert kit.api.cancel(message_id).status == 200


def test_p5_an_unknown_message_is_dropped(kit: Kit) -> None:
    nobody = kit.foretell()[1]
    kit.send("webhook", job(nobody, 1))
    kit.send("timer-30s", timer(nobody, 1, "token"))
    kit.nothing_left(nobody)
    assert kit.records.item(nobody) == {}
    assert not [x for noun in ("webhook-dlq", "timer-30s-dlq") for x in kit.queues.letters(noun) if nobody in x.body]


def test_p5_redelivery_makes_old_events_stale(kit: Kit) -> None:
    device = kit.device(nacks("no") + silent())
    message_id = kit.submit(device, schedule=[600])
    kit.ends(message_id, "REJECTED")
    kit.records.wait(message_id, lambda record: record.untold is None)
    assert kit.api.redeliver(message_id).status == 202
    kit.attempted(message_id, 2)
    before = kit.records.item(message_id)

    kit.send("webhook", job(message_id, 1), job(message_id, 2), job(message_id, 2, base=1), job(message_id, 1, base=1))
    eventually(lambda: not kit.queues.of(message_id, "webhook"), kit.returns, what="all jobs taken")
    assert numbers(device.receipts) == [1, 2]
    assert kit.records.item(message_id) == before
    assert kit.api.cancel(message_id).status == 200


def test_p6_one_of_many_answers_ends_it(kit: Kit) -> None:
    device = kit.device(silent())
    message_id = kit.submit(device, schedule=[600])
    (receipt,) = device.wait_for(1)
    kit.attempted(message_id, 1)

    def answer(n: int) -> Answer:
        if n % 4 == 3:
            return kit.api.nack(receipt.nack_url, f"no {n}")
        return kit.api.cancel(message_id) if n % 4 == 2 else kit.api.ack(receipt.ack_url)

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(answer, range(16)))
    message = kit.get(message_id)
    assert message["status"] in {"DELIVERED", "REJECTED", "CANCELLED"}
    for n, got in enumerate(answers):
        assert got.status == 200 or (n % 4 == 2 and got.status == 409 and message["status"] != "CANCELLED"), got
        if got.status == 200:
            assert got.body["status"] == message["status"]
    kit.events.wait(message_id, "ended")
    kit.records.wait(message_id, lambda record: record.untold is None)
    ended = [event for event in kit.events.of(message_id) if event["type"] == "ended"]
    assert [event["status"] for event in ended] == [message["status"]]
    late = [event for event in kit.events.of(message_id) if event["type"] == "late_ack"]
    assert len(late) == (0 if message["status"] == "DELIVERED" else 1)
    assert (message["late_ack_at"] is not None) == bool(late)
    kit.nothing_left(message_id)
    assert numbers(device.receipts) == [1]


def test_p6_many_acks_at_once_are_one(kit: Kit) -> None:
    device = kit.device(silent())
    message_id = kit.submit(device, schedule=[600])
    (receipt,) = device.wait_for(1)
    kit.attempted(message_id, 1)
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: kit.api.ack(receipt.ack_url), range(12)))

    assert [(a.status, a.body["late"]) for a in answers] == [(200, False)] * 12
    kit.events.wait(message_id, "ended")
    kit.nothing_left(message_id)
    assert [event["status"] for event in kit.events.of(message_id)] == ["DELIVERED"]
    assert kit.get(message_id)["late_ack_at"] is None


def test_p6_redelivery_at_the_same_time_opens_one_life(kit: Kit) -> None:
    device = kit.device(nacks("no") + silent())
    message_id = kit.submit(device, schedule=[600])
    kit.ends(message_id, "REJECTED")
    kit.records.wait(message_id, lambda record: record.untold is None)
    with ThreadPoolExecutor(4) as pool:
        statuses = sorted(a.status for a in pool.map(lambda _: kit.api.redeliver(message_id), range(4)))

    assert statuses == [202, 409, 409, 409]
    kit.attempted(message_id, 2)
    assert kit.get(message_id)["life"] == 2
    assert numbers(device.receipts) == [1, 2]
    assert kit.api.cancel(message_id).status == 200


def test_two_sweeps_take_over_exactly_once(kit: Kit) -> None:
    device = kit.device(acks())
    keys = [kit.foretell() for _ in range(6)]
    ids = [message_id for _, message_id in keys]
    failing = {"code": "InternalError", "status": 500, "message": "not now"}
    with kit.faults(
        service="sqs", operation="SendMessageBatch", function=kit.functions["submit"],
        where={"Entries": "|".join(ids)}, times=None, action="error", error=failing,
    ):  # fmt: skip
        batch = [kit.message(device, idempotency_key=key) for key, _ in keys]
        assert [r["id"] for r in kit.api.submit_batch(batch).body["results"]] == ids

    def taken(message_id: str) -> int:
        return len([line for line in kit.logged("sweep", message_id) if line["message"] == "taken over"])

    def sweep_twice() -> bool:
        with ThreadPoolExecutor(2) as pool:
            list(pool.map(lambda _: kit.sweep(), range(2)))
        return all(kit.records.get(message_id).attempt for message_id in ids)

    eventually(sweep_twice, within=60, what="all taken over")
    for message_id in ids:
        kit.ends(message_id, "DELIVERED")
    assert sorted(receipt.message_id for receipt in device.receipts) == sorted(ids)
    assert numbers(device.receipts) == [1] * len(ids)
    eventually(
        lambda: [taken(message_id) for message_id in ids] == [1] * len(ids), what="one takeover each, in the logs"
    )


def test_the_sweep_leaves_healthy_messages_alone(kit: Kit) -> None:
    device = kit.device(silent())
    message_id = kit.submit(device, schedule=[600])
    kit.attempted(message_id, 1)
    grace = int(kit.settings["sweep_grace"])
    first = kit.records.get(message_id)
    assert first.sweep_at is not None
    kit.swept(lambda: kit.records.get(message_id).sweep_at != first.sweep_at, what="a look by the sweep")
    after = kit.records.get(message_id)
    # Looked at once its time had come, and left until its timer would be overdue.
    assert after.sweep_at == after.due_at + grace * 1000
    assert (after.sweeps, after.attempt, after.token) == (0, 1, first.token)
    assert numbers(device.receipts) == [1]
    assert kit.api.cancel(message_id).status == 200


def test_the_sweep_gives_up_after_five_takeovers_and_says_so(kit: Kit) -> None:
    """Takeovers whose hints are all lost: here the record says so, as if hours had gone by."""
    key, message_id = kit.foretell()
    device = kit.device(acks())
    failing = {"code": "InternalError", "status": 500, "message": "not now"}
    with kit.faults(
        service="sqs", operation="SendMessageBatch", where={"Entries": message_id}, times=None, action="error",
        error=failing,
    ):  # fmt: skip
        assert kit.submit(device, idempotency_key=key) == message_id
        kit.clients["dynamodb"].update_item(
            TableName=kit.stack.table,
            Key={"id": {"S": message_id}},
            UpdateExpression="SET sweeps = :five",
            ExpressionAttributeValues={":five": {"N": "5"}},
        )
        event = kit.swept(lambda: [e for e in kit.events.of(message_id) if e["type"] == "stuck"], what="the event")[0]
    assert event["status"] == "PENDING"
    assert "is stuck" in kit.mails.wait(message_id).subject
    for _ in range(2):
        kit.sweep()
    assert len(kit.events.of(message_id)) == len(kit.mails.saying(message_id)) == 1
    assert device.receipts == []
    # A person repeats the submission: the same message, and its attempt is made.
    assert kit.api.submit(kit.message(device, idempotency_key=key)).status == 200
    kit.ends(message_id, "DELIVERED")
    assert numbers(device.receipts) == [1]


def test_labels_and_long_schedules_round_trip(kit: Kit) -> None:
    labels = {f"name-{n}": secrets.token_hex(4) for n in range(10)}
    schedule = [*range(600, 619), 31_536_000]
    message_id = kit.submit(
        kit.device(silent()), labels=labels, schedule=schedule, expires_in=31_536_000, max_attempts=10_000
    )
    kit.attempted(message_id, 1)
    message = kit.get(message_id)
    assert (message["labels"], message["schedule"], message["max_attempts"]) == (labels, schedule, 10_000)
    assert kit.api.cancel(message_id).status == 200
