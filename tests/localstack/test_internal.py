"""The internal routes, as executions and workers use them: every answer that the contract has."""

import base64
import secrets
from datetime import UTC, datetime
from typing import Any

import pytest

from scripts.client import Answer
from scripts.devices import silent
from tests.localstack.kit import BROKEN, Kit, numbers

pytestmark = pytest.mark.together("calm")

ATTEMPTS, TASKS = "/internal/attempts", "/internal/tasks"
UNKNOWN = "a" * 26


def refused(answer: Answer, status: int, code: str) -> dict[str, Any]:
    """The problem that the answer is."""
    assert (answer.status, answer.headers["content-type"]) == (status, "application/problem+json"), answer
    assert answer.body["type"] == f"urn:until-ack:problem:{code}"
    return dict(answer.body)


def unavailable(kit: Kit, noun: str, message_id: str) -> Any:
    """The table does not answer this function's requests about a message."""
    where = {"service": "dynamodb", "where": {"Key": message_id}, "function": kit.functions[noun]}
    return kit.faults(**where, times=None, action="error", error=BROKEN)


def outcome_of(message_id: str) -> str:
    """Where the outcome of a message's attempt is reported."""
    return f"{TASKS}/{message_id}/outcome"


def test_an_execution_asks(kit: Kit) -> None:
    device = kit.device(silent())
    message_id = kit.submit(device, scheduler="workflow", workflow="delivery_poll", schedule=[60], expires_in=600)
    kit.attempted(message_id, 1)
    ask = {"message_id": message_id, "life": 1, "from": 0, "index": 1, "delays": [60] * 10}
    # Asked again at once: too early, so nothing is sent.
    answer = kit.api.signed("POST", ATTEMPTS, ask)
    assert (answer.status, answer.body["index"]) == (200, 1)
    assert 50 <= answer.body["wait"] <= 60
    assert refused(kit.api.signed("POST", ATTEMPTS, {**ask, "index": -2}), 400, "invalid-field")["field"] == "index"
    refused(kit.api.signed("POST", ATTEMPTS, b"x" * 20_000), 413, "too-large")
    refused(kit.api.unsigned("POST", kit.api.url + ATTEMPTS, None, ask), 403, "access-denied")
    with unavailable(kit, "attempts", message_id):
        refused(kit.api.signed("POST", ATTEMPTS, ask), 503, "unavailable")
    assert refused(kit.api.signed("POST", ATTEMPTS, {**ask, "life": 2}), 410, "over")["detail"] == "HANDED_OVER"
    assert kit.api.cancel(message_id).status == 200
    assert refused(kit.api.signed("POST", ATTEMPTS, ask), 410, "over")["detail"] == "CANCELLED"
    assert numbers(device.receipts) == [1]


def test_a_worker_takes_and_reports(kit: Kit) -> None:
    device = kit.device(silent())
    message_id = kit.submit(
        device.name, channel="activity", scheduler="workflow", workflow="delivery_activity", schedule=[300],
        payload="for a worker",
    )  # fmt: skip
    asked = datetime.now(UTC).isoformat()
    job = {"v": 1, "id": message_id, "attempt": 1, "base": 0, "task": {"asked_at": asked, "wait": 300, "index": 0}}
    task = {"token": secrets.token_hex(16), "job": job}
    refused(kit.api.unsigned("POST", kit.api.url + TASKS, None, task), 403, "access-denied")
    assert refused(kit.api.signed("POST", TASKS, {**task, "job": {"v": 1}}), 400, "invalid-field")["field"] == "job"
    refused(kit.api.signed("POST", TASKS, b"x" * 20_000), 413, "too-large")
    with unavailable(kit, "tasks", message_id):
        refused(kit.api.signed("POST", TASKS, task), 503, "unavailable")

    taken = kit.api.signed("POST", TASKS, task)
    assert (taken.status, taken.body["attempt"], taken.body["target"]) == (200, 1, device.name)
    assert base64.b64decode(taken.body["payload"]) == b"for a worker"
    # The answer may have been lost: the same task is given the same again, another worker nothing.
    assert kit.api.signed("POST", TASKS, task).body["claim"] == taken.body["claim"]
    refused(kit.api.signed("POST", TASKS, {**task, "token": secrets.token_hex(16)}), 409, "not-now")

    report = {"attempt": 1, "claim": taken.body["claim"], "kind": "SENT", "reason": "exit_0", "latency_ms": 5}
    where = outcome_of(message_id)
    refused(kit.api.unsigned("POST", kit.api.url + where, None, report), 403, "access-denied")
    assert refused(kit.api.signed("POST", where, {**report, "kind": "x"}), 400, "invalid-field")["field"] == "kind"
    refused(kit.api.signed("POST", where, b"x" * 20_000), 413, "too-large")
    refused(kit.api.signed("POST", where, {**report, "claim": "another"}), 409, "not-now")
    refused(kit.api.signed("POST", outcome_of(UNKNOWN), report), 404, "not-found")
    with unavailable(kit, "tasks", message_id):
        refused(kit.api.signed("POST", where, report), 503, "unavailable")
    told = kit.api.signed("POST", where, report)
    assert (told.status, told.body) == (200, {"id": message_id, "status": "AWAITING_ACK"})
    (attempt,) = kit.get(message_id)["attempts"]
    assert (attempt["outcome"], attempt["reason"]) == ("SENT", "exit_0")

    assert kit.api.ack(taken.body["ack_url"]).status == 200
    kit.ends(message_id, "DELIVERED")
    assert kit.get(message_id)["attempts"] == [attempt]
