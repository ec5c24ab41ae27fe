"""Saving engines up: an exclusive execution whose turn it is, and that finds none free, gets one that becomes free.

Without that it would wait for ever where there is always some other work: no engine is ever empty by itself. So one is
chosen and given nothing else, here and, since it is told, by other replicas too; what it has goes on. It is one that
nothing could use that waits before it in line, and only as long as that is so: what is urgent is not held up, and what
is not is not passed over for ever.

An engine that is kept for an execution already, here or by another replica, is not asked for: when that has ended it is
open to all for a moment. Otherwise replicas with nothing but exclusive executions would hand it to one another, and
those of others would never get in.

Called by `placer`, which asks before and after each pass over the queue.
"""

from __future__ import annotations

from typing import Final

from orchestrator.dispatcher import messages
from orchestrator.dispatcher.engines import Engine
from orchestrator.dispatcher.ledger import Ledger
from orchestrator.dispatcher.queue import Lane

__all__ = ["Savings"]

_NO_ROOM: Final = frozenset({"engines_full", "no_free_engine"})


class Savings:
    """Engines that become free for executions of this replica. What matters of it is in `Engine.saved` as well."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._engines: dict[str, Engine] = {}
        """By execution."""

    def for_one(self, execution: str, load: dict[str, int]) -> dict[str, int]:
        """The load as an execution sees it: the engine that is saved for it is not closed to it."""
        engine = self._engines.get(execution)
        if engine is None or engine.saved != execution or engine.alone or engine.reserved not in ("", execution):
            return load
        return load | {engine.id: engine.held}

    def release(self) -> None:
        """Let go of engines that need not become free any more, or cannot. None is on its way to an engine then."""
        for execution, engine in list(self._engines.items()):
            if not self._is_of_use(execution, engine):
                self._let_go(execution, engine)

    def begin(self) -> None:
        """Choose engines for those whose turn it is. What waits in the queue has had no place."""
        if not self._ledger.queue.any_exclusive:
            return
        before: list[Lane] = []
        for lane in self._ledger.queue:
            if lane.reason not in _NO_ROOM:
                continue
            first = lane.line.first
            if lane.needs.exclusive and first is not None:
                self._see_to(first, self._able(lane), before)
            before.append(lane)

    def _see_to(self, execution: str, able: set[str], before: list[Lane]) -> None:
        """Have an engine saved for an execution that `able` ones could run, of those that nothing before it can use."""
        saved = self._engines.get(execution)
        left = able.difference(*(self._able(other) for other in before))
        if saved is not None and saved.id not in left:
            self._let_go(execution, saved)
        elif saved is None and (engine := self._chosen(left)) is not None:
            self._engines[execution] = engine
            engine.saved = execution
            engine.link.send(messages.reserve(execution))

    def _let_go(self, execution: str, engine: Engine) -> None:
        del self._engines[execution]
        if engine.saved == execution:  # else it is another session, in which nothing was said of it
            engine.saved = ""
            engine.link.send(messages.reserve(execution, over=True))
            self._ledger.work.set()

    def _is_of_use(self, execution: str, engine: Engine) -> bool:
        lane = self._ledger.queue.lane_of(execution)
        if lane is None or lane.line.first != execution or engine.saved != execution:
            return False
        # Known still: another engine may go by its name now.
        return self._ledger.roster.engines.get(engine.id) is engine and engine.id in self._able(lane)

    def _able(self, lane: Lane) -> set[str]:
        return self._ledger.roster.fleet.eligible(lane.needs).capacities.keys() - lane.excluded

    def _chosen(self, able: set[str]) -> Engine | None:
        """The one with the least to do among those that are kept for nobody."""
        engines = (self._ledger.roster.engines[engine] for engine in able)
        return min(
            (engine for engine in engines if engine.room and not (engine.saved or engine.alone or engine.reserved)),
            key=lambda engine: (engine.held, engine.id),
            default=None,
        )
