"""Which IP addresses a webhook may reach: the public internet, and what a setting names."""

from collections.abc import Iterable
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

Address = IPv4Address | IPv6Address
Networks = tuple[IPv4Network | IPv6Network, ...]


def networks(cidrs: Iterable[str]) -> Networks:
    """Parse CIDR blocks; ValueError names the one that is not."""
    return tuple(ip_network(cidr) for cidr in cidrs)


# Written out, because what `ipaddress.is_global` knows differs between Python releases.
# From IANA's special-purpose registries; 169.254.0.0/16 holds the metadata services.
_REFUSED_V4 = networks(
    (
        "0.0.0.0/8",
        "10.0.0.0/8",
        "100.64.0.0/10",
        "127.0.0.0/8",
        "169.254.0.0/16",
        "172.16.0.0/12",
        "192.0.0.0/24",
        "192.0.2.0/24",
        "192.88.99.0/24",
        "192.168.0.0/16",
        "198.18.0.0/15",
        "198.51.100.0/24",
        "203.0.113.0/24",
        "224.0.0.0/4",
        "240.0.0.0/4",
    )
)

# IPv6 hosts are public only inside 2000::/3; these parts of it are not. Leaving the rest out refuses
# ::1, IPv4-mapped and IPv4-compatible forms, unique local, link-local and multicast addresses.
_PUBLIC_V6 = IPv6Network("2000::/3")
_REFUSED_V6 = networks(
    (
        "2001::/23",  # protocol assignments, Teredo among them
        "2001:db8::/32",
        "2002::/16",  # 6to4: an IPv4 address in disguise
        "3fff::/20",
    )
)
_NAT64 = IPv6Network("64:ff9b::/96")


def may_reach(address: Address, allowed: Networks = ()) -> bool:
    """True when `address` is public, or inside one of the `allowed` networks."""
    if any(address in network for network in allowed):
        return True
    if isinstance(address, IPv4Address):
        return not any(address in network for network in _REFUSED_V4)
    if address in _NAT64:
        # What an IPv6-only network's DNS makes of an IPv4 address: that address decides.
        return may_reach(IPv4Address(address.packed[12:]))
    return address in _PUBLIC_V6 and not any(address in network for network in _REFUSED_V6)


def literal(host: str) -> Address | None:
    """The address that `host` spells in its usual notation, or None when it is no address."""
    try:
        return ip_address(host)
    except ValueError:
        return None
