"""SQS behind its port: batches by ten, every entry's own result, delays, dead letters, ages."""

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import boto3
import pytest
from botocore.config import Config
from botocore.stub import ANY, Stubber
from moto import mock_aws

from handlers.aws.queues import DeadLetters, SqsQueues
from handlers.delivery.errors import Throttled, Unavailable
from handlers.delivery.ports import Post
from tests.fakes.dynamodb import REGION

if TYPE_CHECKING:
    from mypy_boto3_cloudwatch import CloudWatchClient
    from mypy_boto3_sqs import SQSClient

CHANNELS = {"webhook": "https://sqs/webhook", "email": "https://sqs/email"}
TIMERS = {30: "https://sqs/timer-30s", 15: "https://sqs/timer-15s"}
KEYS: dict[str, Any] = {
    "region_name": REGION,
    "aws_access_key_id": "test",
    "aws_secret_access_key": "test",
    "config": Config(retries={"total_max_attempts": 1}),
}


@pytest.fixture
def sqs() -> "SQSClient":
    return boto3.client("sqs", **KEYS)


@pytest.fixture
def stub(sqs: "SQSClient") -> Iterator[Stubber]:
    with Stubber(sqs) as stubber:
        yield stubber
        stubber.assert_no_pending_responses()


@pytest.fixture
def queues(sqs: "SQSClient") -> SqsQueues:
    return SqsQueues(sqs, CHANNELS, TIMERS, no_metrics)


def no_metrics() -> "CloudWatchClient":
    raise AssertionError("nobody asked for the age")


def entries(positions: Sequence[int], delay: int = 0) -> list[dict[str, Any]]:
    return [{"Id": str(p), "MessageBody": f'{{"n":{p}}}', "DelaySeconds": delay} for p in positions]


def answer(sent: Sequence[int], failed: Sequence[int] = ()) -> dict[str, Any]:
    return {
        "Successful": [{"Id": str(p), "MessageId": "m", "MD5OfMessageBody": "x"} for p in sent],
        "Failed": [{"Id": str(p), "SenderFault": False, "Code": "InternalError"} for p in failed],
    }


def batch(stub: Stubber, url: str, positions: Sequence[int], failed: Sequence[int] = (), delay: int = 0) -> None:
    sent = [p for p in positions if p not in failed]
    expected = {"QueueUrl": url, "Entries": entries(positions, delay)}
    stub.add_response("send_message_batch", answer(sent, failed), expected)


def posts(count: int, queue: str | int = "webhook", delay: int = 0) -> list[Post]:
    return [Post(queue, {"n": n}, delay) for n in range(count)]


def test_sends_by_ten(queues: SqsQueues, stub: Stubber) -> None:
    for positions in (range(10), range(10, 20), range(20, 23)):
        batch(stub, CHANNELS["webhook"], positions)
    assert queues.send(posts(23)) == frozenset()


def test_sends_each_post_to_its_own_queue(queues: SqsQueues, stub: Stubber) -> None:
    batch(stub, CHANNELS["webhook"], [0, 2])
    batch(stub, TIMERS[15], [1])
    batch(stub, CHANNELS["email"], [3])
    order: list[str | int] = ["webhook", 15, "webhook", "email"]
    assert queues.send([Post(queue, {"n": n}) for n, queue in enumerate(order)]) == frozenset()


def test_sends_the_delay_of_each_post(queues: SqsQueues, stub: Stubber) -> None:
    batch(stub, TIMERS[30], [0, 1], delay=30)
    assert queues.send(posts(2, 30, 30)) == frozenset()


def test_sends_nothing_for_nothing(queues: SqsQueues, stub: Stubber) -> None:
    assert queues.send([]) == frozenset()
    stub.assert_no_pending_responses()


def test_reports_just_the_entries_that_failed(queues: SqsQueues, stub: Stubber) -> None:
    batch(stub, CHANNELS["webhook"], range(10), failed=[3, 7])
    batch(stub, CHANNELS["webhook"], [10, 11], failed=[11])
    assert queues.send(posts(12)) == {3, 7, 11}


@pytest.mark.parametrize("code", ["RequestThrottled", "ServiceUnavailable", "KmsThrottled", "AccessDenied"])
def test_a_failed_request_fails_its_entries_and_no_others(queues: SqsQueues, stub: Stubber, code: str) -> None:
    batch(stub, CHANNELS["webhook"], range(10))
    stub.add_client_error("send_message_batch", code, http_status_code=503)
    assert queues.send(posts(12)) == {10, 11}


def test_a_queue_that_the_stack_no_longer_has_fails_its_posts_only(queues: SqsQueues, stub: Stubber) -> None:
    batch(stub, CHANNELS["webhook"], [1])
    assert queues.send([Post("fax", {}), Post("webhook", {"n": 1}), Post(9, {})]) == {0, 2}


def test_knows_its_timers_in_order_and_its_channels(queues: SqsQueues) -> None:
    assert list(queues.timers) == [15, 30]
    assert list(queues.channels) == ["email", "webhook"]


def test_what_is_sent_is_received() -> None:
    with mock_aws():
        client = boto3.client("sqs", **KEYS)
        url = client.create_queue(QueueName="webhook")["QueueUrl"]
        queues = SqsQueues(client, {"webhook": url}, {}, no_metrics)
        assert queues.send([Post("webhook", {"v": 1, "id": "a"})]) == frozenset()
        (message,) = client.receive_message(QueueUrl=url)["Messages"]
        assert json.loads(message["Body"]) == {"v": 1, "id": "a"}


class TestDeadLetters:
    def test_the_record_arrives_with_its_reason(self) -> None:
        with mock_aws():
            client = boto3.client("sqs", **KEYS)
            url = client.create_queue(QueueName="webhook-dlq")["QueueUrl"]
            DeadLetters(client, {"arn:webhook": url}).bury("arn:webhook", "not json", "body is not JSON")
            (message,) = client.receive_message(QueueUrl=url, MessageAttributeNames=["All"])["Messages"]
            assert message["Body"] == "not json"
            assert message["MessageAttributes"]["reason"]["StringValue"] == "body is not JSON"

    def test_a_long_reason_is_cut(self, sqs: "SQSClient", stub: Stubber) -> None:
        attribute = {"DataType": "String", "StringValue": "x" * 256}
        expected = {"QueueUrl": "url", "MessageBody": "b", "MessageAttributes": {"reason": attribute}}
        stub.add_response("send_message", {"MessageId": "m", "MD5OfMessageBody": "x"}, expected)
        DeadLetters(sqs, {"arn": "url"}).bury("arn", "b", "x" * 999)

    def test_a_failure_says_so_for_the_record_must_stay(self, sqs: "SQSClient", stub: Stubber) -> None:
        stub.add_client_error("send_message", "RequestThrottled")
        with pytest.raises(Throttled):
            DeadLetters(sqs, {"arn": "url"}).bury("arn", "b", "why")


class TestAge:
    @pytest.fixture
    def cloudwatch(self) -> "CloudWatchClient":
        return boto3.client("cloudwatch", **KEYS)

    @pytest.fixture
    def metrics(self, cloudwatch: "CloudWatchClient") -> Iterator[Stubber]:
        with Stubber(cloudwatch) as stubber:
            yield stubber
            stubber.assert_no_pending_responses()

    @pytest.mark.parametrize(
        ("values", "age"), [([240.0, 10.0], 240), ([0.0], 0), ([], 0)], ids=["newest", "none waits", "silent"]
    )
    def test_is_the_newest_figure(
        self,
        sqs: "SQSClient",
        cloudwatch: "CloudWatchClient",
        metrics: Stubber,
        values: Sequence[float],
        age: int,
    ) -> None:
        queries: list[Mapping[str, Any]] = [{"Id": "age", "MetricStat": ANY}]
        metrics.add_response(
            "get_metric_data",
            {"MetricDataResults": [{"Id": "age", "Values": list(values)}]},
            {"StartTime": ANY, "EndTime": ANY, "MetricDataQueries": queries},
        )
        assert SqsQueues(sqs, CHANNELS, TIMERS, lambda: cloudwatch).age("webhook") == age

    def test_a_failure_says_so(self, sqs: "SQSClient", cloudwatch: "CloudWatchClient", metrics: Stubber) -> None:
        metrics.add_client_error("get_metric_data", "InternalServiceError")
        with pytest.raises(Unavailable):
            SqsQueues(sqs, CHANNELS, TIMERS, lambda: cloudwatch).age("webhook")
