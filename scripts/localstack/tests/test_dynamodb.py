from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from botocore.exceptions import ClientError

from support import Stack, eventually, unique

AT_ONCE = 50


class Table:
    def __init__(self, stack: Stack) -> None:
        self.stack, self.client, self.name = stack, stack.client("dynamodb"), unique("table")
        types = {"id": "S", "shard": "S", "at": "N"}
        index = [{"AttributeName": "shard", "KeyType": "HASH"}, {"AttributeName": "at", "KeyType": "RANGE"}]
        self.client.create_table(
            TableName=self.name,
            BillingMode="PAY_PER_REQUEST",
            DeletionProtectionEnabled=True,
            AttributeDefinitions=[{"AttributeName": n, "AttributeType": t} for n, t in types.items()],
            KeySchema=[{"AttributeName": "id", "KeyType": "HASH"}],
            GlobalSecondaryIndexes=[
                {"IndexName": "due", "KeySchema": index, "Projection": {"ProjectionType": "KEYS_ONLY"}}
            ],
        )

    def put(self, item: dict[str, Any], **kwargs: Any) -> Any:
        return self.client.put_item(TableName=self.name, Item=item, **kwargs)

    def get(self, key: str) -> Any:
        return self.client.get_item(TableName=self.name, Key={"id": {"S": key}}, ConsistentRead=True).get("Item")

    def update(self, key: str, expression: str, values: dict[str, Any] | None = None, **kwargs: Any) -> Any:
        if values:
            kwargs["ExpressionAttributeValues"] = values
        return self.client.update_item(
            TableName=self.name, Key={"id": {"S": key}}, UpdateExpression=expression, **kwargs
        )

    def query(self, **kwargs: Any) -> Any:
        return self.client.query(
            TableName=self.name,
            IndexName="due",
            KeyConditionExpression="shard = :s",
            ExpressionAttributeValues={":s": {"S": "0"}},
            **kwargs,
        )


@pytest.fixture(scope="module")
def table(stack: Stack) -> Table:
    return Table(stack)


def _winners(write: Any) -> list[int]:
    def attempt(number: int) -> bool:
        try:
            write(number)
        except ClientError as error:
            assert error.response["Error"]["Code"] == "ConditionalCheckFailedException"
            return False
        return True

    with ThreadPoolExecutor(AT_ONCE) as pool:
        return [number for number, won in enumerate(pool.map(attempt, range(AT_ONCE))) if won]


def _code(call: Any) -> tuple[str, str]:
    with pytest.raises(ClientError) as error:
        call()
    return error.value.response["Error"]["Code"], error.value.response["Error"]["Message"]


def test_of_50_conditional_puts_at_once_one_wins(table: Table) -> None:
    for key in ("race-1", "race-2", "race-3"):
        winners = _winners(
            lambda n, key=key: table.put(
                {"id": {"S": key}, "n": {"N": str(n)}}, ConditionExpression="attribute_not_exists(id)"
            )
        )
        assert len(winners) == 1
        assert table.get(key)["n"]["N"] == str(winners[0])


def test_of_50_conditional_updates_at_once_one_wins(table: Table) -> None:
    for key in ("claim-1", "claim-2", "claim-3"):
        table.put({"id": {"S": key}, "attempt": {"N": "0"}})
        winners = _winners(
            lambda n, key=key: table.update(
                key,
                "SET attempt = attempt + :one, claimed_by = :n",
                {":one": {"N": "1"}, ":n": {"N": str(n)}, ":zero": {"N": "0"}},
                ConditionExpression="attempt = :zero",
            )
        )
        assert len(winners) == 1
        assert table.get(key)["attempt"]["N"] == "1"
        assert table.get(key)["claimed_by"]["N"] == str(winners[0])


def test_50_updates_at_once_all_count(table: Table) -> None:
    table.put({"id": {"S": "counter"}})
    assert len(_winners(lambda _: table.update("counter", "ADD updates :one", {":one": {"N": "1"}}))) == AT_ONCE
    assert table.get("counter")["updates"]["N"] == str(AT_ONCE)


def test_a_failed_condition_returns_the_item(table: Table) -> None:
    table.put({"id": {"S": "held"}, "token": {"S": "theirs"}})
    condition = {"ConditionExpression": "attribute_not_exists(id)", "ReturnValuesOnConditionCheckFailure": "ALL_OLD"}
    writes: list[Callable[[], Any]] = [
        lambda: table.put({"id": {"S": "held"}}, **condition),
        lambda: table.update("held", "SET a = :a", {":a": {"S": "b"}}, **condition),
    ]
    for write in writes:
        with pytest.raises(ClientError) as error:
            write()
        assert error.value.response["Item"] == {"id": {"S": "held"}, "token": {"S": "theirs"}}


@pytest.mark.parametrize(("place", "due"), [(0, 1_015_000), (1, 1_030_000), (2, 15_400_000), (9, 15_400_000)])
def test_a_delay_of_the_schedule_or_its_last(table: Table, place: int, due: int) -> None:
    schedule = {"L": [{"N": "15000"}, {"N": "30000"}]}
    table.put({"id": {"S": "due"}, "schedule": schedule, "last_delay": {"N": "14400000"}, "due_at": {"N": str(due)}})
    answer = table.update(
        "due",
        f"SET due_at = :now + if_not_exists(schedule[{place}], last_delay)",
        {":now": {"N": "1000000"}},
        ReturnValues="UPDATED_NEW",
    )
    # UPDATED_NEW names what was set even when it had that value.
    assert answer["Attributes"] == {"due_at": {"N": str(due)}}


def test_a_path_into_a_map(table: Table) -> None:
    table.put({"id": {"S": "map"}, "attempts": {"M": {"1": {"M": {"n": {"N": "1"}}}}}})
    names = {"ExpressionAttributeNames": {"#slot": "1"}, "ReturnValues": "UPDATED_NEW"}
    condition = "attribute_not_exists(attempts.#slot.outcome)"
    answer = table.update(
        "map", "SET attempts.#slot.outcome = :o", {":o": {"S": "SENT"}}, ConditionExpression=condition, **names
    )
    assert answer["Attributes"] == {"attempts": {"M": {"1": {"M": {"outcome": {"S": "SENT"}}}}}}
    missing = {"ExpressionAttributeNames": {"#slot": "2"}}
    code, message = _code(lambda: table.update("map", "SET attempts.#slot.outcome = :o", {":o": {"S": "x"}}, **missing))
    assert (code, "document path" in message) == ("ValidationException", True)


def test_every_operand_is_read_before_anything_is_written(table: Table) -> None:
    table.put({"id": {"S": "swap"}, "a": {"N": "1"}, "b": {"N": "2"}})
    table.update("swap", "SET a = b, b = a")
    assert (table.get("swap")["a"], table.get("swap")["b"]) == ({"N": "2"}, {"N": "1"})


def test_an_update_that_fails_leaves_no_trace(table: Table) -> None:
    huge = {":h": {"S": "x" * 410_000}, ":a": {"N": "2"}}
    assert _code(lambda: table.update("never", "SET a = :a, huge = :h", huge))[0] == "ValidationException"
    assert table.get("never") is None
    table.put({"id": {"S": "kept"}, "a": {"N": "1"}})
    assert _code(lambda: table.update("kept", "SET a = :a, huge = :h", huge))[0] == "ValidationException"
    assert table.get("kept") == {"id": {"S": "kept"}, "a": {"N": "1"}}


def test_a_sparse_index_in_order_and_in_pages(table: Table) -> None:
    for number in range(25):
        table.put({"id": {"S": f"m{number}"}, "shard": {"S": "0"}, "at": {"N": str(5 * number)}, "rest": {"S": "x"}})
    table.put({"id": {"S": "without"}, "shard": {"S": "0"}})
    found: list[str] = []
    start: dict[str, Any] = {}
    while True:
        page = table.query(Limit=7, ScanIndexForward=False, **start)
        assert all(set(item) == {"id", "shard", "at"} for item in page["Items"])
        found += [item["id"]["S"] for item in page["Items"]]
        if "LastEvaluatedKey" not in page:
            break
        assert set(page["LastEvaluatedKey"]) == {"id", "shard", "at"}
        start = {"ExclusiveStartKey": page["LastEvaluatedKey"]}
    assert found == [f"m{number}" for number in range(24, -1, -1)]
    table.update("m3", "REMOVE #at", ExpressionAttributeNames={"#at": "at"})
    assert table.query(Select="COUNT")["Count"] == 24


def test_a_range_may_begin_at_zero(table: Table) -> None:
    table.put({"id": {"S": "zero"}, "a": {"N": "0"}})
    bounds = {":low": {"N": "0"}, ":high": {"N": "5"}}
    table.update("zero", "SET b = :high", bounds, ConditionExpression="a BETWEEN :low AND :high")
    assert table.get("zero")["b"] == {"N": "5"}


def test_what_dynamodb_refuses_is_refused(table: Table) -> None:
    table.put({"id": {"S": "strict"}, "n": {"N": "1"}})
    refused = "ValidationException"
    assert _code(lambda: table.update("strict", "SET status = :s", {":s": {"S": "x"}}))[0] == refused
    assert _code(lambda: table.update("strict", "SET a = :a", {":a": {"S": "x"}, ":b": {"S": "x"}}))[0] == refused
    assert _code(lambda: table.put({"id": {"S": "x"}, "shard": {"S": "0"}, "at": {"S": "text"}}))[0] == refused
    unused = {"ExpressionAttributeValues": {":a": {"S": "x"}}, "ConditionExpression": "attribute_not_exists(id)"}
    assert _code(lambda: table.put({"id": {"S": "x"}}, **unused))[0] == refused
    assert table.get("x") is None
    # A comparison of different types is false, not a failure.
    condition = {"ConditionExpression": "n < :t"}
    assert _code(lambda: table.update("strict", "SET a = :t", {":t": {"S": "x"}}, **condition))[0] == (
        "ConditionalCheckFailedException"
    )


def test_the_tables_settings(table: Table) -> None:
    client, name = table.client, table.name
    client.update_time_to_live(TableName=name, TimeToLiveSpecification={"Enabled": True, "AttributeName": "expires"})
    ttl = client.describe_time_to_live(TableName=name)["TimeToLiveDescription"]
    assert ttl == {"TimeToLiveStatus": "ENABLED", "AttributeName": "expires"}
    recovery = {"PointInTimeRecoveryEnabled": True}
    client.update_continuous_backups(TableName=name, PointInTimeRecoverySpecification=recovery)
    backups = client.describe_continuous_backups(TableName=name)["ContinuousBackupsDescription"]
    assert backups["PointInTimeRecoveryDescription"]["PointInTimeRecoveryStatus"] == "ENABLED"
    assert _code(lambda: client.delete_table(TableName=name))[0] == "ValidationException"
    assert client.describe_table(TableName=name)["Table"]["TableStatus"] == "ACTIVE"


def test_units_are_answered_and_logged(table: Table) -> None:
    wanted = {"ReturnConsumedCapacity": "INDEXES"}
    item = {"id": {"S": "paid"}, "shard": {"S": "1"}, "at": {"N": "1"}, "text": {"S": "x" * 1500}}
    paid = table.put(item, **wanted)["ConsumedCapacity"]
    assert (paid["CapacityUnits"], paid["Table"]["CapacityUnits"]) == (3, 2)
    assert paid["GlobalSecondaryIndexes"] == {"due": {"CapacityUnits": 1}}
    moved = table.update("paid", "SET #at = :n", {":n": {"N": "2"}}, ExpressionAttributeNames={"#at": "at"}, **wanted)
    assert moved["ConsumedCapacity"]["CapacityUnits"] == 4
    assert "Attributes" not in moved
    read = table.client.get_item(TableName=table.name, Key={"id": {"S": "paid"}}, ReturnConsumedCapacity="TOTAL")
    assert read["ConsumedCapacity"]["CapacityUnits"] == 0.5
    condition = {"ConditionExpression": "attribute_not_exists(id)"}
    assert _code(lambda: table.put(item, **condition))[0] == "ConditionalCheckFailedException"

    def logged() -> Any:
        return [line for line in table.stack.lines("dynamodb", "PutItem", TableName=table.name) if line["error"]][-1:]

    assert eventually(logged)[0]["params"]["WriteUnits"] == 2


def test_a_batch_get_may_leave_keys_unprocessed(table: Table, faults: Stack) -> None:
    for key in ("b1", "b2", "b3"):
        table.put({"id": {"S": key}})
    keys = [{"id": {"S": key}} for key in ("b1", "b2", "b3")]
    faults.fault(service="dynamodb", operation="BatchGetItem", action="partial", entries=[0, 2])
    answer = table.client.batch_get_item(RequestItems={table.name: {"Keys": keys}})
    assert answer["Responses"][table.name] == [{"id": {"S": "b2"}}]
    assert answer["UnprocessedKeys"][table.name]["Keys"] == [keys[0], keys[2]]
    again = table.client.batch_get_item(RequestItems=answer["UnprocessedKeys"])
    assert len(again["Responses"][table.name]) == 2
    assert again["UnprocessedKeys"] == {}
