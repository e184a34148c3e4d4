"""The handlers that let faults act on requests, and the endpoint by which tests set them."""

from __future__ import annotations

import time
from typing import Any

from localstack.aws.api import CommonServiceException, RequestContext
from localstack.aws.chain import HandlerChain
from localstack.aws.protocol.serializer import create_serializer
from localstack.http import Request as HttpRequest
from localstack.http import Resource, Response
from localstack.services.edge import ROUTER

from until_ack_localstack import batches, callers, connections, recorder
from until_ack_localstack.faults import Fault, InvalidFaultError, Request, faults, kill

PATH = "/_until-ack/faults"


def before(chain: HandlerChain, context: RequestContext, response: Response) -> None:
    """Request handler: let go wrong what goes wrong before a request takes effect."""
    for fault in _acting(context, "before"):
        if fault.action == "partial":
            batches.hold_back(context, fault.entries)
            continue
        if _act(fault, context):
            raise _exception(fault)
        if fault.action in ("kill", "drop"):
            connections.mark(context)
            chain.respond(503)
            return


def after(_: HandlerChain, context: RequestContext, response: Response) -> None:
    """Response handler: let go wrong what goes wrong when it has."""
    batches.report(context, response)
    for fault in _acting(context, "after"):
        if _act(fault, context):
            _answer_with_error(fault, context, response)
        if fault.action in ("kill", "drop"):
            connections.mark(context)


def _acting(context: RequestContext, when: str) -> list[Fault]:
    if context.service is None or context.operation is None:
        return []
    environment = callers.environment_of(callers.access_key_of(context.request.headers, context.request.args))
    acting = faults.take(
        Request(
            context.service.service_name,
            context.operation.name,
            environment.function if environment else None,
            context.service_request or {},
            context.is_internal_call,
        ),
        when,
    )
    for fault in acting:
        recorder.mark(context, fault.action)
    return acting


def _act(fault: Fault, context: RequestContext) -> bool:
    """Do what needs no answer; return whether an error is the answer."""
    if fault.action == "hold":
        time.sleep(fault.seconds)
    elif fault.action == "kill":
        environment = callers.environment_of(callers.access_key_of(context.request.headers, context.request.args))
        kill(environment.pid() if environment else None)
    return fault.action == "error"


def _exception(fault: Fault) -> CommonServiceException:
    return CommonServiceException(
        str(fault.error.get("code", "InternalError")),
        str(fault.error.get("message", "a fault that was asked for")),
        status_code=int(fault.error.get("status", 500)),
    )


def _answer_with_error(fault: Fault, context: RequestContext, response: Response) -> None:
    error = _exception(fault)
    context.service_exception = error
    serializer = create_serializer(context.service, context.protocol)
    response.update_from(
        serializer.serialize_error_to_response(error, context.operation, context.request.headers, context.request_id)
    )


class _Collection:
    def on_get(self, _: HttpRequest) -> Any:
        return {"faults": faults.all()}

    def on_post(self, request: HttpRequest) -> Any:
        try:
            fault = faults.add(request.get_json(force=True, silent=True))
        except InvalidFaultError as error:
            return _json({"message": str(error)}, 400)
        return _json({"id": fault.id}, 201)

    def on_delete(self, _: HttpRequest) -> Any:
        faults.clear()
        return Response(status=204)


class _One:
    def on_delete(self, _: HttpRequest, number: str) -> Any:
        if faults.clear(number):
            return Response(status=204)
        return _json({"message": f"no fault {number}"}, 404)


def _json(document: dict[str, Any], status: int) -> Response:
    response = Response(status=status)
    response.set_json(document)
    return response


def serve() -> None:
    """Add the endpoint to LocalStack's own."""
    ROUTER.add(Resource(PATH, _Collection()))
    ROUTER.add(Resource(f"{PATH}/<number>", _One()))
