"""The driver: one execution on an asyncio event loop.

It owns the machine, hands every step's facts to the journal and then performs the commands: it gives batches of
attempts to executors, evaluates expressions, and watches the clock for what is due. All of it happens on the loop's
thread, in one synchronous sweep per event; there is no task per node.

Two rules of durability live here, and nowhere else:

- *An effect waits for its own start fact to be committed.* Attempts of nodes that are not pure are held until the
  journal says so. Pure ones run ahead: nobody outside has seen their inputs or their results.
- *Backpressure slows starts.* While the journal is congested, nothing new is begun; what runs may finish.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Mapping, Sequence
from functools import partial
from typing import assert_never

from dagengine.clock import Clock
from dagengine.driver.scope import ScopeFactory
from dagengine.errors import ExecutorError
from dagengine.events.facts import Fact
from dagengine.executors.base import Evaluation, Evaluator, Executor, Job, Outcome, Question
from dagengine.graph.compiled import Graph
from dagengine.journal.base import Journal
from dagengine.machine.commands import Abandon, Evaluate, Run
from dagengine.machine.machine import Machine, fold
from dagengine.machine.phases import Phase
from dagengine.machine.state import State
from dagengine.machine.stimuli import AttemptEnded, Begin, Cancel, Evaluated, Resume, Stimulus, TimePassed

__all__ = ["Driver"]


class Driver:
    """Runs one execution. Call `start` or `resume` once, then `await wait()`."""

    def __init__(
        self,
        graph: Graph,
        *,
        execution: str,
        seed: int,
        executors: Mapping[str, Executor],
        evaluator: Evaluator,
        journal: Journal,
        clock: Clock,
    ) -> None:
        self._machine = Machine(graph, execution=execution, seed=seed)
        self._executors = executors
        self._evaluator = evaluator
        self._journal = journal
        self._clock = clock
        self._scopes = ScopeFactory(self._machine.state)
        self._stimuli: deque[Stimulus] = deque()
        self._pumping = False
        self._stopped = False
        self._batches: dict[str, list[Job]] = {}
        """Attempts to be handed over at the end of the sweep, by executor."""
        self._effects: deque[tuple[int, Run]] = deque()
        """Attempts with effects, each with the journal position that must be committed first."""
        self._held: deque[Run] = deque()
        """Pure attempts held back while the journal is congested."""
        self._gave_up = False
        """Whether an attempt was abandoned in this sweep: it may lie in a batch that is not handed over yet."""
        self._timer: asyncio.Task[None] | None = None
        self._timer_at: int | None = None
        self._finished: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        journal.on_commit(self._committed)

    @property
    def state(self) -> State:
        """What is known of the execution, committed or not. Only what is committed may leave the engine."""
        return self._machine.state

    def start(self, inputs: bytes) -> None:
        """Begin a new execution. `inputs` is a JSON object that was checked at the door."""
        self._handle(Begin(at=self._clock.now(), inputs=inputs))

    def resume(self, journal: Sequence[Fact]) -> None:
        """Go on with an execution whose committed facts are `journal`. Raises MachineError when they make no sense."""
        state = self._machine.state
        self._machine = fold(state.graph, journal, execution=state.execution, seed=self._machine.seed)
        self._scopes = ScopeFactory(self._machine.state)
        self._handle(Resume(at=self._clock.now()))
        self._committed()

    def cancel(self, *, author: str = "", reason: str = "", command: str = "") -> None:
        """Ask the execution to stop. Asking again with the same `command` changes nothing."""
        self._handle(Cancel(at=self._clock.now(), author=author, reason=reason, command=command))
        # What nobody needs any more need not be evaluated; what is needed all the same is asked for anew.
        self._evaluator.forget(self.state.execution)
        for evaluate in self._machine.awaited():
            self._evaluate(evaluate)

    def stop(self) -> None:
        """Give the execution up here and now: no more facts; whatever runs is told to stop. `wait` returns."""
        if self._stopped:
            return
        self._stopped = True
        state = self.state
        self._evaluator.forget(state.execution)
        for position, index in state.units(Phase.RUNNING):
            self._abandon(Abandon(position, index, state.attempt_of(position, index)))
        if self._timer is not None:
            self._timer.cancel()
        if not self._finished.done():
            self._finished.set_result(None)

    async def wait(self) -> None:
        """Return when the last fact is committed, or after `stop`. Raises what broke the driver, if anything did."""
        await asyncio.shield(self._finished)

    # --- the sweep ---

    def _handle(self, stimulus: Stimulus) -> None:
        """Take a stimulus in; unless a sweep is under way already, work until there is nothing more to do."""
        if self._stopped:
            return
        self._stimuli.append(stimulus)
        if self._pumping:
            return
        self._pumping = True
        try:
            while self._stimuli and not self._stopped:
                self._step(self._stimuli.popleft())
        except Exception as error:
            self._break(error)
        finally:
            self._pumping = False
        self._hand_over()
        self._arm_timer()
        if self._machine.ended:
            self._committed()

    def _step(self, stimulus: Stimulus) -> None:
        facts, commands = self._machine.handle(stimulus)
        if facts:
            self._journal.append(facts)
        for command in commands:
            match command:
                case Run():
                    self._run(command)
                case Evaluate():
                    self._evaluate(command)
                case Abandon():
                    self._abandon(command)
                case _:
                    assert_never(command)

    def _break(self, error: Exception) -> None:
        """A bug, or a journal that cannot go on: nothing after it can be trusted."""
        if not self._finished.done():
            self._finished.set_exception(error)
        self.stop()

    # --- commands ---

    def _run(self, run: Run) -> None:
        if not self._machine.graph.nodes[run.node].pure:
            self._effects.append((self._machine.state.seq, run))
        elif self._journal.congested:
            self._held.append(run)
        else:
            self._prepare(run)
            return
        self._release()

    def _prepare(self, run: Run) -> None:
        """Put an attempt into the batch of its executor."""
        state, node = self._machine.state, self._machine.graph.nodes[run.node]
        index = None if run.index < 0 else run.index
        job = Job(
            position=run.node,
            node=node.id,
            index=index,
            attempt=run.attempt,
            spec=node.executor,
            scope=self._scopes.scope(run.node, run.index),
            timeout=node.timeout,
            args=state.args.get((run.node, run.index)) if node.args is not None else None,
            seed=_attempt_seed(self._machine.seed, run),
        )
        kind = node.executor.type
        batch = self._batches.get(kind)
        if batch is None:
            batch = self._batches[kind] = []
        batch.append(job)

    def _hand_over(self) -> None:
        gave_up, self._gave_up = self._gave_up, False
        while self._batches and not self._stopped:
            kind, batch = self._batches.popitem()
            if gave_up:
                batch = [job for job in batch if self._machine.wants(_run_of(job))]
            executor = self._executors.get(kind)
            if executor is None:
                self._break(ExecutorError(f"this engine has no executor '{kind}'"))
                return
            executor.submit(batch, self._done)

    def _evaluate(self, command: Evaluate) -> None:
        """Ask for a value. It may come at once, as the next stimulus of this sweep, or in a sweep of its own."""
        scope = self._scopes.scope(command.node, command.index)
        if command.purpose == "outputs":
            question = Question(scope=scope, template=dict(self._machine.graph.document.spec.outputs))
        else:
            node = self._machine.graph.nodes[command.node]
            match command.purpose:
                case "when":
                    question = Question(scope=scope, code=node.when or "nil")
                case "foreach":
                    question = Question(scope=scope, code=node.foreach or "nil")
                case "args":
                    question = Question(scope=scope, template=dict(node.args or {}))
                case _:
                    assert_never(command.purpose)
        self._evaluator.ask(question, partial(self._evaluated, command))

    def _evaluated(self, command: Evaluate, evaluation: Evaluation) -> None:
        self._handle(
            Evaluated(
                at=self._clock.now(),
                purpose=command.purpose,
                node=command.node,
                index=command.index,
                value=evaluation.value,
                error=evaluation.error,
            )
        )

    def _abandon(self, command: Abandon) -> None:
        node = self._machine.graph.nodes[command.node]
        index = None if command.index < 0 else command.index
        executor = self._executors.get(node.executor.type)
        self._gave_up = True
        if executor is not None:
            executor.cancel(self.state.execution, node.id, index, command.attempt)

    # --- what comes back ---

    def _done(self, job: Job, outcome: Outcome) -> None:
        """An attempt has ended. One that nobody waits for any more changes nothing: the machine knows."""
        self._handle(
            AttemptEnded(
                self._clock.now(),
                job.position,
                -1 if job.index is None else job.index,
                job.attempt,
                outcome.conclusion,
                outcome.result,
                outcome.error,
                outcome.elapsed,
            )
        )

    def _committed(self) -> None:
        """The journal has moved: let effects go whose start is committed, and what was held back; maybe finish."""
        if self._stopped:
            return
        if self._effects or self._held:
            self._release()
            if not self._pumping:
                self._hand_over()
        if self._machine.ended and self._journal.committed >= self.state.seq and not self._finished.done():
            self._finished.set_result(None)

    def _release(self) -> None:
        committed = self._journal.committed
        while self._effects and self._effects[0][0] <= committed and not self._journal.congested:
            _, run = self._effects.popleft()
            if self._machine.wants(run):
                self._prepare(run)
        while self._held and not self._journal.congested:
            run = self._held.popleft()
            if self._machine.wants(run):
                self._prepare(run)

    # --- time ---

    def _arm_timer(self) -> None:
        at = None if self._stopped else self._machine.wake_at
        if at == self._timer_at:
            return
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._timer_at = at
        if at is not None:
            self._timer = asyncio.get_running_loop().create_task(self._wake(at))

    async def _wake(self, at: int) -> None:
        await self._clock.sleep_until(at)
        self._timer = self._timer_at = None
        self._handle(TimePassed(at=self._clock.now()))


def _run_of(job: Job) -> Run:
    return Run(job.position, -1 if job.index is None else job.index, job.attempt)


def _attempt_seed(seed: int, run: Run) -> int:
    """The seed of one attempt (64 bits), the same whenever and wherever it runs. The multipliers are SplitMix64's."""
    mixed = (
        seed + run.node * 0x9E3779B97F4A7C15 + (run.index + 1) * 0xBF58476D1CE4E5B9 + run.attempt * 0x94D049BB133111EB
    )
    return mixed & 0xFFFFFFFFFFFFFFFF
