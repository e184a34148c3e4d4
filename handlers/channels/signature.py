"""The Standard Webhooks signature of a payload."""

import base64
import binascii
import hashlib
import hmac
from datetime import UTC, datetime

from standardwebhooks import Webhook


def sign(secret: str, message_id: str, at: datetime, payload: bytes) -> str:
    """The `webhook-signature` header's value, as any Standard Webhooks library verifies it."""
    moment = at.astimezone(UTC)
    try:
        return Webhook(secret).sign(message_id, moment, payload.decode())
    except UnicodeDecodeError:
        # The library signs text only; the specification signs bytes, so other bytes are signed as it says.
        return _sign_bytes(secret, message_id, moment, payload)


def _sign_bytes(secret: str, message_id: str, moment: datetime, payload: bytes) -> str:
    key = binascii.a2b_base64(secret.removeprefix("whsec_"))
    content = f"{message_id}.{int(moment.timestamp())}.".encode() + payload
    digest = hmac.new(key, content, hashlib.sha256).digest()
    return "v1," + base64.b64encode(digest).decode("ascii")
