"""The concurrency machine: of the executions that share a key, at most `max` are under way at once.

`handle(stimulus)` answers with verdicts. An execution that gets its `Proceed` is under way until its `Ended`, whether
an engine has it or it waits for one. What happens to one that finds no room is its own `on_conflict`:

`queue`
    It waits in the line of its key (`line.rank`: priority with ageing, then first come).
`skip`
    `Refuse`: it is not to be. Nothing of it is remembered.
`replace`
    It waits as well, and the oldest of the others, under way or waiting, are told to `Cancel`, so that no more than
    `max` are left with it. Those that were told before are not told again. It proceeds when they have ended.

Keys are whatever the caller makes of them; two workflows never share one. `max` is that of the execution that wants to
proceed, since versions of one workflow may differ.
"""

from __future__ import annotations

from typing import Literal, assert_never

import msgspec

from dagengine.admission.line import Line, rank

__all__ = [
    "Cancel",
    "Concurrency",
    "Ended",
    "OnConflict",
    "Proceed",
    "Refuse",
    "Restored",
    "Stimulus",
    "Verdict",
    "Wants",
]

OnConflict = Literal["queue", "skip", "replace"]


class Wants(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """A new execution wants to get under way."""

    at: int
    execution: str
    key: str
    max: int
    on_conflict: OnConflict = "queue"
    priority: int = 0


class Restored(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """An execution of `key` is under way already, whatever the limit: it was so before a restart."""

    at: int
    execution: str
    key: str


class Ended(msgspec.Struct, frozen=True, gc=False):
    """An execution has ended, under way or still waiting. Unknown ones are ignored."""

    execution: str


Stimulus = Wants | Restored | Ended


class Proceed(msgspec.Struct, frozen=True, gc=False):
    """The execution may get under way."""

    execution: str


class Refuse(msgspec.Struct, frozen=True, gc=False):
    """The execution is not to be: `under_way` executions of its key are under way or wait."""

    execution: str
    under_way: int


class Cancel(msgspec.Struct, frozen=True, gc=False):
    """The execution is to be cancelled: `by` takes its place."""

    execution: str
    by: str


Verdict = Proceed | Refuse | Cancel


class _Key:
    """Executions of one key: `under_way` and `told` (to cancel) oldest first, and those that wait."""

    __slots__ = ("line", "told", "under_way", "waiting")

    def __init__(self) -> None:
        self.under_way: dict[str, None] = {}
        self.waiting: dict[str, Wants] = {}
        self.line: Line[str] = Line()
        self.told: set[str] = set()


class Concurrency:
    """All keys."""

    def __init__(self) -> None:
        self._keys: dict[str, _Key] = {}
        self._key_of: dict[str, str] = {}

    def __len__(self) -> int:
        """Executions that are under way or wait."""
        return len(self._key_of)

    def waits(self, execution: str) -> bool:
        """Whether an execution waits for room under its key."""
        key = self._key_of.get(execution)
        return key is not None and execution in self._keys[key].waiting

    def under_way(self, key: str) -> tuple[str, ...]:
        """Executions of a key that are under way, oldest first."""
        known = self._keys.get(key)
        return tuple(known.under_way) if known is not None else ()

    def handle(self, stimulus: Stimulus) -> list[Verdict]:
        """Take a stimulus in; what follows from it, in order."""
        match stimulus:
            case Wants():
                return self._want(stimulus)
            case Restored():
                self._enter(stimulus.key, stimulus.execution).under_way[stimulus.execution] = None
                return []
            case Ended():
                return self._end(stimulus.execution)
            case _:
                assert_never(stimulus)

    def _enter(self, name: str, execution: str) -> _Key:
        self._key_of[execution] = name
        key = self._keys.get(name)
        if key is None:
            key = self._keys[name] = _Key()
        return key

    def _want(self, wants: Wants) -> list[Verdict]:
        if wants.execution in self._key_of:
            return []
        known = self._keys.get(wants.key)
        others = 0 if known is None else len(known.under_way) + len(known.waiting)
        if wants.on_conflict == "skip" and others >= wants.max:
            return [Refuse(wants.execution, others)]
        key = self._enter(wants.key, wants.execution)
        verdicts: list[Verdict] = []
        if wants.on_conflict == "replace":
            verdicts.extend(_replaced(key, wants))
        key.waiting[wants.execution] = wants
        key.line.put(wants.execution, rank(wants.at, wants.priority))
        return [*verdicts, *_proceed(key)]

    def _end(self, execution: str) -> list[Verdict]:
        name = self._key_of.pop(execution, None)
        if name is None:
            return []
        key = self._keys[name]
        key.under_way.pop(execution, None)
        key.told.discard(execution)
        if key.waiting.pop(execution, None) is not None:
            key.line.remove(execution)
        proceeding = _proceed(key)
        if not key.under_way and not key.waiting:
            del self._keys[name]
        return list(proceeding)


def _replaced(key: _Key, wants: Wants) -> list[Cancel]:
    """Tell the oldest to go, until `wants` and those that are left are no more than its `max`."""
    staying = [execution for execution in (*key.under_way, *key.waiting) if execution not in key.told]
    leaving = staying[: max(0, len(staying) + 1 - wants.max)]
    key.told.update(leaving)
    return [Cancel(execution, wants.execution) for execution in leaving]


def _proceed(key: _Key) -> list[Proceed]:
    """Let the first in line go while there is room; also who was told to cancel, for what runs even then."""
    proceeding: list[Proceed] = []
    while (first := key.line.first) is not None:
        if len(key.under_way) >= key.waiting[first].max:
            break
        key.line.remove(first)
        del key.waiting[first]
        key.under_way[first] = None
        proceeding.append(Proceed(first))
    return proceeding
