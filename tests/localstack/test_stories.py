"""The main job, story by story: a real device gets the message over HTTP and answers, or does not."""

import base64
import json
import secrets
from datetime import UTC, datetime
from typing import Any

import pytest

from scripts.devices import (
    acks,
    acks_in_the_answer,
    drops,
    fails,
    gone,
    nacks,
    redirects,
    silent,
)  # fmt: skip
from tests.localstack.kit import CROWDED, Kit, always, numbers, on_time, starts

pytestmark = pytest.mark.together("calm")


def outcomes(message: dict[str, Any]) -> list[tuple[str, str]]:
    """How the attempts of a message went."""
    return [(attempt["outcome"], attempt["reason"]) for attempt in message["attempts"]]


def heard(kit: Kit, message_id: str, status: str) -> None:
    """Fail unless the undelivered ending was told: one event, one mail to a person."""
    event = kit.events.wait(message_id, "ended")
    assert (event["status"], event["message_id"]) == (status, message_id)
    mail = kit.mails.wait(message_id)
    assert f"ended {status}" in mail.subject
    kit.records.wait(message_id, lambda record: record.untold is None)
    assert len(kit.events.of(message_id)) == 1
    assert len(kit.mails.saying(message_id)) == 1


def test_an_ack_at_once(kit: Kit) -> None:
    device = kit.device(acks())
    payload = 'Grüße, "Gerät" ✉\r\n\t'
    message_id = kit.submit(device, payload=payload, labels={"order": "17"})
    message = kit.ends(message_id, "DELIVERED")

    (receipt,) = device.receipts
    assert receipt.body == payload.encode()
    assert receipt.verified is True
    assert receipt.message_id == message_id
    assert receipt.headers["content-type"] == "text/plain; charset=utf-8"
    assert receipt.headers["until-ack-attempt"] == "1"
    assert abs(int(receipt.headers["webhook-timestamp"]) - receipt.at) < CROWDED
    kit.attempted(message_id, 1)
    message = kit.get(message_id)
    assert outcomes(message) == [("SENT", "http_200")]
    assert message["attempts"][0]["latency_ms"] >= 0
    assert (message["labels"], message["life"], message["next_attempt_at"]) == ({"order": "17"}, 1, None)
    assert message["acked_at"] == message["ended_at"] is not None

    before = kit.records.item(message_id)
    again = kit.api.ack(receipt.ack_url)
    assert (again.status, again.body) == (200, {"id": message_id, "status": "DELIVERED", "late": False})
    assert kit.records.item(message_id) == before
    kit.nothing_left(message_id)
    assert device.receipts == [receipt]
    assert not kit.mails.saying(message_id)


def test_two_drops_then_an_ack(kit: Kit) -> None:
    device = kit.device(drops(2) + acks())
    message_id = kit.submit(device, schedule=[1, 2, 9])
    message = kit.ends(message_id, "DELIVERED")

    on_time(message, 1, 2)
    assert numbers(device.receipts) == [1, 2, 3]
    assert {receipt.message_id for receipt in device.receipts} == {message_id}
    assert message["schedule"] == [1, 2, 9]
    kit.nothing_left(message_id)
    assert numbers(device.receipts) == [1, 2, 3]


def test_failures_are_outcomes_and_the_schedule_goes_on(kit: Kit) -> None:
    device = kit.device(fails(500) + drops(1, close=True) + fails(404) + acks())
    message_id = kit.submit(device, schedule=[1])
    message = kit.ends(message_id, "DELIVERED")
    kit.attempted(message_id, 4)

    message = kit.get(message_id)
    assert outcomes(message)[:3] == [("FAILED", "http_500"), ("FAILED", "closed"), ("FAILED", "http_404")]
    assert [attempt["http_status"] for attempt in message["attempts"]] == [500, None, 404, 200]
    on_time(message, 1, 1, 1)


def test_a_nack_is_final(kit: Kit) -> None:
    device = kit.device(nacks("no room for it"))
    message_id = kit.submit(device, schedule=[2])
    message = kit.ends(message_id, "REJECTED")

    assert "no room for it" in message["reason"]
    heard(kit, message_id, "REJECTED")
    mail = kit.mails.saying(message_id)[0]
    assert "no room for it" in mail.text and device.url in mail.text
    listed = kit.api.list(status="undelivered", limit=100)
    assert message_id in [m["id"] for m in listed.body["messages"]]
    kit.nothing_left(message_id)
    assert numbers(device.receipts) == [1]
    again = kit.api.nack(device.receipts[0].nack_url, "still none")
    assert again.status == 200
    assert kit.get(message_id)["reason"] == message["reason"]


def test_a_nack_may_ask_for_a_later_attempt(kit: Kit) -> None:
    device = kit.device(nacks("busy", retry_after=5) + acks())
    message_id = kit.submit(device, schedule=[1])
    (answered,) = device.wait_for_answers(1)
    assert answered.status == 200
    message = kit.ends(message_id, "DELIVERED")

    _, second = starts(message)
    assert 5 <= second - answered.at + 0.2 <= 5 + CROWDED
    assert message["nack_reason"] == "busy"
    assert numbers(device.receipts) == [1, 2]
    kit.nothing_left(message_id)


@pytest.mark.parametrize("status", [429, 503])
def test_retry_after_pushes_the_next_attempt_out(kit: Kit, status: int) -> None:
    device = kit.device(fails(status, retry_after=5) + acks())
    message_id = kit.submit(device, schedule=[1])
    message = kit.ends(message_id, "DELIVERED")

    on_time(message, 5)
    assert outcomes(message)[0] == ("FAILED", f"http_{status}")
    assert numbers(device.receipts) == [1, 2]


def test_gone_is_final(kit: Kit) -> None:
    device = kit.device(gone())
    message_id = kit.submit(device, schedule=[1])
    message = kit.ends(message_id, "REJECTED")

    assert outcomes(message) == [("GONE", "http_410")]
    heard(kit, message_id, "REJECTED")
    kit.nothing_left(message_id)
    assert numbers(device.receipts) == [1]


def test_an_ack_in_the_answer(kit: Kit) -> None:
    device = kit.device(acks_in_the_answer())
    message_id = kit.submit(device, schedule=[1])
    message = kit.ends(message_id, "DELIVERED")

    assert outcomes(message) == [("ACKED", "http_200")]
    kit.nothing_left(message_id)
    assert numbers(device.receipts) == [1]


def test_an_ack_in_an_error_is_none(kit: Kit) -> None:
    device = kit.device(acks_in_the_answer(status=500) + acks())
    message_id = kit.submit(device, schedule=[1])
    message = kit.ends(message_id, "DELIVERED")

    assert outcomes(message)[0] == ("FAILED", "http_500")
    assert numbers(device.receipts) == [1, 2]


def test_expiry(kit: Kit) -> None:
    device = kit.device(silent())
    message_id = kit.submit(device, schedule=[1, 600], expires_in=12)
    message = kit.ends(message_id, "EXPIRED")

    assert numbers(device.receipts) == [1, 2]
    expired, ended = (datetime.fromisoformat(message[name]) for name in ("expires_at", "ended_at"))
    assert 0 <= (ended - expired).total_seconds() <= CROWDED
    assert message["next_attempt_at"] is None
    heard(kit, message_id, "EXPIRED")
    kit.nothing_left(message_id)
    assert numbers(device.receipts) == [1, 2]


def test_exhaustion(kit: Kit) -> None:
    device = kit.device(silent())
    message_id = kit.submit(device, schedule=[1], max_attempts=2)
    message = kit.ends(message_id, "EXHAUSTED")

    on_time(message, 1)
    ended = datetime.fromisoformat(message["ended_at"]).timestamp()
    assert 1 <= ended - starts(message)[-1] <= 1 + CROWDED
    heard(kit, message_id, "EXHAUSTED")
    kit.nothing_left(message_id)
    assert numbers(device.receipts) == [1, 2]


def test_cancelling(kit: Kit) -> None:
    device = kit.device(silent())
    message_id = kit.submit(device, schedule=[2])
    kit.attempted(message_id, 1)
    answer = kit.api.cancel(message_id)
    assert (answer.status, answer.body["status"]) == (200, "CANCELLED")

    assert kit.events.wait(message_id, "ended")["status"] == "CANCELLED"
    kit.records.wait(message_id, lambda record: record.untold is None)
    before = kit.records.item(message_id)
    assert kit.api.cancel(message_id).status == 200
    assert kit.records.item(message_id) == before
    kit.nothing_left(message_id)
    assert numbers(device.receipts) == [1]
    # A person did it: nobody needs a mail.
    assert not kit.mails.saying(message_id)


def test_redelivery_is_ended_by_the_first_lifes_ack(kit: Kit) -> None:
    device = kit.device(nacks("not today") + silent())
    message_id = kit.submit(device, schedule=[1, 600])
    kit.ends(message_id, "REJECTED")
    kit.records.wait(message_id, lambda record: record.untold is None)

    answer = kit.api.redeliver(message_id)
    assert (answer.status, answer.body["life"], answer.body["status"]) == (202, 2, "PENDING")
    assert kit.api.redeliver(message_id).status == 409
    first, second, third = device.wait_for(3)
    kit.attempted(message_id, 3)
    # Attempt numbers go on; the schedule starts anew.
    assert numbers([first, second, third]) == [1, 2, 3]
    on_time({"attempts": kit.get(message_id)["attempts"][1:]}, 1)

    assert kit.api.ack(first.ack_url).status == 200
    message = kit.ends(message_id, "DELIVERED")
    assert (message["life"], message["reason"]) == (2, "acknowledged")
    again = kit.api.redeliver(message_id)
    assert (again.status, again.body["type"]) == (409, "urn:until-ack:problem:delivered")
    kit.nothing_left(message_id)
    assert numbers(device.receipts) == [1, 2, 3]


def test_a_late_ack_is_kept_and_forbids_redelivery(kit: Kit) -> None:
    device = kit.device(silent())
    message_id = kit.submit(device, schedule=[1], max_attempts=1)
    kit.ends(message_id, "EXHAUSTED")
    heard(kit, message_id, "EXHAUSTED")

    answer = kit.api.ack(device.receipts[0].ack_url)
    assert (answer.status, answer.body) == (200, {"id": message_id, "status": "EXHAUSTED", "late": True})
    message = kit.get(message_id)
    assert (message["status"], message["acked_at"]) == ("EXHAUSTED", None)
    assert message["late_ack_at"] is not None
    assert kit.events.wait(message_id, "late_ack")["status"] == "EXHAUSTED"

    before = kit.records.item(message_id)
    assert kit.api.ack(device.receipts[0].ack_url).body == answer.body
    assert kit.records.item(message_id) == before
    assert kit.api.redeliver(message_id).status == 409
    assert kit.records.item(message_id) == before
    assert [event["type"] for event in kit.events.of(message_id)] == ["ended", "late_ack"]


def test_payloads_arrive_byte_for_byte(kit: Kit) -> None:
    data = secrets.token_bytes(2_000) + bytes(range(256))
    document = {"on": True, "näme": ["a", 1.5, None], "deep": {"b": "</script>"}}
    payloads: list[tuple[dict[str, Any], bytes, str]] = [
        (
            {"payload": base64.b64encode(data).decode(), "payload_encoding": "base64"},
            data,
            "application/octet-stream",
        ),
        ({"payload": document}, json.dumps(document, separators=(",", ":")).encode(), "application/json"),
        ({"payload": "<a/>", "content_type": "application/xml"}, b"<a/>", "application/xml"),
        ({"payload": ""}, b"", "text/plain; charset=utf-8"),
    ]
    cast = [kit.device(acks()) for _ in payloads]
    batch = [kit.message(device, **fields) for device, (fields, _, _) in zip(cast, payloads, strict=True)]
    answer = kit.api.submit_batch(batch)
    assert [result["code"] for result in answer.body["results"]] == [202] * len(batch)

    for device, (_, expected, content_type), result in zip(cast, payloads, answer.body["results"], strict=True):
        kit.ends(result["id"], "DELIVERED")
        (receipt,) = device.receipts
        assert (receipt.body, receipt.headers["content-type"]) == (expected, content_type)
        assert receipt.verified is True


def test_the_largest_payload(kit: Kit) -> None:
    limit = int(kit.settings["max_payload_bytes"])
    device = kit.device(acks())
    message_id = kit.submit(device, payload="x" * limit)
    kit.ends(message_id, "DELIVERED")
    assert device.receipts[0].body == b"x" * limit


def test_redirects_are_not_followed(kit: Kit) -> None:
    elsewhere = kit.device(acks_in_the_answer())
    device = kit.device(redirects(elsewhere.url))
    message_id = kit.submit(device, schedule=[1], max_attempts=1)
    message = kit.ends(message_id, "EXHAUSTED")

    assert outcomes(message) == [("FAILED", "redirect")]
    assert elsewhere.receipts == []


def test_a_closed_port_is_an_outcome(kit: Kit) -> None:
    message_id = kit.submit("http://127.0.0.1:9/nobody", schedule=[1], max_attempts=1)
    message = kit.ends(message_id, "EXHAUSTED")
    assert outcomes(message) == [("FAILED", "refused")]


def test_times_are_what_the_device_saw(kit: Kit) -> None:
    device = kit.device(silent())
    before = datetime.now(UTC).timestamp()
    message_id = kit.submit(device, schedule=[3], max_attempts=2)
    kit.attempted(message_id, 2)
    message = kit.get(message_id)

    first, second = starts(message)
    assert before - 0.001 <= datetime.fromisoformat(message["created_at"]).timestamp() <= first
    for receipt, start in zip(device.receipts, (first, second), strict=True):
        assert 0 <= receipt.at - start + 0.001 <= CROWDED
    due = datetime.fromisoformat(message["attempts"][1]["due_at"]).timestamp()
    assert due == pytest.approx(first + 3, abs=0.0015)
    assert second >= due
    always(lambda: len(device.receipts) == 2, during=1, what="two attempts")
    kit.ends(message_id, "EXHAUSTED")
