"""POST /messages/{id}/redeliver: open the next life of a message that ended undelivered."""

from handlers.runtime import bootstrap
from handlers.runtime.http import Answer, Request, answer, endpoint
from handlers.runtime.schemas import check
from handlers.runtime.views import summary

MAX_BODY = 16_384


@endpoint
def handler(request: Request) -> Answer:
    """Redeliver; the body may give the new life's length."""
    body = check("redelivery", request.json(MAX_BODY)) if request.body else {}
    expires_in = body.get("expires_in")
    record = bootstrap.redeliverer().redeliver(request.message_id, None if expires_in is None else int(expires_in))
    return answer(202, summary(record))
