"""The handlers that write the request log, and what other parts add to the line of a request."""

from __future__ import annotations

import time
from typing import Any

from localstack.aws.api import RequestContext
from localstack.aws.chain import HandlerChain
from localstack.http import Response

from until_ack_localstack import callers, requestlog
from until_ack_localstack.params import params_of

_STARTED = "until_ack_started"
_EXTRA = "until_ack_params"
_FAULTS = "until_ack_faults"


def begin(_: HandlerChain, context: RequestContext, __: Response) -> None:
    """Request handler: note when the request came."""
    setattr(context, _STARTED, time.time())


def add(context: RequestContext, params: dict[str, Any]) -> None:
    """Add parameters to the line of this request."""
    setattr(context, _EXTRA, getattr(context, _EXTRA, {}) | params)


def mark(context: RequestContext, fault: str) -> None:
    """Note in the line of this request that a fault acted on it."""
    setattr(context, _FAULTS, [*getattr(context, _FAULTS, ()), fault])


def record(_: HandlerChain, context: RequestContext, response: Response) -> None:
    """Response handler: write the line."""
    if context.service is None or context.operation is None or not requestlog.enabled():
        return
    key = callers.access_key_of(context.request.headers, context.request.args)
    environment = callers.environment_of(key)
    service, operation = context.service.service_name, context.operation.name
    started = getattr(context, _STARTED, None) or time.time()
    now = time.time()
    params = params_of(service, operation, context.service_request or {}, context.service_response)
    line = {
        "t": round(started, 6),
        "service": service,
        "operation": operation,
        "caller": caller(context, key),
        "function": environment.function if environment else None,
        "internal": context.is_internal_call,
        "params": params | {"RequestBytes": context.request.content_length or 0} | getattr(context, _EXTRA, {}),
        "status": response.status_code,
        "error": getattr(context.service_exception, "code", None),
        "ms": round((now - started) * 1000, 2),
    }
    if getattr(context, _FAULTS, None):
        line["faults"] = getattr(context, _FAULTS)
    internal = context.internal_request_params
    if internal:
        line["for"] = internal.get("source_arn") or internal.get("service_principal")
    requestlog.write(line)


def caller(context: RequestContext, key: str | None) -> str:
    """Return the role that made the request; LocalStack itself is `localstack`, anybody else `user`.

    A state machine's requests are made under its own role.
    """
    internal = context.internal_request_params
    if internal is not None and internal.get("service_principal") != "states":
        return "localstack"
    identity = callers.identity_of(key) if key else None
    if internal is not None and (identity is None or identity.name == callers.USER):
        return "localstack"
    return identity.name if identity else callers.USER
