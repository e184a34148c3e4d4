"""A small client of the API: what the demo, the tests and the command line speak it with.

The producer's routes are signed with AWS Signature Version 4; the target's routes carry a capability.
Nothing is retried, and every status is returned: the caller sees what the API said.

    api = Api(url, region)
    answer = api.submit({"target": "https://…", "channel": "webhook", "payload": "hello"})
    answer.status, answer.body["id"]
"""

import json
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple
from urllib.parse import quote, urlencode, urlsplit

import urllib3
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials, ReadOnlyCredentials
from botocore.session import Session

JSON = "application/json"
TIMEOUT = urllib3.Timeout(connect=5, read=35)
"""Longer than API Gateway's own 29 s, so that its answer is the one that is seen."""


class Answer(NamedTuple):
    """What the API answered: the parsed body where it is JSON, else its text; header names are lower-case."""

    status: int
    body: Any
    headers: Mapping[str, str]


class Api:
    """The API at one address, spoken to as one AWS principal."""

    def __init__(
        self,
        url: str,
        region: str,
        *,
        ack_base_url: str | None = None,
        credentials: Credentials | ReadOnlyCredentials | None = None,
    ) -> None:
        """Without `credentials` those of the environment are used, as the AWS CLI would.

        `ack_base_url` is where targets answer, if that is not the API's own address.
        """
        self.url = url.rstrip("/")
        self.region = region
        self.ack_base_url = (ack_base_url or url).rstrip("/")
        self._credentials = credentials
        self._http = urllib3.PoolManager(maxsize=16, retries=False, timeout=TIMEOUT)

    def submit(self, message: Any) -> Answer:
        """Submit one message."""
        return self.signed("POST", "/messages", message)

    def submit_batch(self, messages: Iterable[Any]) -> Answer:
        """Submit up to 100 messages; each has its own result."""
        return self.signed("POST", "/messages/batch", {"messages": list(messages)})

    def get(self, message_id: str) -> Answer:
        """Read one message with its attempts."""
        return self.signed("GET", f"/messages/{quote(message_id, safe='')}")

    def list(self, **query: str | int | None) -> Answer:
        """List messages by `status`, `target`, `since`, `limit` and `cursor`."""
        given = {name: value for name, value in query.items() if value is not None}
        return self.signed("GET", "/messages", query=given)

    def cancel(self, message_id: str) -> Answer:
        """Cancel an open message."""
        return self.signed("DELETE", f"/messages/{quote(message_id, safe='')}")

    def redeliver(self, message_id: str) -> Answer:
        """Open a new life of a message that ended undelivered."""
        return self.signed("POST", f"/messages/{quote(message_id, safe='')}/redeliver")

    def ack(self, message: str, capability: str | None = None) -> Answer:
        """ACK by the ACK URL as the target got it, or by message id and capability."""
        return self.unsigned("POST", *self._to(message, capability, "ack"))

    def nack(self, message: str, reason: str, retry_after: int | None = None, capability: str | None = None) -> Answer:
        """NACK by the NACK URL, or by message id and capability; `retry_after` is in seconds."""
        body: dict[str, Any] = {"reason": reason}
        if retry_after is not None:
            body["retry_after"] = retry_after
        return self.unsigned("POST", *self._to(message, capability, "nack"), body)

    def acks(self, acks: Iterable[Any]) -> Answer:
        """ACK or NACK up to 100 messages; each has its own result."""
        return self.unsigned("POST", f"{self.ack_base_url}/acks", None, {"acks": list(acks)})

    def page(self, ack_url: str) -> Answer:
        """What a person who follows an ACK link is shown."""
        return self.unsigned("GET", ack_url)

    def signed(self, method: str, path: str, body: Any = None, query: Mapping[str, str | int] | None = None) -> Answer:
        """A request to a producer's route; bytes are sent as they are, anything else as JSON."""
        url = self.url + path + (f"?{urlencode(query, quote_via=quote)}" if query else "")
        data, headers = _encode(body)
        request = AWSRequest(method=method, url=url, data=data, headers=headers)
        SigV4Auth(self._principal(), "execute-api", self.region).add_auth(request)
        return self._send(method, url, data, dict(request.headers.items()))

    def unsigned(self, method: str, url: str, capability: str | None = None, body: Any = None) -> Answer:
        """A request to a full URL without a signature; the capability, if any, goes in its header."""
        data, headers = _encode(body)
        if capability is not None:
            headers["until-ack-capability"] = capability
        return self._send(method, url, data, headers)

    def _to(self, message: str, capability: str | None, verb: str) -> tuple[str, str | None]:
        if urlsplit(message).scheme:
            return message, capability
        return f"{self.ack_base_url}/messages/{quote(message, safe='')}/{verb}", capability

    def _principal(self) -> Credentials | ReadOnlyCredentials:
        if self._credentials is None:
            self._credentials = Session().get_credentials()
        if self._credentials is None:
            raise LookupError("no AWS credentials: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE")
        return self._credentials

    def _send(self, method: str, url: str, data: bytes | None, headers: Mapping[str, str]) -> Answer:
        response = self._http.request(method, url, body=data, headers=headers, redirect=False)
        lowered = {name.lower(): value for name, value in response.headers.items()}
        kind = lowered.get("content-type", "").partition(";")[0].strip()
        text = response.data.decode(errors="replace")
        parsed = json.loads(text) if text and (kind == JSON or kind.endswith("+json")) else text
        return Answer(response.status, parsed, lowered)


def _encode(body: Any) -> tuple[bytes | None, dict[str, str]]:
    if body is None:
        return None, {}
    return body if isinstance(body, bytes) else json.dumps(body).encode(), {"content-type": JSON}
