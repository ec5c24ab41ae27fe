"""Static discovery: a list of addresses that is known at the start (`ENGINES=host:port,…`).

Host names are resolved by the transport each time it dials, so a list of names survives a change of their addresses.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import AsyncIterator, Iterable
from typing import Final

from dagengine.errors import SettingsError
from orchestrator.discovery.base import Address
from orchestrator.discovery.level import Level

__all__ = ["StaticDiscovery", "parse_addresses"]

_EXAMPLE: Final = "write host:port, for example engine-1:50051 or [::1]:50051"
_HOST_NAME: Final = re.compile(r"(?!-)[A-Za-z0-9_-]{1,63}(?<!-)(\.(?!-)[A-Za-z0-9_-]{1,63}(?<!-))*\.?")


def parse_addresses(text: str) -> frozenset[Address]:
    """The addresses in a list separated by commas or white space; an empty text is an empty set.

    Raises SettingsError that names the entry which is not `host:port`, or is there twice.
    """
    found: set[Address] = set()
    for entry in re.split(r"[,\s]+", text):
        if not entry:
            continue
        address = _parse_address(entry)
        if address in found:
            raise SettingsError(f"engine address {entry!r} is in the list twice")
        found.add(address)
    return frozenset(found)


def _parse_address(entry: str) -> Address:
    if "://" in entry:
        raise SettingsError(f"engine address {entry!r} is a URL: {_EXAMPLE}")
    host, colon, port = entry.rpartition(":")
    if not colon or not host:
        raise SettingsError(f"engine address {entry!r} lacks a host or a port: {_EXAMPLE}")
    if not (port.isascii() and port.isdigit() and 1 <= int(port) <= 65_535):
        raise SettingsError(f"engine address {entry!r} has a port that is not a number from 1 to 65535: {_EXAMPLE}")
    if host.startswith("["):
        if not (host.endswith("]") and _is_ipv6(host[1:-1])):
            raise SettingsError(f"engine address {entry!r} has no IPv6 address in its brackets: {_EXAMPLE}")
    elif ":" in host:
        raise SettingsError(f"engine address {entry!r} has an IPv6 address without brackets: {_EXAMPLE}")
    elif not _HOST_NAME.fullmatch(host):
        raise SettingsError(f"engine address {entry!r} has no valid host name: {_EXAMPLE}")
    return Address("grpc", f"{host.lower()}:{int(port)}")


def _is_ipv6(text: str) -> bool:
    try:
        ipaddress.IPv6Address(text)
    except ValueError:
        return False
    return True


class StaticDiscovery:
    """A set of addresses that stays as it is."""

    def __init__(self, addresses: Iterable[Address]) -> None:
        self._level = Level(frozenset(addresses))

    @property
    def trouble(self) -> str:
        """Nothing: a list cannot be out of date."""
        return ""

    @property
    def leaving(self) -> frozenset[Address]:
        """None: a list does not tell."""
        return frozenset()

    async def run(self) -> None:
        """Nothing to do."""

    def watch(self) -> AsyncIterator[frozenset[Address]]:
        """The set, once; then nothing until the discovery is closed."""
        return self._level.watch()

    async def close(self) -> None:
        """End every watch."""
        self._level.close()
