"""Candidates for a Lease, over the real client: time is each one's own, and stands still until the test moves it."""

from __future__ import annotations

import asyncio
import random

from dagengine.testing import START, VirtualClock
from orchestrator.kubernetes.client import KubernetesCluster
from orchestrator.kubernetes.lease import LeaseElection

NAME = "workflow-orchestrator"
DURATION = 60
"""Seconds, of a clock that the test moves."""
SECOND = 1_000_000


class Candidate:
    """One replica's candidacy."""

    def __init__(self, name: str, client: KubernetesCluster, *, skew: int = 0) -> None:
        self.client = client
        self.clock = VirtualClock(at=START + skew * SECOND)
        self.terms: list[int | None] = []
        self.elected = asyncio.Event()
        self.election = LeaseElection(
            client,
            NAME,
            name=name,
            duration=DURATION,
            clock=self.clock,
            wall=self.clock,
            chance=random.Random(name),
        )
        self.task = asyncio.create_task(self.election.run(self._changed, fit=lambda: True))

    def _changed(self) -> None:
        self.terms.append(self.election.term)
        self.elected.set()

    async def asleep(self) -> None:
        async with asyncio.timeout(20):
            await self.clock.asleep()

    async def turn(self) -> None:
        """Time goes by until it does something next, and it does that."""
        assert self.clock.next_wake is not None
        self.clock.advance(self.clock.next_wake - self.clock.now())
        await self.asleep()

    async def passes(self, seconds: float) -> None:
        """So much time goes by, and it does all that it does in that time."""
        until = self.clock.now() + round(seconds * SECOND)
        while self.clock.next_wake is not None and self.clock.next_wake <= until:
            await self.turn()
        self.clock.advance(until - self.clock.now())

    async def stop(self) -> None:
        self.task.cancel()
        await asyncio.gather(self.task, return_exceptions=True)
