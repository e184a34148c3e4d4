"""One slow target, and many messages at once: what they cost the others. Needs a quiet stack."""

from scripts.devices import acks, acks_in_the_answer, hangs
from tests.localstack.kit import Kit, eventually


def test_a_hanging_device_does_not_delay_the_others_of_its_batch(kit: Kit) -> None:
    hanging = kit.device(hangs())
    others = [kit.device(acks()) for _ in range(9)]
    batch = [kit.message(device, schedule=[60]) for device in (*others[:4], hanging, *others[4:])]
    answer = kit.api.submit_batch(batch)
    ids = [result["id"] for result in answer.body["results"]]
    (stuck,) = hanging.wait_for(1)

    for device in others:
        (receipt,) = device.wait_for(1)
        assert receipt.at < stuck.at + kit.settings["read_timeout"]
    record = kit.attempted(ids[4], 1)
    (attempt,) = record.attempts
    assert (str(attempt.outcome), attempt.reason) == ("FAILED", "read_timeout")
    for message_id in ids[:4] + ids[5:]:
        kit.ends(message_id, "DELIVERED")
    assert all(len(device.receipts) == 1 for device in (hanging, *others))
    assert kit.api.cancel(ids[4]).status == 200


def test_a_hundred_at_once(kit: Kit) -> None:
    device = kit.device(acks_in_the_answer())
    answer = kit.api.submit_batch([kit.message(device, payload=str(n), schedule=[60]) for n in range(100)])
    assert answer.status == 200
    ids = [result["id"] for result in answer.body["results"]]

    assert len(set(ids)) == 100
    receipts = device.wait_for(100, within=60)
    assert sorted(int(receipt.body) for receipt in receipts) == list(range(100))
    kit.records.wait_all(ids, lambda record: record.status == "DELIVERED", within=60)
    eventually(lambda: not any(kit.queues.of(i) for i in ids), within=30, what="nothing left in the queues")
    assert len(device.receipts) == 100
