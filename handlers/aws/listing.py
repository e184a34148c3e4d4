"""Pages through the sharded, keys-only indexes, merged in order."""

import base64
import binascii
import heapq
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from handlers.aws.errors import mapped
from handlers.aws.items import wire
from handlers.delivery.errors import Invalid
from handlers.delivery.message import is_message_id

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient


@dataclass(frozen=True, slots=True)
class Place:
    """Where a message stands in an index."""

    order: int
    message_id: str
    partition: str


@dataclass(frozen=True, slots=True)
class Listing:
    """One index, read in the order of its range key."""

    client: "DynamoDBClient"
    table: str
    index: str
    partition_key: str
    order_key: str
    forward: bool

    def upto(self, partition: str, last: int, limit: int) -> Sequence[Place]:
        """The first places of a partition whose order is at most `last`."""
        return self._query(partition, "<=", last, limit, None)

    def page(
        self, partitions: Sequence[str], since: int, limit: int, cursor: str | None
    ) -> tuple[Sequence[Place], str | None]:
        """The next `limit` places over all partitions, and the cursor behind them.

        The cursor keeps one place a partition. Raises `Invalid` for a cursor that is not one of ours.
        """
        starts = _read_cursor(cursor, partitions)
        found = [self._query(p, ">=", since, limit, starts.get(p)) for p in partitions]
        merged = heapq.merge(*found, key=lambda place: place.order if self.forward else -place.order)
        places = [place for place, _ in zip(merged, range(limit), strict=False)]
        seen = {**starts, **{place.partition: place for place in places}}
        more = sum(map(len, found)) > len(places) or any(len(f) == limit for f in found)
        return places, _write_cursor(seen) if more else None

    def _query(self, partition: str, operator: str, bound: int, limit: int, start: Place | None) -> Sequence[Place]:
        request: dict[str, Any] = {
            "TableName": self.table,
            "IndexName": self.index,
            "KeyConditionExpression": f"#p = :p AND #o {operator} :o",
            "ExpressionAttributeNames": {"#p": self.partition_key, "#o": self.order_key},
            "ExpressionAttributeValues": {":p": wire(partition), ":o": wire(bound)},
            "ScanIndexForward": self.forward,
            "Limit": limit,
        }
        if start is not None:
            request["ExclusiveStartKey"] = self._key(start)
        with mapped("dynamodb"):
            items = self.client.query(**request)["Items"]
        return [Place(int(i[self.order_key]["N"]), i["id"]["S"], partition) for i in items]

    def _key(self, place: Place) -> Mapping[str, Any]:
        return {
            "id": wire(place.message_id),
            self.partition_key: wire(place.partition),
            self.order_key: wire(place.order),
        }


def _write_cursor(seen: Mapping[str, Place]) -> str:
    text = json.dumps([[p, place.order, place.message_id] for p, place in sorted(seen.items())])
    return base64.urlsafe_b64encode(text.encode()).decode()


def _read_cursor(cursor: str | None, partitions: Sequence[str]) -> dict[str, Place]:
    if cursor is None:
        return {}
    try:
        rows = json.loads(base64.urlsafe_b64decode(cursor))
        places = {p: Place(order, message_id, p) for p, order, message_id in rows}
        genuine = all(
            p in partitions and _is_time(place.order) and is_message_id(place.message_id) for p, place in places.items()
        )
    except (ValueError, TypeError, AttributeError, RecursionError, binascii.Error):
        genuine = False
    if not genuine:
        raise Invalid("cursor", cursor, "the next_cursor of the page before, for the same query")
    return places


def _is_time(value: object) -> bool:
    # DynamoDB refuses numbers of more than 38 digits.
    return type(value) is int and 0 <= value < 1 << 53
