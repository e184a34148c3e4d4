"""The events that AWS calls functions with, and what they get back."""

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from tests.fakes.queues import Envelope, MemoryQueue

CALLER = "arn:aws:iam::000000000000:user/producer"


@dataclass(slots=True)
class Context:
    """A Lambda context: how much time is left."""

    remaining: Callable[[], int] = lambda: 60_000

    def get_remaining_time_in_millis(self) -> int:
        return self.remaining()


@dataclass(frozen=True, slots=True)
class Reply:
    """What API Gateway would answer."""

    status: int
    headers: Mapping[str, str]
    text: str

    @property
    def json(self) -> Any:
        return json.loads(self.text)


def reply_of(answer: Mapping[str, Any]) -> Reply:
    """Read a proxy handler's answer."""
    return Reply(answer["statusCode"], answer["headers"], answer["body"])


def api_event(
    method: str,
    resource: str,
    body: object = None,
    *,
    path: Mapping[str, str] | None = None,
    query: Mapping[str, str] | None = None,
    headers: Mapping[str, str] | None = None,
    caller: str | None = CALLER,
) -> dict[str, Any]:
    """A proxy event of the REST API. A body that is text goes as it is, anything else as JSON."""
    return {
        "httpMethod": method,
        "resource": resource,
        "pathParameters": dict(path) if path else None,
        "queryStringParameters": dict(query) if query else None,
        "headers": dict(headers) if headers else None,
        "body": body if body is None or isinstance(body, str) else json.dumps(body),
        "isBase64Encoded": False,
        "requestContext": {"identity": {"userArn": caller} if caller else {}},
    }


def answer_event(url: str, body: object = None) -> dict[str, Any]:
    """The event of a target's POST to an ACK or NACK URL."""
    parts = urlsplit(url)
    message_id, action = parts.path.split("/")[-2:]
    return api_event(
        "POST",
        f"/messages/{{id}}/{action}",
        body,
        path={"id": message_id},
        query=dict(parse_qsl(parts.query)),
        caller=None,
    )


def capability_in(url: str) -> str:
    """The capability that an ACK URL carries."""
    return dict(parse_qsl(urlsplit(url).query))["cap"]


def sqs_event(queue: MemoryQueue, envelopes: Iterable[Envelope]) -> dict[str, Any]:
    """The event of a batch from a queue."""
    return {
        "Records": [
            {"messageId": e.id, "body": e.body, "eventSourceARN": queue.arn, "receiptHandle": e.id} for e in envelopes
        ]
    }
