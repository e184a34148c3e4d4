"""API Gateway's proxy events in, answers and problem+json (RFC 9457) out."""

import base64
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import wraps
from typing import Any

from handlers.delivery.errors import Conflict, Forbidden, Invalid, NotFound, Over, TooLarge, Unavailable
from handlers.delivery.message import is_message_id
from handlers.runtime.bootstrap import world

Answer = dict[str, Any]
_SHOWN = 100
_HEADERS = {"cache-control": "no-store", "x-content-type-options": "nosniff"}


@dataclass(frozen=True, slots=True)
class Request:
    """What a handler needs of a proxy event. Header names are in lower case."""

    route: str
    path: Mapping[str, str]
    query: Mapping[str, str]
    headers: Mapping[str, str]
    body: bytes
    caller: str

    @property
    def message_id(self) -> str:
        """The id in the path. Raises `NotFound` for what cannot be one."""
        message_id = self.path.get("id", "")
        if not is_message_id(message_id):
            raise NotFound
        return message_id

    @property
    def capability(self) -> str:
        """The capability, from the query or its header; empty when there is none."""
        return self.query.get("cap") or self.headers.get("until-ack-capability", "")

    def at_most(self, limit: int) -> None:
        """Raise `TooLarge` for a body over the limit, in bytes."""
        if len(self.body) > limit:
            raise TooLarge(len(self.body), limit)

    def json(self, limit: int) -> Any:
        """The body as JSON. Raises `TooLarge` over the limit (bytes), `Invalid` when it is not JSON."""
        self.at_most(limit)
        try:
            value = json.loads(self.body.decode(), parse_constant=_refuse)
            # A lone surrogate and 1e999 parse, but are nothing that can be stored or sent.
            json.dumps(value, ensure_ascii=False, allow_nan=False).encode()
        except (ValueError, RecursionError):
            shown = self.body[:_SHOWN].decode(errors="replace")
            raise Invalid("body", shown, "JSON in UTF-8 (RFC 8259)") from None
        if not isinstance(value, dict):
            raise Invalid("body", value, "a JSON object")
        return value


def _refuse(constant: str) -> None:
    raise ValueError(constant)


def request_of(event: Mapping[str, Any]) -> Request:
    """Read a proxy event of a REST API."""
    body = event.get("body") or ""
    data = base64.b64decode(body) if event.get("isBase64Encoded") else body.encode(errors="surrogatepass")
    return Request(
        route=f"{event['httpMethod']} {event['resource']}",
        path=event.get("pathParameters") or {},
        query=event.get("queryStringParameters") or {},
        headers={name.lower(): value for name, value in (event.get("headers") or {}).items()},
        body=data,
        caller=_caller((event.get("requestContext") or {}).get("identity") or {}),
    )


def _caller(identity: Mapping[str, Any]) -> str:
    """The principal that API Gateway has authorised. A role's sessions are one caller."""
    arn = str(identity.get("userArn") or identity.get("accountId") or "anonymous")
    return arn.rsplit("/", 1)[0] if ":assumed-role/" in arn else arn


def answer(status: int, body: Mapping[str, Any], **headers: str) -> Answer:
    """A JSON answer."""
    return _answer(status, json.dumps(body), "application/json", headers)


def page(status: int, html: str) -> Answer:
    """A page for a person's browser; it may load nothing and be framed by nobody."""
    policy = "default-src 'none'; style-src 'unsafe-inline'; form-action 'self'; frame-ancestors 'none'"
    headers = {"content-security-policy": policy, "referrer-policy": "no-referrer"}
    return _answer(status, html, "text/html; charset=utf-8", headers)


def problem_of(error: Exception) -> dict[str, Any]:
    """The problem details of a domain error; anything else is raised again."""
    match error:
        case Invalid():
            return {
                **_problem(400, "invalid-field", "A field is not what it may be", error.detail),
                "field": error.field,
                "value": _shown(error.value),
                "limit": error.limit,
            }
        case TooLarge():
            problem = _problem(413, "too-large", "The body is too large", str(error))
            return {**problem, "field": "body", "value": f"{error.size} bytes", "limit": f"at most {error.limit} bytes"}
        case Conflict():
            return _problem(409, error.code, "The message stands against it", error.detail)
        case NotFound():
            return _problem(404, "not-found", "There is no such message", "unknown, or deleted after its retention")
        case Forbidden():
            return _problem(403, "forbidden", "Not with this capability", "the capability is not valid here")
        case Over():
            return _problem(410, "over", "Nothing more to ask for", error.status)
        case Unavailable():
            return _problem(503, "unavailable", "Try again", "a service behind this one is busy or failing")
    raise error


def endpoint(handle: Callable[[Request], Answer]) -> Callable[[Mapping[str, Any], Any], Answer]:
    """Make a Lambda handler: domain errors become problem+json, faults a 500 that says nothing."""

    @wraps(handle)
    def handler(event: Mapping[str, Any], context: Any) -> Answer:
        try:
            return handle(request_of(event))
        except Exception as error:
            return _failed(error)

    return handler


def _failed(error: Exception) -> Answer:
    try:
        problem = problem_of(error)
    except Exception as fault:
        world().log.error("unexpected", fault)
        problem = _problem(500, "internal", "Something is wrong here", "it has been logged")
    if isinstance(error, Unavailable):
        world().log.warning("unavailable", service=error.service, code=error.code)
    headers = {"retry-after": "1"} if problem["status"] == 503 else {}
    return _answer(problem["status"], json.dumps(problem), "application/problem+json", headers)


def _problem(status: int, code: str, title: str, detail: str) -> dict[str, Any]:
    return {"type": f"urn:until-ack:problem:{code}", "title": title, "status": status, "detail": detail}


def _shown(value: object) -> object:
    """A refused value, short enough to send back."""
    if isinstance(value, str):
        return value if len(value) <= _SHOWN else f"{value[:_SHOWN]}…"
    if value is None or isinstance(value, bool | int | float):
        return value
    return _shown(json.dumps(value))


def _answer(status: int, body: str, content_type: str, headers: Mapping[str, str]) -> Answer:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return {"statusCode": status, "headers": {"content-type": content_type, **_HEADERS, **named}, "body": body}
