"""Hands attempts to a worker: as many as keep it busy for about a millisecond, and behind each what follows from it.

Used by `executor`, on the event loop's thread.
"""

from __future__ import annotations

import time
from typing import Final

from dagengine.clock import Clock
from dagengine.events.facts import ErrorInfo
from dagengine.executors import base
from dagengine.executors.lua import runtime
from dagengine.executors.lua.performer import outcome_of
from dagengine.executors.lua.process import deaths
from dagengine.executors.lua.process.desk import Desk, Handed
from dagengine.executors.lua.process.orders import Codes, Draft
from dagengine.executors.lua.turns import Done, Turns
from dagengine.spec import model

__all__ = ["MOST_HANDED", "Ended", "Handing"]

MOST_HANDED: Final = 256

_FIRST_HANDED: Final = 16
"""Attempts that one with nothing to do is handed first: it performs them while the rest is made ready for it."""

_MOST_AHEAD: Final = 64
"""Attempts that are handed over behind the one whose success they need."""

_MOST_BYTES: Final = 1 << 20

Ended = tuple[base.Job, Done, base.Outcome]


class Handing:
    """What hand-offs are made with. `max_memory` is in bytes, for each worker."""

    def __init__(self, *, clock: Clock, max_memory: int) -> None:
        self._clock = clock
        self._max_memory = max_memory
        self._codes = Codes()

    def fill(self, desk: Desk, waiting: Turns, budget: float) -> list[Ended]:
        """Hand over the first of what waits, until `desk` has `budget` microseconds of work; what cannot be handed."""
        handed = desk.handed
        now = time.monotonic_ns()
        draft = Draft(desk.stock, clock=self._clock, max_memory=self._max_memory, at=now)
        broken: list[Ended] = []
        most = MOST_HANDED if handed else _FIRST_HANDED
        while waiting and desk.load < budget and len(handed) < most and draft.size < _MOST_BYTES:
            job, done = waiting.pop()
            spec = job.spec
            if not isinstance(spec, model.LuaExecutor):
                broken.append((job, done, deaths.internal(f"not a Lua node: its executor is {type(spec).__name__}")))
                continue
            code = self._codes.of(spec.code)
            try:
                number = draft.add(code, job, spec)
            except MemoryError:
                message = runtime.stopped("MemoryLimit", max_memory=self._max_memory)
                broken.append((job, done, outcome_of(ErrorInfo(type="MemoryLimit", message=message), 0)))
                continue
            except Exception as exc:
                broken.append((job, done, deaths.internal(f"a value in scope cannot be converted: {exc}")))
                continue
            handed.append(Handed(number, job, done, code, code.cost, now))
            desk.load += code.cost
            if job.then is not None:
                self._add_ahead(draft, desk, handed[-1], budget)
        if draft.handed.orders:
            desk.send(draft.handed)
        return broken

    def _add_ahead(self, draft: Draft, desk: Desk, first: Handed, budget: float) -> None:
        """Hand over, behind an attempt, those that follow from its success, as far as they are known and cheap."""
        made, before = {first.job.node: first.number}, first
        while (job := before.job.then) is not None and len(made) <= _MOST_AHEAD and desk.load < budget:
            spec = job.spec
            if not isinstance(spec, model.LuaExecutor) or not (code := self._codes.of(spec.code)).ahead:
                return
            try:
                number = draft.add(code, job, spec, after=before.number, made=made)
            except Exception:  # it is handed over once more, by itself, and told of then
                return
            made[job.node] = number
            before = Handed(number, job, first.done, code, code.cost, first.at, before.number)
            desk.handed.append(before)
            desk.load += code.cost
