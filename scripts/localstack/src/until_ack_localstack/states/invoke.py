"""`apigateway:invoke`: signed where the state asks for it, to the path that it names, and any 2xx is a success."""

from __future__ import annotations

import http
import json
import re
from typing import Any
from urllib.parse import quote, urlencode

from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from botocore.httpsession import URLLib3Session

from until_ack_localstack.importing import when_imported
from until_ack_localstack.states.requests import session

# API Gateway itself gives up after 29 s.
_TIMEOUT = 60
_ENDPOINT = re.compile(
    r"(?:https?://)?(?P<api>[a-z0-9]+)\.execute-api\.[a-z0-9-]+\.(?:localhost\.localstack\.cloud|amazonaws\.com)(?::\d+)?/?"
)
# However a function writes them.
_HEADERS = {"content-type": "Content-Type", "content-length": "Content-Length", "date": "Date"}
_MODULE = "localstack.services.stepfunctions.asl.component.state.state_execution.state_task.service"

_http = URLLib3Session(max_pool_connections=64, timeout=_TIMEOUT)


def install() -> None:
    """Replace LocalStack's request, which is never signed and whose path ends with a slash."""
    when_imported(f"{_MODULE}.state_task_service_api_gateway", _change)


def _change(module: Any) -> None:
    service = module.StateTaskServiceApiGateway
    elsewhere = service._eval_service_task

    def eval_service_task(
        self: Any, env: Any, resource_runtime_part: Any, normalised_parameters: Any, state_credentials: Any
    ) -> None:
        url = _url(normalised_parameters)
        if url is None:
            elsewhere(self, env, resource_runtime_part, normalised_parameters, state_credentials)
            return
        request = AWSRequest(
            normalised_parameters["Method"],
            url,
            service._headers_of(normalised_parameters),
            _body(normalised_parameters),
        )
        if request.data:
            request.headers["Content-Type"] = "application/json"
        if normalised_parameters.get("AuthType") == "IAM_ROLE":
            _sign(request, state_credentials.role_arn, resource_runtime_part.region)
        response = _http.send(request.prepare())
        if response.status_code // 100 != 2:
            # LocalStack takes 200 alone for a success.
            raise module.SfnGatewayException(parameters=normalised_parameters, response=response)
        env.stack.append(_output(response))

    service._eval_service_task = eval_service_task


def _url(parameters: dict[str, Any]) -> str | None:
    """Return the API's address by path: nothing resolves its domain on a machine without a network."""
    from localstack import config

    match = _ENDPOINT.fullmatch(parameters["ApiEndpoint"])
    if match is None:
        return None
    steps = [match["api"], parameters.get("Stage") or "", (parameters.get("Path") or "").lstrip("/")]
    path = quote("/".join(steps), safe="/%:@!$&'()*+,;=~")
    query = {name: value for name, value in (parameters.get("QueryParameters") or {}).items() if value is not None}
    return f"{config.internal_service_url()}/_aws/execute-api/{path}" + (
        f"?{urlencode(query, doseq=True)}" if query else ""
    )


def _body(parameters: dict[str, Any]) -> bytes:
    body = parameters.get("RequestBody")
    return b"" if body is None else json.dumps(body, separators=(",", ":"), ensure_ascii=False).encode()


def _sign(request: AWSRequest, role_arn: str, region: str) -> None:
    keys = session(role_arn, region)
    credentials = Credentials(keys["AccessKeyId"], keys["SecretAccessKey"], keys["SessionToken"])
    SigV4Auth(credentials, "execute-api", region).add_auth(request)


def _output(response: Any) -> dict[str, Any]:
    text = response.content.decode("utf-8", "replace")
    try:
        body = json.loads(text)
    except ValueError:
        body = text
    return {
        "Headers": {_HEADERS.get(name.lower(), name): [value] for name, value in response.headers.items()},
        "ResponseBody": body,
        "StatusCode": response.status_code,
        "StatusText": http.HTTPStatus(response.status_code).phrase,
    }
