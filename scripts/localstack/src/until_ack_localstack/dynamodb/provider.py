"""The DynamoDB provider: moto's tables behind one lock, with units by AWS's rules.

moto's tables are plain dictionaries, and two requests at once could both find a condition true. So every operation runs
alone, and a write that fails half-way leaves no trace.
"""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable, Mapping
from typing import Any

from localstack.aws.api import CommonServiceException, RequestContext, handler
from localstack.aws.api.dynamodb import DynamodbApi
from localstack.services.moto import MotoFallbackDispatcher, call_moto, call_moto_with_request
from localstack.services.plugins import Service

from until_ack_localstack import batches, recorder
from until_ack_localstack.dynamodb import expressions, sizes

_lock = threading.RLock()

_Request = dict[str, Any]
_Response = dict[str, Any]
_Handler = Callable[[RequestContext, Any], Any]


class MotoDynamoDb(DynamodbApi):
    """Leaves every operation to moto, and puts right what moto gets wrong."""

    @handler("PutItem", expand=False)
    def put_item(self, context: RequestContext, request: _Request) -> _Response:
        """Put one item."""
        table = _Table(context, request["TableName"])
        table.check_key_types(request["Item"])
        return self._write(context, request, table, table.key_of(request["Item"]))

    @handler("UpdateItem", expand=False)
    def update_item(self, context: RequestContext, request: _Request) -> _Response:
        """Update one item."""
        table = _Table(context, request["TableName"])
        response = self._write(context, request, table, request["Key"])
        if request.get("ReturnValues") == "UPDATED_NEW" and request.get("UpdateExpression"):
            response["Attributes"] = expressions.updated(request, table.item(request["Key"]) or {})
        if request.get("ReturnValues", "NONE") == "NONE":
            response.pop("Attributes", None)
        return response

    @handler("DeleteItem", expand=False)
    def delete_item(self, context: RequestContext, request: _Request) -> _Response:
        """Delete one item."""
        return self._write(context, request, _Table(context, request["TableName"]), request["Key"])

    @handler("GetItem", expand=False)
    def get_item(self, context: RequestContext, request: _Request) -> _Response:
        """Read one item."""
        _refuse_unused(request)
        response = call_moto(context)
        table = _Table(context, request["TableName"])
        size = sizes.item_bytes(table.item(request["Key"]))
        units = sizes.read_units([size], consistent=bool(request.get("ConsistentRead")), together=False)
        recorder.add(context, {"ReadUnits": units, "ItemBytes": size})
        return _with_capacity(request, response, {"TableName": table.name, "CapacityUnits": units})

    @handler("Query", expand=False)
    def query(self, context: RequestContext, request: _Request) -> _Response:
        """Read the items of one hash key, from the table or from an index."""
        _refuse_unused(request)
        response = call_moto(context)
        table = _Table(context, request["TableName"])
        index = table.indexes.get(request.get("IndexName") or "")
        read = [table.item(table.key_of(item)) for item in response.get("Items") or () if table.has_key(item)]
        each = [sizes.item_bytes(index.entry(item) if index else item) for item in read]
        if each and response.get("ScannedCount", 0) > len(each):
            # A filter hides what it drops, and it is paid for: take the others to be as large on average.
            each.append((response["ScannedCount"] - len(each)) * sum(each) // len(each))
        units = sizes.read_units(each, consistent=bool(request.get("ConsistentRead")), together=True)
        recorder.add(context, {"ReadUnits": units, "ScannedCount": response.get("ScannedCount", 0)})
        return _with_capacity(request, response, {"TableName": table.name, "CapacityUnits": units})

    @handler("BatchGetItem", expand=False)
    def batch_get_item(self, context: RequestContext, request: _Request) -> _Response:
        """Read up to a hundred items; a fault may leave some unprocessed."""
        held = batches.unprocessed(context)
        wanted = {
            name: table | {"Keys": [key for key in table["Keys"] if (name, key) not in held]}
            for name, table in request["RequestItems"].items()
        }
        left = {
            name: table | {"Keys": [key for key in table["Keys"] if (name, key) in held]}
            for name, table in request["RequestItems"].items()
        }
        if any(table["Keys"] for table in wanted.values()):
            asked = {name: table for name, table in wanted.items() if table["Keys"]}
            smaller = request | {"RequestItems": asked}
            response = call_moto_with_request(context, smaller) if held else call_moto(context)
        else:
            response = {"Responses": {name: [] for name in wanted}}
        capacity = []
        for name, keys in wanted.items():
            table = _Table(context, name)
            each = [sizes.item_bytes(table.item(key)) for key in keys["Keys"]]
            units = sizes.read_units(each, consistent=bool(keys.get("ConsistentRead")), together=False)
            capacity.append({"TableName": table.name, "CapacityUnits": units})
        recorder.add(context, {"ReadUnits": sum(entry["CapacityUnits"] for entry in capacity)})
        response["UnprocessedKeys"] = {name: table for name, table in left.items() if table["Keys"]}
        return _with_capacity(request, response, capacity)

    @handler("BatchWriteItem", expand=False)
    def batch_write_item(self, context: RequestContext, request: _Request) -> _Response:
        """Put and delete up to 25 items."""
        tables = request["RequestItems"].items()
        return self._write_many(context, [(name, _batch_key(write)) for name, writes in tables for write in writes], 1)

    @handler("TransactWriteItems", expand=False)
    def transact_write_items(self, context: RequestContext, request: _Request) -> _Response:
        """Write up to a hundred items, all or none."""
        actions = [next(iter(action.values())) for action in request["TransactItems"]]
        return self._write_many(context, [(a["TableName"], a.get("Key") or a.get("Item")) for a in actions], 2)

    def _write(self, context: RequestContext, request: _Request, table: _Table, key: sizes.Item) -> _Response:
        _refuse_unused(request)
        old = table.item(key)
        try:
            response = call_moto(context)
        except Exception:
            table.restore(key, old)
            recorder.add(context, {"WriteUnits": sizes.write_units(old, None), "ItemBytes": sizes.item_bytes(old)})
            raise
        new = table.item(key)
        units, per_index = sizes.write_units(old, new), table.index_units(old, new)
        in_indexes, size = sum(per_index.values()), sizes.item_bytes(new or old)
        total = units + in_indexes
        recorder.add(context, {"WriteUnits": total, "IndexWriteUnits": in_indexes, "ItemBytes": size})
        capacity: dict[str, Any] = {"TableName": table.name, "CapacityUnits": float(total)}
        if request.get("ReturnConsumedCapacity") == "INDEXES":
            capacity["Table"] = {"CapacityUnits": float(units)}
            changed = {name: {"CapacityUnits": float(cost)} for name, cost in per_index.items() if cost}
            if changed:
                capacity["GlobalSecondaryIndexes"] = changed
        return _with_capacity(request, response, capacity)

    def _write_many(self, context: RequestContext, targets: list[tuple[str, sizes.Item]], factor: int) -> _Response:
        tables = {name: _Table(context, name) for name, _ in targets}
        keys = [(tables[name], tables[name].key_of(item)) for name, item in targets]
        before = [table.item(key) for table, key in keys]
        response: _Response = call_moto(context)
        units = 0
        for (table, key), old in zip(keys, before, strict=True):
            new = table.item(key)
            units += sizes.write_units(old, new) + sum(table.index_units(old, new).values())
        recorder.add(context, {"WriteUnits": units * factor})
        return response


class _Table:
    """A table of moto's, as far as the provider needs it."""

    def __init__(self, context: RequestContext, name: str) -> None:
        from moto.dynamodb.models import dynamodb_backends

        self.name = name.rpartition("/")[2]
        self._backend = dynamodb_backends[context.account_id][context.region]
        self._table = self._backend.tables.get(self.name)
        self._keys = [k["AttributeName"] for k in self._table.schema] if self._table is not None else []

    @property
    def indexes(self) -> dict[str, sizes.Index]:
        """The global secondary indexes by name."""
        if self._table is None:
            return {}
        return {index.name: self._index(index) for index in self._table.global_indexes}

    def _index(self, index: Any) -> sizes.Index:
        keys = tuple(key["AttributeName"] for key in index.schema)
        projection = index.projection or {}
        kind = projection.get("ProjectionType", "ALL")
        extra = projection.get("NonKeyAttributes") or [] if kind == "INCLUDE" else []
        projected = None if kind == "ALL" else frozenset([*keys, *self._keys, *extra])
        return sizes.Index(index.name, keys, projected)

    def has_key(self, item: Mapping[str, Any]) -> bool:
        """Return whether the whole key is there."""
        return all(name in item for name in self._keys)

    def key_of(self, item: Mapping[str, Any]) -> dict[str, Any]:
        """Return the item's key, or what there is of it."""
        return {name: item[name] for name in self._keys if name in item}

    def item(self, key: Mapping[str, Any]) -> dict[str, Any] | None:
        """Return a copy of the item with this key."""
        found = self._found(key)
        return copy.deepcopy(found.to_json()["Attributes"]) if found is not None else None

    def restore(self, key: Mapping[str, Any], old: dict[str, Any] | None) -> None:
        """Bring back the item as it was before a write that failed."""
        found = self._found(key)
        if found is None or found.to_json()["Attributes"] == old:
            return
        self._backend.delete_item(self.name, dict(key))
        if old is not None:
            self._backend.put_item(self.name, old)

    def index_units(self, old: sizes.Item | None, new: sizes.Item | None) -> dict[str, int]:
        """Return what a write costs in each index."""
        return {name: sizes.index_write_units(index, old, new) for name, index in self.indexes.items()}

    def check_key_types(self, item: Mapping[str, Any]) -> None:
        """Refuse an index key of another type than the table's definition says, as DynamoDB does."""
        types = {a["AttributeName"]: a["AttributeType"] for a in self._table.attr} if self._table is not None else {}
        for index in self.indexes.values():
            for name in index.keys:
                actual = next(iter(item[name])) if name in item else types.get(name)
                if actual != types.get(name):
                    raise CommonServiceException(
                        "ValidationException",
                        "One or more parameter values were invalid: Type mismatch for Index Key "
                        f"{name} Expected: {types[name]} Actual: {actual} IndexName: {index.name}",
                    )

    def _found(self, key: Mapping[str, Any]) -> Any:
        if self._table is None or not self.has_key(key):
            return None
        try:
            return self._backend.get_item(self.name, dict(key))
        except Exception:
            # A key that cannot be looked up has no item; the operation itself says what is wrong with it.
            return None


def _batch_key(write: Mapping[str, Any]) -> Any:
    return write["PutRequest"]["Item"] if "PutRequest" in write else write["DeleteRequest"]["Key"]


def _refuse_unused(request: _Request) -> None:
    if complaint := expressions.unused(request):
        raise CommonServiceException("ValidationException", complaint)


def _with_capacity(request: _Request, response: _Response, capacity: Any) -> _Response:
    response.pop("ConsumedCapacity", None)
    if request.get("ReturnConsumedCapacity", "NONE") != "NONE":
        response["ConsumedCapacity"] = capacity
    return response


def _serialised(operation: _Handler) -> _Handler:
    def call(context: RequestContext, request: Any) -> Any:
        with _lock:
            return operation(context, request)

    return call


def _dispatch_table(provider: object) -> dict[str, _Handler]:
    return {name: _serialised(operation) for name, operation in MotoFallbackDispatcher(provider).items()}


def _let_types_differ() -> None:
    """DynamoDB finds a comparison of different types false, where moto fails; and it takes zero for a value."""
    from moto.dynamodb import comparisons

    def between(self: Any, item: Any) -> bool:
        start, value, end = self.start.expr(item), self.attr.expr(item), self.end.expr(item)
        return None not in (start, value, end) and start <= value <= end

    comparisons.FuncBetween.expr = between
    names = ("OpLessThan", "OpLessThanOrEqual", "OpGreaterThan", "OpGreaterThanOrEqual", "FuncBetween")
    for operation in (getattr(comparisons, name) for name in names):
        original = operation.expr

        def compare(self: Any, item: Any, _original: Any = original) -> bool:
            try:
                return bool(_original(self, item))
            except TypeError:
                return False

        operation.expr = compare


def service() -> Service:
    """Return the service that LocalStack puts in the place of its own."""
    _let_types_differ()
    return Service.for_provider(MotoDynamoDb(), dispatch_table_factory=_dispatch_table)
