"""The life of a node, as a table: which fact may follow which phase. `docs/machine.md` is rendered from it.

A *unit* is whatever has attempts of its own: a node, or one item of a node with `foreach`. Rules:

- A unit waits (`PENDING`) until all its dependencies have ended and its expressions let it run.
- An attempt that did not succeed leads to `BACKOFF` when the retry policy grants another, else to `FAILED`.
- A `wait` node is `WAITING` instead of running: for its time, its signal or its approval.
- A node with `foreach` is `RUNNING` from its expansion until its last item has ended.
- A result can be there without an attempt: it was found in the cache, or an operator has given it.
- `SUCCEEDED`, `FAILED`, `SKIPPED` and `CANCELLED` are final. Only `RerunRequested`, which is about many nodes at once
  and therefore not in the table, brings nodes back to `PENDING`, from wherever they are.
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
    WAITING = 3
    SUCCEEDED = 4
    FAILED = 5
    SKIPPED = 6
    CANCELLED = 7


FINAL: Final = frozenset({Phase.SUCCEEDED, Phase.FAILED, Phase.SKIPPED, Phase.CANCELLED})


_OPEN: Final = (Phase.PENDING, Phase.RUNNING, Phase.BACKOFF, Phase.WAITING)


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
        "NodeQueued": {Phase.PENDING: Phase.PENDING, Phase.BACKOFF: Phase.BACKOFF},
        "NodeStarted": {Phase.PENDING: Phase.RUNNING, Phase.BACKOFF: Phase.RUNNING},
        "NodeWaiting": {Phase.PENDING: Phase.WAITING, Phase.BACKOFF: Phase.WAITING},
        "NodeSucceeded": {Phase.RUNNING: Phase.SUCCEEDED, Phase.WAITING: Phase.SUCCEEDED},
        "NodeSucceeded, from the cache": {Phase.PENDING: Phase.SUCCEEDED},
        "NodeFailed, to be retried": {Phase.RUNNING: Phase.BACKOFF, Phase.WAITING: Phase.BACKOFF},
        "NodeFailed": {
            Phase.PENDING: Phase.FAILED,
            Phase.RUNNING: Phase.FAILED,
            Phase.BACKOFF: Phase.FAILED,
            Phase.WAITING: Phase.FAILED,
        },
        "NodeSkipped": {Phase.PENDING: Phase.SKIPPED},
        "NodeCancelled": {
            Phase.RUNNING: Phase.CANCELLED,
            Phase.BACKOFF: Phase.CANCELLED,
            Phase.WAITING: Phase.CANCELLED,
        },
        "NodeOverridden, skipped": dict.fromkeys(_OPEN, Phase.SKIPPED),
        "NodeOverridden, with a result": dict.fromkeys(_OPEN, Phase.SUCCEEDED),
    }
)
"""fact → phase before → phase after. What is not here is illegal."""

ILLEGAL: Final = 255


def column(fact: str) -> bytes:
    """The table's row of one fact as bytes indexed by phase: the phase after, or 255 where the fact is illegal."""
    return bytes(TRANSITIONS[fact].get(phase, ILLEGAL) for phase in Phase)
