"""What there is to run, over all replicas: what engines have, and what waits for one.

Counted in the store, which knows of everybody's: one question, whose cost follows the number of executions that
somebody owns, not of those that are parked. What waits for others under its concurrency key is known to the leader
alone, which is the one that asks; it is no reason for more engines.
"""

from __future__ import annotations

from collections import Counter

import msgspec

from dagengine.clock import Clock
from orchestrator.dispatcher.ledger import Ledger
from orchestrator.dispatcher.placement import Candidate, Needs
from orchestrator.dispatcher.plans import Plans
from orchestrator.store.base import Store

__all__ = ["Demand", "EngineLoad", "measure"]


class EngineLoad(msgspec.Struct, frozen=True, kw_only=True):
    """An engine, and how many executions it has: as it says, and as the store says, whichever is more.

    `exclusive` are those among them that have it for themselves. `candidate` is what placement sees of it; None where
    nothing is known of it but that executions are said to be there. `draining`: nobody here gives it anything more.
    """

    engine: str
    address: str = ""
    connected: bool = False
    draining: bool = False
    executions: int = 0
    exclusive: int = 0
    candidate: Candidate | None = None


class Demand(msgspec.Struct, frozen=True, kw_only=True):
    """The engines, by id, and how many executions wait for one, by what they need."""

    engines: dict[str, EngineLoad]
    waiting: dict[Needs, int]


async def measure(store: Store, ledger: Ledger, plans: Plans, clock: Clock) -> Demand:
    """Ask the store, and put together with what is known here. StoreError."""
    held: Counter[str] = Counter()
    exclusive: Counter[str] = Counter()
    waiting: Counter[Needs] = Counter()
    rows = await store.outstanding(now=clock.now())
    known = {digest: await plans.needs(digest) or Needs() for digest in {row.digest for row in rows}}
    for row in rows:
        needs = known[row.digest]
        if row.engine is None:
            waiting[needs] += row.executions
            continue
        held[row.engine] += row.executions
        if needs.exclusive:
            exclusive[row.engine] += row.executions
    for lane in ledger.queue:
        waiting[lane.needs] += sum(1 for each in lane.waiting.values() if each.record.concurrency_key is not None)
    engines = {
        name: EngineLoad(engine=name, executions=count, exclusive=exclusive[name]) for name, count in held.items()
    }
    for engine in ledger.roster.engines.values():
        engines[engine.id] = EngineLoad(
            engine=engine.id,
            address=engine.address,
            connected=engine.connected,
            draining=engine.standing[0] == "draining",
            executions=max(engine.held, held[engine.id]),
            exclusive=exclusive[engine.id],
            candidate=engine.candidate(),
        )
    return Demand(engines=engines, waiting={needs: count for needs, count in waiting.items() if count})
