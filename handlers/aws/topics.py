"""The events and alerts topics in SNS."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from handlers.aws.errors import mapped
from handlers.delivery.telling import attributes_of

if TYPE_CHECKING:
    from mypy_boto3_sns import SNSClient

_SUBJECT_LENGTH = 100
"""SNS Publish: a subject is ASCII of at most 100 characters."""


@dataclass(frozen=True, slots=True)
class SnsTopics:
    """`handlers.delivery.ports.Topics` over SNS."""

    client: "SNSClient"
    events_arn: str
    alerts_arn: str

    def publish(self, event: Mapping[str, Any]) -> None:
        """See `Topics.publish`."""
        attributes = attributes_of(event)
        with mapped("sns"):
            self.client.publish(
                TopicArn=self.events_arn,
                Message=json.dumps(event),
                MessageAttributes={
                    name: {"DataType": "String", "StringValue": value} for name, value in attributes.items()
                },
            )

    def alert(self, subject: str, text: str) -> None:
        """See `Topics.alert`."""
        with mapped("sns"):
            self.client.publish(TopicArn=self.alerts_arn, Subject=subject[:_SUBJECT_LENGTH], Message=text)
