"""POST /internal/attempts: an execution asks for its next attempt."""

from handlers.delivery.asking import Ask
from handlers.runtime import bootstrap
from handlers.runtime.http import Answer, Request, answer, endpoint
from handlers.runtime.schemas import check

MAX_BODY = 16_384


@endpoint
def handler(request: Request) -> Answer:
    """Say how long to wait, and with which index to ask then; 410 when there is nothing more to ask for."""
    body = check("ask", request.json(MAX_BODY))
    ask = Ask(body["message_id"], int(body["life"]), int(body["from"]), int(body["index"]), body["delays"])
    following = bootstrap.dispatcher().dispatch(ask)
    return answer(200, {"wait": following.wait, "index": following.index})
