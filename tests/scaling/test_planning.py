"""The planner, against a model of what the controllers of Kubernetes do with a workload that is made smaller."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.scaling.declared import Autoscaling
from orchestrator.scaling.planning import DRAINED, LEAST_COST, Plan, Pod, Standing, Window, plan

BOUNDS = Autoscaling(min=1, max=10, target=8)
SECOND = 1_000_000


def deployment(*pods: Pod, size: int | None = None) -> Standing:
    return Standing(size=len(pods) if size is None else size, pods=pods)


def stateful(*pods: Pod, size: int | None = None) -> Standing:
    return Standing(size=len(pods) if size is None else size, pods=pods, ordered=True)


def drained(name: str, executions: int | None = 0, **more: Any) -> Pod:
    return Pod(name=name, drain=DRAINED, executions=executions, settled=True, cost=LEAST_COST, **more)


class TestUp:
    def test_it_grows_at_once_to_what_is_needed(self) -> None:
        assert plan(BOUNDS, deployment(Pod(name="a-1")), 4) == Plan(size=4, goal=4)

    def test_no_further_than_to_the_most_and_no_less_than_the_least(self) -> None:
        assert plan(BOUNDS, deployment(Pod(name="a-1")), 400).size == 10
        assert plan(replace(BOUNDS, min=3), deployment(Pod(name="a-1")), 0).size == 3

    def test_from_nothing_when_there_may_be_nothing(self) -> None:
        assert plan(replace(BOUNDS, min=0), deployment(), 1).size == 1

    def test_what_somebody_has_scaled_to_nothing_stays_off(self) -> None:
        found = plan(BOUNDS, deployment(), 5)
        assert found.size == 0
        assert "turns autoscaling off" in found.blocked

    def test_what_drains_is_wanted_again_first(self) -> None:
        standing = deployment(Pod(name="a-1"), drained("a-2", 3), drained("a-3"))
        assert plan(BOUNDS, standing, 3) == Plan(size=3, goal=3, undrain=("a-2", "a-3"))
        assert plan(BOUNDS, standing, 2).undrain == ("a-2",)

    def test_engines_that_people_drain_are_made_up_for(self) -> None:
        standing = deployment(Pod(name="a-1"), Pod(name="a-2", drain="maintenance"))
        assert plan(BOUNDS, standing, 2) == Plan(size=3, goal=3)


class TestDown:
    def test_first_some_are_drained_those_with_the_least_work(self) -> None:
        standing = deployment(
            Pod(name="a-1", executions=5), Pod(name="a-2", executions=1), Pod(name="a-3", executions=2)
        )
        assert plan(BOUNDS, standing, 1) == Plan(size=3, goal=1, drain=("a-2", "a-3"))

    def test_those_that_are_not_ready_go_before_since_the_controller_takes_them_first(self) -> None:
        standing = deployment(Pod(name="a-1", executions=0), Pod(name="a-2", executions=4, ready=False))
        assert plan(BOUNDS, standing, 1).drain == ("a-2",)

    def test_the_workload_is_made_smaller_by_those_that_are_empty(self) -> None:
        standing = deployment(Pod(name="a-1"), drained("a-2", 3), drained("a-3"))
        assert plan(BOUNDS, standing, 1) == Plan(size=3, goal=1)  # a-2 and a-3 cost the same: a-2 may be taken
        assert plan(BOUNDS, deployment(Pod(name="a-1"), drained("a-2"), drained("a-3")), 1).size == 1

    def test_not_before_everybody_has_seen_that_it_drains(self) -> None:
        standing = deployment(Pod(name="a-1"), replace(drained("a-2"), settled=False))
        assert plan(BOUNDS, standing, 1).size == 2

    def test_not_while_nobody_can_tell_what_it_has(self) -> None:
        assert plan(BOUNDS, deployment(Pod(name="a-1"), drained("a-2", None)), 1).size == 2

    def test_not_while_a_pod_that_is_not_ready_would_be_taken_instead(self) -> None:
        standing = deployment(Pod(name="a-1", ready=False, drain="maintenance"), Pod(name="a-2"), drained("a-3"))
        found = plan(BOUNDS, standing, 1)
        assert found.size == 3
        assert "a-1" in found.blocked

    def test_not_while_pods_are_replaced_by_others(self) -> None:
        standing = deployment(Pod(name="a-1", template="x"), drained("a-2", template="y"), drained("a-3", template="x"))
        found = plan(BOUNDS, standing, 1)
        assert (found.size, found.drain, found.undrain) == (3, (), ())
        assert "another template" in found.blocked

    def test_what_is_wanted_again_while_pods_are_replaced_works_again(self) -> None:
        standing = deployment(
            Pod(name="a-1", template="x"),
            drained("a-2", template="x"),
            drained("a-3", template="x"),
            drained("a-4", template="x"),
            Pod(name="a-5", template="y", phase="Pending", ready=False),
            size=4,
        )
        assert plan(BOUNDS, standing, 3).undrain == ("a-3", "a-4")

    def test_pods_beyond_its_size_are_not_taken_for_engines_that_are_wanted(self) -> None:
        # A rollout has one pod more than the workload is to have: a leader that keeps what is at work must not ask for
        # it, or the workload would grow, and surge again, up to its most.
        rolling = [Pod(name=f"a-{n}", template="x") for n in range(4)] + [Pod(name="a-4", template="y", ready=False)]
        for standing in (
            deployment(*rolling, size=4),
            deployment(replace(rolling[0], drain="maintenance"), *rolling[1:], size=4),
        ):
            needed = Window().saw(0, 1, cooldown=60).needed(standing.at_work, cooldown=60)
            assert plan(BOUNDS, standing, needed).size == 4
        scaled_down_by_hand = deployment(*[Pod(name=f"a-{n}") for n in range(5)], size=2)
        assert scaled_down_by_hand.at_work == 2

    def test_pods_that_were_never_made_can_go_at_once(self) -> None:
        assert plan(BOUNDS, deployment(Pod(name="a-1"), size=5), 1) == Plan(size=1, goal=1)

    def test_pods_that_the_controller_has_yet_to_remove_are_not_forgotten(self) -> None:
        standing = deployment(Pod(name="a-1", executions=1), Pod(name="a-2", executions=1), drained("a-3"), size=2)
        assert plan(BOUNDS, standing, 1).size == 2

    def test_what_the_controller_has_yet_to_remove_stays_marked(self) -> None:
        standing = deployment(Pod(name="a-1"), drained("a-2"), drained("a-3"), drained("a-4"), size=2)
        assert plan(BOUNDS, standing, 2) == Plan(size=2, goal=2, undrain=("a-4",))
        assert len(plan(BOUNDS, standing, 9).undrain) == 1
        ordered = stateful(Pod(name="e-0"), Pod(name="e-1"), drained("e-2"), size=2)
        assert plan(BOUNDS, ordered, 2) == Plan(size=2, goal=2)
        assert plan(BOUNDS, ordered, 3) == Plan(size=3, goal=3)

    def test_nobody_else_becomes_as_cheap_as_those_that_the_controller_has_yet_to_remove(self) -> None:
        standing = deployment(Pod(name="a-1", executions=1), Pod(name="a-2", executions=1), drained("a-3"), size=2)
        assert plan(BOUNDS, standing, 1) == Plan(size=2, goal=1)
        # Marked in one go, they would cost the same: a-2 could be taken for a-3.
        standing = deployment(Pod(name="a-1", executions=1), Pod(name="a-2", executions=1), drained("a-3"))
        assert plan(BOUNDS, standing, 1) == Plan(size=3, goal=1, drain=("a-1",))

    def test_to_nothing_when_there_may_be_nothing(self) -> None:
        assert plan(replace(BOUNDS, min=0), deployment(drained("a-1")), 0).size == 0

    def test_of_a_stateful_set_the_highest_numbers_go(self) -> None:
        pods = [Pod(name="e-0"), Pod(name="e-1", executions=0), Pod(name="e-2", executions=9)]
        assert plan(BOUNDS, stateful(*pods), 2) == Plan(size=3, goal=2, drain=("e-2",))
        assert plan(BOUNDS, stateful(*pods[:2], drained("e-2")), 1) == Plan(size=2, goal=1, drain=("e-1",))
        assert plan(BOUNDS, stateful(pods[0], drained("e-1"), drained("e-2", 1)), 1).size == 3

    def test_of_a_stateful_set_nothing_goes_past_a_pod_that_people_drain(self) -> None:
        pods = [Pod(name="e-0"), Pod(name="e-1"), Pod(name="e-2", drain="looking at it"), drained("e-3")]
        found = plan(BOUNDS, stateful(*pods), 1)
        assert (found.size, found.drain) == (3, ())
        found = plan(BOUNDS, stateful(*pods[:3]), 1)
        assert (found.size, found.drain) == (3, ())
        assert "e-2" in found.blocked

    def test_of_a_stateful_set_without_its_first_pod_nobody_can_tell_what_goes(self) -> None:
        assert plan(BOUNDS, stateful(Pod(name="e-1"), drained("e-2"), size=3), 1).size == 3


class TestWindow:
    def test_the_greatest_number_of_the_cooldown_counts(self) -> None:
        window = Window()
        for second, engines in ((0, 5), (30, 9), (60, 2), (90, 3), (120, 1)):
            window = window.saw(second * SECOND, engines, cooldown=60)
        assert window.needed(10, cooldown=60) == 3
        assert window.saw(151 * SECOND, 1, cooldown=60).needed(10, cooldown=60) == 1

    def test_who_has_not_looked_for_long_lets_nobody_go_who_is_at_work(self) -> None:
        window = Window().saw(0, 1, cooldown=60).saw(59 * SECOND, 1, cooldown=60)
        assert window.needed(4, cooldown=60) == 4
        assert window.saw(60 * SECOND, 1, cooldown=60).needed(4, cooldown=60) == 1

    def test_after_a_time_without_looks_it_begins_anew(self) -> None:
        window = Window().saw(0, 1, cooldown=60).saw(60 * SECOND, 1, cooldown=60)
        assert window.saw(1_000 * SECOND, 1, cooldown=60).needed(4, cooldown=60) == 4

    def test_without_a_cooldown_it_is_now_that_counts(self) -> None:
        assert Window().saw(0, 9, cooldown=0).saw(SECOND, 1, cooldown=0).needed(4, cooldown=0) == 1

    @given(st.lists(st.tuples(st.integers(1, 40), st.integers(0, 9)), min_size=1, max_size=40), st.integers(0, 120))
    def test_it_is_the_maximum_of_what_was_seen(self, seen: list[tuple[int, int]], cooldown: int) -> None:
        window, now, history = Window(), 0, list[tuple[int, int]]()
        for pause, engines in seen:
            now += pause
            history.append((now, engines))
            window = window.saw(now * SECOND, engines, cooldown=cooldown)
        recent = [engines for at, engines in history if at > now - cooldown] or [history[-1][1]]
        assert window.needed(0, cooldown=cooldown) == max(recent)
        assert len(window.highest) <= 10


# --- against a model of the controllers ---


def _pods(names: list[str]) -> st.SearchStrategy[list[Pod]]:
    def pod(name: str) -> st.SearchStrategy[Pod]:
        return st.builds(
            Pod,
            name=st.just(name),
            scheduled=st.booleans(),
            phase=st.sampled_from(["Pending", "Running", "Running", "Unknown"]),
            ready=st.booleans(),
            cost=st.sampled_from([0, 0, LEAST_COST, -5_000, 10]),
            drain=st.sampled_from(["", "", DRAINED, DRAINED, "maintenance"]),
            executions=st.sampled_from([0, 0, 0, 1, 7, None]),
            settled=st.booleans(),
            born=st.sampled_from(["1", "2", "3"]),
            template=st.sampled_from(["x", "x", "x", "x", "x", "x", "y"]),
        )

    return st.tuples(*map(pod, names)).map(list)


@st.composite
def standings(draw: st.DrawFn, ordered: bool | None = None) -> Standing:
    is_ordered = draw(st.booleans()) if ordered is None else ordered
    numbers = sorted(draw(st.sets(st.integers(0, 8), max_size=7)))
    pods = draw(_pods([f"e-{number}" for number in numbers]))
    return Standing(size=max(0, len(pods) + draw(st.integers(-2, 2))), pods=pods, ordered=is_ordered)


bounds = st.builds(
    lambda low, more: Autoscaling(min=low, max=max(1, low + more), target=8), st.integers(0, 4), st.integers(0, 6)
)


def _removed(standing: Standing, size: int, chance: Any) -> list[Pod]:
    """What a controller removes when the workload is to have `size` pods. Chance breaks ties, as far as we know."""
    if standing.ordered:
        return [pod for pod in standing.pods if pod.number >= size]
    phases = ["Pending", "Unknown", "Running"]
    pods = list(standing.pods)
    chance.shuffle(pods)
    if len({pod.template for pod in pods}) > 1:
        return pods[: max(0, len(pods) - size)]
    pods.sort(key=lambda pod: (pod.scheduled, phases.index(pod.phase), pod.ready, pod.cost))
    return pods[: max(0, len(pods) - size)]


@given(bounds, standings(), st.integers(0, 12), st.randoms(use_true_random=False))
def test_whatever_the_controller_removes_was_drained_and_empty(
    limits: Autoscaling, standing: Standing, needed: int, chance: Any
) -> None:
    found = plan(limits, standing, needed)
    if found.size >= standing.size:
        return
    kept = set(found.undrain)
    for pod in _removed(standing, found.size, chance):
        if standing.ordered and pod.number >= standing.size:
            continue  # it is too many already: it was let go before, or never should have been
        assert pod.may_go
        assert pod.name not in kept


@given(bounds, standings(), st.integers(0, 12))
def test_it_never_leaves_its_bounds(limits: Autoscaling, standing: Standing, needed: int) -> None:
    found = plan(limits, standing, needed)
    if found.size > standing.size:
        assert found.size <= limits.max
    if found.size < standing.size:
        assert found.size >= limits.min
    if standing.size:
        assert limits.min <= found.goal <= limits.max
    names = {pod.name: pod for pod in standing.pods}
    assert all(not names[name].drain for name in found.drain)
    assert all(names[name].drain == DRAINED for name in found.undrain)
    at_work = standing.at_work - len(found.drain) + len(found.undrain)
    if found.drain and not standing.ordered:  # of those, numbers that are missing come back: they are at work, too
        assert at_work >= min(needed, standing.at_work, limits.max - sum(pod.held for pod in standing.pods))


@pytest.mark.parametrize("ordered", [False, True], ids=["deployment", "statefulset"])
@given(data=st.data(), limits=bounds, start=st.integers(1, 7), later=st.lists(st.integers(0, 9), max_size=12))
def test_it_converges_and_then_does_nothing(
    data: st.DataObject, limits: Autoscaling, start: int, later: list[int], ordered: bool
) -> None:
    """A cluster that does what it is told, sooner or later, and engines that get work while they are not marked."""
    chance = data.draw(st.randoms(use_true_random=False))
    pods = [Pod(name=f"e-{number}", executions=chance.randint(0, 4)) for number in range(start)]
    standing = Standing(size=start, pods=pods, ordered=ordered)
    wanted = [*later, *[data.draw(st.integers(0, 9))] * 60]
    goal = min(max(wanted[-1], limits.min), limits.max)
    born = start
    for look, needed in enumerate(wanted):
        found = plan(limits, standing, needed)
        if look >= len(later) and found == Plan(size=goal, goal=goal) and len(standing.pods) == standing.size == goal:
            break
        standing = Standing(
            size=found.size, pods=[_lived(pod, found, chance) for pod in standing.pods], ordered=ordered
        )
        if chance.random() < 0.5 and look < len(wanted) - 20:
            continue  # the controller is slow
        gone = {pod.name for pod in _removed(standing, found.size, chance)}
        assert all(pod.may_go for pod in standing.pods if pod.name in gone)
        left = [pod for pod in standing.pods if pod.name not in gone]
        while len(left) < found.size:
            left.append(Pod(name=f"e-{len(left) if ordered else born}"))
            born += 1
        standing = replace(standing, pods=left)
    assert standing.size == goal or standing.size == 0 < limits.min
    assert not any(pod.drain for pod in standing.pods)


def _lived(pod: Pod, found: Plan, chance: Any) -> Pod:
    """A pod a moment later: marked or not as was planned, with more work or less."""
    if pod.name in found.drain:
        return replace(pod, drain=DRAINED, cost=LEAST_COST)
    if pod.name in found.undrain:
        return replace(pod, drain="", cost=0, settled=False)
    if pod.drain:
        return replace(pod, settled=True, executions=max(0, (pod.executions or 0) - 1))
    return replace(pod, executions=chance.randint(0, 3))
