"""The sizes of events that Lambda takes."""

from __future__ import annotations

from localstack.aws.api import RequestContext
from localstack.aws.api.lambda_ import RequestTooLargeException
from localstack.aws.chain import HandlerChain
from localstack.http import Response

# The limit of an asynchronous event was 256 KiB until late in 2025; what keeps to that runs everywhere.
_MAX_BYTES = {"RequestResponse": 6 * 1024 * 1024, "Event": 256 * 1024}


def check(_: HandlerChain, context: RequestContext, __: Response) -> None:
    """Request handler: refuse an event that is too large."""
    if context.operation is None or context.service.service_name != "lambda" or context.operation.name != "Invoke":
        return
    kind = (context.service_request or {}).get("InvocationType") or "RequestResponse"
    size, limit = context.request.content_length or 0, _MAX_BYTES.get(kind)
    if limit is not None and size > limit:
        raise RequestTooLargeException(
            f"{size} byte payload is too large for the {kind} invocation type (limit {limit} bytes)", Type="User"
        )
