"""POST /messages and POST /messages/batch: take messages in."""

from typing import Any

from handlers.delivery.errors import Invalid
from handlers.delivery.submitting import Accepted
from handlers.delivery.telling import iso
from handlers.runtime import bootstrap
from handlers.runtime.http import Answer, Request, answer, endpoint, problem_of
from handlers.runtime.schemas import check

MAX_BODY = 5_000_000
"""Bytes. Lambda takes 6 MB, of which the proxy event around the body needs a part."""


@endpoint
def handler(request: Request) -> Answer:
    """Accept one message (202, or 200 for a repeat) or judge each of a batch by itself (200)."""
    body = request.json(MAX_BODY)
    if request.route == "POST /messages/batch":
        results = bootstrap.intake().accept(_checked(check("batch", body)["messages"]), request.caller)
        return answer(200, {"results": [{"index": i, **_item(result)} for i, result in enumerate(results)]})
    result = bootstrap.intake().accept([check("message", body)], request.caller)[0]
    if not isinstance(result, Accepted):
        raise result
    return answer(_status(result), _accepted(result), location=f"/messages/{result.record.id}")


def _checked(messages: list[dict[str, Any]]) -> list[dict[str, Any] | Invalid]:
    return [_check(message) for message in messages]


def _check(message: dict[str, Any]) -> dict[str, Any] | Invalid:
    try:
        checked: dict[str, Any] = check("message", message)
    except Invalid as error:
        return error
    return checked


def _item(result: Accepted | Exception) -> dict[str, Any]:
    if isinstance(result, Accepted):
        return {"code": _status(result), **_accepted(result)}
    problem = problem_of(result)
    return {"code": problem["status"], "problem": problem}


def _status(result: Accepted) -> int:
    return 200 if result.repeated else 202


def _accepted(result: Accepted) -> dict[str, Any]:
    record = result.record
    times = {"created_at": iso(record.created_at), "expires_at": iso(record.expires_at), "due_at": iso(record.due_at)}
    return {"id": record.id, "status": str(record.status), **times}
