"""What may be a target's address, and which IP addresses may be reached."""

import socket
from contextlib import suppress
from ipaddress import IPv4Address, ip_address

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from handlers.channels.addresses import (
    MAX_URL,
    Url,
    check_mail_address,
    check_webhook_url,
    mail_address,
    parse_webhook_url,
)
from handlers.channels.networks import may_reach, networks
from handlers.delivery.errors import Invalid

LOOPBACK = networks(["127.0.0.0/8"])


@pytest.mark.parametrize(
    ("url", "parts"),
    [
        ("https://device.example", Url("https", "device.example", 443, "/")),
        ("https://device.example/a?b=c", Url("https", "device.example", 443, "/a?b=c")),
        ("https://device.example?b=c", Url("https", "device.example", 443, "/?b=c")),
        ("https://device.example/a?", Url("https", "device.example", 443, "/a?")),
        ("HTTPS://Device.Example.:8443//a/%20b", Url("https", "device.example", 8443, "//a/%20b")),
        ("http://8.8.8.8:81/@x", Url("http", "8.8.8.8", 81, "/@x")),
        ("https://[2606:4700::1111]/", Url("https", "2606:4700::1111", 443, "/")),
        ("https://bücher.example/", Url("https", "xn--bcher-kva.example", 443, "/")),
        ("https://sub_1.device.example:/", Url("https", "sub_1.device.example", 443, "/")),
    ],
)
def test_a_url_is_taken_apart(url: str, parts: Url) -> None:
    assert parse_webhook_url(url) == parts


@pytest.mark.parametrize(
    "url",
    [
        "",
        "device.example",
        "//device.example/",
        "https:/device.example",
        "https:///path",
        "https://",
        "ftp://device.example/",
        "file:///etc/passwd",
        "javascript:alert(1)",
        "https://device.example:0/",
        "https://device.example:65536/",
        "https://device.example:٣/",
        "https://device.example:80:80/",
        "https://device.example/a b",
        "https://device.example/\r\nhost: other",
        "\thttps://device.example/",
        "https://dev\tice.example/",
        "https://device.example\\@other.example/",
        "https://device.example/#part",
        "https://device.example/é",
        "https://-device.example/",
        "https://device..example/",
        "https://" + "a" * 64 + ".example/",
        "https://" + "a." * 130 + "example/",
        "https://straße.example/",
        "https://a\u200db.example/",
        "https://[::1/",
        "https://[::1]evil/",
        "https://evil[::1]/",
        "https://[fe80::1%25eth0]/",
        "https://[127.0.0.1]/",
        "https://device.example/" + "a" * MAX_URL,
    ],
)
def test_what_is_no_webhook_url_is_refused_by_name_and_limit(url: str) -> None:
    with pytest.raises(Invalid) as refusal:
        check_webhook_url(url, allow_http=True, allowed_networks=LOOPBACK)
    assert refusal.value.field == "target"
    assert refusal.value.limit
    assert len(str(refusal.value.value)) <= 200


@pytest.mark.parametrize("url", ["https://user:secret@device.example/", "https://@device.example/"])
def test_user_and_password_are_refused_and_not_repeated(url: str) -> None:
    with pytest.raises(Invalid) as refusal:
        check_webhook_url(url, allow_http=True, allowed_networks=())
    assert "secret" not in f"{refusal.value} {refusal.value.value} {refusal.value.limit}"


def test_plain_http_needs_the_setting() -> None:
    with pytest.raises(Invalid, match="https"):
        check_webhook_url("http://device.example/", allow_http=False, allowed_networks=())
    check_webhook_url("http://device.example/", allow_http=True, allowed_networks=())


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1",
        "127.0.0.1.",
        "127.1",
        "2130706433",
        "0x7f000001",
        "0x7f.0.0.1",
        "0177.0.0.1",
        "017700000001",
        "127.0.0.01",
        "\uff11\uff12\uff17.0.0.1",
        "127\u30020\u30020\u30021",
        "①②⑦.0.0.1",
        "localhost",
        "LOCALHOST.",
        "api.localhost",
        "0.0.0.0",
        "0",
        "10.1.2.3",
        "100.64.0.1",
        "169.254.169.254",
        "169.254.170.2",
        "172.31.255.255",
        "192.168.0.1",
        "224.0.0.1",
        "255.255.255.255",
        "[::]",
        "[::1]",
        "[0:0:0:0:0:0:0:1]",
        "[::ffff:127.0.0.1]",
        "[::ffff:8.8.8.8]",
        "[::127.0.0.1]",
        "[64:ff9b::127.0.0.1]",
        "[64:ff9b:1::8.8.8.8]",
        "[2002:7f00:1::]",
        "[2001:0:7f00:1::]",
        "[fd00:ec2::254]",
        "[fe80::1]",
        "[ff02::1]",
        "[2001:db8::1]",
    ],
)
def test_private_literals_are_refused_in_every_notation(host: str) -> None:
    with pytest.raises(Invalid) as refusal:
        check_webhook_url(f"http://{host}/", allow_http=True, allowed_networks=())
    assert refusal.value.field == "target"


@settings(deadline=None)
@given(st.text(max_size=60))
def test_any_text_is_a_url_or_is_refused_as_none(text: str) -> None:
    for url in (text, f"https://{text}"):
        with suppress(Invalid):
            parts = parse_webhook_url(url)
            assert parts.host.isascii()
            assert parts.path.startswith("/")


@settings(deadline=None)
@given(st.lists(st.sampled_from([*"0123456789abcdefx", ".", "0x", "255", "127"]), min_size=1, max_size=16))
def test_no_host_is_a_name_to_us_and_a_number_to_the_system(pieces: list[str]) -> None:
    with suppress(Invalid):
        host = parse_webhook_url(f"https://{''.join(pieces)}/").host
        with suppress(OSError):
            assert IPv4Address(socket.inet_aton(host)) == ip_address(host)


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.9.10:4566", "localhost"])
def test_a_private_address_that_a_setting_names_is_taken(host: str) -> None:
    check_webhook_url(f"http://{host}/", allow_http=True, allowed_networks=LOOPBACK)
    with pytest.raises(Invalid):
        check_webhook_url("http://10.0.0.1/", allow_http=True, allowed_networks=LOOPBACK)


@pytest.mark.parametrize("address", ["8.8.8.8", "172.32.0.1", "2606:4700::1111", "64:ff9b::8.8.8.8"])
def test_public_addresses_may_be_reached(address: str) -> None:
    assert may_reach(ip_address(address))


@pytest.mark.parametrize(
    "address", ["127.0.0.1", "::ffff:127.0.0.1", "64:ff9b::10.0.0.1", "2001::1", "fe80::1%eth0", "3fff::1"]
)
def test_other_addresses_may_not_be_reached(address: str) -> None:
    assert not may_reach(ip_address(address))


def test_an_allowed_network_opens_itself_and_nothing_else() -> None:
    allowed = networks(["10.1.0.0/16", "fd00::/8"])
    assert may_reach(ip_address("10.1.2.3"), allowed)
    assert may_reach(ip_address("fd00::1"), allowed)
    assert not may_reach(ip_address("10.2.0.1"), allowed)
    assert not may_reach(ip_address("64:ff9b::10.1.2.3"), allowed)
    assert not may_reach(ip_address("::1"), allowed)


def test_a_setting_that_is_no_network_is_named() -> None:
    with pytest.raises(ValueError, match=r"10\.0\.0\.1/8"):
        networks(["10.0.0.1/8"])


@pytest.mark.parametrize(
    ("given", "sent_to"),
    [
        ("ops@example.com", "ops@example.com"),
        ("First.Last+tag@Mail.Example.COM", "First.Last+tag@mail.example.com"),
        ("a@bücher.example", "a@xn--bcher-kva.example"),
    ],
)
def test_a_mail_address_is_sent_to_in_ascii(given: str, sent_to: str) -> None:
    check_mail_address(given)
    assert mail_address(given) == sent_to


@pytest.mark.parametrize(
    "address",
    [
        "",
        "ops",
        "@example.com",
        "ops@",
        "ops@localhost",
        "ops@example",
        "ops@127.0.0.1",
        "ops@[127.0.0.1]",
        "a@b@example.com",
        "a b@example.com",
        ".a@example.com",
        "a..b@example.com",
        '"a b"@example.com',
        "Ops <ops@example.com>",
        "ops@example.com, eve@example.com",
        "ops@example.com\r\nbcc: eve@example.com",
        "ops@example.com\n",
        "ops\r\n@example.com",
        "ops@exam\u2028ple.com",
        "öps@example.com",
        "ops@straße.example",
        "ops@-example.com",
        "a" * 65 + "@example.com",
        "a@" + "b." * 130 + "com",
    ],
)
def test_what_is_not_one_plain_mail_address_is_refused(address: str) -> None:
    with pytest.raises(Invalid) as refusal:
        check_mail_address(address)
    assert refusal.value.field == "target"
