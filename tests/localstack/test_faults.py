"""Answers that get lost, services that fail, functions of the API that die: nothing is lost, nothing doubled."""

import json
import secrets

import pytest

from scripts.devices import acks, nacks, silent
from tests.localstack.kit import BROKEN, CROWDED, THROTTLED, Kit, arming, claim, eventually, job, numbers, on_time

pytestmark = pytest.mark.together("calm")

WRITES_THROTTLED = {**THROTTLED, "code": "ProvisionedThroughputExceededException"}


def test_an_answer_lost_after_the_claim_goes_on_with_the_attempt(kit: Kit) -> None:
    key, message_id = kit.foretell()
    device = kit.device(silent())
    function = kit.functions["deliver-webhook"]
    with kit.faults(**claim(message_id), function=function, when="after", action="drop") as fault:
        kit.submit(device, idempotency_key=key, schedule=[600])
        record = kit.attempted(message_id, 1)
        assert fault.hits == 1
    # By the same function, in the same run: its own write, so the attempt is its own.
    assert (record.claims, record.attempt) == (1, 1)
    assert record.attempts[0].sent_at - record.created_at < kit.settings["visibility"] * 500
    assert numbers(device.receipts) == [1]
    kit.one_chain_and_an_ack(message_id, device)
    assert numbers(device.receipts) == [1]


def test_a_timer_whose_arming_failed_holds_the_sending_back(kit: Kit) -> None:
    key, message_id = kit.foretell()
    device = kit.device(silent())
    with kit.faults(
        **arming(message_id), function=kit.functions["deliver-webhook"], times=3, action="error", error=BROKEN
    ) as fault:
        kit.submit(device, idempotency_key=key, schedule=[600])
        eventually(lambda: fault.hits == 3, what="three failures")
        assert device.receipts == []
        kit.attempted(message_id, 1, kit.returns)
    assert numbers(device.receipts) == [1]
    kit.one_chain_and_an_ack(message_id, device)


def test_a_batch_of_timers_of_which_one_cannot_be_sent_on(kit: Kit) -> None:
    devices = [kit.device(silent()) for _ in range(3)]
    keys = [kit.foretell() for _ in devices]
    ids = [message_id for _, message_id in keys]
    with kit.faults(
        service="sqs", operation="SendMessageBatch", function=kit.functions["check-ack"], action="partial",
        where={"Entries": ids[1], "QueueUrl": "webhook"}, entries=[0],
    ) as fault:  # fmt: skip
        kit.api.submit_batch(
            [kit.message(d, idempotency_key=k, schedule=[2, 600]) for d, (k, _) in zip(devices, keys, strict=True)]
        )
        for message_id in ids:
            kit.attempted(message_id, 2, kit.returns)
        assert fault.hits == 1
    assert [numbers(device.receipts) for device in devices] == [[1, 2]] * 3, [kit.get(i) for i in ids]
    for message_id, device in zip(ids, devices, strict=True):
        kit.one_chain_and_an_ack(message_id, device)


def test_submit_killed_between_put_and_send_is_swept(kit: Kit) -> None:
    key, message_id = kit.foretell()
    device = kit.device(acks())
    with kit.faults(
        service="sqs", operation="SendMessageBatch", function=kit.functions["submit"], when="before",
        where={"Entries": message_id}, action="kill",
    ) as fault:  # fmt: skip
        answer = kit.api.submit(kit.message(device, idempotency_key=key))
        assert fault.hits == 1
    assert answer.status >= 500
    assert kit.records.get(message_id).attempt == 0
    assert kit.queues.of(message_id) == []
    kit.swept(lambda: device.receipts, what="the attempt")
    kit.ends(message_id, "DELIVERED")
    assert numbers(device.receipts) == [1]


def test_submit_killed_between_put_and_send_is_repeated_by_its_caller(kit: Kit) -> None:
    key, message_id = kit.foretell()
    device = kit.device(acks())
    with kit.faults(
        service="sqs", operation="SendMessageBatch", function=kit.functions["submit"], when="before",
        where={"Entries": message_id}, action="kill",
    ):  # fmt: skip
        assert kit.api.submit(kit.message(device, idempotency_key=key)).status >= 500
    again = kit.api.submit(kit.message(device, idempotency_key=key))
    assert (again.status, again.body["id"]) == (200, message_id)
    kit.ends(message_id, "DELIVERED")
    assert numbers(device.receipts) == [1]


def test_redeliver_killed_before_it_enqueued_is_swept(kit: Kit) -> None:
    device = kit.device(nacks("no") + acks())
    message_id = kit.submit(device)
    kit.ends(message_id, "REJECTED")
    kit.records.wait(message_id, lambda record: record.untold is None)
    with kit.faults(
        service="sqs", operation="SendMessageBatch", function=kit.functions["redeliver"], when="before",
        where={"Entries": message_id}, action="kill",
    ) as fault:  # fmt: skip
        assert kit.api.redeliver(message_id).status >= 500
        assert fault.hits == 1
    assert kit.records.get(message_id).life == 2
    kit.swept(lambda: len(device.receipts) == 2, what="the second life's attempt")
    assert kit.ends(message_id, "DELIVERED")["life"] == 2
    assert numbers(device.receipts) == [1, 2]


@pytest.mark.parametrize("topic", ["events", "alerts"])
def test_a_publication_that_killed_ack_is_made_by_the_sweep(kit: Kit, topic: str) -> None:
    device = kit.device(silent())
    message_id = kit.submit(device, schedule=[600])
    (receipt,) = device.wait_for(1)
    kit.attempted(message_id, 1)
    with kit.faults(
        service="sns", operation="Publish", function=kit.functions["ack"], action="kill",
        where={"Message": message_id, "TopicArn": topic},
    ) as fault:  # fmt: skip
        assert kit.api.nack(receipt.nack_url, "no").status >= 500
        assert fault.hits == 1
    record = kit.records.get(message_id)
    assert (str(record.status), record.untold is not None) == ("REJECTED", True)
    assert not kit.mails.saying(message_id)
    # The target asks again: it was taken. Telling has a lease of its own.
    assert kit.api.nack(receipt.nack_url, "no").body["status"] == "REJECTED"
    kit.swept(lambda: kit.records.get(message_id).untold is None, within=90, what="the ending told")
    kit.told(message_id, "REJECTED")
    kit.sweep()
    assert len(kit.mails.saying(message_id)) == 1


def test_a_cancellation_killed_at_its_publication_is_told_by_the_sweep(kit: Kit) -> None:
    device = kit.device(silent())
    message_id = kit.submit(device, schedule=[600])
    kit.attempted(message_id, 1)
    with kit.faults(
        service="sns",
        operation="Publish",
        function=kit.functions["query"],
        action="kill",
        where={"Message": message_id},
    ) as fault:
        assert kit.api.cancel(message_id).status >= 500
        assert fault.hits == 1
    assert str(kit.records.get(message_id).status) == "CANCELLED"
    assert kit.events.of(message_id) == []
    # Its caller repeats it, and is told how it stands.
    assert kit.api.cancel(message_id).body["status"] == "CANCELLED"
    kit.swept(lambda: kit.records.get(message_id).untold is None, within=90, what="the ending told")
    assert kit.events.wait(message_id, "ended")["status"] == "CANCELLED"
    assert not kit.mails.saying(message_id)
    assert numbers(device.receipts) == [1]


def test_a_throttled_publication_is_made_later(kit: Kit) -> None:
    device = kit.device(nacks("no"))
    key, message_id = kit.foretell()
    with kit.faults(
        service="sns", operation="Publish", where={"Message": message_id}, times=3, action="error", error=THROTTLED
    ) as fault:
        kit.submit(device, idempotency_key=key)
        kit.ends(message_id, "REJECTED")
        eventually(lambda: fault.hits == 3, what="three refusals")
        assert device.wait_for_answers(1)[0].status == 200
    kit.swept(lambda: kit.records.get(message_id).untold is None, within=90, what="the ending told")
    kit.told(message_id, "REJECTED")


def test_a_throttled_claim_comes_again(kit: Kit) -> None:
    device = kit.device(acks())
    key, message_id = kit.foretell()
    with kit.faults(
        **claim(message_id), function=kit.functions["deliver-webhook"], times=3, action="error", error=WRITES_THROTTLED
    ) as fault:
        kit.submit(device, idempotency_key=key, schedule=[600])
        eventually(lambda: fault.hits == 3, what="three refusals")
        assert kit.records.get(message_id).attempt == 0
        kit.ends(message_id, "DELIVERED", kit.returns)
    assert numbers(device.receipts) == [1]


def test_a_claim_throttled_once_goes_on(kit: Kit) -> None:
    device = kit.device(acks())
    key, message_id = kit.foretell()
    with kit.faults(
        **claim(message_id), function=kit.functions["deliver-webhook"], action="error", error=WRITES_THROTTLED
    ) as fault:
        kit.submit(device, idempotency_key=key, schedule=[600])
        kit.ends(message_id, "DELIVERED", kit.returns)
        assert fault.hits == 1
    assert numbers(device.receipts) == [1]


def test_an_ack_whose_write_was_answered_to_nobody(kit: Kit) -> None:
    device = kit.device(silent())
    message_id = kit.submit(device, schedule=[600])
    (receipt,) = device.wait_for(1)
    kit.attempted(message_id, 1)
    with kit.faults(
        service="dynamodb", operation="UpdateItem", function=kit.functions["ack"], where={"Key": message_id},
        when="after", action="drop",
    ) as fault:  # fmt: skip
        answer = kit.api.ack(receipt.ack_url)
        assert fault.hits == 1
    assert (answer.status, answer.body) == (200, {"id": message_id, "status": "DELIVERED", "late": False})
    kit.ends(message_id, "DELIVERED")
    kit.nothing_left(message_id)


def test_an_ack_that_cannot_be_stored_says_so_and_may_be_repeated(kit: Kit) -> None:
    device = kit.device(acks())
    key, message_id = kit.foretell()
    with kit.faults(
        service="dynamodb", operation="UpdateItem", function=kit.functions["ack"], where={"Key": message_id},
        times=3, action="error", error=BROKEN,
    ):  # fmt: skip
        kit.submit(device, idempotency_key=key, schedule=[600])
        refused, taken = device.wait_for_answers(2)
    assert (refused.status, taken.status) == (503, 200)
    kit.ends(message_id, "DELIVERED")
    assert numbers(device.receipts) == [1]


def test_a_nack_killed_between_its_timer_and_its_write_leaves_the_first_timer(kit: Kit) -> None:
    device = kit.device(silent())
    message_id = kit.submit(device, schedule=[8, 600])
    (receipt,) = device.wait_for(1)
    kit.attempted(message_id, 1)
    with kit.faults(
        service="dynamodb", operation="UpdateItem", function=kit.functions["ack"], where={"Key": message_id},
        when="before", action="kill",
    ) as fault:  # fmt: skip
        assert kit.api.nack(receipt.nack_url, "later", retry_after=60).status >= 500
        assert fault.hits == 1
    kit.attempted(message_id, 2)
    on_time(kit.get(message_id), 8)
    kit.one_chain_and_an_ack(message_id, device)
    assert numbers(device.receipts) == [1, 2]


def test_a_throttled_mail_service_is_an_outcome(kit: Kit) -> None:
    to = f"{secrets.token_hex(5)}@devices.example"
    with kit.faults(
        service="ses", operation="SendTemplatedEmail", where={"Destination": to}, times=5, action="error",
        error={"code": "Throttling", "status": 400, "message": "Maximum sending rate exceeded."},
    ) as fault:  # fmt: skip
        message_id = kit.submit(to, channel="email", payload="words", schedule=[2])
        record = kit.attempted(message_id, 1)
        assert fault.hits
    assert [(str(a.outcome), a.reason) for a in record.attempts] == [("FAILED", "mail_throttled")]
    eventually(lambda: kit.mails.to(to), what="the mail of a later attempt")
    assert kit.api.cancel(message_id).status == 200


def test_p1_accepted_means_stored_and_enqueued(kit: Kit) -> None:
    key, message_id = kit.foretell()
    device = kit.device(silent())
    # What is claimed only after this hold was enqueued before the answer.
    with kit.faults(
        service="dynamodb", operation="UpdateItem", where={"Key": message_id}, when="before", action="hold", seconds=2
    ):
        assert kit.submit(device, idempotency_key=key, schedule=[600]) == message_id
        record = kit.records.get(message_id)
        assert (str(record.status), record.attempt, record.payload) == ("PENDING", 0, b"hello")
        assert record.sweep_at is not None
        (letter,) = kit.queues.of(message_id)
        assert (letter.queue, letter.document) == ("webhook", job(message_id, 1))
    device.wait_for(1)
    kit.attempted(message_id, 1)
    assert kit.api.cancel(message_id).status == 200


def test_an_ack_during_the_sending_wins(kit: Kit) -> None:
    device = kit.device(acks())
    key, message_id = kit.foretell()
    # The outcome's write is held back until after the ACK.
    with kit.faults(
        service="dynamodb", operation="UpdateItem", function=kit.functions["deliver-webhook"], when="before",
        where={"Key": message_id, "ExpressionAttributeNames": "'o'"}, action="hold", seconds=1.5,
    ) as held:  # fmt: skip
        kit.submit(device, idempotency_key=key, schedule=[6])
        message = kit.ends(message_id, "DELIVERED")
        assert held.hits == 1
    kit.attempted(message_id, 1)
    message = kit.get(message_id)
    assert [(a["n"], a["outcome"]) for a in message["attempts"]] == [(1, "SENT")]
    kit.nothing_left(message_id, within=CROWDED)
    assert numbers(device.receipts) == [1]


def test_a_function_that_runs_out_of_memory(kit: Kit) -> None:
    """A record that needs more memory than the function has takes the whole batch down, and nothing with it."""
    device = kit.device(acks())
    key, message_id = kit.foretell()
    with kit.faults(
        service="sqs", operation="SendMessageBatch", function=kit.functions["submit"],
        where={"Entries": message_id}, times=None, action="error", error=BROKEN,
    ):  # fmt: skip
        kit.submit(device, idempotency_key=key)
    source = kit.clients["sqs"].get_queue_attributes(
        QueueUrl=kit.stack.queues["webhook"], AttributeNames=["QueueArn"]
    )["Attributes"]["QueueArn"]  # fmt: skip
    # Some 1,700 bytes of Python for each of these: more than the function's 128 MB from less than Lambda's 6 MB.
    swelling = "[" + ("[" * 20 + "{}" + "]" * 20 + ",") * 90_000 + "0]"
    bodies = (swelling, json.dumps(job(message_id, 1)))
    records = [{"messageId": secrets.token_hex(8), "body": b, "eventSourceARN": source} for b in bodies]
    answer = kit.clients["lambda"].invoke(
        FunctionName=kit.functions["deliver-webhook"], Payload=json.dumps({"Records": records}).encode()
    )
    died = json.loads(answer["Payload"].read())
    assert (answer.get("FunctionError"), died["errorType"]) == ("Unhandled", "Runtime.ExitError")
    assert kit.records.get(message_id).attempt == 0
    kit.swept(lambda: device.receipts, what="the attempt")
    kit.ends(message_id, "DELIVERED")
    assert numbers(device.receipts) == [1]
