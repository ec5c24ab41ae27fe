"""Which IP addresses are not the public Internet, and what each is for.

A table of its own instead of `ipaddress`'s `is_private` and `is_global`: those change between releases of Python, and
a refusal names the range that it is for. From the IANA special-purpose registries (RFC 6890 and its updates). Used by
`guard`.
"""

from __future__ import annotations

import ipaddress
from typing import Final

__all__ = ["Address", "Network", "embedded", "read", "special"]

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

_LINK_LOCAL: Final = "link-local, where clouds serve credentials"
_SPECIAL: Final[tuple[tuple[Network, str], ...]] = tuple(
    (ipaddress.ip_network(network), words)
    for network, words in (
        ("0.0.0.0/8", "this host"),
        ("10.0.0.0/8", "private"),
        ("100.64.0.0/10", "shared by a carrier's customers"),
        ("127.0.0.0/8", "loopback"),
        ("168.63.129.16/32", "a cloud's metadata service"),
        ("169.254.0.0/16", _LINK_LOCAL),
        ("172.16.0.0/12", "private"),
        ("192.0.0.0/24", "reserved"),
        ("192.0.2.0/24", "for documentation"),
        ("192.88.99.0/24", "a 6to4 relay"),
        ("192.168.0.0/16", "private"),
        ("198.18.0.0/15", "for benchmarks"),
        ("198.51.100.0/24", "for documentation"),
        ("203.0.113.0/24", "for documentation"),
        ("224.0.0.0/4", "multicast"),
        ("240.0.0.0/4", "reserved"),
        ("::/128", "this host"),
        ("::1/128", "loopback"),
        ("2001::/23", "reserved"),  # Teredo among others: addresses that hide an IPv4 address
        ("2001:db8::/32", "for documentation"),
        ("2002::/16", "6to4, which hides an IPv4 address"),
        ("3fff::/20", "for documentation"),
        ("fc00::/7", "private"),
        ("fe80::/10", _LINK_LOCAL),
        ("fec0::/10", "private"),
        ("ff00::/8", "multicast"),
    )
)
_GLOBAL_UNICAST: Final = ipaddress.IPv6Network("2000::/3")
_NAT64: Final = ipaddress.IPv6Network("64:ff9b::/96")


def read(text: str) -> Address | None:
    """The address that `text` is, without its zone; None when it is something else, such as a name."""
    try:
        return ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return None


def embedded(address: Address) -> Address:
    """The IPv4 address that packets to an IPv4-mapped or NAT64 address end at; any other address as it is."""
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped is not None:
            return address.ipv4_mapped
        if address in _NAT64:
            return ipaddress.IPv4Address(int(address) & 0xFFFF_FFFF)
    return address


def special(address: Address) -> str:
    """What the range of an address is for, in words, when it is not the public Internet; else an empty text."""
    address = embedded(address)
    for network, words in _SPECIAL:
        if address.version == network.version and address in network:
            return f"{words} ({network})"
    if address.version == 6 and address not in _GLOBAL_UNICAST:
        return "reserved (outside 2000::/3)"
    return ""
