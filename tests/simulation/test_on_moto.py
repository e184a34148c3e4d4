"""A message's way with the real adapters: every function once, on moto's table, queues, topics, secrets and mail."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import boto3
import pytest
from moto import mock_aws

from handlers import ack, check_ack, deliver, query, redeliver, submit, sweep
from handlers.delivery.capability import Keyring
from handlers.runtime import bootstrap
from handlers.runtime.bootstrap import AwsWorld
from tests.fakes.dynamodb import REGION, create_table
from tests.fakes.events import Context, Reply, api_event, reply_of
from tests.fakes.world import ENVIRON

QUEUES = ("webhook", "email", "timer-1", "timer-30", "email-dlq", "told")


@dataclass
class Stack:
    """What Terraform would have made."""

    urls: dict[str, str]
    sqs: Any

    def take(self, queue: str) -> dict[str, Any]:
        """Everything that is visible in a queue, as the event of a batch."""
        url = self.urls[queue]
        found = self.sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10).get("Messages", [])
        for message in found:
            self.sqs.delete_message(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])
        return {
            "Records": [
                {"messageId": m["MessageId"], "body": m["Body"], "eventSourceARN": f"arn:{queue}"} for m in found
            ]
        }

    def delayed(self, queue: str) -> int:
        """How many messages of a queue wait for their time."""
        name = "ApproximateNumberOfMessagesDelayed"
        answer = self.sqs.get_queue_attributes(QueueUrl=self.urls[queue], AttributeNames=[name])
        return int(answer["Attributes"][name])


@pytest.fixture
def stack(monkeypatch: pytest.MonkeyPatch) -> Iterator[Stack]:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "POWERTOOLS_METRICS_NAMESPACE"):
        monkeypatch.setenv(name, "test")
    monkeypatch.setenv("AWS_DEFAULT_REGION", REGION)
    monkeypatch.delenv("AWS_ENDPOINT_URL", raising=False)
    with mock_aws():
        create_table(boto3.client("dynamodb"), "messages")
        sqs, sns, ses = boto3.client("sqs"), boto3.client("sns"), boto3.client("ses")
        urls = {name: sqs.create_queue(QueueName=name)["QueueUrl"] for name in QUEUES}
        topics = {name: sns.create_topic(Name=name)["TopicArn"] for name in ("events", "alerts")}
        told = sqs.get_queue_attributes(QueueUrl=urls["told"], AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
        for arn in topics.values():
            sns.subscribe(TopicArn=arn, Protocol="sqs", Endpoint=told, Attributes={"RawMessageDelivery": "true"})
        secret = boto3.client("secretsmanager").create_secret(Name="k1", SecretString="sesame")["ARN"]
        ses.verify_email_identity(EmailAddress="until-ack@example.com")
        ses.create_template(
            Template={"TemplateName": "until-ack-message", "SubjectPart": "{{subject}}", "TextPart": "{{text}}"}
        )
        environ = {
            **ENVIRON,
            "CHANNEL": "email",
            "CHANNEL_QUEUES": json.dumps({name: urls[name] for name in ("webhook", "email")}),
            "TIMER_QUEUES": json.dumps({"1": urls["timer-1"], "30": urls["timer-30"]}),
            "DLQS": json.dumps({"arn:email": urls["email-dlq"]}),
            "EVENTS_TOPIC": topics["events"],
            "ALERTS_TOPIC": topics["alerts"],
            "CAPABILITY_KEYS": json.dumps([{"id": "k1", "secret": secret}]),
            "MAIL_SENDER": "until-ack@example.com",
            "MAIL_TEMPLATE": "until-ack-message",
            "SWEEP_GRACE": "1",
        }
        bootstrap._client.cache_clear()
        bootstrap.use(AwsWorld(environ))
        yield Stack(urls, sqs)
    bootstrap.use(None)
    bootstrap._client.cache_clear()


def post(**fields: Any) -> Reply:
    body = {"channel": "email", "target": "someone@example.com", "payload": "hello", **fields}
    return reply_of(submit.handler(api_event("POST", "/messages", body), None))


def shown(message_id: str) -> dict[str, Any]:
    event = api_event("GET", "/messages/{id}", path={"id": message_id})
    found: dict[str, Any] = reply_of(query.handler(event, None)).json
    return found


def answer(message_id: str, action: str, body: object = None) -> Reply:
    keyring = Keyring(("k1",), lambda _: b"sesame")
    capability = keyring.sign(message_id, "someone@example.com", AwsWorld({}).clock() + 1000)
    path, query_ = {"id": message_id}, {"cap": capability}
    event = api_event("POST", f"/messages/{{id}}/{action}", body, path=path, query=query_, caller=None)
    return reply_of(ack.handler(event, None))


def test_a_mail_is_sent_its_timer_armed_and_its_ack_taken(stack: Stack) -> None:
    message = post(schedule=[30], labels={"order": "17"}).json["id"]
    assert deliver.handler(stack.take("email"), Context()) == {"batchItemFailures": []}
    state = shown(message)
    assert (state["status"], state["attempts"][0]["outcome"]) == ("AWAITING_ACK", "SENT")
    assert stack.delayed("timer-30") == 1
    assert boto3.client("ses").get_send_quota()["SentLast24Hours"] == 1
    assert answer(message, "ack").json == {"id": message, "status": "DELIVERED", "late": False}
    assert answer(message, "ack").json["status"] == "DELIVERED"
    assert (shown(message)["status"], shown(message)["next_attempt_at"]) == ("DELIVERED", None)
    (told,) = stack.take("told")["Records"]
    assert json.loads(told["body"])["event_id"] == f"{message}.1.DELIVERED"


def test_a_nack_is_heard_and_the_message_redelivered(stack: Stack) -> None:
    message = post().json["id"]
    deliver.handler(stack.take("email"), Context())
    assert answer(message, "nack", {"reason": "later", "retry_after": 900}).json["status"] == "AWAITING_ACK"
    assert answer(message, "nack", {"reason": "never"}).json["status"] == "REJECTED"
    said = [record["body"] for record in stack.take("told")["Records"]]
    assert len(said) == 2
    assert any("NACK: never" in text and "redeliver" in text for text in said)
    listed = api_event("GET", "/messages", query={"status": "undelivered"})
    assert [m["id"] for m in reply_of(query.handler(listed, None)).json["messages"]] == [message]
    event = api_event("POST", "/messages/{id}/redeliver", path={"id": message})
    assert reply_of(redeliver.handler(event, None)).json["life"] == 2
    deliver.handler(stack.take("email"), Context())
    assert [a["n"] for a in shown(message)["attempts"]] == [1, 2]


def test_a_timer_that_is_due_asks_for_the_next_attempt_and_an_early_one_hops(
    stack: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    message = post(schedule=[30]).json["id"]
    deliver.handler(stack.take("email"), Context())
    record = bootstrap.registrar().get(message)
    body = json.dumps({"v": 1, "id": message, "attempt": 1, "token": record.token})
    event = {"Records": [{"messageId": "m", "body": body, "eventSourceARN": "arn:timer"}]}
    assert check_ack.handler(event, Context()) == {"batchItemFailures": []}
    assert (stack.delayed("timer-30"), stack.take("email")["Records"]) == (2, [])
    world = AwsWorld(bootstrap.world().environ)
    monkeypatch.setattr(world, "clock", lambda: record.due_at)
    bootstrap.use(world)
    assert check_ack.handler(event, Context()) == {"batchItemFailures": []}
    deliver.handler(stack.take("email"), Context())
    assert [a["n"] for a in shown(message)["attempts"]] == [1, 2]


def test_the_sweep_takes_over_expires_and_tells(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    message = post(expires_in=60).json["id"]
    stack.take("email")
    world = AwsWorld(bootstrap.world().environ)
    ahead = 2_000
    monkeypatch.setattr(world, "clock", lambda: AwsWorld({}).clock() + ahead)
    bootstrap.use(world)
    assert sweep.handler({}, None) == {"taken over": 1}
    assert sweep.handler({}, None) == {}
    assert len(stack.take("email")["Records"]) == 1
    ahead = 65_000
    assert sweep.handler({}, None) == {"ended": 1}
    assert shown(message)["status"] == "EXPIRED"
    assert len(stack.take("told")["Records"]) == 2
    assert sweep.handler({}, None) == {}


def test_poison_lands_in_the_dead_letters_with_its_reason(stack: Stack) -> None:
    stack.sqs.send_message(QueueUrl=stack.urls["email"], MessageBody="poison")
    assert deliver.handler(stack.take("email"), Context()) == {"batchItemFailures": []}
    url = stack.urls["email-dlq"]
    (letter,) = stack.sqs.receive_message(QueueUrl=url, MessageAttributeNames=["All"])["Messages"]
    assert letter["Body"] == "poison"
    assert letter["MessageAttributes"]["reason"]["StringValue"] == "body is not JSON"


@pytest.mark.usefixtures("stack")
def test_a_repeated_key_is_the_first_message_and_another_body_a_409() -> None:
    first = post(idempotency_key="k")
    assert (first.status, post(idempotency_key="k").status) == (202, 200)
    assert post(idempotency_key="k").json["id"] == first.json["id"]
    assert post(idempotency_key="k", payload="other").status == 409
