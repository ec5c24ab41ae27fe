"""Chains: what follows from an attempt's success alone, so that an executor may perform it right behind that.

Where one pure node is all that waits for another, the driver knows the next attempt before the machine asks for it. It
hands both over together (`Job.then`); an executor that likes performs them back to back, and says so (`Outcome.ahead`).
The machine still decides: what it does not ask for is thrown away, as if it had never run. That is safe because pure
attempts have no effect, and it saves a chain of them a round trip each.

Used by the driver, one `Chains` for each execution.
"""

from __future__ import annotations

from typing import Final

from dagengine.driver import names
from dagengine.driver.scope import ScopeFactory
from dagengine.executors.base import Job, Outcome
from dagengine.graph.compiled import Graph, NodePlan
from dagengine.machine.commands import Run
from dagengine.machine.phases import Phase
from dagengine.machine.state import State

__all__ = ["Chains"]

_LONGEST: Final = 64


class Chains:
    """The attempts of one execution that may be performed ahead, and those that are."""

    __slots__ = ("_reach", "_seed", "_taken", "offered")

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._reach = 1
        """How many attempts are worth preparing ahead: as many as were performed so lately, and more."""
        self.offered: Job | None = None
        """What follows from the attempt that has just ended, and is under way already."""
        self._taken: dict[int, Job] = {}
        """By position: what is performed ahead and was asked for. Of an attempt that comes again after it was thrown
        away there may be two at a time, of which one counts."""

    def behind(self, run: Run, state: State, scopes: ScopeFactory) -> Job | None:
        """The first of the attempts that follow `run`, each linked to the next; None when nothing follows from it."""
        if run.index >= 0 or state.edits:
            return None
        chain: list[NodePlan] = []
        node = state.graph.nodes[run.node]
        while len(chain) < self._reach and (follower := _follower(state.graph, node)) is not None:
            if state.phase[follower.position] != Phase.PENDING or state.attempt_of(follower.position, -1):
                break
            chain.append(follower)
            node = follower
        then: Job | None = None
        for node in reversed(chain):
            then = Job(
                position=node.position,
                node=node.id,
                index=None,
                attempt=1,
                spec=node.executor,
                scope=scopes.scope(node.position, -1),
                timeout=node.timeout,
                seed=names.seed_of(Run(node.position, -1, 1), self._seed),
                then=then,
                ahead=True,
            )
        return then

    def offer(self, job: Job, outcome: Outcome) -> None:
        """`job` has ended; what follows from it may be under way already."""
        self._reach = min(2 * self._reach, _LONGEST) if outcome.ahead else max(self._reach // 2, 1)
        self.offered = job.then if outcome.ahead else None

    def withdraw(self) -> None:
        """What was offered and not taken is thrown away when it has ended."""
        self.offered = None

    def take(self, run: Run, state: State) -> bool:
        """Whether `run` is under way already: then it is not to be handed over."""
        offered = self.offered
        if offered is None or (offered.position, -1, offered.attempt) != (run.node, run.index, run.attempt):
            return False
        self.offered = None
        if state.edits:  # made since: it may have seen other inputs than it would see now
            return False
        self._taken[run.node] = offered
        return True

    def unasked(self, job: Job) -> bool:
        """Whether `job`, which was performed ahead and has ended, was never asked for."""
        if self._taken.get(job.position) is not job:
            return True
        del self._taken[job.position]
        return False


def _follower(graph: Graph, node: NodePlan) -> NodePlan | None:
    """The node that begins as soon as this one has succeeded, if it is the only one that waits for it."""
    if len(node.dependents) != 1:
        return None
    follower = graph.nodes[node.dependents[0]]
    follows = follower.plain and follower.pure and follower.run_if == "all_succeeded"
    alike = follower.executor.type == node.executor.type
    return follower if follows and alike and len(follower.dependencies) == 1 else None
