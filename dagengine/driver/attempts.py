"""The attempts of one execution, from the machine's command to their end. Part of the driver.

Here they wait until they may begin, are handed to executors in batches, one for each sweep, and come back:

- *An effect waits for its own start fact to be committed.* Attempts of nodes that are not pure are held until the
  journal says so. Pure ones run ahead: nobody outside has seen their inputs or their results.
- *No effect begins without contact.* When the lease of whoever keeps the execution is over, no effect begins, even if
  its start is known to be committed: the news may be old, and another engine may have the execution by now.
- *Backpressure slows starts.* While the journal is congested, nothing new is begun; what runs may finish.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Final, Protocol

from dagengine.clock import Clock
from dagengine.driver import names
from dagengine.driver.admissions import Admissions
from dagengine.driver.chains import Chains
from dagengine.driver.scope import ScopeFactory
from dagengine.errors import ExecutorError
from dagengine.events.facts import ErrorInfo
from dagengine.executors.base import Executor, Job, Outcome
from dagengine.journal.base import Journal
from dagengine.machine.commands import Abandon, Run
from dagengine.machine.machine import Machine
from dagengine.machine.stimuli import AttemptEnded

__all__ = ["Attempts", "Executors"]

_MOST_UNDER_WAY: Final = 4_096
"""Attempts of one execution that are handed over at a time. More would wait in memory, and gain nothing."""


class Executors(Protocol):
    """The executors of an engine."""

    def get(self, kind: str, /) -> Executor | None:
        """The one for a type of node; None when there is none."""


class Attempts:
    """`handle` takes their ends, as stimuli, into the machine."""

    def __init__(
        self,
        machine: Machine,
        *,
        scopes: ScopeFactory,
        executors: Executors,
        admissions: Admissions,
        journal: Journal,
        clock: Clock,
        handle: Callable[[AttemptEnded], None],
    ) -> None:
        self.cut_off = False
        """Whether contact is lost: then no effect begins."""
        self._executors = executors
        self._admissions = admissions
        self._journal = journal
        self._clock = clock
        self._handle = handle
        self._chains = Chains(machine.seed)
        kinds = {node.executor.type for node in machine.graph.nodes}
        self._hasty = {kind for kind in kinds if getattr(executors.get(kind), "runs_ahead", False)}
        """Types of executors that perform attempts before they are asked for."""
        self._batches: dict[str, list[Job]] = {}
        """Attempts to be handed over at the end of the sweep, by executor."""
        self._effects: deque[tuple[int, Run]] = deque()
        """Attempts with effects, each with the journal position that must be committed first."""
        self._held: deque[Run] = deque()
        """Pure attempts held back while the journal is congested, or enough are under way."""
        self._under_way = 0
        """Attempts that were prepared and are not done."""
        self._stopping: set[tuple[int, int, int]] = set()
        """Attempts that were asked to end by themselves: those that have not begun never do."""
        self._gave_up = False
        """Whether an attempt was abandoned in this sweep: it may lie in a batch that is not handed over yet."""
        self._stopped = False
        self.follow(machine, scopes)

    def follow(self, machine: Machine, scopes: ScopeFactory) -> None:
        """Be about the attempts of this machine from now on."""
        self._machine = machine
        self._scopes = scopes

    @property
    def wait(self) -> bool:
        """Whether any was not prepared yet."""
        return bool(self._effects or self._held)

    @property
    def unbegun(self) -> frozenset[tuple[int, int, int]]:
        """`(node, item, attempt)` of those with effects that have started, as facts say, and do nothing yet."""
        return frozenset((run.node, run.index, run.attempt) for _, run in self._effects)

    def run(self, run: Run) -> None:
        """Have an attempt performed as soon as it may begin."""
        if not self._machine.graph.nodes[run.node].pure:
            self._effects.append((self._machine.state.seq, run))
        elif self._under_way >= _MOST_UNDER_WAY or self._journal.congested:
            self._held.append(run)
        else:
            self._prepare(run)
            return
        self.release()

    def release(self) -> None:
        """Let go what may begin by now: effects whose start is committed, and what was held back."""
        committed = self._journal.committed
        while self._effects and self._effects[0][0] <= committed and not (self.cut_off or self._journal.congested):
            self._prepare_if_wanted(self._effects.popleft()[1])
        while self._held and self._under_way < _MOST_UNDER_WAY and not self._journal.congested:
            self._prepare_if_wanted(self._held.popleft())

    def hand_over(self) -> None:
        """Give what was prepared to its executors. ExecutorError when there is none for it."""
        gave_up, self._gave_up = self._gave_up, False
        while self._batches and not self._stopped:
            kind, batch = self._batches.popitem()
            if gave_up:
                batch = [job for job in batch if self._is_wanted(job)]
            executor = self._executors.get(kind)
            if executor is None:
                raise ExecutorError(f"this engine has no executor '{kind}'")
            executor.submit(batch, self._done)

    def abandon(self, command: Abandon) -> None:
        """Stop an attempt, wherever it is by now."""
        node = self._machine.graph.nodes[command.node]
        index = None if command.index < 0 else command.index
        executor = self._executors.get(node.executor.type)
        self._gave_up = True
        if command.grace:
            self._stopping.add((command.node, command.index, command.attempt))
        if executor is not None:
            executor.cancel(self._machine.state.execution, node.id, index, command.attempt, grace=command.grace)

    def stop(self) -> None:
        """Begin none any more. The ends of those that run mean nothing from now on: their room is given back."""
        self._stopped = True
        self._handle = _pass_over  # what it led to holds on to this: the two must not wait for the garbage collector

    # --- on their way to executors ---

    def _prepare(self, run: Run) -> None:
        """Put an attempt into the batch of its executor, unless it is under way already."""
        self._under_way += 1
        state, node = self._machine.state, self._machine.graph.nodes[run.node]
        if self._chains.offered is not None and self._chains.take(run, state):
            return
        kind = node.executor.type
        job = Job(
            position=run.node,
            node=node.id,
            index=None if run.index < 0 else run.index,
            attempt=run.attempt,
            spec=node.executor,
            scope=self._scopes.scope(run.node, run.index),
            timeout=node.timeout,
            args=state.args.get((run.node, run.index)) if node.args is not None else None,
            seed=names.seed_of(run, self._machine.seed),
            key=names.key_of(run, state) if not node.pure else "",
            then=self._chains.behind(run, state, self._scopes) if kind in self._hasty else None,
        )
        batch = self._batches.get(kind)
        if batch is None:
            batch = self._batches[kind] = []
        batch.append(job)

    def _prepare_if_wanted(self, run: Run) -> None:
        if self._machine.wants(run) and not self._ends_unbegun(run):
            self._prepare(run)
        else:
            self._admissions.release(run)

    def _is_wanted(self, job: Job) -> bool:
        """Whether a job that was not handed over yet is to be performed; if not, its room is free."""
        run = names.run_of(job)
        if self._machine.wants(run) and not self._ends_unbegun(run):
            return True
        self._admissions.release(run)
        self._under_way -= 1
        return False

    def _ends_unbegun(self, run: Run) -> bool:
        """Whether an attempt was asked to end before it was handed over; then it has ended, without having begun."""
        if (run.node, run.index, run.attempt) not in self._stopping:
            return False
        self._stopping.discard((run.node, run.index, run.attempt))
        error = ErrorInfo(type="Cancelled", message="it was cancelled before it began")
        self._handle(AttemptEnded(self._clock.now(), run.node, run.index, run.attempt, "error", b"null", error, 0))
        return True

    # --- on their way back ---

    def _done(self, job: Job, outcome: Outcome) -> None:
        """An attempt has ended. One that nobody waits for any more changes nothing: the machine knows."""
        if self._stopped or (job.ahead and self._chains.unasked(job)):
            return
        index = -1 if job.index is None else job.index
        if self._stopping:
            self._stopping.discard((job.position, index, job.attempt))
        if self._machine.graph.nodes[job.position].gated:
            self._admissions.release(names.run_of(job))
        self._under_way -= 1
        if self._held and self._under_way < _MOST_UNDER_WAY // 2:
            self.release()
        if job.then is not None:  # not before: what was held back until now may follow from something else
            self._chains.offer(job, outcome)
        self._handle(
            AttemptEnded(
                self._clock.now(),
                job.position,
                index,
                job.attempt,
                outcome.conclusion,
                outcome.result,
                outcome.error,
                outcome.elapsed,
                outcome.retry_after,
            )
        )
        self._chains.withdraw()


def _pass_over(_: AttemptEnded) -> None:
    """What the end of an attempt means that nobody waits for."""
