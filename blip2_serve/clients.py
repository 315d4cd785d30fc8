"""The client that a request belongs to, by its address: clients share the server fairly, requests do not.

Behind proxies every connection comes from one of them, so those that are trusted say in X-Forwarded-For whom they
speak for. Whoever owns an IPv6 address owns its /64 as well, and counts as one client with it.
"""

from collections.abc import Collection, Sequence
from contextvars import ContextVar
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

Network = IPv4Network | IPv6Network

NOBODY = "local"
current_client: ContextVar[str] = ContextVar("current_client", default=NOBODY)
"""The client that the running request belongs to; NOBODY for the server's own."""

_MAX_FORWARDS = 16


def networks_of(listed: str) -> tuple[Network, ...]:
    """Parse addresses and networks with commas between them, such as `10.0.0.0/8,2001:db8::1`.

    Raises:
        ValueError: one of them is neither.
    """
    return tuple(ip_network(each.strip(), strict=False) for each in listed.split(",") if each.strip())


def client_of(peer: str | None, forwarded_for: Sequence[str], trusted: Collection[Network]) -> str:
    """Name the client behind a connection from `peer`: the nearest address that is no trusted proxy.

    `forwarded_for` are the values of X-Forwarded-For, nearest last; what stands before an untrusted address may be
    invented, and is not read. A connection without an address, such as a Unix socket's, is NOBODY's.
    """
    if peer is None:
        return NOBODY
    named = _parsed(peer)
    for text in reversed(forwarded_for[-_MAX_FORWARDS:]):
        if named is None or not any(named in network for network in trusted):
            break
        forwarded = _parsed(text)
        if forwarded is None:
            break
        named = forwarded
    return peer if named is None else _as_client(named)


def _parsed(text: str) -> IPv4Address | IPv6Address | None:
    """Parse an address, perhaps with a port or brackets as some proxies write it; IPv4 in IPv6 becomes IPv4."""
    host = text.strip()
    if host.startswith("["):
        host = host[1:].partition("]")[0]
    elif host.count(":") == 1:
        host = host.partition(":")[0]
    try:
        address = ip_address(host.partition("%")[0])
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address


def _as_client(address: IPv4Address | IPv6Address) -> str:
    if isinstance(address, IPv4Address):
        return str(address)
    return str(IPv6Network((int(address) >> 64 << 64, 64)))
