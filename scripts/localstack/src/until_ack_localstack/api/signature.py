"""Signature Version 4, the server's side: is this request signed by who it says, now, for this service?"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from urllib.parse import urlsplit

from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

SERVICE = "execute-api"
_SKEW = timedelta(minutes=5)
_HEADER = re.compile(
    r"AWS4-HMAC-SHA256\s+Credential=(?P<key>[^/,\s]+)/(?P<date>\d{8})/(?P<region>[^/]+)/(?P<service>[^/]+)/aws4_request,\s*"
    r"SignedHeaders=(?P<headers>[^,\s]+),\s*Signature=(?P<signature>[0-9a-f]{64})"
)


class RefusedError(Exception):
    """The signature does not hold; the text is AWS's."""


@dataclass(frozen=True)
class Signed:
    """A request as it was received."""

    method: str
    url: str
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True)
class Authorization:
    """What the Authorization header says."""

    key: str
    date: str
    region: str
    service: str
    headers: tuple[str, ...]
    signature: str


def parse(header: str) -> Authorization | None:
    """Read the header, None when it is not one of Signature Version 4."""
    match = _HEADER.fullmatch(header.strip())
    if match is None:
        return None
    names = tuple(match["headers"].split(";"))
    return Authorization(match["key"], match["date"], match["region"], match["service"], names, match["signature"])


def verify(request: Signed, authorization: Authorization, secret: str | None, region: str) -> None:
    """Raise RefusedError unless the signature holds here and now; without a secret only here and now are looked at."""
    if authorization.service != SERVICE:
        raise RefusedError(f"Credential should be scoped to correct service: '{SERVICE}'. ")
    if authorization.region != region:
        raise RefusedError(f"Credential should be scoped to a valid region, not '{authorization.region}'. ")
    stamp = request.headers.get("X-Amz-Date") or ""
    try:
        signed_at = datetime.strptime(stamp, "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
    except ValueError:
        raise RefusedError(
            "Authorization header requires existence of either a 'X-Amz-Date' or a 'Date' header."
        ) from None
    if abs(datetime.now(UTC) - signed_at) > _SKEW:
        raise RefusedError(f"Signature expired: {stamp} is now earlier or later than the clock allows.")
    if not {"host", "x-amz-date"} <= set(authorization.headers) or not stamp.startswith(authorization.date):
        raise RefusedError("'Host' and 'X-Amz-Date' must be signed, on the date of the credential.")
    if secret is None:
        return
    if not hmac.compare_digest(_expected(request, authorization, secret), authorization.signature):
        raise RefusedError(
            "The request signature we calculated does not match the signature you provided. Check your AWS Secret "
            "Access Key and signing method. Consult the service documentation for details."
        )


def _expected(request: Signed, authorization: Authorization, secret: str) -> str:
    auth = SigV4Auth(Credentials(authorization.key, secret), authorization.service, authorization.region)
    replica = AWSRequest(request.method, request.url, data=request.body)
    for name in authorization.headers:
        replica.headers[name] = request.headers.get(name, "")
    replica.context["timestamp"] = request.headers["X-Amz-Date"]
    signed = auth.headers_to_sign(replica)
    digest = request.headers.get("X-Amz-Content-Sha256")
    payload = digest if digest == "UNSIGNED-PAYLOAD" else hashlib.sha256(request.body).hexdigest()
    canonical = "\n".join(
        [
            request.method.upper(),
            auth._normalize_url_path(urlsplit(request.url).path),
            auth.canonical_query_string(replica),
            auth.canonical_headers(signed) + "\n",
            auth.signed_headers(signed),
            payload,
        ]
    )
    return str(auth.signature(auth.string_to_sign(replica, canonical), replica))
