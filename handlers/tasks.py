"""POST /internal/tasks and its outcome: what workers do that pull from the activity."""

import base64
import hashlib
import json

from handlers.delivery.attempting import Busy
from handlers.delivery.channel import Kind, Outcome
from handlers.delivery.errors import Conflict, Invalid, NotFound, Unavailable, Unreadable
from handlers.delivery.jobs import parse_task
from handlers.runtime import bootstrap
from handlers.runtime.http import Answer, Request, answer, endpoint
from handlers.runtime.schemas import check

MAX_BODY = 16_384


@endpoint
def handler(request: Request) -> Answer:
    """Claim an attempt for a worker (200, or 409), or record how it went."""
    if request.route == "POST /internal/tasks":
        return _take(request)
    body = check("outcome", request.json(MAX_BODY))
    courier = bootstrap.courier()
    record = courier.store.get(request.message_id)
    if record is None:
        raise NotFound
    if (record.attempt, record.claim) != (int(body["attempt"]), body["claim"]):
        raise _not_now()
    kind, retry_after = Kind(body["kind"]), body.get("retry_after")
    courier.finish(record, Outcome(kind, body["reason"], int(body["latency_ms"]), body.get("http_status"), retry_after))
    after = courier.store.get(record.id) or record
    return answer(200, {"id": after.id, "status": str(after.status)})


def _not_now() -> Conflict:
    return Conflict("not-now", "this attempt is not to be made now")


def _take(request: Request) -> Answer:
    body = check("task", request.json(MAX_BODY))
    courier = bootstrap.courier()
    # The same for a repeated request, whose first answer was lost.
    claim = base64.urlsafe_b64encode(hashlib.sha256(body["token"].encode()).digest()[:9]).decode()
    try:
        record = courier.take(parse_task(json.dumps(body["job"]), body["token"])[0], claim)
    except Unreadable as error:
        raise Invalid("job", body["job"], f"a task's input: {error.reason}") from None
    except Busy:
        raise Unavailable("tasks", "Busy") from None
    if record is None:
        raise _not_now()
    parcel = courier.parcel(record)
    sent = {"message_id": record.id, "attempt": record.attempt, "claim": record.claim, "target": record.target,
            "content_type": parcel.content_type, "payload": base64.b64encode(parcel.payload).decode(),
            "ack_url": parcel.ack_url, "nack_url": parcel.nack_url, "lease_seconds": courier.lease // 1000}  # fmt: skip
    return answer(200, sent)
