"""How much work there is for the engines of one workload, and what each of them has: from what the dispatcher knows.

Counted is what those engines have, what engines have that are not connected (it will be placed anew), and what waits
and could be run by an engine of this workload. What such engines can run is what they have said of themselves; while
none has ever been seen, anything that waits may be theirs, so that the first one can come. Work of other engines, and
what waits for another pool, is left out: no number of these would help.

An execution that has its engine for itself counts as much as a whole engine. Pure; called by `scaler`.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from orchestrator.dispatcher.demand import Demand, EngineLoad
from orchestrator.dispatcher.placement import Needs

__all__ = ["Load", "Offers", "executions_of", "measure", "offers"]

Offers = frozenset[tuple[frozenset[str], frozenset[str], frozenset[tuple[str, str]], bool]]
"""What engines can run: executor types, pools of their own, labels, whether they can be reserved. One for each kind."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """Executions that engines of the workload have, that wait for one, and that wait for none of these.

    `exclusive` are those among the first two that want an engine each.
    """

    running: int = 0
    waiting: int = 0
    elsewhere: int = 0
    exclusive: int = 0
    room: int = 0
    """The most executions that the smallest of these engines takes; 0 while none is known."""

    def engines(self, target: int) -> int:
        """How many engines that takes, with `target` executions for each."""
        shared = self.running + self.waiting - self.exclusive
        return -(-(shared + self.exclusive * target) // target)


def offers(demand: Demand, addresses: Collection[str]) -> Offers:
    """What the engines at some addresses can run, those that are connected."""
    return frozenset(
        (found.executors, found.pools, found.labels, found.reservable)
        for engine in demand.engines.values()
        if engine.connected and engine.address in addresses and (found := engine.candidate) is not None
    )


def measure(demand: Demand, addresses: Collection[str], known: Offers) -> Load:
    """The work for a workload whose pods are at `addresses`; `known` is what its engines can run."""
    engines = [engine for engine in demand.engines.values() if engine.address in addresses or not engine.connected]
    fit = {needs: count for needs, count in demand.waiting.items() if not known or _fits(needs, known)}
    waiting = sum(fit.values())
    return Load(
        running=sum(engine.executions for engine in engines),
        waiting=waiting,
        elsewhere=sum(demand.waiting.values()) - waiting,
        exclusive=sum(engine.exclusive for engine in engines)
        + sum(count for needs, count in fit.items() if needs.exclusive),
        room=min((each.candidate.capacity for each in engines if each.candidate is not None), default=0),
    )


def executions_of(demand: Demand, address: str, *, by_address: Mapping[str, EngineLoad], draining: bool) -> int | None:
    """How many executions the pod at `address` may have; None when nobody can tell.

    Of a pod that is marked as `draining` nobody can tell before its engine is passed over here. What engines that are
    not connected are said to have may be with any pod whose engine is not known.
    """
    engine = by_address.get(address)
    if engine is None or not engine.connected:
        lost = any(each.executions for each in demand.engines.values() if not each.connected)
        return None if lost else 0
    if draining and not engine.draining:
        return None
    return engine.executions


def _fits(needs: Needs, known: Offers) -> bool:
    return any(
        needs.executors <= executors
        and needs.pools <= pools
        and needs.labels <= labels
        and (reservable or not needs.exclusive)
        for executors, pools, labels, reservable in known
    )
