"""What LocalStack leaves out of a REST API: IAM authorisation, gateway responses, and the log of its requests."""

from __future__ import annotations

import json
import re
import time
from typing import Any

from localstack.http import Response

from until_ack_localstack import callers, requestlog
from until_ack_localstack.api import signature
from until_ack_localstack.importing import when_imported

_MAX_BYTES = 10 * 1024 * 1024
_STARTED = "until_ack_started"
_IDENTITY = "until_ack_identity"
_VARIABLE = re.compile(r"\$context\.((?:\w+\.)*\w+)")
_HEADER = "gatewayresponse.header."


def install() -> None:
    """Add to the gateway's handlers, before the first API is called."""
    execute_api = "localstack.services.apigateway.next_gen.execute_api"
    when_imported(f"{execute_api}.gateway", _change_gateway)
    when_imported(f"{execute_api}.handlers.gateway_exception", _change_errors)


def _change_gateway(module: Any) -> None:
    module.handlers.preprocess_request.append(authorise)
    gateway = module.RestApiGateway
    initialise = gateway.__init__

    def with_log(self: Any) -> None:
        initialise(self)
        self.request_handlers.insert(0, _begin)
        self.response_handlers.append(_record)

    gateway.__init__ = with_log


def _change_errors(module: Any) -> None:
    handler = module.GatewayExceptionHandler
    serialise = handler.create_exception_response

    def with_templates(self: Any, exception: Any, context: Any) -> Response:
        return _customised(serialise(self, exception, context), exception, context)

    handler.create_exception_response = with_templates


def authorise(_: Any, context: Any, __: Response) -> None:
    """Handler: let a method with AWS_IAM be called by signed requests only, and say who signed them."""
    from localstack.services.apigateway.next_gen.execute_api import gateway_response as errors

    body = context.invocation_request["body"] or b""
    if len(body) > _MAX_BYTES:
        raise errors.RequestTooLargeError("Request Too Long")
    if context.resource_method.get("authorizationType") != "AWS_IAM":
        return
    request = context.request
    header = request.headers.get("Authorization")
    if not header:
        raise errors.MissingAuthTokenError("Missing Authentication Token")
    authorization = signature.parse(header)
    if authorization is None:
        raise _incomplete(errors)
    identity = callers.identity_of(authorization.key)
    if identity is None:
        raise _unknown(errors)
    url = f"{request.scheme}://{request.host}{request.environ.get('RAW_URI') or request.full_path}"
    signed = signature.Signed(request.method, url, request.headers, body)
    try:
        signature.verify(signed, authorization, identity.secret, context.region)
    except signature.RefusedError as refusal:
        raise errors.InvalidSignatureError(str(refusal)) from None
    setattr(context, _IDENTITY, (authorization.key, identity))
    context.context_variables["identity"].update(
        accessKey=authorization.key,
        accountId=identity.account,
        caller=identity.user_id,
        user=identity.user_id,
        userArn=identity.arn,
    )


def _incomplete(errors: Any) -> Exception:
    error: Exception = errors.InvalidSignatureError("Authorization header is not one of Signature Version 4.")
    error.code = "IncompleteSignatureException"  # type: ignore[attr-defined]
    return error


def _unknown(errors: Any) -> Exception:
    error: Exception = errors.InvalidSignatureError("The security token included in the request is invalid.")
    error.code = "UnrecognizedClientException"  # type: ignore[attr-defined]
    return error


def _customised(response: Response, exception: Any, context: Any) -> Response:
    """Apply the API's own gateway response: its template and its headers."""
    from localstack.services.apigateway.next_gen.execute_api.gateway_response import get_gateway_response_or_default

    configured = context.deployment.rest_api.gateway_responses
    if exception.type not in configured and f"DEFAULT_{response.status_code // 100}XX" not in configured:
        return response
    own = get_gateway_response_or_default(exception.type, configured)
    templates = own.get("responseTemplates") or {}
    if templates:
        media_type = "application/json" if "application/json" in templates else next(iter(templates))
        response.data = _filled(templates[media_type], context.context_variables)
        response.headers["Content-Type"] = media_type
    for name, value in (own.get("responseParameters") or {}).items():
        if name.startswith(_HEADER):
            literal = value.strip("'") if value.startswith("'") else _filled(f"${value}", context.context_variables)
            response.headers[name.removeprefix(_HEADER)] = literal
    return response


def _filled(template: str, variables: Any) -> str:
    def value(match: re.Match[str]) -> str:
        steps, found = match.group(1).split("."), variables
        for step in steps:
            found = found.get(step) if isinstance(found, dict) else None
        # error.messageString is the message as a JSON string, quotes and all.
        if steps == ["error", "messageString"]:
            return json.dumps(variables.get("error", {}).get("message") or "")
        return "" if found is None else str(found)

    return _VARIABLE.sub(value, template)


def _begin(_: Any, context: Any, __: Response) -> None:
    setattr(context, _STARTED, time.time())


def _record(_: Any, context: Any, response: Response) -> None:
    key, identity = getattr(context, _IDENTITY, (None, None))
    environment = callers.environment_of(key)
    started = getattr(context, _STARTED, None) or time.time()
    error = (context.context_variables or {}).get("error")
    path = context.resource["path"] if context.resource else None
    requestlog.write(
        {
            "t": round(started, 6),
            "service": "execute-api",
            "operation": "Request",
            "caller": identity.name if identity else "anonymous",
            "function": environment.function if environment else None,
            "internal": False,
            "params": {
                "Api": context.api_id,
                "Stage": context.stage,
                "Route": f"{context.request.method} {path}" if path else None,
                "RequestBytes": len((context.invocation_request or {}).get("body") or b""),
                "ResponseBytes": len(response.data or b"") if not response.is_streamed else None,
            },
            "status": response.status_code,
            "error": str(error["responseType"]) if error else None,
            "ms": round((time.time() - started) * 1000, 2),
        }
    )
