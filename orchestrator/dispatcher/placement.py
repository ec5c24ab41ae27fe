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

Every strategy passes over engines that are not ready, lack an executor or a label, are excluded, or hold as many
executions as their capacity. An engine that is reserved for one execution counts as full (`Roster.load`). An exclusive
execution goes to an engine that holds nothing. When that leaves none, the answer is a machine-readable reason.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from itertools import islice, repeat
from typing import Final, Literal, assert_never, get_args

import msgspec

from orchestrator.dispatcher.ring import Ring

__all__ = [
    "ANYWHERE",
    "STRATEGIES",
    "Candidate",
    "EngineState",
    "Fleet",
    "Needs",
    "Placement",
    "Strategy",
    "bound",
    "choose",
]

Strategy = Literal["consistent-hash", "round-robin", "least-loaded"]
STRATEGIES: Final[tuple[Strategy, ...]] = get_args(Strategy)

_FIRST_STEPS: Final = 24
"""Points that are looked at one by one before the open engines are gathered, which costs a pass over all engines."""

EngineState = Literal["connecting", "ready", "draining", "unhealthy", "unreachable"]


Labels = frozenset[tuple[str, str]]
"""Names of labels, each with its value."""


class Needs(msgspec.Struct, frozen=True, kw_only=True, cache_hash=True):
    """What an execution needs of its engine: executor types, pools of the engine's own, and labels, all of them.

    An `exclusive` one needs an engine for itself.
    """

    executors: frozenset[str] = frozenset()
    pools: frozenset[str] = frozenset()
    labels: Labels = frozenset()
    exclusive: bool = False


ANYWHERE: Final = Needs()
"""Needs that any engine meets."""


class Candidate(msgspec.Struct, frozen=True, kw_only=True):
    """What placement knows of an engine, beside its load: the executor types that it offers, its own pools, its labels,
    and whether it can be reserved for one execution."""

    engine: str
    capacity: int
    state: EngineState
    executors: frozenset[str]
    pools: frozenset[str] = frozenset()
    labels: Labels = frozenset()
    reservable: bool = True


class Placement(msgspec.Struct, frozen=True, gc=False):
    """The engine that gets the execution, or the reason why none does; exactly one of the two is set.

    Reasons: `no_engine` (none is connected), `all_draining`, `no_executor:<type>` (no ready engine offers it;
    several types are joined by `+`), `no_label:<name>=<value>` (none of those that do has the label),
    `no_pool:<name>` (none of those has the pool), `no_reservable_engine` (none of those can be reserved, and it is
    exclusive), `engines_unable` (all that could are excluded), `engines_full` (or reserved for others);
    `no_free_engine` (each holds something or is reserved for others, and it is exclusive).
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
        self._eligible: dict[Needs, _Eligible] = {}

    def eligible(self, needs: Needs) -> _Eligible:
        """The ready engines that meet all `needs`, whatever they hold."""
        known = self._eligible.get(needs)
        if known is None:
            known = self._eligible[needs] = self._select(needs)
        return known

    def _select(self, needs: Needs) -> _Eligible:
        ready = [candidate for candidate in self.candidates.values() if candidate.state == "ready"]
        if not ready:
            draining = any(candidate.state == "draining" for candidate in self.candidates.values())
            return _Eligible({}, "all_draining" if draining else "no_engine")
        able = [candidate for candidate in ready if needs.executors <= candidate.executors]
        if not able:
            return _Eligible({}, f"no_executor:{_lacking(needs.executors, (each.executors for each in ready))}")
        there = [candidate for candidate in able if needs.labels <= candidate.labels]
        if not there:
            labels, had = _written(needs.labels), (_written(each.labels) for each in able)
            return _Eligible({}, f"no_label:{_lacking(labels, had)}")
        fit = [candidate for candidate in there if needs.pools <= candidate.pools]
        if not fit:
            return _Eligible({}, f"no_pool:{_lacking(needs.pools, (each.pools for each in there))}")
        if needs.exclusive:
            fit = [candidate for candidate in fit if candidate.reservable]
        return _Eligible(
            {candidate.engine: candidate.capacity for candidate in fit}, None if fit else "no_reservable_engine"
        )


def _written(labels: Labels) -> frozenset[str]:
    return frozenset(f"{name}={value}" for name, value in labels)


def _lacking(needed: frozenset[str], offered: Iterable[frozenset[str]]) -> str:
    """What nobody offers of what is needed. Each may be offered somewhere, but all by nobody: then all of it."""
    return "+".join(sorted(needed.difference(*offered)) or sorted(needed))


def bound(running: int, engines: int) -> int:
    """The most executions that one of `engines` may hold when one more joins the `running` ones: ⌈1.25 mean⌉."""
    return -(-5 * (running + 1) // (4 * engines))


def choose(
    strategy: Strategy,
    key: str,
    fleet: Fleet,
    running: Mapping[str, int],
    *,
    needs: Needs = ANYWHERE,
    excluded: Collection[str] = (),
    turn: int = 0,
) -> Placement:
    """The engine for one execution.

    `key` is the workflow version, `id@version`. `running` counts the executions that each engine holds (none where
    it has no entry), those that were just given to it included; no less than its capacity where it is reserved.
    `excluded` engines have said that they are unable to run this execution. `turn` is the number of placements before
    this one (`round-robin` only).
    """
    eligible = fleet.eligible(needs)
    if eligible.reason is not None:
        return Placement(reason=eligible.reason)
    capacities = eligible.capacities
    if excluded:
        capacities = {engine: capacity for engine, capacity in capacities.items() if engine not in excluded}
        if not capacities:
            return Placement(reason="engines_unable")
    if needs.exclusive:
        capacities = {engine: 1 for engine, capacity in capacities.items() if capacity and not running.get(engine)}
        if not capacities:
            return Placement(reason="no_free_engine")
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
