"""Public IP addresses: an allow-list for IPv6, a deny-list for IPv4, and Python's own check on top.

Python's `is_global` alone is true for 224.0.0.1, 64:ff9b::/96, 2002::/16 and ::127.0.0.1, through which a packet can
reach the network inside. Source: IANA's IPv4 and IPv6 special-purpose address registries (RFC 6890 and its updates).
"""

from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address

Address = IPv4Address | IPv6Address

_NOT_PUBLIC_V4 = tuple(
    IPv4Network(network)
    for network in (
        "0.0.0.0/8",  # "this network"; Linux connects 0.0.0.0 to itself
        "10.0.0.0/8",
        "100.64.0.0/10",  # carrier-grade NAT; 100.100.100.200 is a cloud's metadata
        "127.0.0.0/8",
        "168.63.129.16/32",  # Azure's host, as its machines see it
        "169.254.0.0/16",  # link-local; 169.254.169.254 is most clouds' metadata
        "172.16.0.0/12",
        "192.0.0.0/24",  # protocol assignments; 192.0.0.192 is a cloud's metadata
        "192.0.2.0/24",  # documentation, like 198.51.100.0/24 and 203.0.113.0/24
        "192.88.99.0/24",  # relays of 6to4
        "192.168.0.0/16",
        "198.18.0.0/15",  # benchmarks
        "198.51.100.0/24",
        "203.0.113.0/24",
        "224.0.0.0/4",  # multicast
        "240.0.0.0/4",  # reserved, and broadcast
    )
)
# The range assigned to networks. Everything else is special: IPv4 in disguise (::, ::ffff:0:0/96, 64:ff9b::/96),
# loopback, ULA (fc00::/7), link-local (fe80::/10), site-local (fec0::/10), multicast (ff00::/8).
_PUBLIC_V6 = IPv6Network("2000::/3")
_NOT_PUBLIC_V6 = tuple(
    IPv6Network(network)
    for network in (
        "2001::/23",  # protocol assignments, among them Teredo (2001::/32), which holds an IPv4 address
        "2001:db8::/32",  # documentation, like 3fff::/20
        "2002::/16",  # 6to4: holds an IPv4 address
        "3fff::/20",
    )
)


def is_public(address: Address) -> bool:
    """True if `address` means the same machine everywhere on the internet, and never one inside a network."""
    if isinstance(address, IPv4Address):
        return address.is_global and not any(address in network for network in _NOT_PUBLIC_V4)
    if address.scope_id is not None or address not in _PUBLIC_V6:
        return False
    return address.is_global and not any(address in network for network in _NOT_PUBLIC_V6)


def parse_address(text: str) -> Address | None:
    """Parse an address in the usual notation only (no octal, no hexadecimal, no scope); None for a name."""
    try:
        address = ip_address(text)
    except ValueError:
        return None
    return None if "%" in text else address
