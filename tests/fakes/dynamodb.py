"""The messages table as Terraform makes it, on moto."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import boto3
from moto import mock_aws

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient
    from mypy_boto3_dynamodb.type_defs import AttributeDefinitionTypeDef, GlobalSecondaryIndexTypeDef

REGION = "eu-central-1"
_INDEXES = {
    "overdue": ("sweep_shard", "sweep_at"),
    "undelivered": ("undelivered_shard", "ended_at"),
    "by-target": ("target_hash", "created_at"),
}


@contextmanager
def moto_dynamodb() -> Iterator["DynamoDBClient"]:
    """A client of a DynamoDB of one's own, that needs neither network nor credentials."""
    with mock_aws():
        yield boto3.client(
            "dynamodb",
            region_name=REGION,
            aws_access_key_id="test",
            aws_secret_access_key="test",
        )


def create_table(client: "DynamoDBClient", name: str) -> None:
    """Make the messages table with its indexes."""
    indexes: list[GlobalSecondaryIndexTypeDef] = [
        {
            "IndexName": index,
            "KeySchema": [
                {"AttributeName": partition, "KeyType": "HASH"},
                {"AttributeName": order, "KeyType": "RANGE"},
            ],
            "Projection": {"ProjectionType": "KEYS_ONLY"},
        }
        for index, (partition, order) in _INDEXES.items()
    ]
    partitions = [partition for partition, _ in _INDEXES.values()]
    keys: list[AttributeDefinitionTypeDef] = [
        {"AttributeName": name, "AttributeType": "S"} for name in ("id", *partitions)
    ]
    orders: list[AttributeDefinitionTypeDef] = [
        {"AttributeName": order, "AttributeType": "N"} for _, order in _INDEXES.values()
    ]
    client.create_table(
        TableName=name,
        BillingMode="PAY_PER_REQUEST",
        KeySchema=[{"AttributeName": "id", "KeyType": "HASH"}],
        AttributeDefinitions=[*keys, *orders],
        GlobalSecondaryIndexes=indexes,
    )
