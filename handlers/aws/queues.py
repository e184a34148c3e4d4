"""The channel and timer queues in SQS, and how late they are according to CloudWatch."""

import json
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from handlers.aws.errors import mapped
from handlers.delivery.errors import Unavailable
from handlers.delivery.ports import Post

if TYPE_CHECKING:
    from mypy_boto3_cloudwatch import CloudWatchClient
    from mypy_boto3_sqs import SQSClient
    from mypy_boto3_sqs.type_defs import SendMessageBatchRequestEntryTypeDef

_BATCH = 10
"""Entries of a SendMessageBatch request, at most."""
_AGE_WINDOW = timedelta(minutes=5)
"""SQS reports its metrics once a minute, some minutes late."""
_REASON_LENGTH = 256


@dataclass(frozen=True, slots=True)
class SqsQueues:
    """`handlers.delivery.ports.Queues` over SQS. URLs by channel, and by delay in seconds."""

    client: "SQSClient"
    channel_urls: Mapping[str, str]
    timer_urls: Mapping[int, str]
    cloudwatch: "Callable[[], CloudWatchClient]"

    @property
    def timers(self) -> Sequence[int]:
        """See `Queues.timers`."""
        return sorted(self.timer_urls)

    @property
    def channels(self) -> Sequence[str]:
        """See `Queues.channels`."""
        return sorted(self.channel_urls)

    def send(self, posts: Sequence[Post]) -> frozenset[int]:
        """See `Queues.send`. Every entry's own result counts, not just the request's."""
        by_url: dict[str, list[int]] = defaultdict(list)
        failed: set[int] = set()
        for position, post in enumerate(posts):
            url = self._url(post.queue)
            if url is None:
                # A channel that the stack no longer has: its messages must not stop the others.
                failed.add(position)
            else:
                by_url[url].append(position)
        for url, positions in by_url.items():
            for start in range(0, len(positions), _BATCH):
                failed |= self._send_batch(url, positions[start : start + _BATCH], posts)
        return frozenset(failed)

    def _url(self, queue: str | int) -> str | None:
        return self.timer_urls.get(queue) if isinstance(queue, int) else self.channel_urls.get(queue)

    def _send_batch(self, url: str, positions: Sequence[int], posts: Sequence[Post]) -> set[int]:
        entries: list[SendMessageBatchRequestEntryTypeDef] = [
            {
                "Id": str(position),
                "MessageBody": json.dumps(posts[position].body, separators=(",", ":")),
                "DelaySeconds": posts[position].delay,
            }
            for position in positions
        ]
        try:
            with mapped("sqs"):
                answer = self.client.send_message_batch(QueueUrl=url, Entries=entries)
        except Unavailable:
            return set(positions)
        return {int(entry["Id"]) for entry in answer.get("Failed", [])}

    def age(self, channel: str) -> int:
        """See `Queues.age`. A queue that reports nothing is not late."""
        now = datetime.now(UTC)
        with mapped("cloudwatch"):
            answer = self.cloudwatch().get_metric_data(
                StartTime=now - _AGE_WINDOW,
                EndTime=now,
                MetricDataQueries=[
                    {
                        "Id": "age",
                        "MetricStat": {
                            "Metric": {
                                "Namespace": "AWS/SQS",
                                "MetricName": "ApproximateAgeOfOldestMessage",
                                "Dimensions": [
                                    {"Name": "QueueName", "Value": self.channel_urls[channel].rsplit("/", 1)[1]}
                                ],
                            },
                            "Period": 60,
                            "Stat": "Maximum",
                        },
                    }
                ],
            )
        values = [value for result in answer["MetricDataResults"] for value in result.get("Values", [])]
        return int(max(values[:1], default=0))


@dataclass(frozen=True, slots=True)
class DeadLetters:
    """The way to a dead-letter queue for what can never be processed."""

    client: "SQSClient"
    urls: Mapping[str, str]
    """Source queue's ARN to its dead-letter queue's URL."""

    def bury(self, source_arn: str, body: str, reason: str) -> None:
        """Send a record to its dead-letter queue at once, with the reason as an attribute.

        Raises `Unavailable`; then the record stays where it is, and comes again.
        """
        with mapped("sqs"):
            self.client.send_message(
                QueueUrl=self.urls[source_arn],
                MessageBody=body,
                MessageAttributes={"reason": {"DataType": "String", "StringValue": reason[:_REASON_LENGTH]}},
            )
