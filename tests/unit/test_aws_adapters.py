"""The other services behind their ports, and botocore's errors as the domain's."""

import base64
import json
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError, ConnectTimeoutError, EndpointConnectionError, ReadTimeoutError
from botocore.stub import Stubber
from moto import mock_aws

from handlers.aws.errors import ConditionFailed, mapped
from handlers.aws.items import from_item, to_item
from handlers.aws.listing import Listing
from handlers.aws.secrets import Secrets
from handlers.aws.store import DynamoStore
from handlers.aws.topics import SnsTopics
from handlers.aws.updates import Update
from handlers.delivery.errors import Invalid, Throttled, Unavailable
from handlers.delivery.message import Scheduler
from handlers.delivery.telling import event_of
from tests.fakes.dynamodb import REGION
from tests.fakes.records import a_record, claim_of, message_id
from tests.fakes.world import START

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient
    from mypy_boto3_secretsmanager import SecretsManagerClient

KEYS: dict[str, Any] = {
    "region_name": REGION,
    "aws_access_key_id": "test",
    "aws_secret_access_key": "test",
    "config": Config(retries={"total_max_attempts": 1}),
}


class TestErrors:
    @pytest.mark.parametrize(
        "code",
        [
            "ThrottlingException",
            "ProvisionedThroughputExceededException",
            "RequestLimitExceeded",
            "Throttled",
            "TooManyRequestsException",
        ],
    )
    def test_a_throttle_is_throttled(self, code: str) -> None:
        with pytest.raises(Throttled) as caught, mapped("dynamodb"):
            raise ClientError({"Error": {"Code": code}}, "UpdateItem")
        assert (caught.value.service, caught.value.code) == ("dynamodb", code)

    @pytest.mark.parametrize("code", ["InternalServerError", "AccessDeniedException", "ValidationException"])
    def test_any_other_refusal_is_unavailable_with_its_code_and_its_cause(self, code: str) -> None:
        with pytest.raises(Unavailable) as caught, mapped("sqs"):
            raise ClientError({"Error": {"Code": code}}, "SendMessage")
        assert not isinstance(caught.value, Throttled)
        assert caught.value.code == code
        assert isinstance(caught.value.__cause__, ClientError)

    @pytest.mark.parametrize(
        "error",
        [
            ConnectTimeoutError(endpoint_url="https://x"),
            ReadTimeoutError(endpoint_url="https://x"),
            EndpointConnectionError(endpoint_url="https://x"),
        ],
    )
    def test_no_answer_is_unavailable(self, error: Exception) -> None:
        with pytest.raises(Unavailable) as caught, mapped("sns"):
            raise error
        assert caught.value.code == type(error).__name__

    def test_a_failed_condition_brings_the_old_item(self) -> None:
        response: Any = {"Error": {"Code": "ConditionalCheckFailedException"}, "Item": {"id": {"S": "x"}}}
        with pytest.raises(ConditionFailed) as caught, mapped("dynamodb"):
            raise ClientError(response, "UpdateItem")
        assert caught.value.item == {"id": {"S": "x"}}

    def test_a_fault_of_our_own_stays_what_it_is(self) -> None:
        with pytest.raises(KeyError), mapped("dynamodb"):
            raise KeyError("ours")


class TestTopics:
    def test_an_event_reaches_the_subscriber_whose_filter_it_passes(self) -> None:
        with mock_aws():
            sns, sqs = boto3.client("sns", **KEYS), boto3.client("sqs", **KEYS)
            events = sns.create_topic(Name="events")["TopicArn"]
            alerts = sns.create_topic(Name="alerts")["TopicArn"]
            url = sqs.create_queue(QueueName="rejections")["QueueUrl"]
            arn = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
            policy = json.dumps({"status": ["PENDING"], "type": ["ended"], "channel": ["webhook"]})
            sns.subscribe(
                TopicArn=events,
                Protocol="sqs",
                Endpoint=arn,
                Attributes={"FilterPolicy": policy, "RawMessageDelivery": "true"},
            )
            topics = SnsTopics(sns, events, alerts)
            passes, not_passes = event_of(a_record(), "ended", START), event_of(a_record(), "stuck", START)
            topics.publish(not_passes)
            topics.publish(passes)
            (message,) = sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10)["Messages"]
            assert json.loads(message["Body"]) == passes

    def test_an_alert_has_a_subject_that_sns_takes(self) -> None:
        client = boto3.client("sns", **KEYS)
        with Stubber(client) as stub:
            expected = {"TopicArn": "alerts", "Subject": "s" * 100, "Message": "what to do"}
            stub.add_response("publish", {"MessageId": "m"}, expected)
            SnsTopics(client, "events", "alerts").alert("s" * 120, "what to do")
            stub.assert_no_pending_responses()

    @pytest.mark.parametrize(("code", "error"), [("Throttled", Throttled), ("InternalError", Unavailable)])
    def test_a_failure_says_so(self, code: str, error: type[Exception]) -> None:
        client = boto3.client("sns", **KEYS)
        topics = SnsTopics(client, "events", "alerts")
        with Stubber(client) as stub:
            stub.add_client_error("publish", code)
            stub.add_client_error("publish", code)
            with pytest.raises(error):
                topics.publish(event_of(a_record(), "ended", START))
            with pytest.raises(error):
                topics.alert("s", "t")


class TestSecrets:
    @pytest.fixture
    def client(self) -> "SecretsManagerClient":
        return boto3.client("secretsmanager", **KEYS)

    def test_a_secret_is_read_once(self, client: "SecretsManagerClient") -> None:
        arn = "arn:aws:secretsmanager:eu-central-1:0:secret:k1"
        with Stubber(client) as stub:
            stub.add_response("get_secret_value", {"SecretString": "sesame"}, {"SecretId": arn})
            secrets = Secrets(client, {"k1": arn})
            assert [secrets.get("k1"), secrets.get("k1")] == [b"sesame", b"sesame"]
            stub.assert_no_pending_responses()

    def test_a_failure_says_so_and_is_not_kept(self, client: "SecretsManagerClient") -> None:
        arn = "arn:aws:secretsmanager:eu-central-1:0:secret:k1"
        secrets = Secrets(client, {"k1": arn})
        with Stubber(client) as stub:
            stub.add_client_error("get_secret_value", "InternalServiceError")
            stub.add_response("get_secret_value", {"SecretString": "sesame"})
            with pytest.raises(Unavailable):
                secrets.get("k1")
            assert secrets.get("k1") == b"sesame"


class TestStore:
    @pytest.fixture
    def client(self) -> "DynamoDBClient":
        return boto3.client("dynamodb", **KEYS)

    @pytest.fixture
    def stub(self, client: "DynamoDBClient") -> Iterator[Stubber]:
        with Stubber(client) as stubber:
            yield stubber
            stubber.assert_no_pending_responses()

    def test_what_a_batch_read_left_out_is_asked_for_again(self, client: "DynamoDBClient", stub: Stubber) -> None:
        unread = {"t": {"Keys": [{"id": {"S": message_id(2)}}]}}
        stub.add_response("batch_get_item", {"Responses": {"t": []}, "UnprocessedKeys": unread})
        stub.add_response("batch_get_item", {"Responses": {"t": []}}, {"RequestItems": unread})
        assert DynamoStore(client, "t").get_many([message_id(1), message_id(2)]) == {}

    def test_a_batch_read_that_never_ends_is_unavailable_rather_than_a_missing_message(
        self, client: "DynamoDBClient", stub: Stubber
    ) -> None:
        unread = {"t": {"Keys": [{"id": {"S": message_id(2)}}]}}
        for _ in range(3):
            stub.add_response("batch_get_item", {"Responses": {"t": []}, "UnprocessedKeys": unread})
        with pytest.raises(Unavailable) as caught:
            DynamoStore(client, "t").get_many([message_id(2)])
        assert caught.value.code == "UnprocessedKeys"

    @pytest.mark.parametrize("operation", ["put_item", "get_item", "batch_get_item", "update_item", "query"])
    def test_a_throttle_is_never_taken_for_an_answer(
        self, client: "DynamoDBClient", stub: Stubber, operation: str
    ) -> None:
        stub.add_client_error(operation, "ThrottlingException")
        store, record = DynamoStore(client, "t"), a_record()
        calls: dict[str, Callable[[], object]] = {
            "put_item": lambda: store.put(record),
            "get_item": lambda: store.get(record.id),
            "batch_get_item": lambda: store.get_many([record.id]),
            "update_item": lambda: store.claim(claim_of(record, START, "t1")),
            "query": lambda: store.overdue(START, 10),
        }
        with pytest.raises(Throttled):
            calls[operation]()

    def test_conditional_yes_or_no_writes_are_not_no_when_throttled(
        self, client: "DynamoDBClient", stub: Stubber
    ) -> None:
        stub.add_client_error("update_item", "ThrottlingException")
        with pytest.raises(Throttled):
            DynamoStore(client, "t").postpone_sweep(a_record(), START, 1)

    def test_nor_is_a_hand_over(self, client: "DynamoDBClient", stub: Stubber) -> None:
        stub.add_client_error("update_item", "ThrottlingException")
        with pytest.raises(Throttled):
            DynamoStore(client, "t").hand_over(a_record())

    @pytest.mark.parametrize(
        "rows",
        [
            '[["0", 1e400, "{id}"]]',
            '[["0", true, "{id}"]]',
            '[["0", -1, "{id}"]]',
            '[["9", 1, "{id}"]]',
            '[["0", 1, "x"]]',
            '[["0", 1]]',
            "[" * 5000,
            f'[["0", {"9" * 40}, "{{id}}"]]',
            '{"0": 1}',
            "7",
        ],
    )
    def test_a_made_up_cursor_is_refused_before_any_query(
        self, client: "DynamoDBClient", stub: Stubber, rows: str
    ) -> None:
        cursor = base64.urlsafe_b64encode(rows.replace("{id}", message_id(1)).encode()).decode()
        with pytest.raises(Invalid) as caught:
            DynamoStore(client, "t").list_open(10, cursor)
        assert caught.value.field == "cursor"
        stub.assert_no_pending_responses()

    def test_a_listing_asks_no_more_than_it_must(self, client: "DynamoDBClient", stub: Stubber) -> None:
        stub.add_response(
            "query",
            {"Items": []},
            {
                "TableName": "t",
                "IndexName": "overdue",
                "KeyConditionExpression": "#p = :p AND #o <= :o",
                "ExpressionAttributeNames": {"#p": "sweep_shard", "#o": "sweep_at"},
                "ExpressionAttributeValues": {":p": {"S": "0"}, ":o": {"N": "5"}},
                "ScanIndexForward": True,
                "Limit": 7,
            },
        )
        listing = Listing(client, "t", "overdue", "sweep_shard", "sweep_at", forward=True)
        assert listing.upto("0", 5, 7) == []


class TestItems:
    def test_a_message_of_the_queues_has_nothing_of_workflows_in_its_item(self) -> None:
        assert not {"scheduler", "workflow", "task"} & set(to_item(a_record()))

    def test_an_item_of_before_there_were_workflows_is_the_queues(self) -> None:
        item = to_item(a_record(scheduler=Scheduler.WORKFLOW, workflow="delivery_poll"))
        old = {name: value for name, value in item.items() if name not in ("scheduler", "workflow")}
        assert from_item(old) == a_record()

    def test_what_an_execution_runs_is_read_back(self) -> None:
        record = a_record(scheduler=Scheduler.WORKFLOW, workflow="delivery_poll")
        item = to_item(record)
        assert (item["scheduler"], item["workflow"]) == ({"S": "workflow"}, {"S": "delivery_poll"})
        assert from_item(item) == record
        assert from_item({**item, "task": {"S": "AAAA"}}).task == "AAAA"


class TestUpdate:
    def test_every_name_is_an_alias_for_many_are_reserved(self) -> None:
        request = Update().set("status", "X").remove("ttl").when("attempts.3.c", "t").request()
        assert request["UpdateExpression"] == "SET #status = :v0 REMOVE #ttl"
        assert request["ConditionExpression"] == "#attempts.#a3.#c = :v1"
        assert request["ExpressionAttributeNames"] == {
            "#status": "status",
            "#ttl": "ttl",
            "#attempts": "attempts",
            "#a3": "3",
            "#c": "c",
        }

    def test_a_limit_counts_only_where_there_is_one(self) -> None:
        request = Update().remove("x").when_within("max_attempts", 3).request()
        assert request["ConditionExpression"] == "(attribute_not_exists(#max_attempts) OR #max_attempts >= :v0)"
        assert request["ExpressionAttributeValues"] == {":v0": {"N": "3"}}

    def test_no_values_no_values_clause(self) -> None:
        request = Update().remove("ttl").when("untold", None).request()
        assert "ExpressionAttributeValues" not in request
        assert request["ConditionExpression"] == "attribute_not_exists(#untold)"
