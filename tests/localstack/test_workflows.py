"""Every workflow tells the same stories: real executions, functions, queues and devices, with short delays.

What a machine waits with is its own; what comes out must not be.
"""

import json
import threading
from typing import Any

import pytest

from handlers.delivery.workflows import ACTIVITY, CATALOGUE, EndedBy
from scripts import asl
from scripts.devices import Device, acks, drops, fails, nacks, silent, works
from scripts.executions import EXPRESS, Execution
from tests.localstack.kit import BROKEN, CROWDED, Kit, always, claim, eventually, numbers, on_time

pytestmark = pytest.mark.together("workflows")

EVERY = pytest.mark.parametrize("workflow", sorted(CATALOGUE))
DELAYS = [2, 3, 60]
LIFE = 280
"""Seconds: what an Express execution can last."""
WITHIN = 60.0
"""Seconds that an ending may take, with all stories going on at the same time."""


_warming = threading.Lock()
_warm: set[int] = set()


def warmed(kit: Kit) -> None:
    """Let every workflow deliver one message first: the stories below have no time for functions that start."""
    with _warming:
        if id(kit) in _warm:
            return
        kit.delivering_worker()
        devices = {workflow: kit.device(acks()) for workflow in CATALOGUE}
        ids = [send(kit, workflow, device, schedule=[30]) for workflow, device in devices.items()]
        kit.records.wait_all(ids, lambda record: not record.open, 2 * WITHIN)
        _warm.add(id(kit))


def submit(kit: Kit, workflow: str, device: Device, **fields: Any) -> str:
    """Submit a message for this workflow to the device."""
    warmed(kit)
    return send(kit, workflow, device, **fields)


def send(kit: Kit, workflow: str, device: Device, **fields: Any) -> str:
    """A message for this workflow; a worker stands between its activity and the devices."""
    route = {"channel": ACTIVITY, "target": device.name} if workflow == "delivery_activity" else {}
    told = {"scheduler": "workflow", "workflow": workflow, "schedule": DELAYS, "expires_in": LIFE, **fields}
    return kit.submit(device, **{**told, **route})


def over(kit: Kit, workflow: str, message_id: str, status: str, attempts: int, life: int = 1) -> Execution:
    """The execution, once it has ended as its message has: stopped, or with the message's status as its output."""

    def ended() -> Execution | None:
        found = kit.executions.get(workflow, message_id, life)
        return found if found is not None and found.over else None

    execution = eventually(ended, WITHIN, f"the end of the execution of {message_id}")
    assert execution is not None
    # A task that nobody has pulled yet is not completed but stopped.
    stops = CATALOGUE[workflow].ended_by is EndedBy.STOP or CATALOGUE[workflow].pulled
    if not (stops and execution.status == "ABORTED"):
        told = {"v": 1, "message_id": message_id, "life": life, "status": status}
        assert (execution.status, execution.output) == ("SUCCEEDED", told), execution
    assert execution.asks >= attempts
    kit.nothing_left(message_id)
    assert kit.records.get(message_id).scheduler == "workflow"
    return execution


@EVERY
def test_an_ack_before_the_first_delay(kit: Kit, workflow: str) -> None:
    device = kit.device(acks())
    message_id = submit(kit, workflow, device, schedule=[6, 60])
    kit.ends(message_id, "DELIVERED", WITHIN)
    execution = over(kit, workflow, message_id, "DELIVERED", 1)
    (receipt,) = device.receipts
    assert (receipt.attempt, receipt.message_id, receipt.body) == (1, message_id, b"hello")
    assert execution.asks == 1
    assert not kit.queues.timers(message_id)
    assert not kit.mails.saying(message_id)


@EVERY
def test_an_ack_between_attempts_2_and_3(kit: Kit, workflow: str) -> None:
    device = kit.device(drops(2) + acks())
    message_id = submit(kit, workflow, device, schedule=[2, 4, 60])
    kit.attempted(message_id, 2, WITHIN)
    assert kit.api.ack(device.wait_for(2)[1].ack_url).status == 200
    message = kit.ends(message_id, "DELIVERED", WITHIN)
    on_time(message, 2)
    over(kit, workflow, message_id, "DELIVERED", 2)
    assert numbers(device.receipts) == [1, 2]


@EVERY
def test_a_nack(kit: Kit, workflow: str) -> None:
    device = kit.device(nacks("no room"))
    message_id = submit(kit, workflow, device)
    message = kit.ends(message_id, "REJECTED", WITHIN)
    assert message["reason"] == "NACK: no room"
    over(kit, workflow, message_id, "REJECTED", 1)
    assert numbers(device.receipts) == [1]
    kit.told(message_id, "REJECTED")


@EVERY
def test_never(kit: Kit, workflow: str) -> None:
    device = kit.device(silent())
    message_id = submit(kit, workflow, device, max_attempts=3, schedule=[2, 3])
    message = kit.ends(message_id, "EXHAUSTED", WITHIN)
    on_time(message, 2, 3)
    execution = over(kit, workflow, message_id, "EXHAUSTED", 3)
    assert numbers(device.receipts) == [1, 2, 3]
    if workflow != EXPRESS and execution.status == "SUCCEEDED":
        # ADR 0017 reckons with as many; a round is longer when the execution has asked too early in it.
        most = asl.unanswered(workflow).events
        assert most - 1 <= min(execution.rounds) <= most
    kit.told(message_id, "EXHAUSTED")


@EVERY
def test_expiry(kit: Kit, workflow: str) -> None:
    device = kit.device(silent())
    message_id = submit(kit, workflow, device, schedule=[2, 60], expires_in=12)
    kit.ends(message_id, "EXPIRED", WITHIN)
    record = kit.records.get(message_id)
    assert record.ended_at is not None
    assert record.expires_at <= record.ended_at <= record.expires_at + CROWDED * 1000
    over(kit, workflow, message_id, "EXPIRED", 2)
    assert numbers(device.receipts) == [1, 2]
    kit.told(message_id, "EXPIRED")


@EVERY
def test_a_target_that_errs(kit: Kit, workflow: str) -> None:
    device = kit.device(fails(500, 2) + acks())
    message_id = submit(kit, workflow, device)
    message = kit.ends(message_id, "DELIVERED", WITHIN)
    on_time(message, 2, 3)
    over(kit, workflow, message_id, "DELIVERED", 3)
    outcomes = [(a["outcome"], a["reason"]) for a in kit.get(message_id)["attempts"]]
    assert outcomes[:2] == [("FAILED", "http_500")] * 2
    assert numbers(device.receipts) == [1, 2, 3]


@EVERY
def test_a_duplicate_ack(kit: Kit, workflow: str) -> None:
    device = kit.device(acks())
    message_id = submit(kit, workflow, device, schedule=[6, 60])
    kit.ends(message_id, "DELIVERED", WITHIN)
    kit.attempted(message_id, 1)
    before = kit.records.item(message_id)
    for _ in range(2):
        again = kit.api.ack(device.receipts[0].ack_url)
        assert (again.status, again.body["late"]) == (200, False)
    over(kit, workflow, message_id, "DELIVERED", 1)
    # The execution is over now: completing what waits for it comes late, and is still a success.
    assert kit.api.ack(device.receipts[0].ack_url).status == 200
    assert kit.records.item(message_id) == before
    assert numbers(device.receipts) == [1]


@EVERY
def test_a_cancellation(kit: Kit, workflow: str) -> None:
    device = kit.device(silent())
    message_id = submit(kit, workflow, device, schedule=[6, 60])
    kit.attempted(message_id, 1, WITHIN)
    assert kit.api.cancel(message_id).status == 200
    kit.ends(message_id, "CANCELLED", WITHIN)
    if workflow == EXPRESS:
        # Nothing ends an Express execution from outside: it sees for itself.
        always(lambda: len(device.receipts) == 1, during=7)
    over(kit, workflow, message_id, "CANCELLED", 1)
    assert numbers(device.receipts) == [1]


@EVERY
def test_an_ack_that_is_quicker_than_the_claim(kit: Kit, workflow: str) -> None:
    """Decision 4: whoever comes to store a task's token finds the record closed, and completes the task at once."""
    device = kit.device(silent())
    message_id = submit(kit, workflow, device, schedule=[6, 60])
    kit.attempted(message_id, 1, WITHIN)
    with kit.faults(**claim(message_id), times=None, action="hold", seconds=3) as held:
        held.happened(WITHIN)
        assert kit.api.ack(device.receipts[0].ack_url).status == 200
        kit.ends(message_id, "DELIVERED", WITHIN)
        over(kit, workflow, message_id, "DELIVERED", 2)
    assert numbers(device.receipts) == [1]
    assert kit.records.get(message_id).attempt == 1


@EVERY
def test_a_redelivery_is_another_execution(kit: Kit, workflow: str) -> None:
    device = kit.device(nacks("not today") + acks())
    message_id = submit(kit, workflow, device)
    kit.ends(message_id, "REJECTED", WITHIN)
    kit.told(message_id, "REJECTED")
    assert kit.api.redeliver(message_id).status == 202
    message = kit.ends(message_id, "DELIVERED", WITHIN)
    assert (message["life"], numbers(device.receipts)) == (2, [1, 2])
    over(kit, workflow, message_id, "DELIVERED", 1, life=2)


def test_a_repeated_start_changes_nothing(kit: Kit) -> None:
    device = kit.device(silent())
    key, message_id = kit.foretell()
    assert submit(kit, "delivery_callback", device, idempotency_key=key, schedule=[30]) == message_id
    kit.attempted(message_id, 1, WITHIN)
    execution = kit.executions.get("delivery_callback", message_id)
    assert execution is not None
    states, machine = kit.clients["stepfunctions"], kit.stack.machines["delivery_callback"]
    states.start_execution(stateMachineArn=machine, name=f"{message_id}-1", input=json.dumps(execution.input))
    running = states.list_executions(stateMachineArn=machine, statusFilter="RUNNING")["executions"]
    assert [e["name"] for e in running if message_id in e["name"]] == [f"{message_id}-1"]
    assert kit.api.ack(device.receipts[0].ack_url).status == 200
    over(kit, "delivery_callback", message_id, "DELIVERED", 1)
    assert numbers(device.receipts) == [1]


def test_a_target_that_works_on_it(kit: Kit) -> None:
    """delivery_job_poller: the target takes the message as a job, and is asked for its state until it is done."""
    device = kit.device(silent())
    device.take_job(works(2))
    message_id = submit(kit, "delivery_job_poller", device, schedule=[2])
    message = kit.ends(message_id, "DELIVERED", WITHIN)
    assert message["reason"] == "the target's job is done"
    over(kit, "delivery_job_poller", message_id, "DELIVERED", 1)
    assert numbers(device.receipts) == [1]
    assert [q.verified for q in device.questions] == [True] * 3
    assert not [q for q in device.questions if q.ack_url]


@pytest.mark.parametrize("workflow", ["delivery_poll", "delivery_callback"])
def test_a_target_that_puts_it_off(kit: Kit, workflow: str) -> None:
    device = kit.device(fails(503, retry_after=6) + acks())
    message_id = submit(kit, workflow, device, schedule=[2, 3])
    message = kit.ends(message_id, "DELIVERED", WITHIN)
    on_time(message, 6)
    over(kit, workflow, message_id, "DELIVERED", 2)
    assert numbers(device.receipts) == [1, 2]


@pytest.mark.parametrize("workflow", ["delivery_poll", "delivery_stop_on_ack", "delivery_callback"])
def test_an_execution_that_somebody_aborts(kit: Kit, workflow: str) -> None:
    device = kit.device(silent())
    message_id = submit(kit, workflow, device, schedule=[8, 3])
    kit.attempted(message_id, 1, WITHIN)
    kit.clients["stepfunctions"].stop_execution(executionArn=kit.executions.arn(workflow, f"{message_id}-1"))
    # The failure rule hears of it: a person is told, and the queues go on.
    assert "lost its execution" in kit.mails.wait(message_id).subject
    record = kit.records.wait(message_id, lambda record: record.scheduler == "queues")
    assert record.workflow == workflow
    device.behave(acks())
    message = kit.ends(message_id, "DELIVERED", WITHIN)
    on_time(message, 8)
    assert (message["scheduler"], message["workflow"]) == ("queues", workflow)
    kit.nothing_left(message_id)
    assert numbers(device.receipts) == [1, 2]
    assert len(kit.mails.saying(message_id)) == 1


@pytest.mark.parametrize("workflow", ["delivery_callback", EXPRESS])
def test_an_execution_that_never_starts(kit: Kit, workflow: str) -> None:
    device = kit.device(drops(1) + acks())
    key, message_id = kit.foretell()
    start = {"service": "stepfunctions", "operation": "StartExecution", "where": {"name": message_id}}
    with kit.faults(**start, times=None, action="error", error=BROKEN) as fault:
        submit(kit, workflow, device, idempotency_key=key)
        fault.happened()
    kit.swept(lambda: device.receipts, what=f"the takeover of {message_id}")
    message = kit.ends(message_id, "DELIVERED", WITHIN)
    on_time(message, DELAYS[0])
    assert message["scheduler"] == "queues"
    assert kit.executions.get(workflow, message_id) is None
    assert numbers(device.receipts) == [1, 2]


def test_longer_than_an_express_execution_is_refused(kit: Kit) -> None:
    device = kit.device(silent())
    answer = kit.api.submit(kit.message(device, scheduler="workflow", workflow=EXPRESS, expires_in=301))
    assert (answer.status, answer.body["field"], answer.body["value"]) == (400, "expires_in", 301)
    assert answer.body["limit"].startswith("at most 300 for workflow poll_express")
    assert device.receipts == []
