"""No request of the whole run breaks a limit of AWS's that LocalStack does not enforce. Runs last."""

from collections import Counter
from typing import Any

import pytest

from tests.localstack.kit import Kit
from tests.localstack.limits import broken

# What a whole run makes of each, at the very least, by function ("" is the tests themselves).
LEAST = {
    ("sqs", "SendMessageBatch", "submit"): 50,
    ("sqs", "SendMessageBatch", "deliver-webhook"): 100,
    ("sqs", "SendMessageBatch", "deliver-email"): 3,
    ("sqs", "SendMessageBatch", "check-ack"): 100,
    ("sqs", "SendMessageBatch", "sweep"): 5,
    ("sqs", "SendMessageBatch", "redeliver"): 2,
    ("sqs", "SendMessageBatch", "ack"): 2,
    ("sqs", "SendMessage", "check-ack"): 10,
    ("sqs", "SendMessage", "deliver-webhook"): 5,
    ("dynamodb", "PutItem", "submit"): 100,
    ("dynamodb", "UpdateItem", "deliver-webhook"): 300,
    ("dynamodb", "UpdateItem", "ack"): 50,
    ("dynamodb", "UpdateItem", "query"): 10,
    ("dynamodb", "BatchGetItem", "check-ack"): 100,
    ("dynamodb", "Query", "query"): 10,
    ("dynamodb", "Query", "sweep"): 20,
    ("sns", "Publish", "check-ack"): 5,
    ("sns", "Publish", "ack"): 20,
    ("ses", "SendTemplatedEmail", "deliver-email"): 4,
    ("sqs", "CreateQueue", ""): 10,
    ("lambda", "CreateFunction", ""): 8,
}


def line(service: str, operation: str, **params: Any) -> dict[str, Any]:
    return {"service": service, "operation": operation, "caller": "user", "function": None, "params": params}


@pytest.mark.parametrize(
    "request_",
    [
        line("sqs", "SendMessage", DelaySeconds=901, Bytes=10),
        line("sqs", "SendMessage", Bytes=262_145),
        line("sqs", "SendMessageBatch", Entries=[{"Bytes": 1, "DelaySeconds": 14_400}], Bytes=1),
        line("sqs", "SendMessageBatch", Entries=[{"Bytes": 1}] * 11, Bytes=11),
        line("sqs", "SendMessageBatch", Entries=[{"Bytes": 1}], Bytes=262_145),
        line("sqs", "CreateQueue", QueueName="q" * 81, Attributes={}),
        line("sqs", "CreateQueue", QueueName="q", Attributes={"VisibilityTimeout": "43201"}),
        line("sqs", "CreateQueue", QueueName="q", Attributes={"MessageRetentionPeriod": "59"}),
        line("sqs", "SetQueueAttributes", Queue="q", Attributes={"DelaySeconds": "901"}),
        line("sns", "Publish", Bytes=1, SubjectLength=101),
        line("dynamodb", "UpdateItem", ItemBytes=409_601),
        line("dynamodb", "UpdateItem", UpdateExpressionBytes=4_097),
        line("dynamodb", "BatchGetItem", Items=101),
        line("dynamodb", "Scan"),
        line("lambda", "CreateFunction", FunctionName="f" * 65),
        line("lambda", "CreateFunction", EnvironmentBytes=4_097),
        line("lambda", "Invocation", ResponseBytes=6 * 1024 * 1024 + 1),
        line("events", "PutRule", Name="r", ScheduleExpression="rate(10 seconds)"),
    ],
)
def test_a_broken_limit_is_found(request_: dict[str, Any]) -> None:
    assert len(broken([request_])) == 1


def test_no_request_of_the_whole_run_breaks_a_limit(kit: Kit) -> None:
    requests = kit.log.since(0)
    nouns = {name: noun for noun, name in kit.functions.items()}
    made = Counter((r["service"], r["operation"], nouns.get(r["function"] or "", "")) for r in requests)
    too_few = {key: (made[key], least) for key, least in LEAST.items() if made[key] < least}
    assert not too_few, f"not the whole suite (seen, least): {too_few}"

    # LocalStack's own requests are not ours: its pollers take more at a time than AWS has.
    assert broken(r for r in requests if not r.get("internal") or r["operation"] == "Invocation") == []


def test_every_delay_is_a_whole_number_of_seconds_within_the_test_stacks_cap_or_a_way_back(kit: Kit) -> None:
    delays = [
        (r["params"]["Queue"], entry.get("DelaySeconds", 0))
        for r in kit.log.since(0)
        if r["operation"] == "SendMessageBatch" and r["function"]
        for entry in r["params"]["Entries"]
    ]
    assert delays
    assert all(type(delay) is int and 0 <= delay <= 900 for _, delay in delays)
    cap = int(kit.settings["timer_cap"])
    assert max(delay for queue, delay in delays if "-timer-" in queue) == cap
