"""Engines in the orchestrator's own process have leases as all others have, and keep them as long as it lives."""

from __future__ import annotations

import asyncio

from dagengine import DAGEngine, Workflow
from dagengine.context import attempt
from orchestrator import Options, Orchestrator

LEASE = 0.25


async def test_an_effect_that_takes_longer_than_the_lease_is_done_once() -> None:
    begun: list[str] = []

    async def slow() -> str:
        begun.append(attempt.idempotency_key)
        await asyncio.sleep(3 * LEASE)  # what takes this long is the effect itself
        return "done"

    workflow = Workflow("slow", "1.0.0")
    workflow.python("slow", slow)
    async with Orchestrator(options=Options(engine_lost_after=LEASE)) as orch:
        orch.register_engine("engine-1", DAGEngine())
        await orch.register_workflow("slow", "1.0.0", workflow)
        assert await orch.execute_workflow("slow") == {"slow": "done"}
    assert len(begun) == 1
