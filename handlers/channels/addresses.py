"""What may be a target's address, checked before anything is stored. No look-ups are made here."""

import re
from dataclasses import dataclass
from ipaddress import IPv6Address
from typing import Literal
from urllib.parse import urlsplit

from handlers.channels.networks import Networks, literal, may_reach
from handlers.delivery.errors import Invalid

MAX_URL = 2048
MAX_PORT = 65535
MAX_MAIL_ADDRESS = 254
_MAX_LOCAL_PART = 64
_MAX_HOST = 253
_SHOWN = 200
_FORM = "a URL such as https://device.example/path"

_LABEL = re.compile(r"[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?")
_NETLOC = re.compile(r"(?P<host>\[[^\[\]]*\]|[^\[\]:]*)(:(?P<port>[0-9]{0,5}))?")
_NUMERIC_LABEL = re.compile(r"[0-9]+|0x[0-9a-f]*")
_LOCAL_PART = re.compile(r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+(\.[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+)*")
# IDNA 2003 and 2008 send these to different owners: only the written-out xn-- form is unambiguous.
_AMBIGUOUS = frozenset("\u00df\u03c2\u200c\u200d")


@dataclass(frozen=True, slots=True)
class Url:
    """A webhook's URL, taken apart once: what was checked is what is connected to."""

    scheme: Literal["http", "https"]
    host: str
    port: int
    path: str


def parse_webhook_url(url: str) -> Url:
    """Take a webhook URL apart; `Invalid` names what is wrong with its form."""
    if len(url) > MAX_URL:
        raise _invalid(url, f"at most {MAX_URL} characters", "is too long")
    if any(character <= " " or character in "\x7f\\" for character in url):
        raise _invalid(url, "without spaces, control characters and backslashes", "is not a URL")
    try:
        parts = urlsplit(url)
    except ValueError:
        raise _invalid(url, _FORM, "is not a URL") from None
    scheme: Literal["http", "https"]
    if parts.scheme == "https":
        scheme, default_port = "https", 443
    elif parts.scheme == "http":
        scheme, default_port = "http", 80
    else:
        raise _invalid(url, "an https URL", "has a scheme that is not https")
    if "@" in parts.netloc:
        raise Invalid("target", "(not shown)", "without user and password", "target carries a user or password")
    if "#" in url:
        raise _invalid(url, "without a fragment", "has a fragment, which is never sent")
    netloc = _NETLOC.fullmatch(parts.netloc)
    if netloc is None:
        raise _invalid(url, _FORM, "is not a URL")
    port = int(netloc["port"] or default_port)
    if not 1 <= port <= MAX_PORT:
        raise _invalid(url, f"with a port of 1 to {MAX_PORT}", "has no such port")
    path = url.partition("//")[2][len(parts.netloc) :]
    path = path if path.startswith("/") else f"/{path}"
    if not path.isascii():
        raise _invalid(url, "ASCII after the host, other characters percent-encoded", "is not a URL")
    return Url(scheme, _host(url, netloc["host"]), port, path)


def check_webhook_url(url: str, allow_http: bool, allowed_networks: Networks) -> None:
    """Raise `Invalid` unless a webhook may have this URL. A name's addresses are vetted at each attempt."""
    parts = parse_webhook_url(url)
    if parts.scheme == "http" and not allow_http:
        raise _invalid(url, "an https URL", "is not https")
    name_of_this_machine = parts.host == "localhost" or parts.host.endswith(".localhost")
    address = literal("127.0.0.1" if name_of_this_machine else parts.host)
    if address is not None and not may_reach(address, allowed_networks):
        raise _invalid(url, "a public address", "is a private or reserved address")


def mail_address(address: str) -> str:
    """The address in the form that is sent to (domain as ASCII, lower case); `Invalid` if it is none."""
    local, at, domain = address.rpartition("@")
    if len(address) > MAX_MAIL_ADDRESS:
        raise _invalid(address, f"at most {MAX_MAIL_ADDRESS} characters", "is too long")
    if not at or not _LOCAL_PART.fullmatch(local) or len(local) > _MAX_LOCAL_PART:
        raise _not_mail(address)
    if any(character <= " " or character in "\x7f[]" for character in domain):
        raise _not_mail(address)
    host = _ascii(address, domain)
    if "." not in host or not _is_name(host):
        raise _not_mail(address)
    normal = f"{local}@{host}"
    if len(normal) > MAX_MAIL_ADDRESS:
        raise _invalid(address, f"at most {MAX_MAIL_ADDRESS} characters", "is too long")
    return normal


def check_mail_address(address: str) -> None:
    """Raise `Invalid` unless this is one plain mail address."""
    mail_address(address)


def _host(url: str, host: str) -> str:
    if host.startswith("["):
        address = literal(host[1:-1])
        # A zone ("%eth0") names an interface of this machine.
        if not isinstance(address, IPv6Address) or "%" in host:
            raise _invalid(url, "a host", "has a host that is no IPv6 address")
        return str(address)
    name = _ascii(url, host).removesuffix(".")
    if literal(name) is not None:
        return name
    if not _is_name(name):
        # 2130706433, 0x7f000001, 127.1 and 0177.0.0.1 are all this machine to a resolver.
        raise _invalid(url, "a host name, or an IP address in its usual notation", "has no such host")
    return name


def _ascii(target: str, host: str) -> str:
    if host.isascii():
        return host.lower()
    if _AMBIGUOUS.isdisjoint(host):
        try:
            return host.encode("idna").decode("ascii").lower()
        except UnicodeError:
            pass
    raise _invalid(target, "a host name, in its xn-- form if need be", "has a host that has no ASCII form")


def _is_name(host: str) -> bool:
    labels = host.split(".")
    return (
        len(host) <= _MAX_HOST
        and all(_LABEL.fullmatch(label) for label in labels)
        and not _NUMERIC_LABEL.fullmatch(labels[-1])
    )


def _not_mail(address: str) -> Invalid:
    return _invalid(address, "one plain mail address such as name@example.com", "is not a mail address")


def _invalid(target: str, limit: str, what: str) -> Invalid:
    return Invalid("target", target[:_SHOWN], limit, f"target {what}; it must be {limit}")
