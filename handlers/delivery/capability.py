"""Capabilities: who holds one may answer for one message, and for no other.

A capability is `<key id>.<body>.<mac>`: the body is the message id, the target's hash and the
expiry; the MAC is HMAC-SHA256 (RFC 2104) over key id and body. It is checked before any I/O but
the key's own.
"""

import base64
import binascii
import hashlib
import hmac
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from handlers.delivery.errors import Forbidden
from handlers.delivery.message import hash_target

MIN_LATE_WINDOW = 14 * 86_400
"""Seconds for which a capability outlives its message, at least: late ACKs are welcome."""
MAX_LENGTH = 512
_CONTEXT = b"until-ack capability v1\0"
_BODY = struct.Struct(">26s16sQ")


@dataclass(frozen=True, slots=True)
class Capability:
    """What a genuine, unexpired capability says."""

    message_id: str
    target_hash: str
    expires_at: int


@dataclass(frozen=True, slots=True)
class Keyring:
    """The keys: the first signs, all verify. `secret` fetches a key's bytes by its id.

    `late_window` is in seconds.
    """

    key_ids: Sequence[str]
    secret: Callable[[str], bytes]
    late_window: int = MIN_LATE_WINDOW

    def sign(self, message_id: str, target: str, expires_at: int) -> str:
        """A capability that lasts for the late window after the message's expiry (milliseconds)."""
        lasts = expires_at + self.late_window * 1000
        body = _BODY.pack(message_id.encode(), hash_target(target).encode(), lasts)
        key_id = self.key_ids[0]
        return f"{key_id}.{_text(body)}.{_text(self._mac(key_id, body))}"

    def verify(self, text: str, now: int) -> Capability:
        """Read a capability. Raises `Forbidden`, the same for every fault, if it is not genuine."""
        try:
            key_id, body_text, mac_text = text[: MAX_LENGTH + 1].split(".")
            body, mac = _bytes(body_text), _bytes(mac_text)
        except (ValueError, binascii.Error):
            raise Forbidden from None
        if key_id not in self.key_ids or not hmac.compare_digest(mac, self._mac(key_id, body)):
            raise Forbidden
        message_id, target_hash, lasts = _BODY.unpack(body)
        if now >= lasts:
            raise Forbidden
        return Capability(message_id.decode(), target_hash.decode(), lasts)

    def _mac(self, key_id: str, body: bytes) -> bytes:
        return hmac.digest(self.secret(key_id), _CONTEXT + key_id.encode() + b"\0" + body, hashlib.sha256)


def _text(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def _bytes(text: str) -> bytes:
    data = base64.urlsafe_b64decode(text.encode("ascii") + b"=" * (-len(text) % 4))
    if _text(data) != text:
        # base64 is lenient; one capability has one spelling
        raise ValueError(text)
    return data
