"""Every hint lost, every dead letter redriven. Disturbs everybody: runs alone."""

import secrets

from handlers.delivery.message import Record
from scripts.devices import acks, drops
from tests.localstack.kit import BROKEN, Kit, always, enqueueing, eventually, job, numbers, timer


def arn(kit: Kit, url: str) -> str:
    answer = kit.clients["sqs"].get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])
    return str(answer["Attributes"]["QueueArn"])


def test_purging_every_queue_loses_nothing(kit: Kit) -> None:
    devices = [kit.device(drops(1) + acks()) for _ in range(6)]
    schedules = [[2], [2], [15], [15], [30], [14_400]]
    batch = [kit.message(d, schedule=s) for d, s in zip(devices, schedules, strict=True)]
    ids = [result["id"] for result in kit.api.submit_batch(batch).body["results"]]

    def attempted_once(record: Record) -> bool:
        return record.attempt == 1 and record.attempts[0].outcome is not None

    kit.records.wait_all(ids, attempted_once)

    # A timer in flight re-arms itself: purge until none is left.
    def purged() -> bool:
        for url in kit.stack.queues.values():
            kit.clients["sqs"].purge_queue(QueueUrl=url)
        return not any(kit.queues.letters(noun) for noun in kit.stack.queues)

    eventually(purged, what="empty queues")
    always(lambda: not any(kit.queues.letters(noun) for noun in kit.stack.queues), during=3, what="empty queues")
    assert [numbers(device.receipts) for device in devices] == [[1]] * 6

    kit.swept(lambda: all(len(device.receipts) > 1 for device in devices[:4]), what="every second attempt")
    for message_id in ids[:4]:
        kit.ends(message_id, "DELIVERED")
    # The others are the sweep's when they are overdue by its grace.
    grace = int(kit.settings["sweep_grace"]) * 1000
    for message_id in ids[4:]:
        record = kit.records.get(message_id)
        assert (record.attempt, record.sweep_at) == (1, record.due_at + grace)
        assert kit.api.cancel(message_id).status == 200
    assert [numbers(device.receipts) for device in devices] == [[1, 2]] * 4 + [[1]] * 2


def test_the_sweep_holds_takeovers_where_a_queue_is_late(kit: Kit) -> None:
    """A further hint would only lengthen a queue that is not keeping up."""
    device = kit.device(acks())
    key, message_id = kit.foretell()
    with kit.faults(
        **enqueueing(message_id), function=kit.functions["submit"], times=None, action="error", error=BROKEN
    ):
        kit.submit(device, idempotency_key=key)
    name = kit.stack.queues["webhook"].rpartition("/")[2]

    def held() -> bool:
        kit.clients["cloudwatch"].put_metric_data(
            Namespace="AWS/SQS",
            MetricData=[
                {
                    "MetricName": "ApproximateAgeOfOldestMessage",
                    "Dimensions": [{"Name": "QueueName", "Value": name}],
                    "Value": 10 * kit.settings["sweep_grace"],
                }
            ],
        )
        return "held" in kit.invoke("sweep")

    eventually(held, within=60, what="a takeover that is held")
    record = kit.records.get(message_id)
    assert (record.attempt, record.sweeps) == (0, 0)
    assert kit.queues.of(message_id) == [] == device.receipts
    kit.swept(lambda: device.receipts, what="the takeover, when the queue keeps up again")
    kit.ends(message_id, "DELIVERED")
    assert numbers(device.receipts) == [1]


def test_a_sweep_killed_between_its_takeover_and_its_hint_is_made_up_for(kit: Kit) -> None:
    device = kit.device(acks())
    key, message_id = kit.foretell()
    lost = enqueueing(message_id)
    with kit.faults(**lost, function=kit.functions["submit"], times=None, action="error", error=BROKEN):
        kit.submit(device, idempotency_key=key)
    with kit.unhindered(), kit.faults(**lost, function=kit.functions["sweep"], action="kill") as fault:

        def killed() -> bool:
            kit.clients["lambda"].invoke(FunctionName=kit.functions["sweep"], Payload=b"{}")
            return fault.hits == 1

        eventually(killed, within=60, what="a sweep that died")
    taken = kit.records.get(message_id)
    assert (taken.sweeps, taken.attempt) == (1, 0)
    assert kit.queues.of(message_id) == [] == device.receipts
    kit.swept(lambda: device.receipts, what="the next sweep's takeover")
    kit.ends(message_id, "DELIVERED")
    assert numbers(device.receipts) == [1]


def test_redriving_dead_letters(kit: Kit) -> None:
    """What failed five times is whole in its dead-letter queue; redriven, it does its work, once."""
    device, other = kit.device(acks()), kit.device(drops(1) + acks())
    key, message_id = kit.foretell()
    with kit.faults(
        **enqueueing(message_id), function=kit.functions["submit"], times=None, action="error", error=BROKEN
    ):
        kit.submit(device, idempotency_key=key)
    waiting = kit.submit(other, schedule=[600])
    record = kit.attempted(waiting, 1)
    for noun in ("webhook", "timer-4h"):
        kit.clients["sqs"].purge_queue(QueueUrl=kit.stack.dlqs[noun])
    poison = f"poison {secrets.token_hex(4)}"
    kit.send("webhook-dlq", job(message_id, 1), poison)
    kit.send("timer-4h-dlq", timer(waiting, 1, record.token))

    for noun in ("webhook", "timer-4h"):
        kit.clients["sqs"].start_message_move_task(
            SourceArn=arn(kit, kit.stack.dlqs[noun]), DestinationArn=arn(kit, kit.stack.queues[noun])
        )
    kit.ends(message_id, "DELIVERED")
    assert numbers(device.receipts) == [1]
    eventually(lambda: not kit.queues.of(message_id, "webhook", "webhook-dlq"), what="nothing left of it")
    # Poison stays poison: it comes back to where it was.
    (back,) = eventually(lambda: [x for x in kit.queues.letters("webhook-dlq") if x.body == poison], what="the poison")
    assert back.attributes["reason"] == "body is not JSON"
    eventually(lambda: not kit.queues.letters("timer-4h-dlq"), what="an empty dead-letter queue")
    always(lambda: len(kit.live_timers(waiting)) <= 2, during=2, what="its timers")
    assert numbers(other.receipts) == [1]
    kit.clients["sqs"].purge_queue(QueueUrl=kit.stack.dlqs["webhook"])
    assert kit.api.cancel(waiting).status == 200
