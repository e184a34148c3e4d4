"""Poison does not spread (P7): what cannot be read is buried at once with its reason, heard of, and can be redriven."""

import json
import secrets
from typing import Any

import pytest

from scripts.devices import acks
from tests.localstack.kit import Kit, Letter, eventually, job, numbers

pytestmark = pytest.mark.together("calm")

QUEUES = ("webhook", "email", "timer-15s", "timer-30s", "timer-4h")
FAST = 20.0
"""Seconds within which poison is buried: not after five receives with a visibility timeout each."""
ALARM = 120.0
"""Seconds within which an alarm's mail comes: the queue's metric, the alarm's period, the mail."""


def buried(kit: Kit, noun: str, body: str) -> list[Letter]:
    return [letter for letter in kit.queues.letters(f"{noun}-dlq") if letter.body == body]


@pytest.mark.parametrize("noun", QUEUES)
def test_poison_is_buried_with_its_reason_and_heard_of(kit: Kit, noun: str) -> None:
    mark, good = secrets.token_hex(6), kit.foretell()[1]
    rest: dict[str, Any] = {"token": "t"} if noun.startswith("timer") else {"base": 0}
    poison = {
        f"{mark} is no JSON": "body is not JSON",
        json.dumps([mark]): "body is not an object",
        json.dumps({"v": 2, "id": good, "attempt": 1, "mark": mark, **rest}): "version must be 1",
        json.dumps({"v": 1, "id": good, "mark": mark}): "fields must be",
        json.dumps({"v": 1, "id": mark, "attempt": 1, **rest}): "id is not a message id",
        json.dumps({"v": 1, "id": good, "attempt": int(mark[:4], 16) + 2_000_000_000, **rest}): "attempt must be",
    }
    kit.send(noun, *poison)

    for body, reason in poison.items():
        letter = eventually(lambda b=body: buried(kit, noun, b), FAST, f"{body} in {noun}-dlq")[0]  # type: ignore[misc]
        assert reason in letter.attributes["reason"]
    eventually(lambda: not [x for x in kit.queues.letters(noun) if x.body in poison], what="no poison left")
    assert all(len(buried(kit, noun, body)) == 1 for body in poison)
    name = kit.stack.dlqs[noun].rpartition("/")[2]
    eventually(lambda: kit.alarmed(f'"{name}"'), ALARM, f"an alarm's mail about {name}")


def test_poison_in_a_batch_spoils_no_other_record(kit: Kit) -> None:
    devices = [kit.device(acks()) for _ in range(4)]
    keys = [kit.foretell() for _ in devices]
    poison = [f"poison {secrets.token_hex(4)}" for _ in range(5)]
    failing = {"code": "InternalError", "status": 500, "message": "not now"}
    with kit.faults(
        service="sqs", operation="SendMessageBatch", function=kit.functions["submit"], times=None,
        where={"Entries": keys[0][1]}, action="error", error=failing,
    ):  # fmt: skip
        kit.api.submit_batch([kit.message(d, idempotency_key=k) for d, (k, _) in zip(devices, keys, strict=True)])
    bodies = [json.dumps(job(message_id, 1)) for _, message_id in keys]
    mixed = [body for pair in zip(poison, [*bodies, poison[-1] + "!"], strict=True) for body in pair]
    url = kit.stack.queues["webhook"]
    kit.clients["sqs"].send_message_batch(
        QueueUrl=url, Entries=[{"Id": str(n), "MessageBody": body} for n, body in enumerate(mixed)]
    )
    for (_, message_id), device in zip(keys, devices, strict=True):
        kit.ends(message_id, "DELIVERED")
        assert numbers(device.receipts) == [1]
    for body in poison:
        eventually(lambda b=body: buried(kit, "webhook", b), FAST, f"{body} in webhook-dlq")  # type: ignore[misc]


def test_a_dead_letter_queue_that_fails_keeps_the_poison_where_it_is(kit: Kit) -> None:
    body = f"poison {secrets.token_hex(4)}"
    with kit.faults(
        service="sqs", operation="SendMessage", function=kit.functions["check-ack"], times=3, action="error",
        where={"MessageBody": body}, error={"code": "InternalError", "status": 500, "message": "not now"},
    ) as fault:  # fmt: skip
        kit.send("timer-30s", body)
        eventually(lambda: fault.hits == 3, what="three failures")
        assert buried(kit, "timer-30s", body) == []
        assert [letter.body for letter in kit.queues.letters("timer-30s") if letter.body == body] == [body]
        eventually(
            lambda: buried(kit, "timer-30s", body), float(kit.settings["timer_visibility"]) + 20, "the poison buried"
        )
    assert len(buried(kit, "timer-30s", body)) == 1
