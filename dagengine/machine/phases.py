"""The life of a node, as a table: which fact may follow which phase. `docs/machine.md` is rendered from it.

A *unit* is whatever has attempts of its own: a node, or one item of a node with `foreach`. Rules:

- A unit waits (`PENDING`) until all its dependencies have ended and its expressions let it run.
- An attempt that did not succeed leads to `BACKOFF` when the retry policy grants another, else to `FAILED`.
- A node with `foreach` is `RUNNING` from its expansion until its last item has ended.
- `SUCCEEDED`, `FAILED`, `SKIPPED` and `CANCELLED` are final.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import IntEnum
from types import MappingProxyType
from typing import Final

__all__ = ["FINAL", "TRANSITIONS", "Outcome", "Phase", "column"]


class Phase(IntEnum):
    """Where a unit is in its life."""

    PENDING = 0
    RUNNING = 1
    BACKOFF = 2
    SUCCEEDED = 3
    FAILED = 4
    SKIPPED = 5
    CANCELLED = 6


FINAL: Final = frozenset({Phase.SUCCEEDED, Phase.FAILED, Phase.SKIPPED, Phase.CANCELLED})


class Outcome(IntEnum):
    """What an ended node means to those that depend on it. `FAILED` includes skipped for a failure further up."""

    NONE = 0
    SUCCEEDED = 1
    FAILED = 2
    SKIPPED = 3
    CANCELLED = 4


TRANSITIONS: Final[Mapping[str, Mapping[Phase, Phase]]] = MappingProxyType(
    {
        "NodeExpanded": {Phase.PENDING: Phase.RUNNING},
        "NodeStarted": {Phase.PENDING: Phase.RUNNING, Phase.BACKOFF: Phase.RUNNING},
        "NodeSucceeded": {Phase.RUNNING: Phase.SUCCEEDED},
        "NodeFailed, to be retried": {Phase.RUNNING: Phase.BACKOFF},
        "NodeFailed": {Phase.PENDING: Phase.FAILED, Phase.RUNNING: Phase.FAILED},
        "NodeSkipped": {Phase.PENDING: Phase.SKIPPED},
        "NodeCancelled": {Phase.RUNNING: Phase.CANCELLED, Phase.BACKOFF: Phase.CANCELLED},
    }
)
"""fact → phase before → phase after. What is not here is illegal."""

ILLEGAL: Final = 255


def column(fact: str) -> bytes:
    """The table's row of one fact as bytes indexed by phase: the phase after, or 255 where the fact is illegal."""
    return bytes(TRANSITIONS[fact].get(phase, ILLEGAL) for phase in Phase)
