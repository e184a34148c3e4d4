"""GET /messages, GET /messages/{id} and DELETE /messages/{id}: read, list, cancel."""

from datetime import datetime

from handlers.delivery.errors import Invalid
from handlers.delivery.managing import MAX_PAGE
from handlers.runtime import bootstrap
from handlers.runtime.http import Answer, Request, answer, endpoint
from handlers.runtime.views import detail, summary

_KNOWN = frozenset({"status", "target", "since", "limit", "cursor"})


@endpoint
def handler(request: Request) -> Answer:
    """Answer with one message, a page of them, or a cancelled one."""
    if request.route == "GET /messages":
        return _page(request)
    if request.route == "DELETE /messages/{id}":
        return answer(200, detail(bootstrap.registrar().cancel(request.message_id)))
    return answer(200, detail(bootstrap.registrar().get(request.message_id)))


def _page(request: Request) -> Answer:
    query = request.query
    if unknown := sorted(query.keys() - _KNOWN):
        raise Invalid(unknown[0], query[unknown[0]], f"one of {', '.join(sorted(_KNOWN))}")
    page = bootstrap.registrar().page(
        query.get("status"), query.get("target"), _since(query.get("since")), _limit(query.get("limit")),
        query.get("cursor"),
    )  # fmt: skip
    return answer(200, {"messages": [summary(record) for record in page.records], "next_cursor": page.cursor})


def _since(text: str | None) -> int:
    if text is None:
        return 0
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        moment = None
    if moment is None or moment.tzinfo is None:
        raise Invalid("since", text, "a time in ISO 8601 with an offset, such as 2026-01-31T12:00:00Z")
    return max(0, int(moment.timestamp() * 1000))


def _limit(text: str | None) -> int:
    if text is None:
        return MAX_PAGE
    if not (text.isascii() and text.isdigit() and len(text) <= 9 and 1 <= int(text) <= MAX_PAGE):
        raise Invalid("limit", text, f"a whole number from 1 to {MAX_PAGE}")
    return int(text)
