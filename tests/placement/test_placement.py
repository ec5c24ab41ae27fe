"""Placement of executions over a fleet of engines."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.dispatcher.placement import (
    STRATEGIES,
    Candidate,
    EngineState,
    Fleet,
    Needs,
    Placement,
    Strategy,
    bound,
    choose,
)

LUA = frozenset({"lua"})


ALONE = Needs(exclusive=True)


def _labels(**labels: str) -> frozenset[tuple[str, str]]:
    return frozenset(labels.items())


def _candidate(
    engine: str, *, capacity: int = 10, state: EngineState = "ready", executors: frozenset[str] = LUA, **rest: Any
) -> Candidate:
    return Candidate(engine=engine, capacity=capacity, state=state, executors=executors, **rest)


def _fleet(count: int, *, capacity: int = 10) -> Fleet:
    return Fleet([_candidate(f"engine-{number}", capacity=capacity) for number in range(count)])


def _place(fleet: Fleet, keys: list[str], strategy: Strategy = "consistent-hash") -> Counter[str]:
    running: Counter[str] = Counter()
    for turn, key in enumerate(keys):
        engine = choose(strategy, key, fleet, running, turn=turn).engine
        assert engine is not None
        running[engine] += 1
    return running


class TestBound:
    @pytest.mark.parametrize(
        ("running", "engines", "expected"), [(0, 2, 1), (1, 2, 2), (7, 2, 5), (8, 2, 6), (29, 2, 19), (99, 10, 13)]
    )
    def test_is_a_quarter_above_the_mean_rounded_up(self, running: int, engines: int, expected: int) -> None:
        assert bound(running, engines) == expected


class TestConsistentHash:
    def test_a_version_keeps_its_home_under_light_load(self) -> None:
        fleet = _fleet(5)
        for number in range(200):
            key = f"workflow-{number}@1.0.0"
            assert choose("consistent-hash", key, fleet, {}).engine == next(fleet.ring.walk(key))

    def test_versions_spread_over_all_engines(self) -> None:
        fleet = _fleet(5)
        homes = Counter(choose("consistent-hash", f"w-{number}@1.0.0", fleet, {}).engine for number in range(1_000))
        assert len(homes) == 5

    def test_the_surplus_of_one_hot_version_spills_over(self) -> None:
        fleet = _fleet(4, capacity=1_000)
        running = _place(fleet, ["hot@1.0.0"] * 400)
        assert max(running.values()) == running[next(fleet.ring.walk("hot@1.0.0"))] == 125

    def test_thirty_executions_of_three_versions_on_two_engines_keep_both_at_work(self) -> None:
        running = _place(_fleet(2, capacity=30), ["a@1.0.0", "b@1.0.0", "c@1.0.0"] * 10)
        assert len(running) == 2
        assert max(running.values()) <= 19

    def test_an_engine_that_fails_moves_its_own_versions_only(self) -> None:
        before = _fleet(5)
        lost = "engine-3"
        after = Fleet(
            [_candidate(name, state="unreachable" if name == lost else "ready") for name in before.candidates],
            previous=before,
        )
        assert after.ring is before.ring
        for number in range(300):
            key = f"w-{number}@1.0.0"
            old, new = (choose("consistent-hash", key, fleet, {}).engine for fleet in (before, after))
            assert new != lost
            assert new == old or old == lost

    def test_a_large_engine_takes_what_small_ones_have_no_room_for(self) -> None:
        fleet = Fleet([_candidate("small", capacity=1), _candidate("large", capacity=20)])
        assert _place(fleet, ["a@1.0.0"] * 21) == {"small": 1, "large": 20}
        assert choose("consistent-hash", "a@1.0.0", fleet, {"small": 1, "large": 20}) == Placement(
            reason="engines_full"
        )


class TestOtherStrategies:
    def test_round_robin_takes_turns(self) -> None:
        placed = [choose("round-robin", "a@1.0.0", _fleet(3), {}, turn=turn).engine for turn in range(7)]
        assert placed == [f"engine-{number}" for number in (0, 1, 2, 0, 1, 2, 0)]

    def test_round_robin_passes_over_a_full_engine(self) -> None:
        fleet = _fleet(3)
        assert choose("round-robin", "a@1.0.0", fleet, {"engine-1": 10}, turn=1).engine == "engine-2"

    def test_least_loaded_measures_by_share_of_capacity(self) -> None:
        fleet = Fleet([_candidate("small", capacity=2), _candidate("large", capacity=100)])
        assert choose("least-loaded", "a@1.0.0", fleet, {"small": 1, "large": 30}).engine == "large"
        assert choose("least-loaded", "a@1.0.0", fleet, {"small": 0, "large": 30}).engine == "small"


@pytest.mark.parametrize("strategy", STRATEGIES)
class TestReasons:
    def _reason(self, strategy: Strategy, *candidates: Candidate, **rest: object) -> str | None:
        call: Callable[..., Placement] = choose
        placement = call(strategy, "a@1.0.0", Fleet(candidates), rest.pop("running", {}), **rest)
        assert placement.engine is None
        return placement.reason

    def test_no_engine(self, strategy: Strategy) -> None:
        assert self._reason(strategy) == "no_engine"
        assert (
            self._reason(strategy, _candidate("a", state="connecting"), _candidate("b", state="unreachable"))
            == "no_engine"
        )

    def test_all_draining(self, strategy: Strategy) -> None:
        assert (
            self._reason(strategy, _candidate("a", state="draining"), _candidate("b", state="unreachable"))
            == "all_draining"
        )

    def test_no_executor(self, strategy: Strategy) -> None:
        python = frozenset({"lua", "python"})
        assert self._reason(strategy, _candidate("a"), needs=Needs(executors=python)) == "no_executor:python"
        apart = (_candidate("a"), _candidate("b", executors=frozenset({"python"})))
        assert self._reason(strategy, *apart, needs=Needs(executors=python)) == "no_executor:lua+python"

    def test_no_label(self, strategy: Strategy) -> None:
        gpu = Needs(labels=_labels(pool="gpu", zone="a"))
        assert self._reason(strategy, _candidate("a"), needs=gpu) == "no_label:pool=gpu+zone=a"
        half = _candidate("b", labels=_labels(pool="gpu", zone="b"))
        assert self._reason(strategy, _candidate("a"), half, needs=gpu) == "no_label:zone=a"
        apart = (half, _candidate("c", labels=_labels(pool="cpu", zone="a")))
        assert self._reason(strategy, *apart, needs=gpu) == "no_label:pool=gpu+zone=a"

    def test_a_label_counts_where_the_executors_are(self, strategy: Strategy) -> None:
        python = frozenset({"python"})
        apart = (_candidate("a", labels=_labels(pool="gpu")), _candidate("b", executors=python))
        needs = Needs(executors=python, labels=_labels(pool="gpu"))
        assert self._reason(strategy, *apart, needs=needs) == "no_label:pool=gpu"

    def test_a_pool_of_attempts_counts_where_the_labels_are(self, strategy: Strategy) -> None:
        db = frozenset({"db"})
        apart = (_candidate("a", labels=_labels(pool="gpu")), _candidate("b", pools=db))
        assert self._reason(strategy, *apart, needs=Needs(pools=db, labels=_labels(pool="gpu"))) == "no_pool:db"

    def test_no_reservable_engine(self, strategy: Strategy) -> None:
        assert self._reason(strategy, _candidate("a", reservable=False), needs=ALONE) == "no_reservable_engine"

    def test_no_free_engine(self, strategy: Strategy) -> None:
        engines = (_candidate("a"), _candidate("b"))
        assert self._reason(strategy, *engines, needs=ALONE, running={"a": 1, "b": 2}) == "no_free_engine"
        assert self._reason(strategy, _candidate("a", capacity=0), needs=ALONE) == "no_free_engine"

    def test_engines_unable(self, strategy: Strategy) -> None:
        assert self._reason(strategy, _candidate("a"), excluded={"a"}) == "engines_unable"

    def test_engines_full(self, strategy: Strategy) -> None:
        assert self._reason(strategy, _candidate("a", capacity=2), running={"a": 2}) == "engines_full"


@pytest.mark.parametrize("strategy", STRATEGIES)
class TestExclusive:
    def test_it_goes_to_an_engine_that_holds_nothing(self, strategy: Strategy) -> None:
        running = {"engine-0": 1, "engine-1": 9, "engine-3": 1}
        for turn in range(8):
            chosen = choose(strategy, f"w-{turn}@1.0.0", _fleet(4), running, needs=ALONE, turn=turn)
            assert chosen.engine == "engine-2"

    def test_among_free_ones_the_strategy_chooses(self, strategy: Strategy) -> None:
        fleet = _fleet(5)
        keys = [f"w-{number}@1.0.0" for number in range(60)]
        for turn, key in enumerate(keys):
            alone = choose(strategy, key, fleet, {}, needs=ALONE, turn=turn)
            assert alone == choose(strategy, key, fleet, {}, turn=turn)


def test_two_engines_of_one_name_are_refused() -> None:
    with pytest.raises(ValueError, match="same engine name"):
        Fleet([_candidate("a"), _candidate("a")])


_CANDIDATES = st.lists(
    st.builds(
        Candidate,
        engine=st.sampled_from([f"e{number}" for number in range(12)]),
        capacity=st.integers(0, 8),
        state=st.sampled_from(["ready", "ready", "ready", "draining", "connecting", "unreachable"]),
        executors=st.sampled_from([LUA, LUA | {"python"}, frozenset({"python"})]),
        labels=st.sampled_from([_labels(), _labels(pool="gpu"), _labels(pool="gpu", zone="a"), _labels(pool="cpu")]),
        reservable=st.booleans(),
    ),
    max_size=12,
    unique_by=lambda candidate: candidate.engine,
)


@given(
    candidates=_CANDIDATES,
    loads=st.dictionaries(st.sampled_from([f"e{number}" for number in range(12)]), st.integers(0, 10)),
    strategy=st.sampled_from(STRATEGIES),
    key=st.text(min_size=1, max_size=20),
    turn=st.integers(0, 1_000),
    needs=st.builds(
        Needs,
        executors=st.sampled_from([frozenset[str](), LUA, LUA | {"python"}]),
        labels=st.sampled_from([_labels(), _labels(), _labels(pool="gpu"), _labels(pool="gpu", zone="a")]),
        exclusive=st.booleans(),
    ),
    excluded=st.frozensets(st.sampled_from(["e0", "e1", "e2"])),
)
def test_only_a_ready_able_engine_with_room_is_ever_chosen(
    candidates: list[Candidate],
    loads: dict[str, int],
    strategy: Strategy,
    key: str,
    turn: int,
    needs: Needs,
    excluded: frozenset[str],
) -> None:
    fleet = Fleet(candidates)

    def place(fleet: Fleet) -> Placement:
        return choose(strategy, key, fleet, loads, needs=needs, excluded=excluded, turn=turn)

    placement = place(fleet)
    able = [
        candidate
        for candidate in candidates
        if candidate.state == "ready"
        and needs.executors <= candidate.executors
        and needs.labels <= candidate.labels
        and (candidate.reservable or not needs.exclusive)
        and candidate.engine not in excluded
    ]
    most = {candidate.engine: 1 if needs.exclusive else candidate.capacity for candidate in able if candidate.capacity}
    room = {engine for engine, capacity in most.items() if loads.get(engine, 0) < capacity}
    assert (placement.engine is None) == (not room)
    assert (placement.engine is None) == (placement.reason is not None)
    if placement.engine is not None:
        assert placement.engine in room
        if strategy == "consistent-hash" and not needs.exclusive:
            limit = bound(sum(loads.get(candidate.engine, 0) for candidate in able), len(able))
            below = {engine for engine in room if loads.get(engine, 0) < limit}
            assert placement.engine in (below or room)
    assert place(Fleet(reversed(candidates), previous=Fleet([_candidate("old")]))) == placement


@given(
    count=st.integers(1, 12),
    keys=st.lists(st.sampled_from([f"w{number}@1.0.0" for number in range(6)]), max_size=120),
)
def test_no_engine_is_ever_above_its_bound(count: int, keys: list[str]) -> None:
    fleet = _fleet(count, capacity=1_000)
    running: Counter[str] = Counter()
    for key in keys:
        limit = bound(running.total(), count)
        engine = choose("consistent-hash", key, fleet, running).engine
        assert engine is not None
        running[engine] += 1
        assert max(running.values()) <= limit
