"""Webhook secrets and signatures, against the standards' own vectors and the standard library for them."""

import base64
import hashlib
import hmac
from datetime import UTC, datetime, timedelta, timezone

import pytest
from standardwebhooks import Webhook, WebhookVerificationError

from handlers.channels.signature import sign
from handlers.delivery.signing import hkdf_sha256, webhook_secret

SECRET = webhook_secret("m" * 64, "https://device.example/hook")


# RFC 5869, appendix A.1 to A.3.
@pytest.mark.parametrize(
    ("key", "salt", "info", "length", "derived"),
    [
        (
            "0b" * 22,
            "000102030405060708090a0b0c",
            "f0f1f2f3f4f5f6f7f8f9",
            42,
            "3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf34007208d5b887185865",
        ),
        (
            bytes(range(0x50)).hex(),
            bytes(range(0x60, 0xB0)).hex(),
            bytes(range(0xB0, 0x100)).hex(),
            82,
            "b11e398dc80327a1c8e7f78c596a49344f012eda2d4efad8a050cc4c19afa97c"
            "59045a99cac7827271cb41c65e590e09da3275600c2f09b8367793a9aca3db71"
            "cc30c58179ec3e87c14c01d5c1f3434f1d87",
        ),
        (
            "0b" * 22,
            "",
            "",
            42,
            "8da4e775a563c18f715f802a063c5a31b8a11f5c5ee1879ec3454e5f3c738d2d9d201395faa4b61a96c8",
        ),
    ],
)
def test_hkdf_agrees_with_the_rfc(key: str, salt: str, info: str, length: int, derived: str) -> None:
    got = hkdf_sha256(bytes.fromhex(key), bytes.fromhex(salt), bytes.fromhex(info), length)
    assert got.hex() == derived


@pytest.mark.parametrize("length", [0, 255 * 32 + 1])
def test_hkdf_refuses_a_length_it_cannot_give(length: int) -> None:
    with pytest.raises(ValueError, match="8160"):
        hkdf_sha256(b"key", b"", b"", length)


def test_each_target_has_its_own_lasting_secret() -> None:
    assert webhook_secret(b"m" * 64, "https://device.example/hook") == SECRET
    assert webhook_secret("m" * 64, "https://device.example/other") != SECRET
    assert webhook_secret("n" * 64, "https://device.example/hook") != SECRET
    assert len(base64.b64decode(SECRET.removeprefix("whsec_"))) == 32


def test_an_empty_master_key_signs_nothing() -> None:
    with pytest.raises(ValueError, match="empty"):
        webhook_secret("", "https://device.example/hook")


@pytest.mark.parametrize("payload", [b"", b'{"a": 1}', "grün ☃".encode(), b"a\r\n\x00b", b"\xff\x00\xfe", b"\xc3"])
def test_the_signature_is_the_specifications_over_the_very_bytes(payload: bytes) -> None:
    at = datetime(2026, 1, 2, 3, 4, 5, 999_999, tzinfo=UTC)
    key = base64.b64decode(SECRET.removeprefix("whsec_"))
    digest = hmac.new(key, b"msg." + str(int(at.timestamp())).encode() + b"." + payload, hashlib.sha256)
    assert sign(SECRET, "msg", at, payload) == "v1," + base64.b64encode(digest.digest()).decode()


def test_the_standard_library_verifies_it_whatever_the_clocks_zone() -> None:
    now = datetime.now(timezone(timedelta(hours=9)))
    headers = {
        "webhook-id": "msg",
        "webhook-timestamp": str(int(now.timestamp())),
        "webhook-signature": sign(SECRET, "msg", now, b'{"a": 1}'),
    }
    assert Webhook(SECRET).verify(b'{"a": 1}', headers) == {"a": 1}
    with pytest.raises(WebhookVerificationError):
        Webhook(SECRET).verify(b'{"a": 2}', headers)
