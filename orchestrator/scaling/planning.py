"""What to do about a workload of engines: a pure function of its pods and of how many there should be.

Engines are taken away in three steps, over several looks: some are chosen and marked as draining, so that no replica of
the orchestrator gives them anything more; they become empty; the workload is made smaller, and its controller removes
pods. Which pods it removes is its own choice, so a workload is only ever made so small that **whatever its controller
may choose is drained and empty**:

- a StatefulSet's controller takes those with the highest numbers. While there is no pod 0, nobody can tell up to which:
  it may be missing, or they do not count from 0 (`spec.ordinals`), which is not supported;
- a Deployment's (its ReplicaSet's) takes pods that are on no node yet first, then those that do not run, that are not
  ready, that have the lowest `controller.kubernetes.io/pod-deletion-cost`; among equals nobody can tell. While a
  Deployment changes from one template to another nobody can tell at all.

What people have marked as draining is left alone: it does not count as an engine, and is never let go.

Nothing is remembered from look to look but what `Window` has: how many engines were needed lately. Called by `scaler`.
"""

from __future__ import annotations

import itertools
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import Final

from orchestrator.scaling.declared import Autoscaling

__all__ = ["DRAINED", "LEAST_COST", "Plan", "Pod", "Standing", "Window", "going", "plan"]

DRAINED: Final = "autoscaling"
"""How the pods are marked that are drained here: the value of their annotation."""

LEAST_COST: Final = -1_000
"""The deletion cost of those of a Deployment."""

_PHASES: Final = {"Pending": 0, "Unknown": 1, "Running": 2}
_UNKNOWN_WORK: Final = 1 << 30
_GAP: Final = 60_000_000
"""Microseconds without a look after which what was seen before says nothing about the time between."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pod:
    """A pod of the workload that is not being deleted.

    `drain` is how it is marked (empty: not at all), `executions` what its engine has, or may have, with None where
    nobody can tell. It is `settled` when everybody has had the time to see that it is marked. `born` orders pods by
    age, `template` is the one that it was made from.
    """

    name: str
    scheduled: bool = True
    phase: str = "Running"
    ready: bool = True
    cost: int = 0
    drain: str = ""
    executions: int | None = 0
    settled: bool = False
    born: str = ""
    template: str = ""

    @property
    def held(self) -> bool:
        """Whether people have marked it."""
        return bool(self.drain) and self.drain != DRAINED

    @property
    def may_go(self) -> bool:
        """Whether nothing is lost with it."""
        return self.drain == DRAINED and self.settled and self.executions == 0

    @property
    def number(self) -> int:
        """Its number in a StatefulSet; -1 where it has none."""
        digits = self.name.rpartition("-")[2]
        return int(digits) if digits.isascii() and digits.isdigit() else -1


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """The workload as it is. `size` is how many pods it is to have; `ordered`: they have numbers (a StatefulSet)."""

    size: int
    pods: Sequence[Pod]
    ordered: bool = False

    @property
    def at_work(self) -> int:
        """Engines that are not drained, those that are still to come included.

        No more than the workload is to have: pods above that are on their way out, or surge in a rollout.
        """
        held = sum(1 for pod in self.pods if pod.held)
        at_work = sum(1 for pod in self.pods if not pod.drain) + max(0, self.size - len(self.pods))
        return min(at_work, max(0, self.size - held))


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What to do: mark pods, take marks off, and have `size` pods. `goal` is the size that all this leads to.

    `blocked` says what keeps it from getting there, for people; empty when nothing does but time.
    """

    size: int
    goal: int
    drain: tuple[str, ...] = ()
    undrain: tuple[str, ...] = ()
    blocked: str = ""


@dataclass(frozen=True, slots=True)
class Window:
    """How many engines were needed lately: the greatest number of the last `cooldown`.

    Whoever has not looked for that long yet knows nothing of the time before (a new leader): then nobody is let go who
    is at work.
    """

    since: int | None = None
    last: int = 0
    highest: tuple[tuple[int, int], ...] = ()
    """`(time, engines)`: times ascend and numbers descend, what a greater number has followed is left out."""

    def saw(self, now: int, engines: int, *, cooldown: float) -> Window:
        """At `now` (microseconds) so many were needed. `cooldown` is in seconds."""
        length = round(cooldown * 1e6)
        since = now if self.since is None or now - self.last > max(length, _GAP) else self.since
        kept = (entry for entry in self.highest if entry[0] > now - length and entry[1] > engines)
        return Window(since, now, (*kept, (now, engines)))

    def needed(self, at_work: int, *, cooldown: float) -> int:
        """How many engines should stay, when so many are at work."""
        highest = self.highest[0][1] if self.highest else 0
        known = self.since is not None and self.last - self.since >= round(cooldown * 1e6)
        return highest if known else max(highest, at_work)


def plan(bounds: Autoscaling, standing: Standing, needed: int) -> Plan:
    """What to do so that `needed` engines are at work, within bounds."""
    if standing.size == 0 and bounds.min > 0:
        return Plan(size=0, goal=0, blocked="it was scaled to 0, which turns autoscaling off; scale it up to go on")
    held = sum(1 for pod in standing.pods if pod.held)
    goal = min(max(needed, bounds.min) + held, bounds.max)
    # Those that the controller has yet to remove, since the size was changed, stay marked: they go all the same.
    chosen = _chosen(standing, min(goal, standing.size))
    names = {pod.name for pod in chosen}
    undrain = tuple(pod.name for pod in standing.pods if pod.drain == DRAINED and pod.name not in names)
    if goal >= standing.size:
        return Plan(size=goal, goal=goal, undrain=undrain)
    if _is_rolling(standing):
        blocked = "its pods are being replaced by those of another template, or others have pods that it selects"
        return Plan(size=standing.size, goal=goal, undrain=undrain, blocked=blocked)
    # While the controller has yet to remove some, nobody else becomes as cheap as these: it could take them instead.
    settled = len(standing.pods) <= standing.size
    drain = tuple(pod.name for pod in chosen if not pod.drain) if settled else ()
    size = _smallest(standing, goal, drain, undrain)
    return Plan(
        size=size,
        goal=goal,
        drain=drain,
        undrain=undrain,
        blocked="" if size == goal or drain or undrain else _obstacle(standing, chosen, size),
    )


def going(standing: Standing, size: int) -> list[Pod]:
    """Every pod that the workload's controller may remove when it is to have `size` of them (less than it has)."""
    if standing.ordered:
        known = any(pod.number == 0 for pod in standing.pods)
        return [pod for pod in standing.pods if pod.number < 0 or pod.number >= size or not known]
    if _is_rolling(standing):
        return list(standing.pods)
    # Among equals those come first that must not go: it may be them.
    in_turn = sorted(standing.pods, key=lambda pod: (_turn(pod), pod.cost, pod.may_go))
    return in_turn[: max(0, len(in_turn) - size)]


def _is_rolling(standing: Standing) -> bool:
    return not standing.ordered and len({pod.template for pod in standing.pods}) > 1


def _turn(pod: Pod) -> tuple[bool, int, bool]:
    return pod.scheduled, _PHASES.get(pod.phase, 1), pod.ready


def _chosen(standing: Standing, goal: int) -> list[Pod]:
    """The pods that should go so that `goal` are left, as far as they may be chosen."""
    if standing.ordered:
        if all(pod.number for pod in standing.pods):
            return []
        last_first = sorted(going(standing, goal), key=lambda pod: -pod.number)
        return list(itertools.takewhile(lambda pod: not pod.held, last_first))
    # In the order in which the controller removes them; who drains already goes on with that.
    free = sorted((pod for pod in standing.pods if not pod.held), key=lambda pod: pod.born, reverse=True)
    free.sort(
        key=lambda pod: (
            _turn(pod),
            pod.cost,
            not pod.drain,
            _UNKNOWN_WORK if pod.executions is None else pod.executions,
        )
    )
    return free[: max(0, len(standing.pods) - goal)]


def _smallest(standing: Standing, goal: int, drain: Collection[str], undrain: Collection[str]) -> int:
    """The smallest size from `goal` up at which nobody can be removed that is not empty, or that is to work again."""
    marked = [
        replace(pod, drain=DRAINED, cost=LEAST_COST, settled=False)
        if pod.name in drain
        else replace(pod, drain="")
        if pod.name in undrain
        else pod
        for pod in standing.pods
    ]
    after = replace(standing, pods=marked)
    size = standing.size
    while size > goal and all(pod.may_go for pod in going(after, size - 1)):
        size -= 1
    return size


def _obstacle(standing: Standing, chosen: Sequence[Pod], size: int) -> str:
    """What keeps the workload from being smaller; empty when that is only time: engines that end what they have."""
    if any(not pod.may_go for pod in chosen):
        return ""
    others = [pod.name for pod in going(standing, size - 1) if not pod.may_go]
    return f"pods would be removed first that are not drained for it: {', '.join(sorted(others)[:5])}"
