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
from collections.abc import Sequence
from functools import partial
from typing import Final, Protocol, assert_never

from dagengine.clock import Clock
from dagengine.driver import attempts, questions
from dagengine.driver.admissions import Admissions
from dagengine.driver.gate import Gate
from dagengine.driver.results import KnownResults
from dagengine.driver.scope import ScopeFactory
from dagengine.errors import ExecutorError
from dagengine.events.facts import ErrorInfo, Fact
from dagengine.executors.base import Evaluation, Evaluator, Executor, Job, Outcome
from dagengine.graph.compiled import Graph
from dagengine.journal.base import Journal
from dagengine.machine.commands import Abandon, Admit, Evaluate, Lookup, Run
from dagengine.machine.machine import Machine, fold
from dagengine.machine.operations import Operation
from dagengine.machine.phases import Phase
from dagengine.machine.state import State
from dagengine.machine.stimuli import (
    Admitted,
    AttemptEnded,
    Begin,
    Evaluated,
    Found,
    Operate,
    Resume,
    Stimulus,
    TimePassed,
)

__all__ = ["Driver"]


_MOST_UNDER_WAY: Final = 4_096
"""Attempts of one execution that are handed over at a time. More would wait in memory, and gain nothing."""


_SOON: Final = 10_000_000
"""Microseconds for which an execution that waits is not worth moving to another engine."""


class Executors(Protocol):
    """The executors of an engine."""

    def get(self, kind: str, /) -> Executor | None:
        """The one for a type of node; None when there is none."""


class Driver:
    """Runs one execution. Call `start` or `resume` once, then `await wait()`."""

    def __init__(
        self,
        graph: Graph,
        *,
        execution: str,
        seed: int,
        executors: Executors,
        evaluator: Evaluator,
        gate: Gate,
        results: KnownResults,
        journal: Journal,
        clock: Clock,
        priority: int | None = None,
    ) -> None:
        self._machine = Machine(graph, execution=execution, seed=seed)
        self._executors = executors
        self._evaluator = evaluator
        self._results = results
        self._admissions = Admissions(
            self._machine,
            gate=gate,
            clock=clock,
            priority=graph.document.spec.priority if priority is None else priority,
        )
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
        """Pure attempts held back while the journal is congested, or enough are under way."""
        self._under_way = 0
        """Attempts that were prepared and are not done."""
        self._stopping: set[tuple[int, int, int]] = set()
        """Attempts that were asked to end by themselves: those that have not begun never do."""
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

    @property
    def only_waits(self) -> bool:
        """Whether nothing is under way here: it waits for somebody, or for a time that does not come soon."""
        machine = self._machine
        under_way = machine.asked or machine.admitting or next(machine.state.units(Phase.RUNNING), None)
        soon = machine.wake_at is not None and machine.wake_at < self._clock.now() + _SOON
        return not (machine.ended or under_way or soon)

    def start(self, inputs: bytes) -> None:
        """Begin a new execution. `inputs` is a JSON object that was checked at the door."""
        self._handle(Begin(at=self._clock.now(), inputs=inputs))

    def resume(self, journal: Sequence[Fact]) -> None:
        """Go on with an execution whose committed facts are `journal`. Raises MachineError when they make no sense."""
        state = self._machine.state
        self._machine = fold(state.graph, journal, execution=state.execution, seed=self._machine.seed)
        self._admissions.machine = self._machine
        self._scopes = ScopeFactory(self._machine.state)
        self._handle(Resume(at=self._clock.now()))
        self._committed()

    def operate(self, operation: Operation, *, command: str = "") -> None:
        """Do what somebody asked for. Asking again with the same `command` changes nothing.

        A part of an execution that has ended may be run again; `wait` then waits for the new end.
        """
        if self._machine.ended and self._finished.done() and not self._stopped:
            self._finished = asyncio.get_running_loop().create_future()  # it may have another end
        self._handle(Operate(at=self._clock.now(), operation=operation, command=command))
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
        self._results.forget(state.execution)
        self._admissions.forget()
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
            self._admissions.withdraw()
        except Exception as error:
            self._break(error)
        finally:
            self._pumping = False
        self._hand_over()
        self._arm_timer()
        if self._machine.ended:
            self._committed()

    def _step(self, stimulus: Stimulus) -> None:
        if isinstance(stimulus, Admitted) and not self._machine.wants_room(stimulus):
            self._admissions.release(stimulus)  # something that came before it has ended its unit
            return
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
                case Admit():
                    self._admissions.ask(command, self._handle)
                case Lookup():
                    self._look_up(command)
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
        elif self._under_way >= _MOST_UNDER_WAY or self._journal.congested:
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
            seed=attempts.seed_of(run, self._machine.seed),
            key=attempts.key_of(run, state) if not node.pure else "",
        )
        kind = node.executor.type
        batch = self._batches.get(kind)
        if batch is None:
            batch = self._batches[kind] = []
        batch.append(job)
        self._under_way += 1

    def _hand_over(self) -> None:
        gave_up, self._gave_up = self._gave_up, False
        while self._batches and not self._stopped:
            kind, batch = self._batches.popitem()
            if gave_up:
                batch = [job for job in batch if self._is_wanted(job)]
            executor = self._executors.get(kind)
            if executor is None:
                self._break(ExecutorError(f"this engine has no executor '{kind}'"))
                return
            executor.submit(batch, self._done)

    def _is_wanted(self, job: Job) -> bool:
        """Whether a job that was not handed over yet is to be performed; if not, its room is free."""
        run = attempts.run_of(job)
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

    def _look_up(self, command: Lookup) -> None:
        def answer(result: bytes | None, execution: str) -> None:
            at = self._clock.now()
            self._handle(
                Found(
                    at=at,
                    node=command.node,
                    index=command.index,
                    serial=command.serial,
                    result=result,
                    execution=execution,
                )
            )

        self._results.look_up(self.state.execution, command.key, answer)

    def _evaluate(self, command: Evaluate) -> None:
        """Ask for a value. It may come at once, as the next stimulus of this sweep, or in a sweep of its own."""
        scope = self._scopes.scope(command.node, command.index)
        question = questions.of(command, self._machine.graph, scope)
        self._evaluator.ask(question, partial(self._evaluated, command))

    def _evaluated(self, command: Evaluate, evaluation: Evaluation) -> None:
        self._handle(
            Evaluated(
                at=self._clock.now(),
                purpose=command.purpose,
                node=command.node,
                index=command.index,
                serial=command.serial,
                value=evaluation.value,
                error=evaluation.error,
            )
        )

    def _abandon(self, command: Abandon) -> None:
        node = self._machine.graph.nodes[command.node]
        index = None if command.index < 0 else command.index
        executor = self._executors.get(node.executor.type)
        self._gave_up = True
        if command.grace:
            self._stopping.add((command.node, command.index, command.attempt))
        if executor is not None:
            executor.cancel(self.state.execution, node.id, index, command.attempt, grace=command.grace)

    # --- what comes back ---

    def _done(self, job: Job, outcome: Outcome) -> None:
        """An attempt has ended. One that nobody waits for any more changes nothing: the machine knows."""
        if self._stopping:
            self._stopping.discard((job.position, -1 if job.index is None else job.index, job.attempt))
        if self._machine.graph.nodes[job.position].gated:
            self._admissions.release(attempts.run_of(job))
        self._under_way -= 1
        if self._held and self._under_way < _MOST_UNDER_WAY // 2:
            self._release()
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
                outcome.retry_after,
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
            self._prepare_if_wanted(self._effects.popleft()[1])
        while self._held and self._under_way < _MOST_UNDER_WAY and not self._journal.congested:
            self._prepare_if_wanted(self._held.popleft())

    def _prepare_if_wanted(self, run: Run) -> None:
        if self._machine.wants(run) and not self._ends_unbegun(run):
            self._prepare(run)
        else:
            self._admissions.release(run)

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
