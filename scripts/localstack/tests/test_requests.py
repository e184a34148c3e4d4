from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from support import ACCOUNT, REGION, SENDER, Functions, Stack, eventually, unique
from until_ack_localstack import requestlog, settings
from until_ack_localstack.params import params_of


def _line(stack: Stack, service: str, operation: str, **params: Any) -> dict[str, Any]:
    return eventually(lambda: stack.lines(service, operation, **params))[-1]


def test_a_send_is_logged_with_what_limits_and_prices_need(stack: Stack) -> None:
    url = stack.queue(VisibilityTimeout="33")
    name = url.rpartition("/")[2]
    sqs = stack.client("sqs")
    attribute = {"kind": {"DataType": "String", "StringValue": "xyz"}}
    sqs.send_message(QueueUrl=url, MessageBody="ä" * 10, DelaySeconds=901, MessageAttributes=attribute)
    line = _line(stack, "sqs", "SendMessage", Queue=name)
    assert (line["caller"], line["function"], line["internal"], line["status"]) == ("user", None, False, 200)
    assert line["params"]["DelaySeconds"] == 901
    assert line["params"]["Bytes"] == 20 + len("kind") + len("String") + len("xyz")
    entries = [{"Id": "1", "MessageBody": "abc", "DelaySeconds": 5}, {"Id": "2", "MessageBody": "abcd"}]
    sqs.send_message_batch(QueueUrl=url, Entries=entries)
    params = _line(stack, "sqs", "SendMessageBatch", Queue=name)["params"]
    assert params["Entries"] == [{"Bytes": 3, "DelaySeconds": 5}, {"Bytes": 4}]
    assert params["Bytes"] == 7
    created = _line(stack, "sqs", "CreateQueue", QueueName=name)["params"]
    assert created["Attributes"]["VisibilityTimeout"] == "33"


def test_a_failed_request_is_logged_with_its_error(stack: Stack) -> None:
    missing = unique("missing")
    with pytest.raises(stack.client("sqs").exceptions.QueueDoesNotExist):
        stack.client("sqs").get_queue_url(QueueName=missing)
    line = _line(stack, "sqs", "GetQueueUrl", QueueName=missing)
    assert (line["status"], line["error"]) == (400, "QueueDoesNotExist")


def test_an_invocation_and_its_functions_requests_are_logged(stack: Stack, functions: Functions) -> None:
    queue, name = stack.queue(), functions.make(SENDER, memory=192)
    assert functions.invoke(name, queue).payload == 200
    sent = _line(stack, "sqs", "SendMessage", Queue=queue.rpartition("/")[2])
    assert sent["function"] == name
    assert sent["caller"].startswith("role-")
    eventually(lambda: [line for line in stack.lines("lambda", "Invocation") if line["function"] == name])
    (line,) = [line for line in stack.lines("lambda", "Invocation") if line["function"] == name]
    params = line["params"]
    assert (params["MemorySize"], line["error"]) == (192, None)
    assert params["BilledMs"] >= params["DurationMs"] + params["InitMs"]
    assert params["RequestBytes"] == len(json.dumps(queue))


def test_localstacks_own_requests_are_marked(stack: Stack, functions: Functions) -> None:
    queue, name = stack.queue(), functions.make("def handler(event, context): return {}\n")
    functions.subscribe(name, queue)
    stack.client("sqs").send_message(QueueUrl=queue, MessageBody="x")
    line = _line(stack, "sqs", "DeleteMessageBatch", Queue=queue.rpartition("/")[2])
    assert (line["internal"], line["caller"], len(line["params"]["Entries"])) == (True, "localstack", 1)
    assert line["for"] == f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:{name}"


def test_no_secret_gets_into_the_log(stack: Stack) -> None:
    name = unique("secret")
    stack.client("secretsmanager").create_secret(Name=name, SecretString="do-not-tell-anybody")
    assert _line(stack, "secretsmanager", "CreateSecret", Name=name)["params"]["SecretBytes"] == 19
    stack.client("secretsmanager").get_secret_value(SecretId=name)
    assert _line(stack, "secretsmanager", "GetSecretValue", SecretId=name)
    assert "do-not-tell-anybody" not in stack.instance.requests.read_text()


def test_what_is_not_known_is_logged_by_its_size() -> None:
    request = {"SomeName": "kept", "Token": "hidden", "Count": 5, "Items": [1, 2], "Body": b"1234", "None": None}
    assert params_of("service", "Operation", request, None) == {
        "SomeName": "kept",
        "Token": {"Bytes": 6},
        "Count": 5,
        "Items": {"Count": 2, "Bytes": 5},
        "Body": {"Bytes": 4},
    }


@pytest.mark.parametrize(
    ("service", "operation", "request_", "params"),
    [
        ("events", "PutEvents", {"Entries": [{"Source": "ab", "DetailType": "c", "Detail": "{}", "Time": "now"}]},
         {"Entries": [{"Bytes": 19}], "Bytes": 19}),
        ("ses", "SendTemplatedEmail",
         {"Destination": {"ToAddresses": ["a", "b"], "BccAddresses": ["c"]}, "TemplateData": "{}", "Template": "t"},
         {"Recipients": 3, "TemplateDataBytes": 2, "Template": "t"}),
        ("sns", "PublishBatch",
         {"TopicArn": "t", "PublishBatchRequestEntries": [{"Message": "abc", "Subject": "s"}, {"Message": "d"}]},
         {"TopicArn": "t", "Entries": [{"Bytes": 3, "SubjectLength": 1}, {"Bytes": 1}], "Bytes": 4}),
        ("dynamodb", "BatchGetItem", {"RequestItems": {"t": {"Keys": [1, 2]}}}, {"Tables": ["t"], "Items": 2}),
        ("logs", "PutLogEvents", {"logGroupName": "g", "logEvents": [{"message": "ab"}]},
         {"logGroupName": "g", "Events": 1, "Bytes": 28}),
        ("lambda", "CreateEventSourceMapping", {"BatchSize": 10, "ScalingConfig": {"MaximumConcurrency": 2}},
         {"BatchSize": 10, "MaximumConcurrency": 2}),
        ("stepfunctions", "StartExecution", {"name": "n", "input": "{}"}, {"name": "n", "inputBytes": 2}),
        ("stepfunctions", "SendTaskSuccess", {"taskToken": "0123456789ABCDEF", "output": "{}"},
         {"taskToken": "0123456789AB", "outputBytes": 2}),
        ("ses", "SendRawEmail", {"RawMessage": {"Data": b"To: a@b, c@d\n\nx"}}, {"Recipients": 2, "Bytes": 15}),
    ],
)  # fmt: skip
def test_what_is_kept_of_a_request(service: str, operation: str, request_: Any, params: Any) -> None:
    assert params_of(service, operation, request_, {}) == params


def test_lines_never_mix_and_a_file_that_was_moved_is_made_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "deep" / "requests.jsonl"
    monkeypatch.setenv(settings.REQUESTS, str(path))
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda n: requestlog.write({"n": n, "text": "x" * 5000}), range(200)))
    assert sorted(json.loads(line)["n"] for line in path.read_text().splitlines()) == list(range(200))
    path.rename(tmp_path / "moved")
    requestlog.write({"n": 1})
    assert json.loads(path.read_text()) == {"n": 1}


def test_without_a_file_nothing_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(settings.REQUESTS, raising=False)
    monkeypatch.chdir(tmp_path)
    requestlog.write({"n": 1})
    assert not list(tmp_path.iterdir())
