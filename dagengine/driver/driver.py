"""The driver: one execution on an asyncio event loop.

It owns the machine, hands every step's facts to the journal and then performs the commands: it gives batches of
attempts to executors, evaluates expressions, and watches the clock for what is due. All of it happens on the loop's
thread, in one synchronous sweep per event; there is no task per node.

When an attempt may begin is what `attempts` knows.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from typing import Final, assert_never

from dagengine.clock import Clock
from dagengine.driver import questions
from dagengine.driver.admissions import Admissions
from dagengine.driver.attempts import Attempts, Executors
from dagengine.driver.gate import Gate
from dagengine.driver.results import KnownResults
from dagengine.driver.scope import ScopeFactory
from dagengine.errors import ExecutorError
from dagengine.events.facts import Fact
from dagengine.executors.base import Evaluation, Evaluator
from dagengine.graph.compiled import Graph
from dagengine.journal.base import Journal
from dagengine.machine.commands import Abandon, Admit, Evaluate, Lookup, Run
from dagengine.machine.machine import Machine, fold
from dagengine.machine.operations import Operation
from dagengine.machine.phases import Phase
from dagengine.machine.state import State
from dagengine.machine.stimuli import (
    Admitted,
    Begin,
    ContactLost,
    Evaluated,
    Found,
    Operate,
    Resume,
    Stimulus,
    TimePassed,
)

__all__ = ["Driver"]


_SOON: Final = 10_000_000
"""Microseconds for which an execution that waits is not worth moving to another engine."""


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
        self._attempts = Attempts(
            self._machine,
            scopes=self._scopes,
            executors=executors,
            admissions=self._admissions,
            journal=journal,
            clock=clock,
            handle=self._handle,
        )
        self._stimuli: deque[Stimulus] = deque()
        self._pumping = False
        self._stopped = False
        self._rested: Callable[[], None] | None = None
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
        """Whether nothing is under way here: it waits for somebody, or for a time that does not come soon. Not so when
        it was given up here: it would wait for good."""
        machine = self._machine
        if self._stopped or machine.ended or machine.asked or machine.admitting or machine.state.runs:
            return False
        wake_at = machine.wake_at
        return wake_at is None or wake_at >= self._clock.now() + _SOON

    @property
    def wake_at(self) -> int | None:
        """When something is due next (microseconds since the epoch), or None."""
        return self._machine.wake_at

    def on_rest(self, callback: Callable[[], None]) -> None:
        """Have `callback()` called when something has happened that made no facts, and all that were made are
        committed: `only_waits` may have become true. When facts were made, their commit tells."""
        self._rested = callback

    def start(self, inputs: bytes) -> None:
        """Begin a new execution. `inputs` is a JSON object that was checked at the door."""
        self._handle(Begin(at=self._clock.now(), inputs=inputs))

    def resume(self, journal: Sequence[Fact]) -> None:
        """Go on with an execution whose committed facts are `journal`. Raises MachineError when they make no sense."""
        state = self._machine.state
        self._machine = fold(state.graph, journal, execution=state.execution, seed=self._machine.seed)
        self._admissions.machine = self._machine
        self._scopes = ScopeFactory(self._machine.state)
        self._attempts.follow(self._machine, self._scopes)
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

    def lose_contact(self) -> None:
        """Nobody was heard of for longer than the lease: give up what the outside can see, unless it may go on.

        No effect begins until `regain_contact`. Until then, calling it again changes nothing.
        """
        if not self._attempts.cut_off:
            self._attempts.cut_off = True
            self._handle(ContactLost(at=self._clock.now(), unbegun=self._attempts.unbegun))

    def regain_contact(self) -> None:
        """The lease goes on: effects may begin again, each once its start is committed."""
        if self._attempts.cut_off:
            self._attempts.cut_off = False
            self._committed()

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
            self._attempts.abandon(Abandon(position, index, state.attempt_of(position, index)))
        self._attempts.stop()
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
        elif self._rested is not None and self._journal.committed >= self._machine.state.seq:
            self._rested()

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
                    self._attempts.run(command)
                case Evaluate():
                    self._evaluate(command)
                case Abandon():
                    self._attempts.abandon(command)
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

    def _hand_over(self) -> None:
        try:
            self._attempts.hand_over()
        except ExecutorError as error:
            self._break(error)

    # --- commands ---

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

    # --- what the journal and the clock tell ---

    def _committed(self) -> None:
        """The journal has moved: let effects go whose start is committed, and what was held back; maybe finish."""
        if self._stopped:
            return
        if self._attempts.wait:
            self._attempts.release()
            if not self._pumping:
                self._hand_over()
        if self._machine.ended and self._journal.committed >= self.state.seq and not self._finished.done():
            self._finished.set_result(None)

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
