"""The numbers of a monitor as plain values: cheap to add to, free of any metrics library."""

from __future__ import annotations

import bisect
from collections.abc import Mapping, Sequence
from typing import Final

import msgspec

from orchestrator.verbs import PoolView

__all__ = ["COMMIT_SECONDS", "EXECUTION_SECONDS", "Discovered", "Histogram", "Levels", "Scaled", "Snapshot"]

EXECUTION_SECONDS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 900, 3_600, 14_400)
"""Upper bounds of the buckets of execution durations."""

COMMIT_SECONDS: Final = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5)
"""Upper bounds of the buckets of commit durations."""


class Histogram:
    """Counts of values by size. `bounds` are the inclusive upper bounds of the buckets, ascending."""

    __slots__ = ("bounds", "counts", "total")

    def __init__(self, bounds: Sequence[float]) -> None:
        self.bounds = tuple(bounds)
        self.counts = [0] * (len(self.bounds) + 1)
        """Values per bucket, not accumulated; the last one is for what is above every bound."""
        self.total = 0.0

    def add(self, value: float) -> None:
        """Count a value."""
        self.counts[bisect.bisect_left(self.bounds, value)] += 1
        self.total += value

    def cumulative(self) -> list[tuple[str, int]]:
        """`(bound, values up to it)` as Prometheus wants them, the last bound being `+Inf`."""
        rows: list[tuple[str, int]] = []
        so_far = 0
        for bound, count in zip((*map(float, self.bounds), "+Inf"), self.counts, strict=True):
            so_far += count
            rows.append((str(bound), so_far))
        return rows


class Discovered(msgspec.Struct, frozen=True, kw_only=True):
    """How a way of finding engines stands: how many it names, and whether it cannot tell of changes at present."""

    source: str
    engines: int
    frozen: bool
    changes: int
    """Sets that it has told of since the start."""


class Scaled(msgspec.Struct, frozen=True, kw_only=True):
    """How the workload of the engines is scaled: what there is to run for it, and what is made of that.

    `desired` is the number of engines that follows, `replicas` the one that the workload is to have now, `draining`
    how many of them are being emptied. While `frozen`, all of them are of the past.
    """

    desired: int
    replicas: int
    draining: int
    load: int
    frozen: bool
    changes: dict[str, int]
    """Times that the workload was scaled, `up` and `down`."""


class Levels(msgspec.Struct, frozen=True, kw_only=True):
    """What is so right now: executions that engines have and that wait for one, engines by state, and pools."""

    running: int = 0
    queued: int = 0
    engines: Mapping[str, int] = {}
    pools: Sequence[PoolView] = ()
    discoveries: Sequence[Discovered] = ()
    scaling: Scaled | None = None
    """None where engines are not scaled, or another replica does that."""


class Snapshot(msgspec.Struct, frozen=True, kw_only=True):
    """Everything a monitor knows at one moment. Counts are since the monitor was made, not since the store was."""

    running: int
    queued: int
    engines: dict[str, int]
    """Engines by state."""
    started: int
    """Executions that were accepted."""
    reopened: int
    """Executions that were to go on after they had ended; those are counted once more when they end again."""
    finished: dict[str, int]
    """Executions that ended, by status."""
    facts_committed: int
    facts_refused: dict[str, int]
    """Facts that were not taken, by reason: `gap` (earlier ones were missing) or `fenced` (an epoch of the past)."""
    facts_lost: int
    """Facts that engines were told to be committed, and that the store does not have."""
    leads: bool
    """Whether this orchestrator leads the replicas."""
    leaderships: int
    """Times that it has become the leader."""
    adopted: int
    """Executions that engines went on with after a session, or the owner, had changed."""
    parked: int
    """Times that an execution was taken from its engine because it only waited."""
    taken_over: int
    """Executions on engines that were another owner's before."""
    occurrences: dict[str, int]
    """Occurrences of cron triggers, by outcome: `started`, `refused` or `skipped`."""
