from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest

from support import Functions, Stack, eventually, unique

RECORDER = """
import json, threading, time
def handler(event, context):
    for record in event["Records"]:
        body = json.loads(record["body"])
        with open(body["file"], "a") as file:
            file.write(json.dumps({"at": time.time(), "n": body.get("n")}) + "\\n")
        threading.Event().wait(body.get("seconds", 0))
        if body.get("fail"):
            return {"batchItemFailures": [{"itemIdentifier": record["messageId"]}]}
"""


class Recorder:
    """A queue with a function that notes when it is called."""

    def __init__(self, stack: Stack, functions: Functions, folder: Path, **settings: Any) -> None:
        attributes = settings.pop("attributes", {})
        self.stack, self.queue, self.file = stack, stack.queue(**attributes), folder / unique("calls")
        self.function = functions.make(RECORDER, timeout=10)
        self.mapping = functions.subscribe(
            self.function, self.queue, FunctionResponseTypes=["ReportBatchItemFailures"], **settings
        )

    def send(self, delay: int = 0, **body: Any) -> float:
        content = json.dumps({"file": str(self.file), **body})
        self.stack.client("sqs").send_message(QueueUrl=self.queue, MessageBody=content, DelaySeconds=delay)
        return time.time()

    def calls(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.file.read_text().splitlines()] if self.file.exists() else []


@pytest.fixture
def recorder(stack: Stack, functions: Functions, tmp_path: Path) -> Recorder:
    return Recorder(stack, functions, tmp_path, BatchSize=1)


def test_a_message_reaches_its_function_at_once(recorder: Recorder) -> None:
    recorder.send(n=0)
    eventually(recorder.calls)
    sent = recorder.send(n=1)
    eventually(lambda: len(recorder.calls()) == 2)
    assert recorder.calls()[1]["at"] - sent < 1.5


def test_a_delayed_message_is_hardly_late_and_never_early(recorder: Recorder) -> None:
    recorder.send(n=0)
    eventually(recorder.calls)
    sent = recorder.send(delay=2, n=1)
    eventually(lambda: len(recorder.calls()) == 2)
    assert -0.01 < recorder.calls()[1]["at"] - sent - 2 < 1.5


@pytest.mark.parametrize(("maximum", "allowed"), [(None, (3, 4, 5)), (2, (2,))])
def test_batches_run_side_by_side_up_to_the_maximum(
    stack: Stack, functions: Functions, tmp_path: Path, maximum: int | None, allowed: tuple[int, ...]
) -> None:
    settings = {"ScalingConfig": {"MaximumConcurrency": maximum}} if maximum else {}
    recorder = Recorder(stack, functions, tmp_path, BatchSize=1, **settings)
    for number in range(7):
        recorder.send(n=number, seconds=2)
    eventually(lambda: len(recorder.calls()) == 7, 60)
    starts = [call["at"] for call in recorder.calls()]
    assert max(len([other for other in starts if start - 2 < other <= start]) for start in starts) in allowed


def test_what_a_function_reports_as_failed_comes_again(stack: Stack, functions: Functions, tmp_path: Path) -> None:
    recorder = Recorder(stack, functions, tmp_path, BatchSize=10, attributes={"VisibilityTimeout": "1"})
    recorder.send(n=1, fail=True)
    eventually(lambda: len(recorder.calls()) >= 2)
    assert {call["n"] for call in recorder.calls()} == {1}


def test_a_disabled_event_source_takes_nothing(stack: Stack, recorder: Recorder) -> None:
    client = stack.client("lambda")
    client.update_event_source_mapping(UUID=recorder.mapping, Enabled=False)
    eventually(lambda: client.get_event_source_mapping(UUID=recorder.mapping)["State"] == "Disabled")
    recorder.send(n=1)
    attribute = "ApproximateNumberOfMessages"
    attributes = stack.client("sqs").get_queue_attributes(QueueUrl=recorder.queue, AttributeNames=[attribute])
    assert attributes["Attributes"][attribute] == "1"
    client.update_event_source_mapping(UUID=recorder.mapping, Enabled=True)
    eventually(recorder.calls)


def test_an_idle_event_source_makes_no_requests(stack: Stack, recorder: Recorder) -> None:
    name = recorder.queue.rpartition("/")[2]
    recorder.send(n=1)
    eventually(lambda: stack.lines("sqs", "DeleteMessageBatch", Queue=name))
    before = len(stack.lines("sqs", "ReceiveMessage", Queue=name))
    deadline = time.monotonic() + 2
    eventually(lambda: time.monotonic() > deadline)
    assert len(stack.lines("sqs", "ReceiveMessage", Queue=name)) <= before + 1


def test_the_depth_and_the_age_of_a_queue_are_metrics_that_alarms_hear(stack: Stack) -> None:
    queue, topic_name, to = stack.queue(), unique("alarms"), f"{unique('ops')}@example.org"
    sns, cloudwatch = stack.client("sns"), stack.client("cloudwatch")
    topic = sns.create_topic(Name=topic_name)["TopicArn"]
    sns.subscribe(TopicArn=topic, Protocol="email", Endpoint=to)
    metrics = {"ApproximateNumberOfMessagesVisible": 0, "ApproximateAgeOfOldestMessage": 1}
    for metric, threshold in metrics.items():
        cloudwatch.put_metric_alarm(
            AlarmName=f"{topic_name} {metric}",
            Namespace="AWS/SQS",
            MetricName=metric,
            Dimensions=[{"Name": "QueueName", "Value": queue.rpartition("/")[2]}],
            Statistic="Maximum",
            Period=10,
            EvaluationPeriods=1,
            Threshold=threshold,
            ComparisonOperator="GreaterThanThreshold",
            TreatMissingData="notBreaching",
            AlarmActions=[topic],
        )
    stack.client("sqs").send_message(QueueUrl=queue, MessageBody="dead")

    def subjects() -> set[str]:
        return {str(mail["Subject"]) for recipients, mail in stack.mails if to in recipients}

    eventually(lambda: len(subjects()) == 2, 60)
    assert subjects() == {f'ALARM: "{topic_name} {metric}" in us-east-1' for metric in metrics}
