"""Which addresses a webhook may be delivered to: those of the public Internet, however they are written."""

from __future__ import annotations

import ipaddress

Address = ipaddress.IPv4Address | ipaddress.IPv6Address

# What Python's `is_global` of this or that release takes for public: protocol assignments, tunnels, site-local ones.
_SPECIAL = [
    ipaddress.ip_network(network)
    for network in ("192.0.0.0/24", "192.88.99.0/24", "64:ff9b:1::/48", "2001::/23", "2002::/16", "fec0::/10")
]
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")  # RFC 6052: the last 32 bits are an IPv4 address


def is_public(text: str) -> bool:
    """Whether `text` is an address that belongs to the public Internet.

    Not loopback, link-local, private, shared (RFC 6598), multicast, reserved or unspecified; nor an IPv6 address that
    leads to such an IPv4 address. A name is no address.
    """
    try:
        address = _meant(ipaddress.ip_address(text.partition("%")[0]))
    except ValueError:
        return False
    if any(address in network for network in _SPECIAL):
        return False
    return address.is_global and not address.is_multicast and not address.is_reserved


def is_address(text: str) -> bool:
    """Whether `text` is an address, not a name."""
    try:
        ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return False
    return True


def _meant(address: Address) -> Address:
    """The IPv4 address inside an IPv6 address that leads to one, else the address itself."""
    if isinstance(address, ipaddress.IPv4Address):
        return address
    if address in _NAT64:
        return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    return address.ipv4_mapped or address
