"""What the engine's operator lets requests do. Made from settings, or by whoever embeds an engine."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from dagengine.executors.http import guard

__all__ = ["FROM_ENVIRONMENT", "Policy", "check_proxy"]

FROM_ENVIRONMENT: Final = "environment"
"""As a proxy: the one that HTTP_PROXY, HTTPS_PROXY, ALL_PROXY and NO_PROXY name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """The engine's part of every request. Raises ValueError when a part of it makes no sense.

    `allow` and `deny` are rules (see `guard`); with `only_allowed`, nothing else can be reached. `ca` is a PEM file of
    authorities that are trusted beside those of the system. `insecure` lets nodes say `verify: false`. `connections` is
    how many requests run at a time; more wait. `max_response` is the bytes that any node may read of a response,
    whatever its `output` says. `proxy` is a URL, `environment`, or empty: none, whatever the environment says.
    """

    allow: tuple[str, ...] = ()
    deny: tuple[str, ...] = ()
    only_allowed: bool = False
    ca: Path | None = None
    insecure: bool = False
    connections: int = 100
    max_response: int = 16 << 20
    proxy: str = ""

    def __post_init__(self) -> None:
        for rule in (*self.allow, *self.deny):
            guard.read_rule(rule)
        if self.connections < 1 or self.max_response < 1:
            raise ValueError("`connections` and `max_response` must be at least 1")
        check_proxy(self.proxy)


def check_proxy(proxy: str) -> None:
    """Raises ValueError, which does not quote it, when `proxy` is none of what it can be."""
    if proxy in ("", FROM_ENVIRONMENT):
        return
    try:
        parts = urlsplit(proxy)
        fine = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        fine = False
    if not fine:
        raise ValueError("the proxy must be a URL such as http://proxy.example.com:3128, or 'environment'")
