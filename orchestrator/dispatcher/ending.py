"""Ends executions that no engine has: what is undispatched is sequenced by its owner, which is the dispatcher.

Two things lead here: somebody cancels an execution that waits for an engine, and an engine says that an execution can
be run by nobody. The facts are those that an engine's machine would have made: the same machine makes them, folded
from the committed journal.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import msgspec
import structlog

from dagengine.clock import Clock
from dagengine.events import facts
from dagengine.events.facts import ErrorInfo, Fact
from dagengine.graph.compiled import compile_document
from dagengine.machine.commands import Abandon, Command, Evaluate, Run
from dagengine.machine.machine import Machine, fold
from dagengine.machine.stimuli import AttemptEnded, Begin, Cancel, Evaluated, Resume, Stimulus, TimePassed
from dagengine.spec.model import Document
from orchestrator.dispatcher.commits import is_terminal, terminal_of
from orchestrator.dispatcher.tracked import Tracked
from orchestrator.errors import StoreError
from orchestrator.store.base import ExecutionRecord, InboxItem, Store

__all__ = ["Ending"]

_log = structlog.get_logger("orchestrator.ending")

_PAGE: Final = 1_000
_RETRY: Final = 500_000
"""Microseconds between two tries while the store cannot be written."""

Ended = Callable[[Tracked, int, list[bytes]], None]
"""Told of an execution that has ended, with its last facts, the first of them at a position."""


class Ending:
    """Makes last facts. `ended` is called once they are committed and the execution's record says so."""

    def __init__(self, store: Store, clock: Clock, *, ended: Ended) -> None:
        self._store = store
        self._clock = clock
        self._ended = ended

    async def cancel(self, tracked: Tracked, item: InboxItem) -> bool:
        """Do what an inbox item asks for, to an execution without an engine.

        False when nodes of it run even then, or when an engine has got it meanwhile: it will do it there. So it is
        when the store cannot be written, because the item is kept.
        """
        wish: dict[str, Any] = msgspec.json.decode(item.payload, type=dict[str, Any])
        cancel = Cancel(
            at=self._clock.now(), author=wish.get("author", ""), reason=wish.get("reason", ""), command=item.id
        )
        try:
            return await self._end(tracked, cancel, fault=None)
        except StoreError as error:
            _log.warning("cancel_not_recorded", execution=item.execution, error=str(error))
        except Exception:
            _log.exception("execution_cannot_end", execution=item.execution)
        return False

    async def give_up(self, tracked: Tracked, fault: str) -> None:
        """Cancel an execution that no engine can run, saying why. It must have been withdrawn from its engine."""
        _log.error("execution_given_up", execution=tracked.record.id, reason=fault)
        cancel = Cancel(at=self._clock.now(), author="orchestrator", reason=fault)
        while True:
            try:
                await self._end(tracked, cancel, fault=ErrorInfo(type="Unrunnable", message=fault))
            except StoreError as error:
                _log.error("end_not_recorded", execution=tracked.record.id, error=str(error))
                await self._clock.sleep_until(self._clock.now() + _RETRY)
            except Exception:  # its journal makes no sense: whatever is done next would make it worse
                _log.exception("execution_cannot_end", execution=tracked.record.id)
                return
            else:
                return

    async def _end(self, tracked: Tracked, cancel: Cancel, *, fault: ErrorInfo | None) -> bool:
        record = tracked.record
        if record.engine is not None:
            # First here: whoever has it still, and comes back meanwhile, is told to drop it.
            tracked.record = msgspec.structs.replace(record, engine=None)
            await self._store.release(record.id, record.epoch)
        made = _last_facts(tracked, await self._history(record), cancel, fault)
        payloads = [facts.encode(fact) for fact in made]
        if not is_terminal(payloads[-1]) or tracked.engine is not None or tracked.record.epoch != record.epoch:
            return False
        terminal = terminal_of(payloads[-1])
        if not await self._store.end_undispatched(record.id, payloads, terminal):
            return False
        tracked.record = msgspec.structs.replace(
            tracked.record,
            status=terminal.status,
            started_at=record.started_at or made[0].at,
            finished_at=terminal.at,
            last_seq=record.last_seq + len(payloads),
            outputs=terminal.outputs,
            error=terminal.error,
        )
        self._ended(tracked, record.last_seq + 1, payloads)
        return True

    async def _history(self, record: ExecutionRecord) -> list[Fact]:
        history: list[Fact] = []
        while len(history) < record.last_seq:
            page = await self._store.facts(record.id, after=len(history), limit=_PAGE)
            history += [facts.decode(fact.payload) for fact in page]
        return history


def _last_facts(tracked: Tracked, history: list[Fact], cancel: Cancel, fault: ErrorInfo | None) -> list[Fact]:
    """What follows `history` once `cancel` is obeyed. With `fault`, nodes that run even then fail of it."""
    record = tracked.record
    graph = compile_document(Document.model_validate_json(tracked.plan.canonical))
    if history:
        machine = fold(graph, history, execution=record.id, seed=record.seed)
        made, commands = machine.handle(cancel)
    else:
        machine = Machine(graph, execution=record.id, seed=record.seed)
        made, commands = machine.handle(Begin(at=cancel.at, inputs=record.inputs, cancel=cancel))
    if fault is not None and not machine.ended:
        _fail_what_is_left(machine, made, commands, at=cancel.at, fault=fault)
    return made


def _fail_what_is_left(
    machine: Machine, made: list[Fact], commands: list[Command], *, at: int, fault: ErrorInfo
) -> None:
    """Answer everything that the machine wants done with `fault`; what follows from that is added to `made`."""
    step = machine.handle(Resume(at=at))
    while True:
        made += step.facts
        commands += step.commands
        if machine.ended:
            return
        answer: Stimulus | None = None
        while answer is None and commands:
            answer = _refusal(commands.pop(), at, fault)
        step = machine.handle(answer or TimePassed(at=machine.wake_at or at))


def _refusal(command: Command, at: int, fault: ErrorInfo) -> Stimulus | None:
    match command:
        case Run():
            return AttemptEnded(at, command.node, command.index, command.attempt, "error", b"", fault, 0)
        case Evaluate():
            return Evaluated(
                at=at, purpose=command.purpose, node=command.node, index=command.index, value=b"", error=fault
            )
        case Abandon():
            return None
