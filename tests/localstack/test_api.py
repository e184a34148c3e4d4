"""The API: what it takes, what it refuses and how it says so. Every answer is held against the contract."""

import json
import secrets
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from scripts.client import Answer
from scripts.devices import acks, silent
from tests.localstack.kit import Kit, eventually

pytestmark = pytest.mark.together("calm")

PROBLEM = "application/problem+json"
UNKNOWN = "a" * 26


def check_refused(answer: Answer, status: int, code: str, field: str | None = None) -> dict[str, Any]:
    """The problem of a refused request."""
    assert (answer.status, answer.headers["content-type"]) == (status, PROBLEM), answer
    problem: dict[str, Any] = answer.body
    assert problem["type"] == f"urn:until-ack:problem:{code}", problem
    assert problem["status"] == status
    if field is not None:
        assert problem["field"] == field, problem
        assert problem["limit"]
    return problem


def nothing_for(kit: Kit, target: str) -> None:
    """Fail if anything is stored for a target."""
    listed = kit.api.list(target=target)
    assert (listed.status, listed.body) == (200, {"messages": [], "next_cursor": None})


BAD: list[tuple[dict[str, Any], str]] = [
    ({"colour": "red"}, "colour"),
    ({"target": 7}, "target"),
    ({"target": "ftp://files.example/x"}, "target"),
    ({"target": "//nowhere"}, "target"),
    ({"target": "http://169.254.169.254/latest/meta-data"}, "target"),
    ({"target": "http://10.0.0.1/"}, "target"),
    ({"target": "https://user:secret@devices.example/"}, "target"),
    ({"target": "x" * 2049}, "target"),
    ({"channel": "pigeon"}, "channel"),
    ({"channel": "email"}, "target"),
    ({"channel": "email", "target": "two@a.example, one@b.example"}, "target"),
    ({"channel": "email", "target": "a@b.example", "payload": {"subject": "no text"}}, "payload"),
    ({"payload": None}, "payload"),
    ({"payload": 7}, "payload"),
    ({"payload": "?", "payload_encoding": "base64"}, "payload"),
    ({"payload_encoding": "rot13"}, "payload_encoding"),
    ({"content_type": "text"}, "content_type"),
    ({"content_type": "text/plain\r\nx-evil: 1"}, "content_type"),
    ({"idempotency_key": ""}, "idempotency_key"),
    ({"idempotency_key": "k" * 129}, "idempotency_key"),
    ({"schedule": []}, "schedule"),
    ({"schedule": [1] * 21}, "schedule"),
    ({"schedule": [0]}, "schedule[0]"),
    ({"schedule": [1, -1]}, "schedule[1]"),
    ({"schedule": [31_536_001]}, "schedule[0]"),
    ({"schedule": [1.5]}, "schedule[0]"),
    ({"schedule": [True]}, "schedule[0]"),
    ({"schedule": "unheard-of"}, "schedule"),
    ({"schedule": 15}, "schedule"),
    ({"expires_in": 0}, "expires_in"),
    ({"expires_in": -1}, "expires_in"),
    ({"expires_in": 31_536_001}, "expires_in"),
    ({"expires_in": "60"}, "expires_in"),
    ({"max_attempts": 0}, "max_attempts"),
    ({"max_attempts": 10_001}, "max_attempts"),
    ({"labels": {f"l{n}": "v" for n in range(11)}}, "labels"),
    ({"labels": {"": "v"}}, "labels"),
    ({"labels": {"l": 1}}, "labels.l"),
]


def test_bad_messages_are_refused_by_field_and_nothing_is_stored(kit: Kit) -> None:
    target = kit.device(silent()).url
    for fields, field in BAD:
        problem = check_refused(kit.api.submit(kit.message(target, **fields)), 400, "invalid-field", field)
        assert problem["detail"]
    for missing in ("target", "channel", "payload"):
        message = kit.message(target)
        del message[missing]
        check_refused(kit.api.submit(message), 400, "invalid-field", missing)
    nothing_for(kit, target)


def test_bad_messages_spoil_nothing_in_a_batch(kit: Kit) -> None:
    good, bad = kit.device(acks()), kit.device(silent())
    # Two rounds through the same table: one request with all bad ones, and good ones between.
    messages = [kit.message(bad, **fields) for fields, _ in BAD]
    answer = kit.api.submit_batch([kit.message(good, payload="1"), *messages, kit.message(good, payload="2")])

    assert answer.status == 200
    results = answer.body["results"]
    assert [result["index"] for result in results] == list(range(len(BAD) + 2))
    assert [results[0]["code"], results[-1]["code"]] == [202, 202]
    for result, (_, field) in zip(results[1:-1], BAD, strict=True):
        assert (result["code"], result["problem"]["field"]) == (400, field)
        assert "id" not in result
    assert {receipt.body for receipt in good.wait_for(2)} == {b"1", b"2"}
    for result in (results[0], results[-1]):
        kit.ends(result["id"], "DELIVERED")
    nothing_for(kit, bad.url)


def test_bodies_that_are_no_message(kit: Kit) -> None:
    target = kit.device(silent()).url
    good = json.dumps(kit.message(target)).encode()
    for body in (b"", b"{", b"[]", b'"text"', b"null", good[:-1], good + b"x", b'{"target": "\xff"}', b"[" * 5_000):
        check_refused(kit.api.signed("POST", "/messages", body), 400, "invalid-field", "body")
    check_refused(
        kit.api.signed("POST", "/messages", good[:-1] + b', "expires_in": NaN}'), 400, "invalid-field", "body"
    )
    check_refused(kit.api.signed("POST", "/messages/batch", {"messages": []}), 400, "invalid-field", "messages")
    many = [kit.message(target)] * 101
    check_refused(kit.api.submit_batch(many), 400, "invalid-field", "messages")
    check_refused(kit.api.signed("POST", "/messages/batch", {"messages": [1]}), 400, "invalid-field", "messages[0]")
    check_refused(
        kit.api.signed("POST", "/messages/batch", {"messages": many[:1], "also": 1}), 400, "invalid-field", "also"
    )
    nothing_for(kit, target)


def test_sizes_over_the_limit_are_named(kit: Kit) -> None:
    target = kit.device(silent()).url
    limit = int(kit.settings["max_payload_bytes"])
    problem = check_refused(
        kit.api.submit(kit.message(target, payload="é" * (limit // 2 + 1))), 400, "invalid-field", "payload"
    )
    assert str(limit) in problem["limit"] and str(limit) in problem["detail"]
    huge = b'{"payload": "' + b"x" * 5_000_001 + b'"}'
    check_refused(kit.api.signed("POST", "/messages/batch", huge), 413, "too-large")
    check_refused(kit.api.signed("POST", f"/messages/{UNKNOWN}/redeliver", huge[:20_000]), 413, "too-large")
    check_refused(kit.api.unsigned("POST", f"{kit.api.ack_base_url}/acks", None, huge[:300_000]), 413, "too-large")
    problem = check_refused(kit.api.signed("POST", "/messages", huge), 413, "too-large")
    assert "5000000" in problem["detail"].replace("_", "").replace(",", "")
    nothing_for(kit, target)


def test_a_repeated_key_names_the_same_message(kit: Kit) -> None:
    device = kit.device(acks())
    message = kit.message(device, idempotency_key=secrets.token_hex(8), labels={"n": "1"})
    first = kit.api.submit(message)
    assert first.status == 202
    assert first.headers["location"].endswith(f"/messages/{first.body['id']}")
    kit.ends(first.body["id"], "DELIVERED")
    before = kit.records.item(first.body["id"])

    again = kit.api.submit(message)
    assert (again.status, again.body["id"], again.body["created_at"]) == (
        200,
        first.body["id"],
        first.body["created_at"],
    )
    check_refused(kit.api.submit({**message, "payload": "other"}), 409, "idempotency-key-reused")
    batch = kit.api.submit_batch([message, {**message, "labels": {"n": "2"}}])
    assert [result["code"] for result in batch.body["results"]] == [200, 409]
    kit.nothing_left(first.body["id"])
    assert kit.records.item(first.body["id"]) == before
    assert len(device.receipts) == 1


def test_the_same_key_many_times_at_once_is_one_message(kit: Kit) -> None:
    device = kit.device(acks())
    message = kit.message(device, idempotency_key=secrets.token_hex(8))
    answer = kit.api.submit_batch([message] * 10)

    results = answer.body["results"]
    assert sorted(result["code"] for result in results) == [200] * 9 + [202]
    (message_id,) = {result["id"] for result in results}
    kit.ends(message_id, "DELIVERED")
    # Jobs that met the live lease of the first come again after the visibility timeout.
    kit.nothing_left(message_id, within=kit.returns)
    assert len(device.receipts) == 1


def test_listing_by_target_pages_without_gaps_or_repeats(kit: Kit) -> None:
    device = kit.device(silent())
    started = datetime.now(UTC)
    answer = kit.api.submit_batch([kit.message(device, payload=str(n), schedule=[600]) for n in range(7)])
    ids = {result["id"] for result in answer.body["results"]}

    # The index is eventually consistent on AWS.
    eventually(lambda: len(kit.api.list(target=device.url).body["messages"]) == 7, what="seven in the index")
    pages: list[list[str]] = []
    cursor: str | None = None
    while len(pages) < 9:
        page = kit.api.list(target=device.url, limit=3, cursor=cursor)
        assert page.status == 200
        pages.append([message["id"] for message in page.body["messages"]])
        cursor = page.body["next_cursor"]
        if cursor is None:
            break
    listed = [message_id for page in pages for message_id in page]
    assert sorted(listed) == sorted(ids)
    assert all(len(page) <= 3 for page in pages)

    since = (started - timedelta(seconds=1)).isoformat()
    later = (started + timedelta(hours=1)).isoformat()
    assert len(kit.api.list(target=device.url, since=since, status="open").body["messages"]) == 7
    assert kit.api.list(target=device.url, since=later).body["messages"] == []
    assert kit.api.list(target=device.url, status="DELIVERED").body["messages"] == []
    assert "attempts" not in kit.api.list(target=device.url, limit=1).body["messages"][0]
    for message_id in ids:
        assert kit.api.cancel(message_id).status == 200


def test_listing_by_status(kit: Kit) -> None:
    device = kit.device(silent())
    started = datetime.now(UTC).isoformat()
    cancelled, waiting = (kit.submit(device, schedule=[600]) for _ in range(2))
    kit.attempted(waiting, 1)
    assert kit.api.cancel(cancelled).status == 200

    def listed(status: str) -> set[str]:
        found: set[str] = set()
        cursor: str | None = None
        for _ in range(20):
            page = kit.api.list(status=status, since=started, cursor=cursor)
            found |= {message["id"] for message in page.body["messages"]}
            cursor = page.body["next_cursor"]
            if cursor is None:
                return found
        raise AssertionError("the pages have no end")

    eventually(lambda: cancelled in listed("undelivered"), what="the cancelled message among the undelivered")
    assert waiting in listed("open") and waiting in listed("AWAITING_ACK")
    assert waiting not in listed("undelivered") and waiting not in listed("PENDING")
    assert cancelled in listed("CANCELLED")
    assert cancelled not in listed("open") | listed("REJECTED")
    assert kit.api.cancel(waiting).status == 200


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ({}, "target"),
        ({"status": "DELIVERED"}, "target"),
        ({"status": "LOST"}, "status"),
        ({"status": "open", "since": "yesterday"}, "since"),
        ({"status": "open", "since": "2026-01-01T00:00:00"}, "since"),
        ({"status": "open", "limit": "0"}, "limit"),
        ({"status": "open", "limit": "101"}, "limit"),
        ({"status": "open", "limit": "many"}, "limit"),
        ({"status": "open", "cursor": "bm90IG91cnM="}, "cursor"),
        ({"status": "open", "colour": "red"}, "colour"),
    ],
)
def test_bad_listings(kit: Kit, query: dict[str, str], field: str) -> None:
    check_refused(kit.api.signed("GET", "/messages", query=query), 400, "invalid-field", field)


def test_what_is_not_there(kit: Kit) -> None:
    for message_id in (UNKNOWN, "short", "A" * 26, "a" * 25 + "1"):
        check_refused(kit.api.get(message_id), 404, "not-found")
        check_refused(kit.api.cancel(message_id), 404, "not-found")
        check_refused(kit.api.redeliver(message_id), 404, "not-found")


def test_what_stands_against_a_request(kit: Kit) -> None:
    device = kit.device(acks())
    message_id = kit.submit(device, schedule=[600])
    kit.ends(message_id, "DELIVERED")
    check_refused(kit.api.cancel(message_id), 409, "ended")
    check_refused(kit.api.redeliver(message_id), 409, "delivered")

    waiting = kit.submit(kit.device(silent()), schedule=[600])
    check_refused(kit.api.redeliver(waiting), 409, "open")
    check_refused(
        kit.api.signed("POST", f"/messages/{waiting}/redeliver", {"expires_in": 0}), 400, "invalid-field", "expires_in"
    )
    assert kit.api.cancel(waiting).status == 200
    answer = kit.api.signed("POST", f"/messages/{waiting}/redeliver", {"expires_in": 120})
    assert answer.status == 202
    span = datetime.fromisoformat(answer.body["expires_at"]) - datetime.now(UTC)
    assert timedelta(seconds=100) < span <= timedelta(seconds=120)
    assert kit.api.cancel(waiting).status == 200


def test_bad_answers_of_a_target(kit: Kit) -> None:
    device = kit.device(silent())
    message_id = kit.submit(device, schedule=[600])
    (receipt,) = device.wait_for(1)
    kit.attempted(message_id, 1)
    before = kit.records.item(message_id)

    def nack(body: object) -> Answer:
        return kit.api.unsigned("POST", receipt.nack_url, None, body)

    check_refused(nack({}), 400, "invalid-field", "reason")
    check_refused(nack({"reason": ""}), 400, "invalid-field", "reason")
    check_refused(nack({"reason": "r" * 501}), 400, "invalid-field", "reason")
    check_refused(nack({"reason": "r", "retry_after": 0}), 400, "invalid-field", "retry_after")
    check_refused(nack({"reason": "r", "retry_after": 31_536_001}), 400, "invalid-field", "retry_after")
    check_refused(nack({"reason": "r", "why": "r"}), 400, "invalid-field", "why")
    check_refused(nack(b"{"), 400, "invalid-field", "body")
    check_refused(nack({"reason": "r" * 20_000}), 413, "too-large")
    check_refused(kit.api.unsigned("POST", receipt.ack_url, None, b"x" * 20_000), 413, "too-large")
    check_refused(kit.api.acks([]), 400, "invalid-field", "acks")
    check_refused(kit.api.acks([{"capability": "c"}] * 101), 400, "invalid-field", "acks")
    check_refused(kit.api.acks([{"capability": ""}]), 400, "invalid-field", "acks[0].capability")
    assert kit.records.item(message_id) == before
    assert kit.api.cancel(message_id).status == 200


def test_answers_in_bulk(kit: Kit) -> None:
    device = kit.device(silent())
    ids = [kit.submit(device, schedule=[600]) for _ in range(3)]
    receipts = {r.message_id: r for r in device.wait_for(3)}
    caps = [receipts[message_id].ack_url.partition("?cap=")[2] for message_id in ids]
    nack = {"reason": "wrong door"}
    answer = kit.api.acks(
        [
            {"capability": caps[0]},
            {"capability": caps[1] + "x"},
            {"capability": caps[1], "nack": nack},
            {"capability": caps[0]},
        ]
    )

    assert answer.status == 200
    assert [result["code"] for result in answer.body["results"]] == [200, 403, 200, 200]
    assert [result.get("id") for result in answer.body["results"]] == [ids[0], None, ids[1], ids[0]]
    assert kit.ends(ids[0], "DELIVERED")["acked_at"]
    assert "wrong door" in kit.ends(ids[1], "REJECTED")["reason"]
    assert kit.records.get(ids[2]).open
    assert kit.api.cancel(ids[2]).status == 200


def test_faults_behind_the_api_are_said_and_store_nothing(kit: Kit) -> None:
    device = kit.device(acks())
    key, message_id = kit.foretell()
    throttled = {"code": "ProvisionedThroughputExceededException", "status": 400, "message": "slow down"}
    with kit.faults(
        service="dynamodb", operation="PutItem", where={"Item": message_id}, times=None, action="error", error=throttled
    ):
        answer = kit.api.submit(kit.message(device, idempotency_key=key))
        check_refused(answer, 503, "unavailable")
        assert answer.headers["retry-after"]
    assert kit.records.item(message_id) == {}
    assert kit.submit(device, idempotency_key=key) == message_id
    kit.ends(message_id, "DELIVERED")
    assert len(device.receipts) == 1


def test_every_route_says_so_when_the_table_fails(kit: Kit) -> None:
    device = kit.device(silent())
    message_id = kit.submit(device, schedule=[600])
    (receipt,) = device.wait_for(1)
    kit.attempted(message_id, 1)
    before = kit.records.item(message_id)
    # Not to be retried by botocore, which would only take time.
    refusal = {"code": "LimitExceededException", "status": 400, "message": "not now"}
    failing = {"service": "dynamodb", "times": None, "action": "error", "error": refusal}
    values = {"ExpressionAttributeValues": kit.records.get(message_id).target_hash}
    with (
        kit.faults(**failing, operation="UpdateItem", where={"Key": message_id}),
        kit.faults(**failing, operation="GetItem", where={"Key": message_id}, function=kit.functions["query"]),
        kit.faults(**failing, operation="GetItem", where={"Key": message_id}, function=kit.functions["redeliver"]),
        kit.faults(**failing, operation="Query", where=values),
    ):
        for answer in (
            kit.api.get(message_id),
            kit.api.list(target=device.url),
            kit.api.cancel(message_id),
            kit.api.redeliver(message_id),
            kit.api.ack(receipt.ack_url),
            kit.api.nack(receipt.nack_url, "no"),
        ):
            check_refused(answer, 503, "unavailable")
            assert answer.headers["retry-after"]
        capability = receipt.ack_url.partition("?cap=")[2]
        assert kit.api.acks([{"capability": capability}]).body["results"] == [{"index": 0, "code": 503}]
    assert kit.records.item(message_id) == before
    assert kit.api.cancel(message_id).status == 200
