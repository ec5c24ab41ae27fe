"""What must be true of leaders, whoever elects them: read from the disk after each commit, as the oracle does.

- A term only grows, and is led under by one replica only.
- What has a concurrency key belongs to the leader, or to nobody.
- So many executions that share a key are under way as their workflow lets, and no more.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from typing import Final

from simulation.loop import Process
from simulation.oracle import Violation

from dagengine.graph.compiled import Graph

__all__ = ["Leading"]

_LEADER: Final = "SELECT holder, term FROM leases WHERE name = 'leader'"
_STRAY: Final = """
    SELECT id, owner FROM executions
    WHERE concurrency_key IS NOT NULL AND owner IS NOT NULL AND owner IS NOT ? LIMIT 1"""
_UNDER_WAY: Final = """
    SELECT workflow, concurrency_key, count(*) FROM executions
    WHERE concurrency_key IS NOT NULL AND status IN ('queued', 'running')
    AND (engine IS NOT NULL OR epoch > 0 AND (status = 'running' OR last_seq = 0))
    GROUP BY workflow, concurrency_key"""


class Leading:
    """`graphs` are the workflows of this world."""

    def __init__(self, driver: sqlite3.Connection, graphs: Mapping[str, Graph]) -> None:
        self._driver = driver
        self._graphs = graphs
        self._leader: tuple[str | None, int] = (None, 0)
        self._acts: dict[int, Process] = {}
        """By term: who has begun to act as the leader."""

    def committed(self) -> None:
        """Something was committed. Violation."""
        holder, term = self._driver.execute(_LEADER).fetchone()
        if (holder, term) != self._leader:
            if term <= self._leader[1]:
                raise Violation(f"{holder} leads under term {term}, and {self._leader} led before it")
            self._leader = holder, term
        declared = {name: graph.document.spec.concurrency for name, graph in self._graphs.items()}
        most = {name: concurrency.max for name, concurrency in declared.items() if concurrency is not None}
        if not most:
            return
        stray = self._driver.execute(_STRAY, (holder,)).fetchone()
        if stray is not None:
            raise Violation(f"{stray[0]} has a key and belongs to {stray[1]}, but {holder} leads")
        for workflow, key, count in self._driver.execute(_UNDER_WAY).fetchall():
            if count > most[workflow]:
                raise Violation(f"{count} executions of {key} are under way, {most[workflow]} at most may be")

    def acts(self, process: Process, term: int) -> None:
        """A process says that it leads under a term. Violation."""
        if self._acts.setdefault(term, process) is not process:
            raise Violation(f"{process.name} takes up term {term}, and so did {self._acts[term].name}")
