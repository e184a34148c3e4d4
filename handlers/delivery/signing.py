"""Per-target webhook secrets, derived from one master key so that none has to be stored."""

import base64
import hashlib
import hmac

_LABEL = b"until-ack webhook v1\0"
_SECRET_BYTES = 32
_HASH_BYTES = hashlib.sha256().digest_size


def hkdf_sha256(key: bytes, salt: bytes, info: bytes, length: int) -> bytes:
    """Derive `length` bytes from `key` (HKDF-SHA256, RFC 5869)."""
    if not 1 <= length <= 255 * _HASH_BYTES:
        raise ValueError(f"length must be 1 to {255 * _HASH_BYTES}")
    extracted = hmac.digest(salt or bytes(_HASH_BYTES), key, "sha256")
    block, derived = b"", b""
    for counter in range(1, -(-length // _HASH_BYTES) + 1):
        block = hmac.digest(extracted, block + info + bytes([counter]), "sha256")
        derived += block
    return derived[:length]


def webhook_secret(master: bytes | str, target: str) -> str:
    """The Standard Webhooks secret of one target: a target learns its own and no other's."""
    key = master.encode() if isinstance(master, str) else master
    if not key:
        raise ValueError("the master key is empty")
    derived = hkdf_sha256(key, b"", _LABEL + target.encode(), _SECRET_BYTES)
    return "whsec_" + base64.b64encode(derived).decode("ascii")
