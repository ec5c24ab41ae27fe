"""Where requests may go: the operator's rules first, then the ranges that are not the public Internet.

A workflow may come from somebody who must not reach what the engine's machine can reach: the metadata service of a
cloud, a database next door, the engine itself. So every connection is judged by the address that it is really made to
(`network` asks, after the one lookup of the name), and by the name and the port that were asked for.

A rule is a name (`api.example.com`), the names below one (`*.example.com`), any (`*`), an address or a network
(`10.0.0.0/8`, `fd00::/8`), each with a port where it is for one only (`localhost:8080`, `[::1]:8080`). Denying wins.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from dagengine.executors.http import addresses

__all__ = ["Guard", "Rule", "read_rule"]

_NAME: Final = re.compile(r"(?P<name>\*|(?:\*\.)?[a-z0-9_](?:[a-z0-9_.-]*[a-z0-9_])?)\.?")
_RULE: Final = re.compile(r"(?:\[(?P<bracketed>[^\]]+)\]|(?P<bare>[^:\[\]]+))(?::(?P<port>[0-9]+))?")
_EXPECTED: Final = "write a name, *.domain, an address or a network such as 10.0.0.0/8, and :port for one port only"


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """What one rule is about: names or addresses, at any port or at one. `text` is how the operator wrote it."""

    text: str
    name: str = ""
    network: addresses.Network | None = None
    port: int | None = None

    def matches(self, host: str, port: int, address: addresses.Address | None) -> bool:
        """Whether the rule is about `host`, at `port`, when it is reached at `address` (None: that is not known)."""
        if self.port is not None and self.port != port:
            return False
        if self.network is not None:
            return address is not None and any(
                form.version == self.network.version and form in self.network
                for form in (address, addresses.embedded(address))
            )
        if self.name.startswith("*"):
            return self.name == "*" or host.endswith(self.name[1:])
        return host == self.name


def read_rule(text: str) -> Rule:
    """The rule that `text` is. Raises ValueError that says what a rule looks like."""
    written = text.strip()
    if (network := _network(written)) is not None:  # an IPv6 address without brackets: all of its colons are its own
        return Rule(text=written, network=network)
    match = _RULE.fullmatch(written)
    if match is None or (port := int(match["port"] or 1)) not in range(1, 65_536):
        raise ValueError(f"'{written}' is no rule: {_EXPECTED}")
    at = port if match["port"] else None
    host = (match["bracketed"] or match["bare"]).lower()
    if (network := _network(host)) is not None:
        return Rule(text=written, network=network, port=at)
    name = None if match["bracketed"] else _NAME.fullmatch(host)
    if name is None or host == "*.":
        raise ValueError(f"'{written}' is no rule: {_EXPECTED}")
    return Rule(text=written, name=name["name"], port=at)


class Guard:
    """Judges where requests go. Raises ValueError for a rule that is none."""

    def __init__(self, *, allow: Iterable[str] = (), deny: Iterable[str] = (), only_allowed: bool = False) -> None:
        self._allow = tuple(map(read_rule, allow))
        self._deny = tuple(map(read_rule, deny))
        self._only_allowed = only_allowed

    def refusal(self, host: str, port: int, address: addresses.Address | None) -> str:
        """Why `host` at `port` must not be reached at `address`, with the setting; empty when it may be.

        Without an address (a proxy will look the name up) rules about names count, and `host` when it is an address.
        """
        host = host.lower().rstrip(".")
        address = address or addresses.read(host)
        if rule := _first(self._deny, host, port, address):
            return f"the rule '{rule.text}' of ENGINE_HTTP_DENY closes it"
        if _first(self._allow, host, port, address):
            return ""
        if self._only_allowed:
            return "ENGINE_HTTP_ONLY_ALLOWED is set, and no rule of ENGINE_HTTP_ALLOW opens it"
        if address is not None and (words := addresses.special(address)):
            where = f"{address} is" if str(address) == host else f"{host} is at {address}, which is"
            return f"{where} {words}, and no rule of ENGINE_HTTP_ALLOW opens it"
        return ""


def _first(rules: Iterable[Rule], host: str, port: int, address: addresses.Address | None) -> Rule | None:
    return next((rule for rule in rules if rule.matches(host, port, address)), None)


def _network(text: str) -> addresses.Network | None:
    try:
        return ipaddress.ip_network(text, strict=False)
    except ValueError:
        return None
