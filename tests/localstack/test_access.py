"""Only who may (P8): the producer's routes want a signature, the target's a genuine capability."""

import json
import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from botocore.credentials import Credentials

from handlers.delivery.capability import Keyring
from handlers.delivery.message import message_id_for
from scripts.client import Answer, Api
from scripts.devices import Receipt, acks, silent
from tests.localstack.kit import Kit

pytestmark = pytest.mark.together("calm")

PROBLEM = "application/problem+json"


def keyring(kit: Kit) -> Keyring:
    """The stack's own keys: what a holder of them could forge."""
    answer = kit.clients["lambda"].get_function_configuration(FunctionName=kit.functions["ack"])
    keys = {key["id"]: key["secret"] for key in json.loads(answer["Environment"]["Variables"]["CAPABILITY_KEYS"])}

    def secret(key_id: str) -> bytes:
        value = kit.clients["secretsmanager"].get_secret_value(SecretId=keys[key_id])
        return str(value["SecretString"]).encode()

    return Keyring(tuple(keys), secret)


def unswept(kit: Kit, message_id: str) -> dict[str, Any]:
    """The item, but for what a sweep may change that another test runs."""
    return {name: value for name, value in kit.records.item(message_id).items() if name not in ("sweep_at", "sweeps")}


@contextmanager
def waiting(kit: Kit) -> Iterator[tuple[str, Receipt]]:
    """A message whose device has it and has not answered; in the end it must be as it was."""
    device = kit.device(silent())
    message_id = kit.submit(device, schedule=[600])
    (receipt,) = device.wait_for(1)
    kit.attempted(message_id, 1)
    before = unswept(kit, message_id)
    yield message_id, receipt
    assert unswept(kit, message_id) == before
    assert kit.api.cancel(message_id).status == 200


def capability_of(receipt: Receipt) -> str:
    return receipt.ack_url.partition("?cap=")[2]


def other(text: str, position: int) -> str:
    """The text with one character exchanged."""
    return text[:position] + ("A" if text[position] != "A" else "B") + text[position + 1 :]


def test_a_forged_capability_is_refused_alike_and_changes_nothing(kit: Kit) -> None:
    foreign_device = kit.device(acks())
    kit.ends(kit.submit(foreign_device), "DELIVERED")
    foreign = capability_of(foreign_device.receipts[0])
    keys = keyring(kit)
    now = int(time.time() * 1000)

    with waiting(kit) as (message_id, receipt):
        target = kit.records.get(message_id).target
        genuine = capability_of(receipt)
        key_id, body, mac = genuine.split(".")
        assert keys.sign(message_id, target, kit.records.get(message_id).expires_at) == genuine
        stranger = Keyring((key_id,), lambda _: secrets.token_bytes(48))
        forged = {
            "none": "",
            "noise": "x.y.z",
            "truncated": genuine[:-1],
            "without its code": f"{key_id}.{body}.",
            "with another code": f"{key_id}.{body}.{other(mac, 0)}",
            "with its last bits changed": genuine[:-1] + other(genuine[-1], 0),
            "with another body": f"{key_id}.{other(body, 3)}.{mac}",
            "of another key": f"k9.{body}.{mac}",
            "of another message": foreign,
            "for another target": keys.sign(message_id, target + "x", now),
            "signed by a stranger": stranger.sign(message_id, target, now),
            "expired": keys.sign(message_id, target, now - keys.late_window * 1000 - 1000),
            "too long": genuine + "A" * 600,
            "padded": genuine + "=",
        }
        bodies = set()
        for what, capability in forged.items():
            in_header = kit.api.ack(message_id, capability)
            in_query = kit.api.unsigned("POST", f"{kit.api.ack_base_url}/messages/{message_id}/ack?cap={capability}")
            nack = kit.api.nack(message_id, "no", capability=capability)
            for answer in (in_header, in_query, nack):
                assert (answer.status, answer.headers["content-type"]) == (403, PROBLEM), (what, answer)
                bodies.add(json.dumps(answer.body, sort_keys=True))
            page = kit.api.page(f"{kit.api.ack_base_url}/messages/{message_id}/ack?cap={capability}")
            # The page reads nothing: it cannot know the target, and its button is refused above.
            assert page.status == (200 if what == "for another target" else 403), (what, page)
        # Nothing says which fault it was, nor whether the message exists.
        assert len(bodies) == 1
        unknown = message_id_for(secrets.token_bytes(16))
        assert json.dumps(kit.api.ack(unknown, genuine).body, sort_keys=True) in bodies

        bulk = kit.api.acks([{"capability": c} for c in forged.values() if 0 < len(c) <= 512 and c != foreign])
        assert {result["code"] for result in bulk.body["results"]} == {403}


def test_an_expired_messages_capability_lives_for_the_late_window(kit: Kit) -> None:
    device = kit.device(silent())
    message_id = kit.submit(device, schedule=[1], expires_in=1)
    kit.ends(message_id, "EXPIRED")
    answer = kit.api.ack(device.receipts[0].ack_url)
    assert (answer.status, answer.body["late"]) == (200, True)


def test_the_producers_routes_want_a_signature(kit: Kit) -> None:
    with waiting(kit) as (message_id, _):
        target = kit.device(silent()).url
        message = kit.message(target)
        calls: list[tuple[str, str, Any]] = [
            ("POST", "/messages", message),
            ("POST", "/messages/batch", {"messages": [message]}),
            ("GET", "/messages?status=open", None),
            ("GET", f"/messages/{message_id}", None),
            ("DELETE", f"/messages/{message_id}", None),
            ("POST", f"/messages/{message_id}/redeliver", None),
            ("POST", "/internal/attempts", {"message_id": message_id}),
            ("POST", "/internal/tasks", {"token": "x", "job": {"id": message_id}}),
            ("POST", f"/internal/tasks/{message_id}/outcome", {"attempt": 1}),
        ]
        with_iam = {
            (method, path)
            for method, path, operation in kit.api.contract.operations()
            if {"iam": []} in operation["security"]
        }
        assert len(with_iam) == len(calls)

        wrong = Api(kit.stack.api_url, kit.stack.region, credentials=Credentials("test", "not-the-secret"))
        for method, path, body in calls:
            unsigned = kit.api.unsigned(method, kit.stack.api_url + path, None, body)
            badly = wrong.signed(method, path.partition("?")[0], body, {"status": "open"} if "?" in path else None)
            for answer in (unsigned, badly):
                assert (answer.status, answer.headers["content-type"]) == (403, PROBLEM), (method, path, answer)
                assert message_id not in json.dumps(answer.body)
        assert kit.api.list(target=target).body["messages"] == []


def test_no_log_holds_a_capability(kit: Kit) -> None:
    device = kit.device(acks())
    message_id = kit.submit(device, payload=f"secret {secrets.token_hex(8)}")
    kit.ends(message_id, "DELIVERED")
    kit.attempted(message_id, 1)
    capability = capability_of(device.receipts[0])
    logged = [line for noun in ("deliver-webhook", "ack", "submit") for line in kit.logged(noun, message_id)]

    assert logged, "the functions log by message id"
    assert not [line for line in logged if capability.split(".")[2] in json.dumps(line)]
    assert not [line for line in logged if device.receipts[0].body.decode() in json.dumps(line)]


@pytest.mark.parametrize("verb", ["ack", "nack"])
def test_a_capability_opens_no_producers_route(kit: Kit, verb: str) -> None:
    with waiting(kit) as (message_id, receipt):
        calls: list[Callable[[], Answer]] = [
            lambda: kit.api.unsigned("GET", f"{kit.stack.api_url}/messages/{message_id}?cap={capability_of(receipt)}"),
            lambda: kit.api.unsigned("DELETE", f"{kit.stack.api_url}/messages/{message_id}", capability_of(receipt)),
        ]
        for call in calls:
            assert call().status == 403
    # The message has been cancelled since: what the target says now is late, and still heard.
    answer = kit.api.ack(receipt.ack_url) if verb == "ack" else kit.api.nack(receipt.nack_url, "no")
    assert (answer.status, answer.body["status"], answer.body["late"]) == (200, "CANCELLED", True)


def test_the_capability_of_a_deleted_message_finds_nothing(kit: Kit) -> None:
    """A record goes when its retention is over; the capability may live longer."""
    gone = message_id_for(secrets.token_bytes(16))
    capability = keyring(kit).sign(gone, kit.device(silent()).url, int(time.time() * 1000))
    for answer in (kit.api.ack(gone, capability), kit.api.nack(gone, "no", capability=capability)):
        assert (answer.status, answer.body["type"]) == (404, "urn:until-ack:problem:not-found")
    assert kit.api.acks([{"capability": capability}]).body["results"] == [{"index": 0, "code": 404}]
    assert kit.records.item(gone) == {}
