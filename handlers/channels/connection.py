"""A connection to a target: only to an address that was vetted."""

import queue
import socket
import ssl
import threading
from collections.abc import Callable, Sequence
from ipaddress import ip_address

from handlers.channels.bounded import Deadline
from handlers.channels.networks import Address, Networks, literal, may_reach

Resolver = Callable[[str, int], Sequence[str]]
Dialer = Callable[[Address, int, float], socket.socket]


class Blocked(Exception):
    """Every address of the target is one that may not be reached."""


class ConnectTimeout(TimeoutError):
    """The target did not take the connection in time, TLS included."""


class DnsTimeout(TimeoutError):
    """The target's name was not resolved in time."""


def resolve(host: str, port: int) -> list[str]:
    """The addresses of a name, as the system's resolver has them."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(sockaddr[0]) for *_, sockaddr in found))


def dial(address: Address, port: int, seconds: float) -> socket.socket:
    """Connect to an address; no name is looked up."""
    sock = socket.create_connection((str(address), port), timeout=seconds)
    # The header and the payload are two sends: without this the second waits for the first's ACK.
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return sock


def vetted(host: str, port: int, allowed: Networks, resolver: Resolver, deadline: Deadline) -> list[Address]:
    """The addresses of `host` that may be reached; `Blocked` when there is none."""
    known = literal(host)
    found = [known] if known else [ip_address(text) for text in _in_time(resolver, host, port, deadline)]
    good = [address for address in found if may_reach(address, allowed)]
    if not good:
        raise Blocked
    return good


def connect(
    addresses: Sequence[Address],
    port: int,
    allowed: Networks,
    dialer: Dialer,
    deadline: Deadline,
) -> socket.socket:
    """Connect to the first of `addresses` that answers, and make sure that it is the one."""
    failure: OSError | None = None
    for tried, address in enumerate(addresses):
        try:
            # Each gets its share, so that one black hole does not use up the others' time.
            sock = dialer(address, port, deadline.left() / (len(addresses) - tried))
        except TimeoutError:
            failure = ConnectTimeout()
            continue
        except OSError as error:
            failure = error
            continue
        try:
            peer = ip_address(sock.getpeername()[0])
        except OSError as error:
            sock.close()
            failure = error
            continue
        if peer != address or not may_reach(peer, allowed):
            sock.close()
            raise Blocked
        return sock
    raise failure or Blocked


def secure(sock: socket.socket, context: ssl.SSLContext, host: str, deadline: Deadline) -> ssl.SSLSocket:
    """TLS over a connection, the certificate checked against `host`."""
    try:
        sock.settimeout(deadline.left())
        return context.wrap_socket(sock, server_hostname=host)
    except TimeoutError:
        raise ConnectTimeout from None


def tls_context() -> ssl.SSLContext:
    """The system's trusted roots, host names checked, TLS 1.2 or newer."""
    context = ssl.create_default_context()
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context


def _in_time(resolver: Resolver, host: str, port: int, deadline: Deadline) -> Sequence[str]:
    # The system's resolver takes no timeout, so it is waited for from outside. A stuck look-up ends by
    # itself, and its thread is a daemon that holds nothing up.
    answers: queue.SimpleQueue[Sequence[str] | Exception] = queue.SimpleQueue()

    def ask() -> None:
        try:
            answers.put(resolver(host, port))
        except Exception as error:
            answers.put(error)

    threading.Thread(target=ask, name="resolve", daemon=True).start()
    try:
        answer = answers.get(timeout=deadline.left())
    except (queue.Empty, TimeoutError):
        raise DnsTimeout from None
    if isinstance(answer, Exception):
        raise answer
    return answer
