"""The target's answers: ACK, NACK, many at once, and the page that asks a person."""

from typing import Any

from handlers.delivery.answering import Answered
from handlers.delivery.capability import Capability
from handlers.delivery.errors import Forbidden, NotFound, Unavailable
from handlers.runtime import bootstrap
from handlers.runtime.http import Answer, Request, answer, endpoint, page, problem_of
from handlers.runtime.schemas import check
from handlers.runtime.views import ack_page, done_page, refused_page

MAX_ANSWER = 16_384
MAX_ACKS = 262_144


@endpoint
def handler(request: Request) -> Answer:
    """Answer for one message by its capability, or for up to 100 (POST /acks)."""
    if request.route == "POST /acks":
        items = check("acks", request.json(MAX_ACKS))["acks"]
        return answer(200, {"results": [{"index": i, **_item(item)} for i, item in enumerate(items)]})
    if request.route == "POST /messages/{id}/nack":
        capability = _admit(request)
        body = check("nack", request.json(MAX_ANSWER))
        return answer(200, _shape(_nack(capability, body)))
    asking = request.route.startswith("GET ")
    person = asking or "text/html" in request.headers.get("accept", "")
    try:
        capability = _admit(request)
    except Forbidden:
        if not person:
            raise
        return page(403, refused_page())
    if asking:
        return page(200, ack_page(capability.message_id, request.capability))
    request.at_most(MAX_ANSWER)
    answered = bootstrap.desk().ack(capability)
    return page(200, done_page(answered.message_id, answered.late)) if person else answer(200, _shape(answered))


def _admit(request: Request) -> Capability:
    return bootstrap.desk().admit(request.capability, request.path.get("id", ""))


def _item(item: dict[str, Any]) -> dict[str, Any]:
    try:
        capability = bootstrap.desk().admit(item["capability"])
        nack = item.get("nack")
        return {"code": 200, **_shape(bootstrap.desk().ack(capability) if nack is None else _nack(capability, nack))}
    except (Forbidden, NotFound, Unavailable) as error:
        return {"code": problem_of(error)["status"]}


def _nack(capability: Capability, body: dict[str, Any]) -> Answered:
    retry_after = body.get("retry_after")
    return bootstrap.desk().nack(capability, body["reason"], None if retry_after is None else int(retry_after))


def _shape(answered: Answered) -> dict[str, Any]:
    return {"id": answered.message_id, "status": str(answered.status), "late": answered.late}
