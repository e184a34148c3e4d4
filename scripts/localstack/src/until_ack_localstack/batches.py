"""Entries of a batch that fail while the others go through."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from localstack.aws.api import RequestContext
from localstack.aws.protocol.serializer import create_serializer
from localstack.http import Response

_HELD = "until_ack_held"
# Operation: (list of the request, list of the answer).
_LISTS = {
    "SendMessageBatch": "Entries",
    "DeleteMessageBatch": "Entries",
    "ChangeMessageVisibilityBatch": "Entries",
    "PublishBatch": "PublishBatchRequestEntries",
    "PutEvents": "Entries",
}
_CODE = "InternalError"
_MESSAGE = "a fault that was asked for"


def hold_back(context: RequestContext, indexes: list[int] | None) -> None:
    """Take entries out of a request; without indexes, all but the first, or the only one."""
    operation, request = context.operation.name, context.service_request
    if operation == "BatchGetItem":
        setattr(context, _HELD, _chosen(_keys(request), indexes))
    elif operation in _LISTS:
        name = _LISTS[operation]
        held = _chosen(list(enumerate(request[name])), indexes)
        numbers = {number for number, _ in held}
        request[name] = [entry for number, entry in enumerate(request[name]) if number not in numbers]
        setattr(context, _HELD, held)


def report(context: RequestContext, response: Response) -> None:
    """Name the entries that were taken out as failed in the answer."""
    held = getattr(context, _HELD, None)
    if not held or context.service_response is None or context.operation.name == "BatchGetItem":
        return
    answer = dict(context.service_response)
    if context.operation.name == "PutEvents":
        entries = list(answer.get("Entries") or ())
        for number, _ in held:
            entries.insert(number, {"ErrorCode": _CODE, "ErrorMessage": _MESSAGE})
        answer |= {"Entries": entries, "FailedEntryCount": (answer.get("FailedEntryCount") or 0) + len(held)}
    else:
        failed = [{"Id": e["Id"], "Code": _CODE, "Message": _MESSAGE, "SenderFault": False} for _, e in held]
        answer["Failed"] = [*(answer.get("Failed") or ()), *failed]
        answer.setdefault("Successful", [])
    context.service_response = answer
    serializer = create_serializer(context.service, context.protocol)
    response.update_from(
        serializer.serialize_to_response(answer, context.operation, context.request.headers, context.request_id)
    )


def unprocessed(context: RequestContext) -> list[tuple[str, dict[str, Any]]]:
    """Return the keys that a BatchGetItem is not to process: (table, key)."""
    return getattr(context, _HELD, None) or []


def _keys(request: Mapping[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    return [(table, key) for table, wanted in request["RequestItems"].items() for key in wanted["Keys"]]


def _chosen(entries: list[Any], indexes: list[int] | None) -> list[Any]:
    if indexes is None:
        return entries[1:] or entries
    return [entries[index] for index in indexes if index < len(entries)]
