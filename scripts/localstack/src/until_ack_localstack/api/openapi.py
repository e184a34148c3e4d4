"""What LocalStack's import of an OpenAPI document leaves out: AWS_IAM methods and gateway responses."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Any

from until_ack_localstack.importing import when_imported

_AUTH_TYPE = "x-amazon-apigateway-authtype"
_AUTH = "x-amazon-apigateway-auth"
_RESPONSES = "x-amazon-apigateway-gateway-responses"
_ANY = "x-amazon-apigateway-any-method"
_METHODS = frozenset({"get", "put", "post", "delete", "options", "head", "patch", _ANY})


def install() -> None:
    """Complete every import."""
    when_imported("localstack.services.apigateway.legacy.provider", _change)


def _change(provider: Any) -> None:
    original = provider.import_api_from_openapi_spec

    def import_api(rest_api: Any, context: Any, request: Any) -> Any:
        content = request["body"].read()
        request["body"] = io.BytesIO(content)
        imported, warnings = original(rest_api, context, request)
        _complete(imported, context, content)
        return imported, warnings

    provider.import_api_from_openapi_spec = import_api


def _complete(rest_api: Any, context: Any, content: bytes) -> None:
    from localstack.services.apigateway.helpers import get_apigateway_store
    from localstack.services.apigateway.next_gen.execute_api.gateway_response import build_gateway_response
    from localstack.utils.json import parse_json_or_yaml

    document = parse_json_or_yaml(content.decode())
    wanted = iam_methods(document)
    for resource in rest_api.resources.values():
        for name, method in resource.resource_methods.items():
            if (resource.get_path(), name.upper()) in wanted:
                method.authorization_type = "AWS_IAM"
    responses = get_apigateway_store(context=context).rest_apis[rest_api.id].gateway_responses
    for kind, response in (document.get(_RESPONSES) or {}).items():
        status = response.get("statusCode")
        responses[kind] = build_gateway_response(
            kind,
            status_code=None if status is None else str(status),
            response_parameters=response.get("responseParameters"),
            response_templates=response.get("responseTemplates"),
            default_response=False,
        )


def iam_methods(document: Mapping[str, Any]) -> set[tuple[str, str]]:
    """Return the (path, METHOD) pairs that a document has authorised by IAM."""
    schemes = (document.get("components") or {}).get("securitySchemes") or document.get("securityDefinitions") or {}
    signed = {name for name, scheme in schemes.items() if scheme.get(_AUTH_TYPE) == "awsSigv4"}
    default = document.get("security") or []
    methods = set()
    for path, item in (document.get("paths") or {}).items():
        for name, operation in item.items():
            if name not in _METHODS:
                continue
            own = (operation.get(_AUTH) or {}).get("type")
            security = operation.get("security", default)
            by_scheme = any(scheme in signed for requirement in security for scheme in requirement)
            if (own == "AWS_IAM") if own else by_scheme:
                methods.add((path, "ANY" if name == _ANY else name.upper()))
    return methods
