"""Placement: which engine gets an execution. A pure function of the fleet and its load; called once per execution.

Three strategies:

`consistent-hash`
    The execution goes to the home engine of its key (its workflow version, so that compiled code is warm there), with
    *bounded loads* (Mirrokni, Thorup, Zadimoghaddam: "Consistent Hashing with Bounded Loads", 2016): the engine may
    hold at most ⌈1.25 (running + 1) / n⌉ executions, counted over the n engines that could take this one. What would
    go over walks on along the ring. With engines of one capacity there always is one below the bound. With different
    capacities, all those below the bound may be full: then the next engine on the ring with room takes it, because
    a bound that left capacity idle would be no use.
`round-robin`
    Engines take turns in the order of their names.
`least-loaded`
    The engine with the smallest share of its capacity in use; among equals the first by name.

Every strategy passes over engines that are not ready, lack an executor, are excluded, or hold as many executions as
their capacity. When that leaves none, the answer is a machine-readable reason.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from itertools import islice, repeat
from typing import Final, Literal, assert_never, get_args

import msgspec

from orchestrator.dispatcher.ring import Ring

__all__ = ["STRATEGIES", "Candidate", "EngineState", "Fleet", "Placement", "Strategy", "bound", "choose"]

Strategy = Literal["consistent-hash", "round-robin", "least-loaded"]
STRATEGIES: Final[tuple[Strategy, ...]] = get_args(Strategy)

_FIRST_STEPS: Final = 24
"""Points that are looked at one by one before the open engines are gathered, which costs a pass over all engines."""

EngineState = Literal["connecting", "ready", "draining", "unreachable"]


class Candidate(msgspec.Struct, frozen=True, kw_only=True):
    """What placement knows of an engine, beside its load: the executor types that it offers, and its own pools."""

    engine: str
    capacity: int
    state: EngineState
    executors: frozenset[str]
    pools: frozenset[str] = frozenset()


class Placement(msgspec.Struct, frozen=True, gc=False):
    """The engine that gets the execution, or the reason why none does; exactly one of the two is set.

    Reasons: `no_engine` (none is connected), `all_draining`, `no_executor:<type>` (no ready engine offers it;
    several types are joined by `+`), `no_pool:<name>` (none of those that do has the pool), `engines_unable` (all that
    could are excluded), `engines_full`.
    """

    engine: str | None = None
    reason: str | None = None


class _Eligible(msgspec.Struct, frozen=True):
    """Capacities of the engines that could take an execution, in order of their names; or why there are none."""

    capacities: dict[str, int]
    reason: str | None = None


class Fleet:
    """The engines as they stand, their load apart. Immutable: make a new one when an engine comes, goes or changes.

    Give the fleet before as `previous`: the ring is then only built anew when the set of engines is another.
    """

    __slots__ = ("_eligible", "candidates", "ring")

    def __init__(self, candidates: Iterable[Candidate] = (), *, previous: Fleet | None = None) -> None:
        """Raises ValueError when two candidates have the same name."""
        ordered = sorted(candidates, key=lambda candidate: candidate.engine)
        self.candidates: dict[str, Candidate] = {candidate.engine: candidate for candidate in ordered}
        if len(self.candidates) != len(ordered):
            raise ValueError("two candidates have the same engine name")
        self.ring: Ring = (previous.ring if previous else Ring()).with_engines(self.candidates)
        self._eligible: dict[tuple[frozenset[str], frozenset[str]], _Eligible] = {}

    def eligible(self, required: frozenset[str], pools: frozenset[str] = frozenset()) -> _Eligible:
        """The ready engines that offer all of the executors `required`, and have all of `pools`."""
        known = self._eligible.get((required, pools))
        if known is None:
            known = self._eligible[required, pools] = self._select(required, pools)
        return known

    def _select(self, required: frozenset[str], pools: frozenset[str]) -> _Eligible:
        ready = [candidate for candidate in self.candidates.values() if candidate.state == "ready"]
        if not ready:
            draining = any(candidate.state == "draining" for candidate in self.candidates.values())
            return _Eligible({}, "all_draining" if draining else "no_engine")
        able = {candidate.engine: candidate.capacity for candidate in ready if required <= candidate.executors}
        if not able:
            offered = frozenset().union(*(candidate.executors for candidate in ready))
            # Each type may be offered somewhere, but all of them by nobody: then the combination is what is missing.
            missing = sorted(required - offered) or sorted(required)
            return _Eligible({}, f"no_executor:{'+'.join(missing)}")
        fit = {engine: capacity for engine, capacity in able.items() if pools <= self.candidates[engine].pools}
        if not fit:
            declared = frozenset[str]().union(*(self.candidates[engine].pools for engine in able))
            return _Eligible({}, f"no_pool:{'+'.join(sorted(pools - declared) or sorted(pools))}")
        return _Eligible(fit)


def bound(running: int, engines: int) -> int:
    """The most executions that one of `engines` may hold when one more joins the `running` ones: ⌈1.25 mean⌉."""
    return -(-5 * (running + 1) // (4 * engines))


def choose(
    strategy: Strategy,
    key: str,
    fleet: Fleet,
    running: Mapping[str, int],
    *,
    required_executors: frozenset[str] = frozenset(),
    required_pools: frozenset[str] = frozenset(),
    excluded: Collection[str] = (),
    turn: int = 0,
) -> Placement:
    """The engine for one execution.

    `key` is the workflow version, `id@version`. `running` counts the executions that each engine holds (none where
    it has no entry), those that were just given to it included. `excluded` engines have said that they are unable to
    run this execution. `turn` is the number of placements before this one (`round-robin` only).
    """
    eligible = fleet.eligible(required_executors, required_pools)
    if eligible.reason is not None:
        return Placement(reason=eligible.reason)
    capacities = eligible.capacities
    if excluded:
        capacities = {engine: capacity for engine, capacity in capacities.items() if engine not in excluded}
        if not capacities:
            return Placement(reason="engines_unable")
    match strategy:
        case "consistent-hash":
            engine = _by_hash(key, fleet.ring, capacities, running)
        case "round-robin":
            engine = _by_turn(turn, capacities, running)
        case "least-loaded":
            engine = _by_load(capacities, running)
        case _:
            assert_never(strategy)
    return Placement(engine=engine) if engine is not None else Placement(reason="engines_full")


def _by_hash(key: str, ring: Ring, capacities: dict[str, int], running: Mapping[str, int]) -> str | None:
    held = running.get
    limit = bound(sum(map(held, capacities, repeat(0))), len(capacities))
    for owner in islice(ring.walk(key), _FIRST_STEPS):
        count = held(owner, 0)
        if count < limit and count < capacities.get(owner, 0):
            return owner
    open_engines = {
        engine for engine, capacity in capacities.items() if held(engine, 0) < (capacity if capacity < limit else limit)
    } or {engine for engine, capacity in capacities.items() if held(engine, 0) < capacity}
    return next((owner for owner in ring.walk(key) if owner in open_engines), None) if open_engines else None


def _by_turn(turn: int, capacities: dict[str, int], running: Mapping[str, int]) -> str | None:
    engines = list(capacities)
    start = turn % len(engines)
    for engine in (*engines[start:], *engines[:start]):
        if running.get(engine, 0) < capacities[engine]:
            return engine
    return None


def _by_load(capacities: dict[str, int], running: Mapping[str, int]) -> str | None:
    best: str | None = None
    best_share = 1.0
    for engine, capacity in capacities.items():
        held = running.get(engine, 0)
        if held < capacity and (share := held / capacity) < best_share:
            best, best_share = engine, share
    return best
