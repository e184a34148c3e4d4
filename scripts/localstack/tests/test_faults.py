from __future__ import annotations

import time
from typing import Any

import pytest
from botocore.exceptions import ClientError, HTTPClientError

from support import SENDER, Functions, Stack
from until_ack_localstack.faults import Faults, InvalidFaultError, Request


def _depth(stack: Stack, queue: str) -> int:
    names = ["ApproximateNumberOfMessages"]
    return int(stack.client("sqs").get_queue_attributes(QueueUrl=queue, AttributeNames=names)["Attributes"][names[0]])


def test_an_error_as_often_as_wished(faults: Stack) -> None:
    queue, error = faults.queue(), {"code": "Throttling", "status": 400, "message": "slower"}
    faults.fault(service="sqs", operation="SendMessage", action="error", error=error, skip=1, times=2)
    outcomes = []
    for _ in range(4):
        try:
            faults.client("sqs").send_message(QueueUrl=queue, MessageBody="x")
            outcomes.append("sent")
        except ClientError as failure:
            outcomes.append(failure.response["Error"]["Code"])
    assert outcomes == ["sent", "Throttling", "Throttling", "sent"]
    assert _depth(faults, queue) == 2
    (listed,) = faults.faults()
    assert (listed["matched"], listed["hits"]) == (3, 2)


def test_an_error_after_the_effect(faults: Stack) -> None:
    queue = faults.queue()
    faults.fault(service="sqs", operation="SendMessage", action="error", when="after", error={"code": "InternalError"})
    with pytest.raises(ClientError):
        faults.client("sqs").send_message(QueueUrl=queue, MessageBody="x")
    assert _depth(faults, queue) == 1


@pytest.mark.parametrize(("when", "sent"), [("before", 0), ("after", 1)])
def test_an_answer_that_is_lost(faults: Stack, when: str, sent: int) -> None:
    queue = faults.queue()
    faults.fault(service="sqs", operation="SendMessage", action="drop", when=when)
    with pytest.raises(HTTPClientError):
        faults.client("sqs").send_message(QueueUrl=queue, MessageBody="x")
    assert _depth(faults, queue) == sent


def test_an_sdk_tries_again_when_its_answer_was_lost(faults: Stack) -> None:
    queue = faults.queue()
    faults.fault(service="sqs", operation="SendMessage", action="drop", when="after")
    answer = faults.client("sqs", attempts=3).send_message(QueueUrl=queue, MessageBody="x")
    assert answer["ResponseMetadata"]["RetryAttempts"] == 1
    assert _depth(faults, queue) == 2


def test_a_request_that_is_held(faults: Stack) -> None:
    queue = faults.queue()
    faults.fault(service="sqs", operation="SendMessage", action="hold", seconds=0.7, where={"MessageBody": "^slow"})
    times = []
    for body in ("quick", "slow one"):
        started = time.monotonic()
        faults.client("sqs").send_message(QueueUrl=queue, MessageBody=body)
        times.append(time.monotonic() - started)
    assert times[0] < 0.7 <= times[1]


@pytest.mark.parametrize(("when", "sent"), [("before", 0), ("after", 1)])
def test_a_function_that_is_killed_at_its_request(faults: Stack, functions: Functions, when: str, sent: int) -> None:
    queue, name, other = faults.queue(), functions.make(SENDER), functions.make(SENDER)
    faults.fault(service="sqs", operation="SendMessage", function=name, when=when, action="kill")
    assert functions.invoke(other, faults.queue()).payload == 200
    result = functions.invoke(name, queue)
    assert result.payload["errorType"] == "Runtime.ExitError"
    assert result.payload["errorMessage"].endswith("signal: killed")
    assert _depth(faults, queue) == sent
    assert functions.invoke(name, queue).payload == 200


def test_entries_of_a_batch_that_fail(faults: Stack) -> None:
    queue = faults.queue()
    faults.fault(service="sqs", operation="SendMessageBatch", action="partial", entries=[0, 2])
    entries = [{"Id": name, "MessageBody": name} for name in "abc"]
    answer = faults.client("sqs").send_message_batch(QueueUrl=queue, Entries=entries)
    assert [entry["Id"] for entry in answer["Successful"]] == ["b"]
    assert [entry["Id"] for entry in answer["Failed"]] == ["a", "c"]
    assert _depth(faults, queue) == 1


def test_entries_of_other_batches_fail_too(faults: Stack) -> None:
    topic = faults.client("sns").create_topic(Name="batches")["TopicArn"]
    for service, operation in (("sns", "PublishBatch"), ("events", "PutEvents")):
        faults.fault(service=service, operation=operation, action="partial", entries=[1])
    entries = [{"Id": name, "Message": name} for name in "ab"]
    answer = faults.client("sns").publish_batch(TopicArn=topic, PublishBatchRequestEntries=entries)
    assert [entry["Id"] for entry in answer["Failed"]] == ["b"]
    event = {"Source": "test", "DetailType": "test", "Detail": "{}"}
    answer = faults.client("events").put_events(Entries=[event, event])
    assert answer["FailedEntryCount"] == 1
    assert ["ErrorCode" in entry for entry in answer["Entries"]] == [False, True]


def test_faults_are_listed_and_cleared(faults: Stack) -> None:
    first = faults.fault(service="sqs", action="error")
    faults.fault(service="sns", action="drop")
    assert faults.http("DELETE", f"/_until-ack/faults/{first}")[0] == 204
    assert faults.http("DELETE", f"/_until-ack/faults/{first}")[0] == 404
    assert [fault["service"] for fault in faults.faults()] == ["sns"]
    faults.clear_faults()
    assert faults.faults() == []


@pytest.mark.parametrize(
    "document",
    [
        [],
        {"action": "explode"},
        {"action": "error", "when": "meanwhile"},
        {"action": "error", "colour": "red"},
        {"action": "error", "where": {"MessageBody": "("}},
        {"action": "error", "times": "often"},
        {"action": "partial", "when": "after"},
    ],
)
def test_a_fault_that_makes_no_sense_is_refused(faults: Stack, document: Any) -> None:
    status, answer = faults.http("POST", "/_until-ack/faults", document)
    assert status == 400
    assert answer["message"]
    assert faults.faults() == []
    with pytest.raises(InvalidFaultError):
        Faults().add(document)


def test_a_fault_acts_on_what_it_names() -> None:
    rules = Faults()
    rules.add({"service": "sqs", "function": "f", "where": {"QueueUrl": "one$"}, "action": "drop", "times": None})
    rules.add({"operation": "SendMessage", "action": "hold", "internal": True, "times": None})
    params = {"QueueUrl": "http://host/one"}

    def acting(**changes: Any) -> list[str]:
        request = {"service": "sqs", "operation": "SendMessage", "function": "f", "params": params} | changes
        return [fault.action for fault in rules.take(Request(**request), "before")]

    assert acting() == ["drop"]
    assert acting(service="sns") == acting(function=None) == acting(params={}) == []
    assert acting(internal=True) == ["hold"]
