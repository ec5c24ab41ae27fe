"""Sizes and times that both ends of a session agree on.

They are constants of the protocol, not settings: an engine and an orchestrator that disagreed on them would refuse
each other's messages.
"""

from __future__ import annotations

from typing import Final

__all__ = [
    "BATCH_BYTES",
    "BATCH_FACTS",
    "KEEPALIVE_SECONDS",
    "KEEPALIVE_TIMEOUT_SECONDS",
    "LIVENESS",
    "MAX_FACT_BYTES",
    "MAX_LOG_LINE_BYTES",
    "MAX_MESSAGE_BYTES",
    "MAX_OPENINGS",
    "OPENING_BYTES",
    "OPENING_SECONDS",
    "REPORT_SECONDS",
    "SERVICE",
    "SHORTEST_REPORT_SECONDS",
    "SILENCE_SECONDS",
]

SERVICE: Final = "dagengine.wire.v1.Engine"
"""Full name of the gRPC service; also its name in the health service."""

LIVENESS: Final = "liveness"
"""Name in the health service for whether the process works at all: an engine that drains, or is full, still does."""

MAX_MESSAGE_BYTES: Final = 32 * 1024 * 1024
"""Largest message that either side accepts (gRPC's own default is 4 MiB)."""

BATCH_BYTES: Final = 1024 * 1024
"""A sender stops adding to a message at this size. One large item may still take it over."""

BATCH_FACTS: Final = 4_096
"""A sender stops adding to a message at this number of facts."""

MAX_FACT_BYTES: Final = 24 * 1024 * 1024
"""Largest encoded fact: it must fit a message together with a batch that was begun."""

MAX_LOG_LINE_BYTES: Final = 64 * 1024
"""Longer log lines are cut, with a note at their end."""

REPORT_SECONDS: Final = 3.0
"""An engine reports its load at least this often, which also shows that it lives."""

SHORTEST_REPORT_SECONDS: Final = 0.05
"""And not more often than this when nothing has changed, however short a lease is."""

SILENCE_SECONDS: Final = 15.0
"""An orchestrator that hears nothing for this long takes the session for dead."""

KEEPALIVE_SECONDS: Final = 10.0
"""Each side pings a connection that was quiet for this long, …"""

KEEPALIVE_TIMEOUT_SECONDS: Final = 5.0
"""… and takes it for dead when no answer comes within this."""

OPENING_SECONDS: Final = 10.0
"""Each step of a session's opening must come within this."""

OPENING_BYTES: Final = 64 * 1024
"""Largest message of an opening: its sender has not yet proven who it is."""

MAX_OPENINGS: Final = 64
"""Openings that an engine goes through at a time; who comes on top of them is to try again."""
